"""`Scorer`: pictures in, scores out, as `gpcnn-score` gives them; a bad picture is a row with an error.

Shape legend: N rows of a batch, M labels, H rows of a picture, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.pictures.arrays import check_white, checked_vectors, images_layout, images_to_pixels
from gpcnn_deploy.pictures.files import Target, decode_picture, read_picture
from gpcnn_runtime.anomaly import Threshold, load_threshold
from gpcnn_runtime.commands.score.rows import Row
from gpcnn_runtime.commands.score.run import Options, Scoring
from gpcnn_runtime.inputs.npz import fitted
from gpcnn_runtime.inputs.picture import target_of
from gpcnn_runtime.inputs.stream import BadPicture, Picture
from gpcnn_runtime.ray.drawing import Batch, refuse_clash
from gpcnn_runtime.ray.engine import GivenEngine, load_sampler
from gpcnn_runtime.sampler import BATCH_SIZE
from gpcnn_runtime.scores import Binarization

if TYPE_CHECKING:
    from gpcnn_runtime.engines.onnxruntime.providers import Provider

_SOURCES = ("bytes", "image", "path")
"""Columns that pictures are taken from; of several, the first."""
_NUMBER = "number"
_VECTORS = "embedding"


class Scorer:
    """Scores the pictures of a batch: for `ray.data.read_binary_files(…).map_batches(Scorer, …)`.

    Pictures are files' bytes (column `bytes`, as `ray.data.read_binary_files` has it), arrays (`image`, as
    `ray.data.read_images`), or paths of files that every worker can read (`path`). Bytes and paths go through the
    reader of `gpcnn-score`, and a damaged file is an error of its row alone; `read_images` decodes files by itself,
    and a damaged one ends the job there.
    """

    def __init__(
        self,
        engine: GivenEngine,
        label: int | str | None = None,
        *,
        background: GivenEngine | None = None,
        threshold: Threshold | str | Path | None = None,
        resize: bool = False,
        invert: bool = False,
        binarization: Binarization = "nearest",
        seed: int = 0,
        threads: int | None = None,
        batch_size: int = BATCH_SIZE,
        provider: Provider = "auto",
        reproducible: bool = False,
    ) -> None:
        """Load the engines, and check that all fit together.

        Args:
            engine: a path that is there on every worker, `zoo:NAME`, or what `put_engine` returns.
            label: score under this label alone, by number or class name. Default: under all of them.
            background: a second model; scores are then likelihood ratios.
            threshold: what `gpcnn-score --calibrate` made, or its path on every worker.
            resize, invert: as `gpcnn-score --resize` and `--invert`.
            binarization: `stochastic` needs a column `number`, integers: picture k draws from stream (seed, k).
            seed: of that draw.
            threads: default: the CPUs that Ray gave this actor (`num_cpus`).
            batch_size: most pictures that one thread scores at a time.
            provider, reproducible: as in `Sampler.load`.

        Raises:
            UsageError, DataError: as `gpcnn-score`.
            EngineError, MissingExtraError: as `Sampler.load`.
        """
        sampler, encoder = load_sampler(engine, threads, batch_size, provider, reproducible)
        other = None
        if background is not None:
            other = load_sampler(background, threads, batch_size, provider, reproducible)[0]
        options = Options(
            label=None if label is None else sampler.metadata.label_number(str(label)),
            resize=resize,
            invert=invert,
            binarization=binarization,
            seed=seed,
            threshold=load_threshold(Path(threshold)) if isinstance(threshold, (str, Path)) else threshold,
        )
        spec = sampler.metadata.spec
        self._vectors_come = spec.conditioning == "embedding" and sampler.metadata.encoder_digest is None
        self._scoring = Scoring(sampler, options, other, encoder, self._vectors_come)
        self._target = target_of(spec, resize, sampler.metadata.preparation)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> Batch:
        """Score a batch.

        Args:
            batch: with a column `bytes`, `image` or `path`; of a model with embeddings, an autoencoder excepted, also a
                column `embedding`, floats [N, E].

        Returns:
            The other columns of the batch, `path` among them, and

            - nats: float64 [N], -log p(x); nan where there is an error, as in all columns of floats below.
            - bits_per_dim: float64 [N].
            - label: int32 [N], the most likely one, -1 where there is an error; class_name: text [N]; posterior:
              float64 [N]; label_nats: float64 [N, M]. Of a model with labels, and none given.
            - background_nats: float64 [N], with a background model.
            - anomaly_score: float64 [N], with a background model or a threshold.
            - anomalous: bool [N], with a threshold.
            - error: text [N], empty where there is none.

        Raises:
            UsageError: no column of pictures, or none of what they are scored under.
            EngineError: an engine failed.
        """
        source = next((name for name in _SOURCES if name in batch), None)
        if source is None:
            raise UsageError(
                f"no column of pictures among {', '.join(batch)}: expected one of {', '.join(_SOURCES)}; "
                "Dataset.rename_columns gives a column another name"
            )
        numbered = zip(self._numbers(batch, source), self._pictures(batch, source), strict=True)
        rows = list(self._scoring.rows_of(numbered))
        made = self._columns(rows)
        kept = {name: values for name, values in batch.items() if name != source or source == "path"}
        refuse_clash(kept, made)
        return {**kept, **made}

    def _numbers(self, batch: Mapping[str, npt.NDArray[Any]], source: str) -> Sequence[int]:
        if self._scoring.options.binarization == "nearest":
            return range(len(batch[source]))
        if _NUMBER not in batch or (numbers := np.asarray(batch[_NUMBER])).dtype.kind not in "iu":
            raise UsageError("stochastic binarization needs a column 'number': an integer for each picture")
        return [int(number) for number in numbers]

    def _pictures(self, batch: Mapping[str, npt.NDArray[Any]], source: str) -> Iterator[Picture | BadPicture]:
        names = batch["path"] if "path" in batch else [f"picture {k} of its batch" for k in range(len(batch[source]))]
        vectors = self._vectors(batch, len(batch[source]))
        white = source != "image" or not _of_two_levels(batch[source])
        for name, given, vector in zip(map(str, names), batch[source], vectors, strict=True):
            try:
                pixels = self._pixels(source, name, given, white)
                own = None if vector is None else checked_vectors(f"{name}: {_VECTORS}", vector[None])[0]
                yield Picture(name, 255 - pixels if self._scoring.options.invert else pixels, embedding=own)
            except DataError as error:
                yield BadPicture(name, error)

    def _vectors(self, batch: Mapping[str, npt.NDArray[Any]], count: int) -> Sequence[npt.NDArray[Any] | None]:
        if not self._vectors_come:
            return [None] * count
        length = self._scoring.sampler.metadata.spec.conditioning_size
        if _VECTORS not in batch:
            raise UsageError(
                f"this model is conditioned on embeddings: give them in a column '{_VECTORS}' [N, {length}]"
            )
        vectors = [np.asarray(vector) for vector in batch[_VECTORS]]
        if wrong := [list(vector.shape) for vector in vectors if vector.shape != (length,)]:
            raise UsageError(f"column '{_VECTORS}' has a row of shape {wrong[0]}: expected [{length}]")
        return vectors

    def _pixels(self, source: str, name: str, given: Any, white: bool) -> npt.NDArray[np.uint8]:
        if source == "path":
            return read_picture(name, self._target)
        if source == "bytes":
            return decode_picture(bytes(given) if given is not None else b"", name, self._target)
        return _pixels_of_array(name, np.asarray(given), self._target, white)

    def _columns(self, rows: Sequence[Row]) -> Batch:
        scoring, names = self._scoring, self._scoring.sampler.metadata.class_names

        def floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
            return np.array([math.nan if value is None else value for value in values], np.float64)

        columns: Batch = {
            "nats": floats([row.nats for row in rows]),
            "bits_per_dim": floats([row.bits_per_dim for row in rows]),
        }
        if names and scoring.options.label is None:
            columns["label"] = np.array([-1 if row.label is None else row.label for row in rows], np.int32)
            columns["class_name"] = np.array([row.class_name or "" for row in rows], object)
            columns["posterior"] = floats([row.posterior for row in rows])
            nothing = [math.nan] * len(names)
            columns["label_nats"] = np.array([row.label_nats or nothing for row in rows], np.float64)
        if scoring.background is not None:
            columns["background_nats"] = floats([row.background_nats for row in rows])
        if scoring.method is not None:
            columns["anomaly_score"] = floats([row.anomaly_score for row in rows])
        if scoring.options.threshold is not None:
            columns["anomalous"] = np.array([bool(row.anomalous) for row in rows])
        columns["error"] = np.array([row.error or "" for row in rows], object)
        return columns


def _of_two_levels(pictures: npt.NDArray[Any]) -> bool:
    """Whether all pictures together hold integers of 0 and 1 alone: levels, or bool by another name."""
    arrays = [np.asarray(one) for one in pictures]
    return max((int(one.max()) for one in arrays if one.dtype.kind in "iu" and one.size), default=0) == 1


def _pixels_of_array(name: str, pixels: npt.NDArray[Any], target: Target, white: bool) -> npt.NDArray[np.uint8]:
    """An array of one picture, [H, W], [H, W, C] or [C, H, W], as the target has it.

    Raises:
        DataError: it is no picture, or does not fit.
    """
    source = f"{name}: pixels"
    layout = images_layout(source, (1, *pixels.shape), pixels.dtype)
    if not white:
        check_white(source, 1)
    return fitted(name, images_to_pixels(source, pixels[None], layout)[0], target)
