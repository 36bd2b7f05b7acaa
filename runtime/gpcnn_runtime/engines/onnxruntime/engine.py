"""Engines on ONNX Runtime: the whole image in one call, or a step that the runtime iterates."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, GpcnnError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.base import (
    EXPORT_ANEW,
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
from gpcnn_runtime.engines.cancel import Cancellation, Cancelled
from gpcnn_runtime.engines.onnxruntime.session import brief

if TYPE_CHECKING:
    import onnxruntime

_ALLOCATION = re.compile("bad.?alloc|failed to allocate|out of memory", re.IGNORECASE)


@contextlib.contextmanager
def translated(path: Path, count: int) -> Iterator[None]:
    """What ONNX Runtime raises inside the block becomes an `EngineError`, or `OutOfMemoryError` for `count` images."""
    try:
        yield
    except (GpcnnError, Cancelled):
        raise
    except MemoryError as error:
        raise _out_of_memory(count) from error
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        if _ALLOCATION.search(str(error)):
            raise _out_of_memory(count) from error
        raise EngineError(f"{path}: ONNX Runtime failed ({brief(error)}): {EXPORT_ANEW}") from error


class _OnnxEngine(Engine):
    concurrent = True

    def __init__(self, session: onnxruntime.InferenceSession, metadata: EngineMetadata, info: EngineInfo) -> None:
        self.metadata, self.info = metadata, info
        self._session: onnxruntime.InferenceSession | None = session
        self.outputs = tuple(output.name for output in session.get_outputs())

    def close(self) -> None:
        self._session = None

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """ONNX Runtime's session.

        Raises:
            EngineError: the engine is closed.
        """
        if self._session is None:
            raise EngineError(f"{self.info.path}: the engine is closed: load it again")
        return self._session

    def evaluate(self, inputs: dict[str, npt.NDArray[Any]], cancellation: Cancellation) -> dict[str, npt.NDArray[Any]]:
        """Outputs of the graph by name, checked for shape.

        A graph of a fixed batch is called as often as it takes. What a call lacks is filled with its last image, which
        needs no more steps a second time.

        Raises:
            EngineError: the engine is closed, or ONNX Runtime failed.
            OutOfMemoryError: not enough memory for this batch.
            Cancelled: the request was called off.
        """
        batch, count = self.metadata.batch, len(inputs["noise"])
        if batch is None or batch == count:
            return self._evaluate(inputs, cancellation)
        calls = []
        for start in range(0, count, batch):
            rows = np.minimum(np.arange(start, start + batch), count - 1)
            filled = {name: array[rows] if array.ndim else array for name, array in inputs.items()}
            calls.append(self._evaluate(filled, cancellation))
        together = {name: [call[name] for call in calls] for name in calls[0]}
        return {
            name: np.concatenate(parts)[:count] if parts[0].ndim else np.sum(parts, axis=0, dtype=parts[0].dtype)
            for name, parts in together.items()
        }

    def _evaluate(self, inputs: dict[str, npt.NDArray[Any]], cancellation: Cancellation) -> dict[str, npt.NDArray[Any]]:
        import onnxruntime

        path = self.info.path
        shape = inputs["noise"].shape
        options = onnxruntime.RunOptions()
        try:
            with translated(path, shape[0]), cancellation.hook(lambda: setattr(options, "terminate", True)):
                values = self.session.run(self.outputs, inputs, options)
        except EngineError:
            cancellation.check()
            raise
        outputs = dict(zip(self.outputs, values, strict=True))
        levels = outputs.get("image", outputs.get("image_next"))
        assert levels is not None
        if levels.shape != shape or outputs["log_prob"].shape != shape:
            raise EngineError(f"{path}: drew images of shape {levels.shape}, expected {shape}: {EXPORT_ANEW}")
        return outputs


class OnnxSampler(_OnnxEngine):
    """Role `sampler`: the graph draws the whole image in one call."""

    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch in one call of ONNX Runtime; shapes and errors as `Engine.run`."""
        refuse_strategy(self.metadata, strategy)
        outputs = self.evaluate(request.inputs(), request.cancellation)
        counted = outputs.get("evaluations")
        evaluations = None if counted is None else int(counted)
        return Result(outputs["image"], outputs["log_prob"], evaluations, outputs.get("picture"))


class OnnxStep(_OnnxEngine, StepEngine):
    """Role `step`: the graph evaluates the network once; `StepEngine.run` iterates it."""

    def close(self) -> None:
        """Release the session and the decoder; a second call does nothing."""
        super().close()
        if self.decoder is not None:
            self.decoder.close()

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[StepBatch]:
        """A batch in host memory."""
        yield _OnnxStepBatch(self, request)


class _OnnxStepBatch:
    """Images that a step leaves unchanged have reached their fixed point: they are set aside, the rest goes on."""

    def __init__(self, engine: OnnxStep, request: Request) -> None:
        self._engine, self._cancellation = engine, request.cancellation
        self._inputs = request.inputs()
        self._per_image = [name for name in self._inputs if name != "temperature"]
        self._log_prob = np.zeros_like(request.noise)
        self.place(request.start())

    def place(self, levels: npt.NDArray[np.int32]) -> None:
        self._levels = levels.copy()
        self._going = np.arange(len(levels))
        self._going_inputs = self._inputs

    def advance(self, steps: int) -> int:
        changed = 0
        for _ in range(steps):
            guess = {"image": self._levels[self._going], **self._going_inputs}
            outputs = self._engine.evaluate(guess, self._cancellation)
            self._levels[self._going] = outputs["image_next"]
            self._log_prob[self._going] = outputs["log_prob"]
            changed = int(outputs["changed"].sum())
            if changed == 0:
                break
            still = outputs["changed"] != 0
            if not still.all():
                self._going = self._going[still]
                self._going_inputs = {**self._inputs}
                for name in self._per_image:
                    self._going_inputs[name] = self._inputs[name][self._going]
        return changed

    def read(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        return self._levels, self._log_prob


def _out_of_memory(count: int) -> OutOfMemoryError:
    return OutOfMemoryError(f"not enough memory for {counted(count, 'image')} at a time")
