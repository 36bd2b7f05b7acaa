"""Single-step engines on ONNX Runtime whose image stays in the memory of the device: no copy between steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_runtime.engines.base import Request, StepBatch
from gpcnn_runtime.engines.onnxruntime.engine import OnnxStep, translated

if TYPE_CHECKING:
    import onnxruntime

STEPS_PER_LOOK = 4


class OnnxDeviceStep(OnnxStep):
    """Role `step` with I/O binding; the image moves between two buffers on the device."""

    concurrent = False
    stride = STEPS_PER_LOOK
    memory = "cuda"

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[StepBatch]:
        """A batch in device memory."""
        with translated(self.info.path, request.count):
            yield _DeviceBatch(self, request)


class _DeviceBatch:
    def __init__(self, engine: OnnxDeviceStep, request: Request) -> None:
        import onnxruntime

        self._engine = engine

        def on_device(array: npt.NDArray[Any]) -> onnxruntime.OrtValue:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), engine.memory, 0)

        inputs = {name: on_device(array) for name, array in request.inputs().items()}
        # Two arrays: in host memory, ONNX Runtime's values share an array's memory instead of copying it.
        self._images = [on_device(request.start()), on_device(request.start())]
        self._log_prob = on_device(np.zeros_like(request.noise))
        self._changed = on_device(np.zeros(request.count, np.int32))
        self._at = 0
        self._bindings = []
        for source, target in (self._images, self._images[::-1]):
            binding = engine.session.io_binding()
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_input("image", source)
            outputs = {"image_next": target, "log_prob": self._log_prob, "changed": self._changed}
            for name in engine.outputs:
                binding.bind_ortvalue_output(name, outputs[name])
            self._bindings.append(binding)

    def place(self, levels: npt.NDArray[np.int32]) -> None:
        """Replace the image by int32 [N, C, H, W]."""
        self._images[self._at].update_inplace(np.ascontiguousarray(levels))

    def advance(self, steps: int) -> int:
        """Put the image through that many steps; returns how many sub-pixels of the batch the last one changed."""
        for _ in range(steps):
            self._engine.session.run_with_iobinding(self._bindings[self._at])
            self._at = 1 - self._at
        return int(self._changed.numpy().sum())

    def read(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(image after the last step, log-probability of the image before it), both [N, C, H, W]."""
        return self._images[self._at].numpy().copy(), self._log_prob.numpy().copy()
