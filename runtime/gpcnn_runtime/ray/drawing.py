"""`Drawer`: positions in, images out.

Shape legend: N rows of a batch, C channels, H rows of an image, W columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.text import counted, spanned
from gpcnn_runtime.conditions import check_conditions
from gpcnn_runtime.ray.engine import GivenEngine, load_sampler
from gpcnn_runtime.sampler import BATCH_SIZE
from gpcnn_runtime.samples import join

if TYPE_CHECKING:
    from gpcnn_runtime.engines.onnxruntime.providers import Provider
    from gpcnn_runtime.sampler import Labels

Batch = dict[str, npt.NDArray[Any]]


class Drawer:
    """Draws the images at the positions of a batch: for `ray.data.range(N).map_batches(Drawer, …)`.

    Positions are those of one job, `gpcnn-sample --label … --count … --seed …`: image k is the same whoever draws it.
    With M labels there are N = M · count positions, first all of the first label.
    """

    def __init__(
        self,
        engine: GivenEngine,
        labels: Labels | None = None,
        count: int = 1,
        seed: int = 0,
        *,
        temperature: float = 1.0,
        embedding: npt.ArrayLike | None = None,
        known: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        same_noise: int = 1,
        column: str = "id",
        pixels: bool = False,
        log_prob: bool = False,
        threads: int | None = None,
        batch_size: int = BATCH_SIZE,
        provider: Provider = "auto",
        reproducible: bool = False,
    ) -> None:
        """Load an engine, and check what is to be drawn.

        Args:
            engine: a path that is there on every worker, `zoo:NAME`, or what `put_engine` returns.
            labels, count, seed, temperature, embedding, known, mask, same_noise: as in `Sampler.sample`.
            column: of the positions, integers; `ray.data.range` calls it `id`.
            pixels: return pictures, too.
            log_prob: return the log-probability of each sub-pixel, too.
            threads: default: the CPUs that Ray gave this actor (`num_cpus`).
            batch_size: most images that one thread draws at a time.
            provider, reproducible: as in `Sampler.load`.

        Raises:
            UsageError: an argument does not fit the model.
            EngineError, MissingExtraError: as `Sampler.load`.
        """
        self._sampler, _ = load_sampler(engine, threads, batch_size, provider, reproducible)
        conditions = check_conditions(
            self._sampler.metadata,
            labels,
            seed,
            count,
            temperature,
            known,
            mask,
            embedding,
            same_noise=same_noise,
        )
        self._conditions, self._column = conditions, column
        self._pixels, self._log_prob = pixels, log_prob
        self._sampler.draw(conditions).close()  # refuses more images than a call may have

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> Batch:
        """Draw a batch.

        Args:
            batch: with the column of positions, integers [N] in any order.

        Returns:
            The other columns of the batch, and

            - position: int64 [N].
            - label: int32 [N], and class_name: text [N], of a model with labels.
            - nats: float64 [N], -log p of each image at temperature 1.
            - levels: uint8 [N, C, H, W], uint16 of more than 256 levels.
            - image: uint8 [N, H, W] for grey, [N, H, W, 3] for colour, if `pixels` are asked for.
            - log_prob: float32 [N, C, H, W], nats, if it is asked for.

        Raises:
            UsageError: no such column, or positions that the job has not.
            EngineError: the engine failed.
        """
        positions = self._positions(batch)
        order = np.argsort(positions, kind="stable")
        ascending = positions[order].tolist()
        with contextlib.closing(self._sampler.draw(self._conditions, positions=ascending)) as stream:
            drawn = join(list(stream), 0.0)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        made: Batch = {"position": positions}
        if drawn.labels is not None:
            made["label"] = drawn.labels[back]
            made["class_name"] = np.array(self._sampler.metadata.class_names, object)[made["label"]]
        made["nats"] = -drawn.log_likelihood()[back]
        made["levels"] = drawn.levels[back]
        if self._pixels:
            pixels = drawn.pixels()[back]
            made["image"] = pixels[:, 0] if pixels.shape[1] == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        if self._log_prob:
            made["log_prob"] = drawn.log_prob[back]
        kept = {name: values for name, values in batch.items() if name != self._column}
        refuse_clash(kept, made)
        return {**kept, **made}

    def _positions(self, batch: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        if self._column not in batch:
            raise UsageError(f"no column '{self._column}' of positions among {', '.join(batch)}: name it with column=")
        positions = np.asarray(batch[self._column])
        if positions.dtype.kind not in "iu" or positions.ndim != 1 or len(positions) == 0:
            raise UsageError(f"positions are {positions.dtype} of shape {list(positions.shape)}: expected integers [N]")
        low, high, total = int(positions.min()), int(positions.max()), self._conditions.total
        if low < 0 or high >= total:
            raise UsageError(
                f"positions are {spanned(low, high)}: the job has {counted(total, 'image')}, {spanned(0, total - 1)}"
            )
        return positions.astype(np.int64)


def refuse_clash(kept: Mapping[str, object], made: Mapping[str, object]) -> None:
    """Refuse to replace a column of the batch that people gave.

    Raises:
        UsageError: there is one of the same name as a result.
    """
    if both := sorted(kept.keys() & made.keys()):
        raise UsageError(f"the batch has a column '{both[0]}' already: rename it with Dataset.rename_columns")
