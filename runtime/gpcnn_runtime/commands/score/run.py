"""One run of `gpcnn-score`: pictures in, rows out, a chunk at a time; thresholds from them, or for them."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.pictures.maps import Maps, maps_of_pictures
from gpcnn_deploy.text import counted
from gpcnn_runtime.anomaly import Method, Threshold, anomaly_scores, calibrate
from gpcnn_runtime.commands.score.heatmap import save_heatmap
from gpcnn_runtime.commands.score.rows import Head, Row
from gpcnn_runtime.engines.codes import EncodesPictures, code_encoder, decode_codes, reconstruction_psnr
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.engines.report import engine_report
from gpcnn_runtime.inputs.maps import maps_beside_pictures
from gpcnn_runtime.inputs.stream import BadPicture, Picture, count_pictures, pictures, shown
from gpcnn_runtime.inputs.vectors import vectors_beside_pictures
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import Binarization, check_has_likelihood, score, to_levels

_NAME_LENGTH = 50  # of up to four bytes each: file systems take 255, and the writer adds some
_PICTURE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"))


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are read and scored.

    Attributes:
        label: number of the label that they are scored under; None for all.
        resize, invert: as in `read_levels`.
        binarization, seed: as in `to_levels`.
        heatmap: folder for pictures of the surprise, or None.
        threshold: what tells anomalies, or None.
        embeddings: file of what pictures are scored under, a row for each or one for all; or None.
        maps: the same for a model with maps.
    """

    label: int | None = None
    resize: bool = False
    invert: bool = False
    binarization: Binarization = "nearest"
    seed: int = 0
    heatmap: Path | None = None
    threshold: Threshold | None = None
    embeddings: Path | None = None
    maps: Path | None = None


class Scoring:
    """An engine, perhaps a background engine, and options that fit them.

    An autoencoder's pictures are scored under their own codes: p(x | h(x)), h being the encoder beside the engine.
    Those of a model that enlarges small pictures are scored given themselves made small, unless maps are named.
    """

    def __init__(
        self,
        sampler: Sampler,
        options: Options,
        background: Sampler | None = None,
        encoder_content: bytes | None = None,
        vectors_come: bool = False,
    ) -> None:
        """Check that all fit together.

        Args:
            sampler, options, background: what they are.
            encoder_content: of the encoder, in place of the file beside the engine.
            vectors_come: each picture brings the vector that it is scored under.

        Raises:
            UsageError: they do not; the message says which option to leave out or to add.
            DataError: the threshold is that of another engine.
            DataError: the embeddings cannot be read, or do not fit the model.
            EngineError: an autoencoder's encoder is missing, damaged, or that of another engine.
        """
        self.sampler, self.options, self.background = sampler, options, background
        spec = sampler.metadata.spec
        self.encoder: Encoder | None = None
        self.codes: EncodesPictures | None = None
        self.vectors: npt.NDArray[np.float32] | None = None
        self.maps: Maps | None = None
        self.own_maps = spec.map_kind == "picture" and options.maps is None
        if options.maps is not None:
            if spec.conditioning != "map":
                raise UsageError("this model is not conditioned on maps: leave --map out")
            self.maps = maps_beside_pictures(options.maps, spec)
        if sampler.metadata.vqvae is not None:
            self._refuse_with_codes()
            self.codes = code_encoder(sampler.engine)
        elif options.embeddings is not None:
            if spec.conditioning != "embedding":
                raise UsageError("this model is not conditioned on embeddings: leave --embeddings out")
            self.vectors = vectors_beside_pictures(options.embeddings, spec.conditioning_size)
        elif sampler.metadata.encoder_digest is not None:
            self.encoder = Encoder.beside(sampler.engine, encoder_content)
        elif not vectors_come and self.maps is None and not self.own_maps:
            check_has_likelihood(sampler)
        if options.label is not None and spec.conditioning != "label":
            sampler.metadata.label_number(str(options.label))  # raises: the model has no labels
        if self.codes is None:
            blank = np.zeros(spec.image_shape, np.uint8)
            to_levels(blank, spec, options.binarization, options.seed)  # refuses what does not fit
        if background is not None:
            check_has_likelihood(background, background=True)
            other = background.metadata.spec
            if (other.image_shape, other.levels) != (spec.image_shape, spec.levels):
                raise UsageError(
                    f"{background.engine.info.path}: is for {other.height}×{other.width} images of"
                    f" {counted(other.channels, 'channel')} and {other.levels} levels; expected "
                    f"{spec.height}×{spec.width}, {spec.channels} and {spec.levels}, as the other engine has"
                )
        if options.threshold is not None:
            self._check(options.threshold)

    def _refuse_with_codes(self) -> None:
        """Refuse what a VQ-VAE, whose likelihood is that of codes, has no use for."""
        given = {
            "--embeddings": self.options.embeddings is not None,
            "--binarize": self.options.binarization != "nearest",
            "--background": self.background is not None,
        }
        if option := next((name for name, there in given.items() if there), None):
            raise UsageError(f"{option} is not for a VQ-VAE, which scores the codes of pictures: leave it out")

    def check(self, paths: Sequence[str | Path]) -> None:
        """Refuse embeddings or maps that are not as many as the pictures, before anything is written.

        Raises:
            UsageError: the numbers are told.
        """
        for option, given, what in (
            (f"--embeddings {self.options.embeddings}", self.vectors, "row"),
            (f"--map {self.options.maps}", self.maps, "map"),
        ):
            if given is None or len(given) == 1:
                continue
            if (count := count_pictures(paths)) != len(given):
                raise UsageError(
                    f"{option}: {counted(len(given), what)} for {counted(count, 'picture')}: expected one for "
                    f"each, or one {what} for all"
                )

    def _check(self, threshold: Threshold) -> None:
        if threshold.method == "ratio" and self.background is None:
            raise UsageError("the threshold is one of the likelihood ratio: name the background model: --background")
        if threshold.method != "ratio" and self.background is not None:
            raise UsageError(f"the threshold is one of {threshold.method}: leave --background out, or calibrate anew")
        expected = [(self.sampler, threshold.engine_digest, "engine")]
        if self.background is not None:
            expected.append((self.background, threshold.background_digest or "", "background engine"))
        for sampler, digest, name in expected:
            if sampler.engine.info.digest != digest:
                info = sampler.engine.info
                raise DataError(
                    f"the threshold was calibrated for another {name} (SHA-256 {digest[:12]}…; {info.path} is"
                    f" {info.digest[:12]}…): calibrate anew"
                )
        if threshold.label != self.options.label:
            said = "without --label" if threshold.label is None else f"with --label {self._label(threshold.label)}"
            raise UsageError(f"the threshold was calibrated {said}: score in the same way, or calibrate anew")
        if threshold.binarization != self.options.binarization:
            raise UsageError(
                f"the threshold was calibrated with --binarize {threshold.binarization}: score in the same way, or"
                " calibrate anew"
            )

    def _label(self, number: int) -> str:
        """As `--label` takes it."""
        names = self.sampler.metadata.class_names
        return names[number] if 0 <= number < len(names) else str(number)

    @property
    def method(self) -> Method | None:
        """The anomaly score that rows carry; None if they carry none."""
        if self.options.threshold is not None:
            return self.options.threshold.method
        return "ratio" if self.background is not None else None

    def head(self) -> Head:
        """What all rows have in common."""
        options = self.options
        return Head(
            engine=engine_report(self.sampler.engine, self.sampler.threads),
            background=None
            if self.background is None
            else engine_report(self.background.engine, self.background.threads),
            class_names=self.sampler.metadata.class_names,
            preparation=self.sampler.metadata.preparation,
            label=options.label,
            binarization=options.binarization,
            own_code=self.encoder is not None,
            own_map=self.own_maps,
            of_codes=self.codes is not None,
            method=self.method,
            threshold=None if options.threshold is None else options.threshold.threshold,
        )

    def rows(self, paths: Iterable[str | Path]) -> Iterator[Row]:
        """A row for each input, in order, bad ones among them; see `pictures`. Memory holds one chunk of them.

        Raises:
            EngineError: the engine failed.
            OutputError: a heatmap cannot be written.
        """
        options, metadata = self.options, self.sampler.metadata
        inputs = pictures(
            paths,
            metadata.pictures,
            resize=options.resize,
            invert=options.invert,
            preparation=metadata.preparation,
            class_names=metadata.class_names,
        )
        yield from self.rows_of(enumerate(inputs))

    def rows_of(self, items: Iterable[tuple[int, Picture | BadPicture]]) -> Iterator[Row]:
        """A row for each of the pictures, which come with their numbers; errors as `rows`."""
        spec, pending = self.sampler.metadata.spec, iter(items)
        labels = spec.conditioning_size if spec.conditioning == "label" and self.options.label is None else 1
        size = max(1, self.sampler.threads * self.sampler.batch_size // labels)
        while chunk := list(islice(pending, size)):
            scored = self._scored([(k, item) for k, item in chunk if isinstance(item, Picture)])
            for _, item in chunk:
                yield Row(picture=item.name, error=str(item.error)) if isinstance(item, BadPicture) else next(scored)

    def _scored(self, good: Sequence[tuple[int, Picture]]) -> Iterator[Row]:
        """A row for each of the pictures, which are given with their numbers."""
        if not good:
            return
        spec, options, threshold = self.sampler.metadata.spec, self.options, self.options.threshold
        psnr: npt.NDArray[np.float64] | None = None
        if self.codes is not None:
            pixels = np.stack([item.pixels for _, item in good])
            levels = self.codes.encode(pixels)
            psnr = reconstruction_psnr(pixels, decode_codes(self.sampler.engine, levels))
        else:
            levels = np.stack([to_levels(item.pixels, spec, options.binarization, options.seed, k) for k, item in good])
        embedding = None if self.encoder is None else self.encoder.embed(levels)
        own = [item.embedding for _, item in good if item.embedding is not None]
        if own:
            embedding = np.stack(own)
        elif self.vectors is not None:
            embedding = self.vectors if len(self.vectors) == 1 else self.vectors[[k for k, _ in good]]
        maps = None
        if self.maps is not None:
            maps = self.maps if len(self.maps) == 1 else self.maps[[k for k, _ in good]]
        elif self.own_maps:
            maps = maps_of_pictures(np.stack([item.pixels for _, item in good]), spec)
        heatmaps = options.heatmap is not None
        scores = score(self.sampler, levels, options.label, embedding=embedding, per_pixel=heatmaps, map=maps)
        background_nats = None if self.background is None else score(self.background, levels).nats
        unusual = None
        if self.method is not None:
            mean = None if threshold is None else threshold.mean_nats
            unusual = anomaly_scores(self.method, scores.nats, background_nats, mean)
        bits, posterior = scores.bits_per_dim(), scores.posterior()
        for n, (k, item) in enumerate(good):
            row = Row(picture=item.name, nats=float(scores.nats[n]), bits_per_dim=float(bits[n]))
            if psnr is not None:
                row.psnr = float(psnr[n])
            if posterior is not None and scores.label_nats is not None:
                label = int(posterior[n].argmax())
                row.label, row.class_name = label, self.sampler.metadata.class_names[label]
                row.posterior, row.label_nats = float(posterior[n, label]), scores.label_nats[n].tolist()
            if spec.conditioning == "label":
                row.given_label = item.label
            if background_nats is not None:
                row.background_nats = float(background_nats[n])
            if unusual is not None:
                row.anomaly_score = float(unusual[n])
                row.anomalous = None if threshold is None else row.anomaly_score > threshold.threshold
            if options.heatmap is not None and scores.log_prob is not None:
                path = options.heatmap / f"{k:06}-{_short(item.name)}.png"
                save_heatmap(path, item.pixels, scores.log_prob[n], spec)
                row.heatmap = shown(path)
            yield row


class Calibration:
    """Collects the scores of usual pictures: 8 or 16 bytes each."""

    def __init__(self, scoring: Scoring, method: Method) -> None:
        self._scoring, self._method = scoring, method
        self._nats, self._background = array("d"), array("d")

    def add(self, row: Row) -> None:
        """Take one more; rows without a score are left out."""
        if row.nats is not None:
            self._nats.append(row.nats)
            if row.background_nats is not None:
                self._background.append(row.background_nats)

    def threshold(self, quantile: float) -> Threshold:
        """The threshold above which a new usual picture lies with a probability of at most `quantile`.

        Raises:
            UsageError: a quantile outside (0, 1).
            DataError: too few pictures for the quantile.
        """
        nats = np.frombuffer(self._nats) if self._nats else np.zeros(0)
        background = np.frombuffer(self._background) if self._background else None
        mean = float(nats.mean()) if len(nats) else 0.0
        if self._method == "ratio" and background is None:
            background = np.zeros(0)
        scores = anomaly_scores(self._method, nats, background, mean)
        scoring = self._scoring
        background_engine = None if scoring.background is None else scoring.background.engine
        return Threshold(
            method=self._method,
            engine_digest=scoring.sampler.engine.info.digest,
            background_digest=None if background_engine is None else background_engine.info.digest,
            label=scoring.options.label,
            binarization=scoring.options.binarization,
            mean_nats=mean,
            threshold=calibrate(scores, quantile),
            quantile=quantile,
            pictures=len(nats),
        )


def _short(name: str) -> str:
    """A picture's name as part of a file name."""
    stem = Path(name).stem if Path(name).suffix.lower() in _PICTURE_SUFFIXES else Path(name).name
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in stem)[-_NAME_LENGTH:]
