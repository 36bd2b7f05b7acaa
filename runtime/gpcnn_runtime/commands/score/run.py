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
from gpcnn_runtime.anomaly import Method, Threshold, anomaly_scores, calibrate
from gpcnn_runtime.commands.score.heatmap import save_heatmap
from gpcnn_runtime.commands.score.rows import Head, Row
from gpcnn_runtime.engines.codes import EncodesPictures, code_encoder, decode_codes, reconstruction_psnr
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.engines.report import engine_report
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
    """

    label: int | None = None
    resize: bool = False
    invert: bool = False
    binarization: Binarization = "nearest"
    seed: int = 0
    heatmap: Path | None = None
    threshold: Threshold | None = None
    embeddings: Path | None = None


class Scoring:
    """An engine, perhaps a background engine, and options that fit them.

    An autoencoder's pictures are scored under their own codes: p(x | h(x)), h being the encoder beside the engine.
    """

    def __init__(self, sampler: Sampler, options: Options, background: Sampler | None = None) -> None:
        """Check that all fit together.

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
        if sampler.metadata.vqvae is not None:
            self._refuse_with_codes()
            self.codes = code_encoder(sampler.engine)
        elif options.embeddings is not None:
            if spec.conditioning != "embedding":
                raise UsageError("this model is not conditioned on embeddings: leave --embeddings out")
            self.vectors = vectors_beside_pictures(options.embeddings, spec.conditioning_size)
        elif sampler.metadata.encoder_digest is not None:
            self.encoder = Encoder.beside(sampler.engine)
        else:
            check_has_likelihood(sampler)
        if options.label is not None and spec.conditioning != "label":
            raise UsageError("this model is unconditional: it takes no label; leave --label out")
        if self.codes is None:
            blank = np.zeros(spec.image_shape, np.uint8)
            to_levels(blank, spec, options.binarization, options.seed)  # refuses what does not fit
        if background is not None:
            check_has_likelihood(background)
            other = background.metadata.spec
            if (other.image_shape, other.levels) != (spec.image_shape, spec.levels):
                raise UsageError(
                    f"{background.engine.info.path}: is for {other.height}×{other.width} images of {other.channels}"
                    f" channel(s) and {other.levels} levels; expected {spec.height}×{spec.width}, {spec.channels} and"
                    f" {spec.levels}, as the other engine has"
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
        """Refuse embeddings that are not as many as the pictures, before anything is written.

        Raises:
            UsageError: the numbers are told.
        """
        if self.vectors is None or len(self.vectors) == 1:
            return
        if (count := count_pictures(paths)) != len(self.vectors):
            raise UsageError(
                f"--embeddings {self.options.embeddings}: {len(self.vectors)} rows for {count} "
                f"picture{'s' if count > 1 else ''}: expected one for each, or one row for all"
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
        spec, options = self.sampler.metadata.spec, self.options
        labels = spec.conditioning_size if spec.conditioning == "label" and options.label is None else 1
        size = max(1, self.sampler.threads * self.sampler.batch_size // labels)
        metadata = self.sampler.metadata
        inputs = pictures(
            paths,
            metadata.pictures,
            resize=options.resize,
            invert=options.invert,
            preparation=metadata.preparation,
            class_names=metadata.class_names,
        )
        number = 0
        while chunk := list(islice(inputs, size)):
            yield from self._rows(chunk, number)
            number += len(chunk)

    def _rows(self, chunk: Sequence[Picture | BadPicture], first: int) -> Iterator[Row]:
        good = {k: item for k, item in enumerate(chunk, first) if isinstance(item, Picture)}
        scored = iter(self._scored(good))
        for item in chunk:
            yield Row(picture=item.name, error=str(item.error)) if isinstance(item, BadPicture) else next(scored)

    def _scored(self, good: dict[int, Picture]) -> Iterator[Row]:
        """A row for each of the pictures, which are given by their numbers."""
        if not good:
            return
        spec, options, threshold = self.sampler.metadata.spec, self.options, self.options.threshold
        psnr: npt.NDArray[np.float64] | None = None
        if self.codes is not None:
            pixels = np.stack([item.pixels for item in good.values()])
            levels = self.codes.encode(pixels)
            psnr = reconstruction_psnr(pixels, decode_codes(self.sampler.engine, levels))
        else:
            levels = np.stack(
                [to_levels(item.pixels, spec, options.binarization, options.seed, k) for k, item in good.items()]
            )
        embedding = None if self.encoder is None else self.encoder.embed(levels)
        if self.vectors is not None:
            embedding = self.vectors if len(self.vectors) == 1 else self.vectors[list(good)]
        heatmaps = options.heatmap is not None
        scores = score(self.sampler, levels, options.label, embedding=embedding, per_pixel=heatmaps)
        background_nats = None if self.background is None else score(self.background, levels).nats
        unusual = None
        if self.method is not None:
            mean = None if threshold is None else threshold.mean_nats
            unusual = anomaly_scores(self.method, scores.nats, background_nats, mean)
        bits, posterior = scores.bits_per_dim(), scores.posterior()
        for n, (k, item) in enumerate(good.items()):
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
