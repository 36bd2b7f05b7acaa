"""One batch on the GPU: its memory, its execution contexts and, for a step, the loop's state.

A step's inputs are uploaded once. Two contexts move the image between two buffers, A → B and B → A, so that addresses
stay fixed and a CUDA graph of the two steps can be replayed. Only the count of changed sub-pixels comes back, now and
then: a fixed point stays fixed, so a step too many costs its time and changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_runtime.engines.plan_file import PlanTensor
from gpcnn_runtime.engines.tensorrt.cuda import DeviceBuffer, Graph, HostBuffer, Stream
from gpcnn_runtime.engines.tensorrt.gpu import CudaError
from gpcnn_runtime.engines.tensorrt.library import Context, Plan, TensorRTError


class DeviceBatch:
    """One batch size: a buffer per tensor, and one context, or for a step two. A step's is a `StepBatch`."""

    def __init__(
        self,
        plan: Plan,
        tensors: tuple[PlanTensor, ...],
        count: int,
        stream: Stream,
        replay: bool,
        own_graphs: bool,
        cache: bytes | None,
    ) -> None:
        """Allocate memory and make the contexts.

        Args:
            plan: what runs.
            tensors: its inputs and outputs.
            count: N, images.
            stream: where everything is enqueued; the batch does not close it.
            replay: a step, which runs again and again from one image buffer to the other.
            own_graphs: record CUDA graphs here, where TensorRT does not do so by itself.
            cache: TensorRT-RTX's runtime cache of an earlier process.

        Raises:
            EngineError: memory or a context could not be had; nothing is kept.
        """
        self._tensors, self._count, self._stream = tensors, count, stream
        self._contexts: list[Context] = []
        self._at = 0  # which image buffer holds the image
        self._graph: Graph | None = None
        self.graph_refusal: str | None = None if own_graphs and replay else "not recorded here"
        self.launches = 0
        self.buffers: dict[str, DeviceBuffer | HostBuffer] = {}
        try:
            for tensor in tensors:
                make = HostBuffer if plan.on_host(tensor.name) else DeviceBuffer
                self.buffers[tensor.name] = make(self._shape(tensor), tensor.dtype)
            swaps: list[dict[str, str]] = [{}, {"image": "image_next", "image_next": "image"}]
            for swap in swaps if replay else swaps[:1]:
                self._contexts.append(self._bind(plan.context(replay, cache), swap))
        except BaseException:
            self.close()
            raise

    def _shape(self, tensor: PlanTensor) -> tuple[int, ...]:
        return tuple(self._count if length == -1 else length for length in tensor.shape)

    def _bind(self, context: Context, swap: dict[str, str]) -> Context:
        for tensor in self._tensors:
            if tensor.mode == "input":
                context.set_shape(tensor.name, self._shape(tensor))
            context.set_address(tensor.name, self.buffers[swap.get(tensor.name, tensor.name)].address)
        return context

    def close(self) -> None:
        """Release the graph, the contexts and the memory, in this order."""
        with contextlib.suppress(CudaError):
            self._stream.synchronize()  # nothing may still run in what is released
        if self._graph is not None:
            self._graph.close()
        self._graph = None
        self._contexts.clear()
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()

    def upload(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Copy what stays the same through all steps to the device, by the names of tensors; counting starts anew.

        Raises:
            CudaError: a copy failed.
        """
        self._at = self.launches = 0
        for name, array in inputs.items():
            self.buffers[name].upload(array, self._stream)
        self._stream.synchronize()

    def fetch(self, name: str) -> npt.NDArray[Any]:
        """A tensor's content, once all that was enqueued is done."""
        tensor = next(tensor for tensor in self._tensors if tensor.name == name)
        array = np.empty(self._shape(tensor), tensor.dtype)
        self.buffers[name].download(array, self._stream)
        self._stream.synchronize()
        return array

    def enqueue(self) -> None:
        """One evaluation of the network; a step moves the image to the other buffer."""
        self._contexts[self._at].enqueue(int(self._stream))
        self._at = (self._at + 1) % len(self._contexts)
        self.launches += 1

    # A step's batch (`StepBatch`).

    def place(self, levels: npt.NDArray[np.int32]) -> None:
        """Replace the image by int32 [N, C, H, W]."""
        image = np.ascontiguousarray(levels)  # held until it is copied
        self.buffers[("image", "image_next")[self._at]].upload(image, self._stream)
        self._stream.synchronize()

    def advance(self, steps: int) -> int:
        """Put the image through that many steps; returns how many sub-pixels of the batch the last one changed."""
        while steps > 0:
            if self._at == 0 and steps >= 2:
                self._two_steps()
                steps -= 2
            else:
                self.enqueue()
                steps -= 1
        return int(self.fetch("changed").sum())

    def read(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(image after the last step, log-probability of the image before it), both [N, C, H, W]."""
        return self.fetch(("image", "image_next")[self._at]), self.fetch("log_prob")

    def _two_steps(self) -> None:
        if self._graph is not None:
            self._graph.launch(self._stream)
            self.launches += 1
            return
        self._both()
        if self.graph_refusal is None:
            # A network is recorded after it has run once: TensorRT prepares itself in the first call.
            self._stream.synchronize()
            launches = self.launches
            try:
                self._graph = Graph(self._stream, self._both)
            except EngineError as error:  # slower, not wrong: go on without
                self.graph_refusal, self._at = str(error), 0
            self.launches = launches

    def _both(self) -> None:
        self.enqueue()
        self.enqueue()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory for this batch is what CUDA or TensorRT lacked."""
    return isinstance(error, CudaError | TensorRTError) and error.out_of_memory
