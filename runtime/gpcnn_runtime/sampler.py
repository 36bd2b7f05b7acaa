"""Draw, complete and score images on any engine.

Image k of a call is a function of its own noise, stream (seed, first + k): the batch it is drawn in, the number of
threads and the strategy do not change it.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import compact
from gpcnn_deploy.system.machine import default_threads, of_memory
from gpcnn_deploy.text import counted, spanned
from gpcnn_runtime.conditions import Conditions, check_conditions
from gpcnn_runtime.engines.base import (
    EXPORT_ANEW,
    Closing,
    Engine,
    OutOfMemoryError,
    Request,
    Result,
    Strategy,
    refuse_strategy,
)
from gpcnn_runtime.engines.cancel import Cancellation
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.samples import Samples, join

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Self

    from gpcnn_runtime.engines.onnxruntime.providers import Provider

BATCH_SIZE = 64
MAX_IMAGES = 2**63 - 1
"""Of one call: positions are int64."""

Labels = int | str | Sequence[int | str] | npt.NDArray[np.integer[Any]]


class Sampler(Closing):
    """An engine and the threads that share a batch. Several threads may use one sampler at once.

    Attributes:
        engine: the engine; the sampler closes it.
        threads: parts of a batch that are drawn at the same time.
        batch_size: most images that one of the threads draws at a time: the bound on memory; of an engine of a fixed
            batch, that batch.
    """

    def __init__(self, engine: Engine, threads: int | None = None, batch_size: int = BATCH_SIZE) -> None:
        """Take over an engine.

        Raises:
            UsageError: threads or batch_size below 1.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}: expected at least 1")
        if batch_size < 1:
            raise UsageError(f"batch size is {batch_size}: expected at least 1")
        self.engine = engine
        self.threads = (threads or default_threads()) if engine.concurrent else 1
        self.batch_size = engine.metadata.batch or min(batch_size, engine.max_batch or batch_size)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | Path,
        threads: int | None = None,
        batch_size: int = BATCH_SIZE,
        *,
        provider: Provider = "auto",
        fallback: bool = True,
        warn: Callable[[str], None] = warnings.warn,
        reproducible: bool = False,
    ) -> Self:
        """Load an engine file.

        Args:
            path: a model file (.gpcnn), an .onnx engine, a TensorRT plan, or `zoo:NAME`.
            threads: default: the cores that this process may use, as far as memory is there for them.
            batch_size: most images that one thread draws at a time.
            provider: what runs an .onnx engine.
            fallback: run the model file or .onnx engine beside a plan, on the CPU, where the plan cannot run.
            warn: told in one line that and why something else runs it than would otherwise.
            reproducible: of a model file: log-probabilities with the same bits on every machine, a little more slowly.

        Raises:
            EngineError: the file is missing, damaged, foreign, or cannot run here.
            MissingExtraError: the library that runs it is not installed.
            UsageError: threads or batch_size below 1.
        """
        return cls(load_engine(path, provider, fallback, warn, reproducible), threads, batch_size)

    @property
    def metadata(self) -> EngineMetadata:
        """What the engine says about itself."""
        return self.engine.metadata

    def close(self) -> None:
        """Wait for what is being drawn, then release the threads and the engine, for good."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self.engine.close()

    def sample(
        self,
        labels: Labels | None = None,
        seed: int = 0,
        count: int = 1,
        *,
        temperature: float = 1.0,
        known: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        embedding: npt.ArrayLike | None = None,
        first: int = 0,
        same_noise: int = 1,
        strategy: Strategy = "jacobi",
        map: npt.ArrayLike | None = None,
    ) -> Samples:
        """Draw `count` images of each condition; with `known` and `mask`, complete or score images.

        Args:
            labels: a label, by number or class name, or several of them, for a model with labels; M of them.
            seed: 0 to 2**64 - 1.
            count: images of each label, of each embedding, of each map, or of an unconditional model.
            temperature: divides the logits before drawing; 1 is the model itself.
            known: levels to keep, integer [C, H, W] for all images or [N, C, H, W] with N = M · count.
            mask: bool of the same shapes: true keeps `known`, false draws. All true scores `known`.
            embedding: float [E] or [M, E] for a model with embeddings.
            first: number of the first image's noise stream.
            same_noise: so many images in a row share a noise stream: the image at position p has stream
                first + p // same_noise.
            strategy: schedule of a step engine; every one draws the same images.
            map: [P, h, w] or [M, P, h, w] for a model with maps: integers where they are categories, else floats; of a
                model that enlarges small pictures, `gpcnn_deploy.pictures.maps.values_of_pixels` of them.

        Raises:
            UsageError: an argument is out of range, of the wrong shape, or does not fit the model.
            EngineError: the sampler is closed, or the engine failed; `OutOfMemoryError` names the batch size to try.
        """
        begin = time.perf_counter()
        chunks = list(
            self.stream(
                labels,
                seed,
                count,
                temperature=temperature,
                known=known,
                mask=mask,
                embedding=embedding,
                first=first,
                same_noise=same_noise,
                strategy=strategy,
                map=map,
            )
        )
        try:
            return join(chunks, time.perf_counter() - begin)
        except MemoryError as error:
            raise OutOfMemoryError("the images do not fit into memory together: draw fewer, or stream them") from error

    def score(
        self,
        levels: npt.ArrayLike,
        labels: Labels | None = None,
        *,
        embedding: npt.ArrayLike | None = None,
        map: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """Log-probability of each sub-pixel of images given those before it, by teacher forcing; nothing is drawn.

        Args:
            levels: integer [N, C, H, W], each in [0, K).
            labels: one for all images or one for each, for a model with labels.
            embedding: float [E] or [N, E] for a model with embeddings.
            map: [P, h, w] or [N, P, h, w] for a model with maps, as of `sample`.

        Returns:
            float32 [N, C, H, W], nats; its sum over an image is the image's log-likelihood.

        Raises:
            UsageError: an argument is out of range, of the wrong shape, or does not fit the model.
            EngineError: as `sample`.
        """
        known = np.asarray(levels)
        shape = self.metadata.spec.image_shape
        if known.ndim != 4 or known.shape[1:] != shape or len(known) == 0:
            expected = ", ".join(str(length) for length in shape)
            raise UsageError(f"levels have shape {list(known.shape)}: expected [N, {expected}] with N at least 1")
        conditions = 1 if labels is None else np.size(np.asarray(labels))
        if embedding is not None:
            conditions = len(np.atleast_2d(np.asarray(embedding)))
        if map is not None:
            conditions = len(map) if np.ndim(map) == 4 else 1  # type: ignore[arg-type]
        if conditions not in (1, len(known)):
            raise UsageError(
                f"{counted(conditions, 'condition')} for {counted(len(known), 'image')}: expected 1, or one for each "
                "image"
            )
        count = len(known) if conditions == 1 else 1
        mask = np.ones(known.shape, np.bool_)
        scored = self.sample(labels, count=count, known=known, mask=mask, embedding=embedding, map=map)
        if not (np.array_equal(scored.levels, known) and np.isfinite(scored.log_prob).all()):
            raise EngineError(f"{self.engine.info.path}: does not score the images it was given: {EXPORT_ANEW}")
        return scored.log_prob

    def stream(
        self,
        labels: Labels | None = None,
        seed: int = 0,
        count: int = 1,
        *,
        temperature: float = 1.0,
        known: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        embedding: npt.ArrayLike | None = None,
        first: int = 0,
        same_noise: int = 1,
        strategy: Strategy = "jacobi",
        map: npt.ArrayLike | None = None,
        positions: Sequence[int] | None = None,
    ) -> Generator[Samples, None, None]:
        """As `sample`, part by part in order of position, holding few parts at a time however many images there are.

        Args:
            positions: draw only the images at these positions of the call, ascending; default: all of them.

        Raises:
            UsageError, EngineError: as `sample`; the request is checked before this returns.
        """
        self._check_open()
        conditions = check_conditions(
            self.metadata, labels, seed, count, temperature, known, mask, embedding, first, same_noise, map
        )
        return self.draw(conditions, strategy, positions)

    def draw(
        self, conditions: Conditions, strategy: Strategy = "jacobi", positions: Sequence[int] | None = None
    ) -> Generator[Samples, None, None]:
        """As `stream`, of what `check_conditions` found to be sound for this model.

        Raises:
            UsageError, EngineError: as `stream`.
        """
        self._check_open()
        if conditions.total > MAX_IMAGES:
            raise UsageError(f"{counted(conditions.total, 'image')} in one call: expected at most 2**63 - 1")
        if strategy not in get_args(Strategy):
            raise UsageError(f"strategy is '{strategy}': expected one of {', '.join(get_args(Strategy))}")
        if self.metadata.role != "step":
            refuse_strategy(self.metadata, strategy)
        if positions is None:
            positions = range(conditions.total)
        elif len(positions) and (positions[0] < 0 or positions[-1] >= conditions.total):
            raise UsageError(f"positions: expected each in {spanned(0, conditions.total - 1)}")
        return self._stream(conditions, positions, strategy)

    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch that is put together already, on this thread; refuse what no engine of this model can draw.

        Raises:
            UsageError, EngineError: as `stream`.
        """
        self._check_open()
        result = self.engine.run(request, strategy)
        self._check(result, request.noise.shape)
        return result

    def _stream(
        self, conditions: Conditions, positions: Sequence[int], strategy: Strategy
    ) -> Generator[Samples, None, None]:
        parts = self.parts(len(positions))
        from concurrent.futures import CancelledError

        cancellation = Cancellation()
        pending: deque[Future[Samples]] = deque()
        pool = self._workers()

        def take() -> Samples:
            self._check_open()
            return pending.popleft().result()

        try:
            for start, stop in parts:
                # One part waits behind those being drawn, so that no thread idles while the caller takes a result.
                if len(pending) > self.threads:
                    yield take()
                pending.append(pool.submit(self._draw, conditions, positions[start:stop], strategy, cancellation))
            while pending:
                yield take()
        except (RuntimeError, CancelledError):  # closed by another thread, since this one looked
            self._check_open()
            raise
        finally:  # an error, Ctrl-C, or a caller who stops taking: nothing goes on unasked
            cancellation.cancel()
            for future in pending:
                future.cancel()

    def parts(self, total: int) -> Iterator[tuple[int, int]]:
        """[start, stop) of what each call of the engine draws: as `split`, or full calls of a fixed batch."""
        batch = self.metadata.batch
        if batch is None:
            return split(total, self.threads, self.batch_size)
        return ((start, min(start + batch, total)) for start in range(0, total, batch))

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(f"{self.engine.info.path}: the engine is closed: load it again")

    def _workers(self) -> ThreadPoolExecutor:
        # Even a single part is drawn in a worker: the caller's thread stays free to notice Ctrl-C.
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            self._check_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="gpcnn-sampler")
            return self._pool

    def _draw(
        self, conditions: Conditions, positions: Sequence[int], strategy: Strategy, cancellation: Cancellation
    ) -> Samples:
        begin = time.perf_counter()
        where = np.asarray(positions, np.int64)
        try:
            request = make_request(self.metadata, conditions, where, cancellation)
            result = self.run(request, strategy)
        except (OutOfMemoryError, MemoryError) as error:
            raise self._advise(len(positions)) from error
        return Samples(
            compact(result.levels, self.metadata.spec.levels),
            result.log_prob,
            request.label,
            where,
            result.evaluations,
            time.perf_counter() - begin,
            self.metadata.spec.levels,
            pictures=result.pictures,
        )

    def _check(self, result: Result, shape: tuple[int, ...]) -> None:
        """Refuse what no engine of this model can draw, before it is cut to 8 or 16 bits."""
        path, levels, top = self.engine.info.path, result.levels, self.metadata.spec.levels - 1
        for found in (levels.shape, result.log_prob.shape):
            if found != shape:
                raise EngineError(f"{path}: drew images of shape {found}, expected {shape}: {EXPORT_ANEW}")
        if levels.min() < 0 or levels.max() > top:
            raise EngineError(f"{path}: drew levels outside 0 to {top}: {EXPORT_ANEW}")
        if self.metadata.vqvae is not None:
            wanted = (shape[0], *self.metadata.vqvae.image_shape)
            if result.pictures is None or result.pictures.shape != wanted:
                raise EngineError(f"{path}: drew no pictures of shape {wanted}: {EXPORT_ANEW}")

    def _advise(self, count: int) -> OutOfMemoryError:
        if self.metadata.batch is not None:
            count, advice = self.metadata.batch, "export it with a smaller --batch, or try --threads 1"
        elif count > 1:
            advice = f"try --batch-size {count // 2}"
        elif self.threads > 1:
            advice = "try --threads 1"
        else:
            advice = "one image is the least there is: use a machine with more memory or a smaller model"
        at_once = counted(count, "image")
        if self.threads > 1:
            at_once = f"{self.threads} × {at_once}"
        return OutOfMemoryError(f"not enough memory for {at_once} at a time{of_memory()}: {advice}")


def split(total: int, threads: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Cut `total` images into [start, stop) parts of equal size ±1, at most `batch_size` each.

    There are a multiple of `threads` of them, so that no thread waits; fewer images than threads make parts of one.
    """
    rounds = -(-total // (threads * batch_size))
    parts = min(total, rounds * threads)
    return ((total * k // parts, total * (k + 1) // parts) for k in range(parts))


def make_request(
    metadata: EngineMetadata, conditions: Conditions, where: npt.NDArray[np.int64], cancellation: Cancellation
) -> Request:
    """The batch of the images at the positions `where`: their noise, and what each is conditioned on."""
    spec = metadata.spec
    streams = (conditions.first + int(position) // conditions.same_noise for position in where)
    noise_NCHW = np.concatenate([noise(spec, conditions.seed, 1, stream) for stream in streams])
    shape = noise_NCHW.shape
    known, mask = conditions.known, conditions.mask
    if known is None or mask is None:
        known, mask = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
    elif known.shape[0] == 1:
        known = np.ascontiguousarray(np.broadcast_to(known, shape))
        mask = np.ascontiguousarray(np.broadcast_to(mask, shape))
    else:
        known, mask = known[where], mask[where]
    rows = where // conditions.count
    return Request(
        noise_NCHW,
        known,
        mask,
        None if conditions.label is None else conditions.label[rows],
        None if conditions.embedding is None else conditions.embedding[rows],
        conditions.temperature,
        cancellation,
        None if conditions.map is None else conditions.map[rows],
    )
