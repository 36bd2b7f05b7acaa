"""TensorRT 10.x, TensorRT 11.x and TensorRT-RTX behind one small interface: the only module that imports one of them.

All networks are strongly typed: precision is what the ONNX graph says, in every version. What returns None or False
raises `EngineError` here, with what TensorRT logged as the cause. Nothing is imported before `load`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsInt

from gpcnn_deploy.errors import EngineError, MissingExtraError, NotHereError
from gpcnn_runtime.engines.plan_file import Flavor, Mode, PlanTensor

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx

MODULES: dict[Flavor, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

Progress = Callable[[str, int, int], bool]
"""Called with (phase, steps done, steps in all), from any thread; False stops the build."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_OUT_OF_MEMORY = re.compile("out ?of ?memory", re.IGNORECASE)
_loaded: dict[Flavor, TensorRT] = {}


class TensorRTError(EngineError):
    """A call of a plan that TensorRT refused.

    Attributes:
        out_of_memory: by what it logged, memory is what it lacked.
    """

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message + cause)
        self.out_of_memory = _OUT_OF_MEMORY.search(cause) is not None


def is_installed(flavor: Flavor) -> bool:
    """Whether a flavour can be imported; nothing is imported. A package of type stubs alone does not count."""
    spec = importlib.util.find_spec(MODULES[flavor])
    return spec is not None and spec.origin is not None


def load(flavor: Flavor) -> TensorRT:
    """Import a flavour, once a process.

    Raises:
        MissingExtraError: it is not installed.
        NotHereError: it is installed but broken.
    """
    if flavor not in _loaded:
        if not is_installed(flavor):
            raise MissingExtraError(flavor, flavor, f"a {flavor} plan")
        try:
            _loaded[flavor] = TensorRT(flavor, importlib.import_module(MODULES[flavor]))
        except Exception as error:  # it finds its libraries in many ways, and fails in as many
            reason = " ".join(str(error).split())
            raise NotHereError(f"{flavor} is installed but cannot be imported ({reason}): install it anew") from error
    return _loaded[flavor]


class TensorRT:
    """One flavour of TensorRT, imported.

    Attributes:
        flavor: which one.
        version: its exact version.
    """

    def __init__(self, flavor: Flavor, module: Any) -> None:
        self.flavor = flavor
        self.version = str(module.__version__)
        self.module = module
        self._log = _make_log(module)

    def portable_capabilities(self) -> tuple[str, ...]:
        """Compute capabilities of the GPUs that a plan built without one runs on; empty where a GPU is needed.

        TensorRT-RTX plans run on Ampere and later unless they are built for Turing (7.5) alone.
        """
        if self.flavor != "tensorrt-rtx":
            return ()
        names = [name for name in self.module.ComputeCapability.__members__ if name.startswith("SM") and name != "SM75"]
        return tuple(f"{name[2:-1]}.{name[-1]}" for name in names)

    def build(
        self, onnx: bytes, source: str, opt_batch: int, max_batch: int, progress: Progress | None
    ) -> tuple[bytes, tuple[PlanTensor, ...]]:
        """Build a plan from an ONNX file's bytes; axis 0 of an input is the batch where it is dynamic.

        Raises:
            EngineError: TensorRT refuses the graph or the build fails; names the node or the cause.
        """
        if not TYPE_CHECKING:
            trt = self.module
        self._log.lines.clear()
        builder = self._made("a builder", lambda: trt.Builder(self._log))
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = self._made("a network", lambda: builder.create_network(typed))
        parser = self._made("a parser", lambda: trt.OnnxParser(network, self._log))
        if not parser.parse(onnx):
            raise EngineError(f"{source}: {self.flavor} cannot read the graph: {_parser_errors(parser)}")
        config = self._made("a build configuration", builder.create_builder_config)
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
        profile = self._made("an optimization profile", builder.create_optimization_profile)
        tensors = []
        for index in range(network.num_inputs):
            tensors.append(_described(network.get_input(index), "input", opt_batch, max_batch))
            if (shapes := tensors[-1].profile) is not None:
                profile.set_shape(tensors[-1].name, *(trt.Dims(shape) for shape in shapes))
        for index in range(network.num_outputs):
            tensors.append(_described(network.get_output(index), "output", opt_batch, max_batch))
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{source}: {self.flavor} refuses batch 1 to {max_batch}{self.cause()}")
        monitor = _make_monitor(trt, progress)
        config.progress_monitor = monitor
        memory = builder.build_serialized_network(network, config)
        if monitor.error is not None:
            raise monitor.error
        if memory is None:
            reason = ": it was stopped" if monitor.stopped else self.cause()
            raise EngineError(f"{source}: {self.flavor} {self.version} could not build a plan{reason}")
        return bytes(memory), tuple(tensors)

    def deserialize(self, plan: bytes, source: str) -> Plan:
        """Hand a plan's bytes to TensorRT. Check the plan's digest and metadata first: a plan is code.

        Raises:
            NotHereError: TensorRT refuses it; names the cause.
        """
        if not TYPE_CHECKING:
            trt = self.module
        self._log.lines.clear()
        runtime = self._made("a runtime", lambda: trt.Runtime(self._log))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise NotHereError(f"{source}: {self.flavor} {self.version} refuses the plan{self.cause()}")
        return Plan(self, runtime, engine, source)

    def cause(self) -> str:
        """ ": " and the last errors that TensorRT logged; empty if there are none. Forgets them."""
        lines, self._log.lines = list(self._log.lines), deque(maxlen=4)
        text = " ".join(" | ".join(lines).split())
        return f": {text[:400]}" if text else ""

    def _made(self, what: str, make: Callable[[], Any]) -> Any:
        try:
            made = make()
        except TypeError as error:  # what the bindings raise where C++ returns a null pointer
            raise NotHereError(
                f"{self.flavor} {self.version} could not make {what}{self.cause() or f': {error}'}"
            ) from error
        if made is None:
            raise EngineError(f"{self.flavor} {self.version} could not make {what}{self.cause()}")
        return made


class Plan:
    """A deserialized plan. Its memory is freed with the last reference, contexts first."""

    def __init__(self, library: TensorRT, runtime: trt.Runtime, engine: trt.ICudaEngine, source: str) -> None:
        self.library = library
        self.source = source
        self._runtime = runtime
        self._engine = engine
        self._cache: rtx.IRuntimeCache | None = None

    def tensors(self) -> tuple[PlanTensor, ...]:
        """Inputs and outputs, as the plan itself gives them."""
        if not TYPE_CHECKING:
            trt = self.library.module
        engine, tensors = self._engine, []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            mode: Mode = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
            shape = _lengths(engine.get_tensor_shape(name))
            profile = None
            if mode == "input" and -1 in shape:
                low, best, high = (_lengths(dims) for dims in engine.get_tensor_profile_shape(name, 0))
                profile = (low, best, high)
            dtype = _dtype(engine.get_tensor_dtype(name), name)
            tensors.append(PlanTensor(name=name, mode=mode, dtype=dtype, shape=shape, profile=profile))
        return tuple(tensors)

    def on_host(self, name: str) -> bool:
        """Whether TensorRT wants this tensor in host memory: so with scalars that control the flow of a graph."""
        if not TYPE_CHECKING:
            trt = self.library.module
        return bool(self._engine.get_tensor_location(name) == trt.TensorLocation.HOST)

    def context(self, replay: bool, cache: bytes | None) -> Context:
        """A context with memory for the largest batch.

        Args:
            replay: let TensorRT-RTX replay the network as a CUDA graph; TensorRT leaves that to its caller.
            cache: a runtime cache that TensorRT-RTX wrote earlier, if there is one; one that does not fit is ignored.

        Raises:
            EngineError: TensorRT cannot make one. Smaller batches need no less memory here.
        """
        self.library.cause()
        engine = self._engine
        if self.library.flavor == "tensorrt-rtx":
            config = self._runtime_config(replay, cache)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            cause = self.library.cause()
            if _OUT_OF_MEMORY.search(cause):
                raise EngineError(
                    f"{self.source}: not enough GPU memory for the largest batch that it was built for: build it with "
                    f"a smaller --max-batch{cause}"
                )
            raise EngineError(f"{self.source}: TensorRT could not make an execution context{cause}")
        return Context(self, context)

    def _runtime_config(self, replay: bool, cache: bytes | None) -> rtx.IRuntimeConfig:
        if not TYPE_CHECKING:
            rtx = self.library.module
        config = self._engine.create_runtime_config()
        if config is None:
            raise EngineError(f"{self.source}: TensorRT could not make a runtime configuration{self.library.cause()}")
        graphs = rtx.CudaGraphStrategy
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if replay else graphs.DISABLED
        # Lazily specialized kernels replace others in the middle of a loop, and an image could depend on the moment.
        config.dynamic_shapes_kernel_specialization_strategy = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            if self._cache is None:
                raise EngineError(f"{self.source}: TensorRT could not make a runtime cache{self.library.cause()}")
            if cache is not None and not self._cache.deserialize(cache):
                self.library.cause()
        if not config.set_runtime_cache(self._cache):
            raise EngineError(f"{self.source}: TensorRT refuses its runtime cache{self.library.cause()}")
        return config

    def runtime_cache(self) -> bytes | None:
        """What TensorRT-RTX compiled for this GPU so far, to be kept for the next process; None if nothing."""
        memory = None if self._cache is None else self._cache.serialize()
        return None if memory is None else bytes(memory)


class Context:
    """One execution context: the shapes and addresses of one stream of calls."""

    def __init__(self, plan: Plan, context: trt.IExecutionContext) -> None:
        self._plan = plan
        self._context = context

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Set an input's shape.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if not self._context.set_input_shape(name, shape):
            self._fail(f"TensorRT refuses shape {list(shape)} for input '{name}'")

    def set_address(self, name: str, address: int) -> None:
        """Set where a tensor lives.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if not self._context.set_tensor_address(name, address):
            self._fail(f"TensorRT refuses the memory of tensor '{name}'")

    def enqueue(self, stream: int) -> None:
        """Put one evaluation on a CUDA stream.

        Raises:
            EngineError: TensorRT could not.
        """
        if not self._context.execute_async_v3(stream):
            self._fail("TensorRT could not enqueue the network")

    def _fail(self, message: str) -> None:
        raise TensorRTError(f"{self._plan.source}: {message}", self._plan.library.cause())


def _described(tensor: trt.ITensor, mode: Mode, opt_batch: int, max_batch: int) -> PlanTensor:
    shape = _lengths(tensor.shape)
    if -1 in shape[1:]:
        raise EngineError(f"{mode} '{tensor.name}' has shape {list(shape)}: only the batch may be dynamic")
    profile = None
    if mode == "input" and shape[:1] == (-1,):
        profile = (1, *shape[1:]), (opt_batch, *shape[1:]), (max_batch, *shape[1:])
    return PlanTensor(
        name=tensor.name, mode=mode, dtype=_dtype(tensor.dtype, tensor.name), shape=shape, profile=profile
    )


def _lengths(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(int(dims[axis]) for axis in range(len(dims)))


def _dtype(dtype: trt.DataType, name: str) -> str:
    if dtype.name not in _DTYPES:
        raise EngineError(f"tensor '{name}' has dtype {dtype.name}: expected one of {', '.join(_DTYPES.values())}")
    return _DTYPES[dtype.name]


def _parser_errors(parser: trt.OnnxParser) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f"{error.node_operator()} node '{error.node_name()}': {error.desc()}" for error in errors[:3]]
    return " | ".join(" ".join(text.split()) for text in texts) or "no reason given"


def _make_log(module: Any) -> Any:
    """A logger that keeps the last errors, for messages, and prints nothing."""
    if not TYPE_CHECKING:
        trt = module

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=4)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.lines.append(msg)

    return Log()


def _make_monitor(module: Any, progress: Progress | None) -> Any:
    """A progress monitor; TensorRT calls it from its own threads, so nothing may be raised through it."""
    if not TYPE_CHECKING:
        trt = module

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.stopped = False
            self.error: BaseException | None = None
            self.lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
            self.steps[phase_name] = int(num_steps)
            self.tell(phase_name, 0)

        def phase_finish(self, phase_name: str) -> None:
            self.tell(phase_name, self.steps.get(phase_name, 0))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            self.tell(phase_name, int(step) + 1)
            return not self.stopped

        def tell(self, phase: str, done: int) -> None:
            if progress is None or self.stopped:
                return
            try:
                with self.lock:
                    self.stopped = not progress(phase, done, self.steps.get(phase, done))
            except BaseException as error:  # the caller raises it once TensorRT has returned
                self.stopped, self.error = True, error

    return Monitor()
