"""Where ONNX Runtime runs an engine: its execution providers, and whether the one that was asked for really runs.

ONNX Runtime goes on without a provider that does not start, and says so in its log only. Here that is an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import EngineError, UsageError

if TYPE_CHECKING:
    import onnxruntime

Provider = Literal["auto", "cpu", "cuda", "tensorrt", "nv-tensorrt-rtx"]
PROVIDERS: tuple[str, ...] = get_args(Provider)

_CPU = "CPUExecutionProvider"
_NAMES = {
    "cpu": _CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "nv-tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
}
_TITLES = {
    _CPU: "CPU",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
    "NvTensorRTRTXExecutionProvider": "TensorRT-RTX",
}
# fp32 means fp32, and the same convolution kernel in every process.
_OPTIONS = {"cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}}
# These have no such option: NVIDIA's libraries read this when the first session starts them.
_TF32_BY_ENVIRONMENT = ("tensorrt", "nv-tensorrt-rtx")
# No second try that prints, and no options out of the file, whatever the environment says.
_QUIET = {"enable_fallback": 0, "read_config_from_model": 0}
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"  # the package that brings nv-tensorrt-rtx to a plain onnxruntime


@dataclass(frozen=True)
class Placement:
    """Execution providers of a session, most wanted first.

    Attributes:
        provider: the one wanted.
        name: ONNX Runtime's name of it.
        devices: ONNX Runtime's devices, where the provider is a plugin; else it is named to the session.
        memory: ONNX Runtime's name of the memory that a step's state stays in; None for host memory.
    """

    provider: str
    name: str
    devices: tuple[Any, ...] = ()
    memory: str | None = None

    def session(self, content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        """Create the session; raises what ONNX Runtime raises.

        For TensorRT's providers, this sets NVIDIA_TF32_OVERRIDE=0 in the process, unless it is set.
        """
        import onnxruntime

        if self.provider == "cpu":
            return onnxruntime.InferenceSession(content, options, providers=[_CPU], **_QUIET)
        if self.provider in _TF32_BY_ENVIRONMENT:
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if self.devices:
            options.add_provider_for_devices(list(self.devices), {})
            return onnxruntime.InferenceSession(content, options, **_QUIET)
        wanted = [(self.name, _OPTIONS.get(self.provider, {})), _CPU]
        session = onnxruntime.InferenceSession(content, options, providers=wanted, **_QUIET)
        session.disable_fallback()  # not in a later run either
        return session


CPU = Placement("cpu", _CPU)


def place(provider: Provider) -> Placement:
    """The placement for a provider by name.

    Raises:
        UsageError: `auto`, or no provider at all.
        EngineError: the installed ONNX Runtime does not have it; the message says what to install.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if provider not in _NAMES:
        raise UsageError(f"provider is '{provider}': expected one of {', '.join(_NAMES)}")
    if provider == "cpu":
        return CPU
    require(f"provider {provider}", "gpu", "onnxruntime")
    import onnxruntime

    name = _NAMES[provider]
    if name in onnxruntime.get_available_providers():
        return Placement(provider, name, memory="cuda")
    if provider == "nv-tensorrt-rtx" and importlib.util.find_spec(_PLUGIN) is not None:
        return Placement(provider, name, devices=_plugin_devices())
    there = ", ".join(key for key, value in _NAMES.items() if value in onnxruntime.get_available_providers())
    mend = (
        "pip install onnxruntime-ep-nv-tensorrt-rtx"
        if provider == "nv-tensorrt-rtx"
        else "pip uninstall onnxruntime; pip install 'gpcnn-deploy[gpu]'"
    )
    raise EngineError(f"provider {provider}: onnxruntime {onnxruntime.__version__} here has only {there}: {mend}")


def _plugin_devices() -> tuple[Any, ...]:
    import onnxruntime

    plugin = importlib.import_module(_PLUGIN)
    name = plugin.get_ep_name()
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        try:
            onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's classes share no base but Exception
            raise EngineError(f"provider nv-tensorrt-rtx: its plugin cannot be loaded ({error})") from error
    devices = tuple(device for device in onnxruntime.get_ep_devices() if device.ep_name == name)
    if not devices:
        raise EngineError("provider nv-tensorrt-rtx: its plugin finds no GPU that it can use")
    return devices


def running(session: onnxruntime.InferenceSession, placement: Placement) -> str:
    """Name, for people, of what runs a session's nodes.

    Raises:
        EngineError: the provider that was asked for does not, though ONNX Runtime said nothing.
    """
    registered = session.get_providers()
    if placement.name not in registered:
        fallback = _TITLES.get(registered[0], registered[0])
        raise EngineError(
            f"provider {placement.provider} did not start and ONNX Runtime fell back to {fallback}: check the driver "
            "and its libraries (CUDA, cuDNN, TensorRT), or use --provider cpu"
        )
    title = _TITLES[placement.name]
    if placement.provider == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):
        return title
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    elsewhere = nodes.total() - nodes[placement.name]
    if nodes and not nodes[placement.name]:
        raise EngineError(f"provider {placement.provider} started but runs none of the engine's {nodes.total()} nodes")
    return f"{title} ({elsewhere} of {nodes.total()} nodes on the CPU)" if elsewhere else title
