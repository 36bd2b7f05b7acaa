"""Engines on TensorRT: a deserialized plan whose batches live on the GPU."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, OutputError
from gpcnn_deploy.system.files import write_atomic
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.base import (
    Closing,
    DecodesCodes,
    Engine,
    EngineInfo,
    OutOfMemoryError,
    Request,
    Result,
    StepBatch,
    StepEngine,
    Strategy,
    refuse_strategy,
)
from gpcnn_runtime.engines.plan_file import PlanMetadata, PlanTensor, most_images
from gpcnn_runtime.engines.tensorrt.batch import DeviceBatch, out_of_memory
from gpcnn_runtime.engines.tensorrt.cuda import Stream
from gpcnn_runtime.engines.tensorrt.gpu import CudaError, Gpu
from gpcnn_runtime.engines.tensorrt.library import Plan

KEPT_BATCH_SIZES = 2  # a call is cut into parts of two sizes at most
STEPS_PER_LOOK = 4


def cache_path(plan: Path) -> Path:
    """`model.plan` → `model.plan.cache`: kernels that TensorRT-RTX compiled for this machine's GPU."""
    return plan.with_name(plan.name + ".cache")


class LoadedPlan(Closing):
    """A deserialized plan and, for the batch sizes used last, the memory and contexts to run them."""

    replay = False  # whether the same network runs again and again on the same addresses

    def __init__(
        self, plan: Plan, metadata: PlanMetadata, tensors: tuple[PlanTensor, ...], path: Path, gpu: Gpu
    ) -> None:
        self.path = path
        self.gpu = gpu
        self.most = most_images(tensors)
        self.tensors = tensors
        self.plan: Plan | None = plan
        self.stream = Stream()
        self.own_graphs = metadata.flavor == "tensorrt"  # TensorRT-RTX replays by itself
        self._batches: OrderedDict[int, DeviceBatch] = OrderedDict()
        self._lock = threading.Lock()
        self._saved_cache = self._read_cache()

    def close(self) -> None:
        """Release everything on the GPU and keep TensorRT-RTX's kernels for the next process."""
        with self._lock:
            if self.plan is None:
                return
            with contextlib.suppress(CudaError):  # what can be released is, all the same
                self.gpu.use()
            try:
                cache = self.plan.runtime_cache()
            finally:
                while self._batches:
                    self._batches.popitem()[1].close()
                self.plan = None
                self.stream.close()
        if cache and cache != self._saved_cache:
            with contextlib.suppress(OutputError):  # a cache that cannot be kept costs the next start some seconds
                write_atomic(cache_path(self.path), cache)

    @contextlib.contextmanager
    def batch(self, count: int, inputs: Mapping[str, npt.NDArray[Any]]) -> Iterator[DeviceBatch]:
        """Memory and contexts for a batch, its inputs uploaded; given up for good if anything fails inside."""
        with self._lock:
            if self.plan is None:
                raise EngineError(f"{self.path}: the engine is closed: load it again")
            if count > self.most:
                raise EngineError(f"{self.path}: {count} images in one call, built for {self.most} at most")
            self.gpu.use()  # CUDA's current device is one per thread, and any thread may draw
            try:
                if count not in self._batches:
                    if len(self._batches) >= KEPT_BATCH_SIZES:
                        self._batches.popitem(last=False)[1].close()
                    self._batches[count] = self._make(self.plan, count)
                self._batches.move_to_end(count)
                batch = self._batches[count]
                batch.upload(inputs)
                yield batch
            except BaseException as error:
                if count in self._batches:
                    self._batches.pop(count).close()
                if out_of_memory(error):
                    raise OutOfMemoryError(f"not enough GPU memory for {counted(count, 'image')} at a time") from error
                raise

    def launched(self, count: int) -> tuple[int, str | None]:
        """Of the last call of a batch size: launches by the host, and why none replayed a CUDA graph of ours."""
        with self._lock:
            batch = self._batches[count]
            return batch.launches, batch.graph_refusal

    def _make(self, plan: Plan, count: int) -> DeviceBatch:
        return DeviceBatch(plan, self.tensors, count, self.stream, self.replay, self.own_graphs, self._saved_cache)

    def _read_cache(self) -> bytes | None:
        try:
            return cache_path(self.path).read_bytes() if not self.own_graphs else None
        except OSError:
            return None


class PlanDecoder(LoadedPlan):
    """Role `decoder`: the plan makes pictures of the codes that a VQ-VAE's step drew."""

    def decode(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [N, C, H, W] of codes int32 [N, 1, h, w].

        Raises:
            EngineError: the decoder is closed, or TensorRT or CUDA failed.
            OutOfMemoryError: not enough memory on the GPU.
        """
        parts = []
        for start in range(0, len(codes), self.most):
            part = np.ascontiguousarray(codes[start : start + self.most], np.int32)
            with self.batch(len(part), {"codes": part}) as batch:
                batch.enqueue()
                parts.append(batch.fetch("picture"))
        return np.concatenate(parts)


class PlanEngine(LoadedPlan, Engine):
    """A plan that draws.

    Attributes:
        decoder: of a VQ-VAE's step, what makes pictures of its codes; it is closed with the engine.
    """

    decoder: DecodesCodes | None = None

    def __init__(
        self, plan: Plan, metadata: PlanMetadata, tensors: tuple[PlanTensor, ...], info: EngineInfo, gpu: Gpu
    ) -> None:
        self.metadata = metadata.engine
        self.info = info
        super().__init__(plan, metadata, tensors, info.path, gpu)
        self.max_batch = self.most

    def close(self) -> None:
        """As `LoadedPlan.close`, of the plan and of the decoder beside it."""
        try:
            super().close()
        finally:
            if self.decoder is not None:
                self.decoder.close()


class PlanSampler(PlanEngine):
    """Role `sampler`: the plan draws the whole image in one call."""

    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch; shapes and errors as `Engine.run`."""
        refuse_strategy(self.metadata, strategy)
        with self.batch(request.count, request.inputs()) as batch:
            batch.enqueue()
            picture = None if self.metadata.vqvae is None else batch.fetch("picture")
            return Result(batch.fetch("image"), batch.fetch("log_prob"), int(batch.fetch("evaluations")), picture)


class PlanStep(PlanEngine, StepEngine):
    """Role `step`: the plan evaluates the network once; `StepEngine.run` iterates it on the device."""

    replay = True
    stride = STEPS_PER_LOOK

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[StepBatch]:
        """A batch on the GPU, its image at `request.start()`."""
        with self.batch(request.count, request.inputs()) as batch:
            batch.place(request.start())
            yield batch
