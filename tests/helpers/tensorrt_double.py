"""A stand-in for CUDA and for TensorRT's runtime: ONNX Runtime computes, everything else is as strict as the real ones.

What is put on a stream happens at the next synchronization and not before, so a missing one shows. Addresses are device
addresses that the host cannot read. A context that never ran cannot be recorded. Every call can be told to fail, and
whatever is alive is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import gc
import importlib.machinery
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gpcnn_runtime.engines.tensorrt.cuda import DeviceBuffer

MAGIC = b"fake"
_NUMPY = {
    "tensor(float)": "float32",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}
_TRT = {"float32": "FLOAT", "int32": "INT32", "bool": "BOOL", "int64": "INT64", "uint8": "UINT8"}


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorNoDevice = 100


class Machine:
    """A GPU, what lives on it, and what is to go wrong.

    Attributes:
        fail: name of a call → which one of its calls fails, from 1.
        calls: calls so far.
        live: device objects alive.
        host_tensors: tensors that the plan keeps in host memory.
        refusal: what TensorRT logs where it refuses to enqueue.
        device: where the first stream was made, and with it everything else.
        source: the array that is uploaded next.
    """

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.live: Counter[str] = Counter()
        self.objects: weakref.WeakSet[Any] = weakref.WeakSet()
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.host_tensors: set[str] = set()
        self.devices = 1
        self.compute_capability = (8, 6)
        self.max_batch = 64
        self.recorded_contexts: list[int] = []
        self.refusal = "double: enqueue refused"
        self.thread = threading.local()
        self.device: int | None = None
        self.source: weakref.ref[Any] | None = None

    def check_device(self) -> None:
        """The calling thread's current device must be the one that everything was made on."""
        assert self.device in (None, self.current())

    def current(self) -> int:
        """The calling thread's current device: 0, whatever other threads have."""
        return getattr(self.thread, "device", 0)

    def fails(self, name: str) -> bool:
        self.calls[name] += 1
        return self.fail.get(name) == self.calls[name]

    def leaks(self) -> dict[str, int]:
        """What is still alive: streams, allocations, graphs, contexts, engines."""
        if self.objects:
            gc.collect()
        counts = Counter(type(one).__name__ for one in self.objects)
        return {name: count for name, count in (self.live + counts).items() if count}


class Stream:
    def __init__(self, address: int) -> None:
        self.address = address
        self.waiting: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.address

    def put(self, work: Callable[[], None]) -> None:
        (self.waiting if self.recording is None else self.recording).append(work)


class Cuda(types.ModuleType):
    """`cuda.bindings.runtime`, as far as the project uses it."""

    cudaStreamNonBlocking = 1
    cudaError_t = Error

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(enum.IntEnum):
        cudaStreamCaptureModeThreadLocal = 1

    class cudaDeviceAttr(enum.IntEnum):
        cudaDevAttrComputeCapabilityMajor = 75
        cudaDevAttrComputeCapabilityMinor = 76

    def __init__(self, machine: Machine) -> None:
        super().__init__("cuda.bindings.runtime")
        self._machine = machine
        self._next = 0x7000_0000_0000
        self.streams: dict[int, Stream] = {}
        for name in [name for name in dir(type(self)) if name.startswith("_cuda")]:
            setattr(self, name[1:], self._guarded(name[1:], getattr(self, name)))

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if "Device" not in name and name != "cudaGetErrorString":
                self._machine.check_device()
            if self._machine.fails(name):
                if name == "cudaStreamEndCapture":
                    arguments[0].recording = None  # it ends the recording even where it finds it invalid
                code = Error.cudaErrorMemoryAllocation if name == "cudaMalloc" else Error.cudaErrorInvalidValue
                return (code, None)
            return function(*arguments)

        call.__name__ = name
        return call

    def _cudaGetErrorString(self, error: Error) -> Any:
        return Error.cudaSuccess, f"double says {Error(error).name}".encode()

    def _cudaGetDeviceCount(self) -> Any:
        return (Error.cudaSuccess, self._machine.devices) if self._machine.devices else (Error.cudaErrorNoDevice, None)

    def _cudaGetDevice(self) -> Any:
        return Error.cudaSuccess, self._machine.current()

    def _cudaSetDevice(self, device: int) -> Any:
        self._machine.thread.device = device
        return (Error.cudaSuccess,)

    def _cudaDeviceGetAttribute(self, attribute: int, device: int) -> Any:
        return Error.cudaSuccess, self._machine.compute_capability[attribute - 75]

    def _cudaGetDeviceProperties(self, device: int) -> Any:
        return Error.cudaSuccess, types.SimpleNamespace(name=b"Double 3000")

    def _cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking
        self._next += 0x100
        stream = self.streams[self._next] = Stream(self._next)
        self._machine.live["streams"] += 1
        if self._machine.device is None:
            self._machine.device = self._machine.current()
        return Error.cudaSuccess, stream

    def _cudaStreamDestroy(self, stream: Stream) -> Any:
        del self.streams[stream.address]
        self._machine.live["streams"] -= 1
        return (Error.cudaSuccess,)

    def _cudaStreamSynchronize(self, stream: Stream) -> Any:
        if stream.recording is not None:
            return (Error.cudaErrorStreamCaptureUnsupported,)
        waiting, stream.waiting = stream.waiting, []
        for work in waiting:
            work()
        return (Error.cudaSuccess,)

    def _cudaMalloc(self, size: int) -> Any:
        assert all(stream.recording is None for stream in self.streams.values())
        self._next += (size + 0x200) & ~0xFF
        self._machine.memory[self._next] = np.full(size, 0xAB, np.uint8)
        self._machine.live["allocations"] += 1
        return Error.cudaSuccess, self._next

    def _cudaFree(self, address: int) -> Any:
        del self._machine.memory[address]
        self._machine.live["allocations"] -= 1
        return (Error.cudaSuccess,)

    def _cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: Stream) -> Any:
        memory, array = self._machine.memory, self._machine.source

        def copy() -> None:
            if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice:
                assert array is not None
                assert array() is not None, "an array was freed before it was copied"
                assert memory[target].size == size
                memory[target][:] = np.frombuffer(ctypes.string_at(source, size), np.uint8)
            else:
                assert memory[source].size == size
                ctypes.memmove(target, memory[source].tobytes(), size)

        stream.put(copy)
        return (Error.cudaSuccess,)

    def _cudaStreamBeginCapture(self, stream: Stream, mode: int) -> Any:
        stream.recording = []
        return (Error.cudaSuccess,)

    def _cudaStreamEndCapture(self, stream: Stream) -> Any:
        recording, stream.recording = stream.recording, None
        assert recording is not None
        self._machine.live["graphs"] += 1
        return Error.cudaSuccess, recording

    def _cudaGraphInstantiate(self, graph: list[Callable[[], None]], flags: int) -> Any:
        self._machine.live["executable graphs"] += 1
        return Error.cudaSuccess, list(graph)

    def _cudaGraphDestroy(self, graph: list[Callable[[], None]]) -> Any:
        self._machine.live["graphs"] -= 1
        return (Error.cudaSuccess,)

    def _cudaGraphExecDestroy(self, graph: list[Callable[[], None]]) -> Any:
        self._machine.live["executable graphs"] -= 1
        return (Error.cudaSuccess,)

    def _cudaGraphLaunch(self, graph: list[Callable[[], None]], stream: Stream) -> Any:
        for work in graph:
            stream.put(work)
        return (Error.cudaSuccess,)


class TensorRTDouble(types.ModuleType):
    """`tensorrt` or `tensorrt_rtx`, runtime side. A plan is MAGIC and an ONNX file."""

    class TensorIOMode(enum.Enum):
        INPUT = 1
        OUTPUT = 2

    class TensorLocation(enum.Enum):
        DEVICE = 0
        HOST = 1

    class CudaGraphStrategy(enum.Enum):
        DISABLED = 0
        WHOLE_GRAPH_CAPTURE = 1

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY = 0
        EAGER = 1

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)
        Severity = int

    def __init__(self, name: str, machine: Machine, cuda: Cuda, version: str) -> None:
        super().__init__(name)
        self.__version__ = version
        self.machine, self.cuda = machine, cuda
        self.Runtime = lambda log: Runtime(self, log)
        self.is_rtx = name == "tensorrt_rtx"


class Runtime:
    def __init__(self, module: TensorRTDouble, log: Any) -> None:
        self.module, self.log = module, log
        module.machine.objects.add(self)

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if self.module.machine.fails("deserialize_cuda_engine") or not plan.startswith(MAGIC):
            self.log.log(1, "double: the plan is not to my liking")
            return None
        return Engine(self, plan[len(MAGIC) :])


class Engine:
    def __init__(self, runtime: Runtime, onnx: bytes) -> None:
        self.runtime, self.module = runtime, runtime.module
        self.machine = runtime.module.machine
        self.machine.objects.add(self)
        self.session = _session(onnx)
        ports = [(port, "INPUT") for port in self.session.get_inputs()]
        ports += [(port, "OUTPUT") for port in self.session.get_outputs()]
        self.io = {port.name: (port, self.module.TensorIOMode[mode]) for port, mode in ports}

    @property
    def num_io_tensors(self) -> int:
        return len(self.io)

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.io[name][1]

    def get_tensor_dtype(self, name: str) -> Any:
        return types.SimpleNamespace(name=_TRT[_NUMPY[self.io[name][0].type]])

    def get_tensor_shape(self, name: str) -> list[int]:
        return [length if isinstance(length, int) else -1 for length in self.io[name][0].shape]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        shape = self.get_tensor_shape(name)[1:]
        most = self.machine.max_batch
        return [[1, *shape], [min(8, most), *shape], [most, *shape]]

    def get_tensor_location(self, name: str) -> Any:
        place = self.module.TensorLocation
        return place.HOST if name in self.machine.host_tensors else place.DEVICE

    def create_runtime_config(self) -> Any:
        assert self.module.is_rtx
        return None if self.machine.fails("create_runtime_config") else RuntimeConfig(self.machine)

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context | None:
        assert (config is not None) == self.module.is_rtx
        self.machine.check_device()
        if self.machine.fails("create_execution_context"):
            self.runtime.log.log(1, "Error Code 2: OutOfMemory (requested 12345 bytes)")
            return None
        return Context(self)


@functools.cache
def _session(onnx: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


class RuntimeConfig:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.objects.add(self)
        self.cuda_graph_strategy = self.dynamic_shapes_kernel_specialization_strategy = None

    def create_runtime_cache(self) -> Any:
        return None if self.machine.fails("create_runtime_cache") else RuntimeCache(self.machine)

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        return not self.machine.fails("set_runtime_cache")


class RuntimeCache:
    def __init__(self, machine: Machine) -> None:
        self.content = b"kernels"
        machine.objects.add(self)

    def deserialize(self, content: bytes) -> bool:
        if content != self.content:
            return False
        self.content = content + b" again"
        return True

    def serialize(self) -> bytes:
        return self.content


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.machine = engine, engine.machine
        self.machine.objects.add(self)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.has_run = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = self.engine.get_tensor_shape(name)
        fits = len(shape) == len(fixed) and all(a in (-1, b) for a, b in zip(fixed, shape, strict=True))
        if self.machine.fails("set_input_shape") or not fits or (shape and shape[0] > self.machine.max_batch):
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if self.machine.fails("set_tensor_address") or name not in self.engine.io:
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        self.machine.check_device()
        stream = self.engine.module.cuda.streams[handle]
        if self.machine.fails("execute_async_v3") or set(self.addresses) != set(self.engine.io):
            self.engine.runtime.log.log(1, self.machine.refusal)
            return False
        if stream.recording is not None:
            if self.machine.fails("recorded enqueue") or not self.has_run:
                return False
            self.machine.recorded_contexts.append(id(self))
        self.has_run = True
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        stream.put(lambda: self.compute(shapes, addresses))
        return True

    def compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        self.machine.calls["evaluations"] += 1
        feeds = {}
        for name, (port, mode) in self.engine.io.items():
            if mode.name == "INPUT":
                content = self._bytes(name, addresses[name], None)
                feeds[name] = np.frombuffer(content, _NUMPY[port.type]).reshape(shapes[name])
        names = [name for name, (_, mode) in self.engine.io.items() if mode.name == "OUTPUT"]
        for name, value in zip(names, self.engine.session.run(names, feeds), strict=True):
            self._bytes(name, addresses[name], np.ascontiguousarray(value).tobytes())

    def _bytes(self, name: str, address: int, write: bytes | None) -> bytes:
        if name in self.machine.host_tensors:
            if write is not None:
                ctypes.memmove(address, write, len(write))
            return ctypes.string_at(address, 4) if write is None else write
        memory = self.machine.memory[address]
        if write is not None:
            assert memory.size == len(write)
            memory[:] = np.frombuffer(write, np.uint8)
        return memory.tobytes()


def install(monkeypatch: pytest.MonkeyPatch, flavor: str, version: str = "99.1") -> Machine:
    """Put the double in the place of CUDA and of one flavour of TensorRT, until the test ends."""
    from gpcnn_runtime.engines.tensorrt import library as tensorrt_compat

    machine = Machine()
    cuda = Cuda(machine)
    upload = DeviceBuffer.upload

    def watched(self: DeviceBuffer, array: np.ndarray[Any, Any], stream: Any) -> None:
        machine.source = weakref.ref(array)
        upload(self, array, stream)

    monkeypatch.setattr(DeviceBuffer, "upload", watched)
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = cuda  # type: ignore[attr-defined]
    package = types.ModuleType("cuda")
    package.bindings = bindings  # type: ignore[attr-defined]
    for name, module in (("cuda", package), ("cuda.bindings", bindings), ("cuda.bindings.runtime", cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    name = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}[flavor]
    double = TensorRTDouble(name, machine, cuda, version)
    double.__spec__ = importlib.machinery.ModuleSpec(name, None)  # PyTorch's exporter asks for it
    monkeypatch.setitem(sys.modules, name, double)
    monkeypatch.setattr(tensorrt_compat, "_loaded", {})
    monkeypatch.setattr(tensorrt_compat, "is_installed", lambda wanted: wanted == flavor)
    return machine


@contextlib.contextmanager
def nothing_left(machine: Machine) -> Any:
    """Everything that the block made must be gone at its end."""
    yield
    assert machine.leaks() == {}
