"""From the bytes of an ONNX file to a session of ONNX Runtime whose inputs and outputs are what its metadata says."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, decode_metadata
from gpcnn_deploy.ports import Ports
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.base import EXPORT_ANEW
from gpcnn_runtime.engines.onnx_file import EXTERNAL, MalformedError, properties, unsafe_part
from gpcnn_runtime.engines.onnxruntime.providers import Placement

if TYPE_CHECKING:
    import onnxruntime

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit
_MALFORMED = "truncated, damaged or foreign"
_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "uint8": "tensor(uint8)", "bool": "tensor(bool)"}


def read_onnx(path: Path) -> bytes:
    """The bytes of a file that may be an ONNX engine, reaches outside itself nowhere and is no bomb.

    Raises:
        EngineError: missing, empty, truncated or foreign, no regular file, larger than ONNX files get, or with parts
            that engines do not have, such as weights in other files.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise EngineError(f"{path} is a device or a pipe: expected an engine file (.onnx)")
        if status.st_size > MAX_BYTES:
            raise EngineError(f"{path}: {counted(status.st_size, 'byte')}: expected an ONNX file of a few MB")
        content = path.read_bytes()
    except FileNotFoundError:
        raise EngineError(f"{path}: no such file; {EXPORT_ANEW}, or name another") from None
    except IsADirectoryError:
        raise EngineError(f"{path} is a folder: expected an engine file (.onnx)") from None
    except MemoryError:
        raise EngineError(f"{path}: not enough memory to read it: expected an ONNX file of a few MB") from None
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    if not content:
        raise EngineError(f"{path} is empty: {EXPORT_ANEW}")
    for magic, kind in _FOREIGN.items():
        if content.startswith(magic):
            raise EngineError(f"{path} is {kind}, no ONNX file: {EXPORT_ANEW}")
    try:
        unsafe = unsafe_part(content)
    except MalformedError as error:
        raise EngineError(f"{path} cannot be loaded as ONNX: {_MALFORMED} ({error}): {EXPORT_ANEW}") from error
    if unsafe == EXTERNAL:
        raise EngineError(
            f"{path} keeps weights in other files (ONNX external data), which is refused: an engine is one "
            f"self-contained file; {EXPORT_ANEW}"
        )
    if unsafe is not None:
        raise EngineError(f"{path} has {unsafe}, which is refused: no engine has them; {EXPORT_ANEW}")
    return content


_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a zip archive (an .npz or PyTorch file?)",
    b"ftrt": "a TensorRT plan",
    b"ptrt": "a TensorRT plan",
    b"\x7fELF": "a program",
}


def open_session(
    path: Path, content: bytes, placement: Placement, purpose: str = "an .onnx engine"
) -> onnxruntime.InferenceSession:
    """A session of one thread; `purpose` says what for, where ONNX Runtime is missing.

    Raises:
        EngineError: ONNX Runtime cannot load the file, or the provider cannot run it.
        MissingExtraError: ONNX Runtime is not installed.
    """
    require(purpose, "cpu", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # batches are spread over threads by the sampler, each in its own call
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors come as exceptions; nothing is printed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A few bytes of graph could ask for gigabytes while they are loaded; versions that do not know this ignore it.
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(1 << 24))
    try:
        return placement.session(content, options)
    except MemoryError:
        raise EngineError(f"{path}: not enough memory to load it") from None
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        if placement.provider != "cpu":
            raise EngineError(
                f"{path}: provider {placement.provider} cannot run it ({brief(error)}): check the driver and its "
                "libraries, or use --provider cpu"
            ) from error
        raise EngineError(f"{path} cannot be loaded as ONNX: {_MALFORMED} ({brief(error)}): {EXPORT_ANEW}") from error


def onnx_metadata(path: Path, content: bytes) -> EngineMetadata:
    """What the content of the file says about itself.

    Raises:
        EngineError: nothing of ours, or damaged, contradictory or of a newer schema.
    """
    try:
        text = properties(content).get(METADATA_KEY)
    except MalformedError as error:
        raise EngineError(f"{path} cannot be loaded as ONNX: {_MALFORMED} ({error}): {EXPORT_ANEW}") from error
    if text is None:
        raise EngineError(f"{path} is an ONNX file without gpcnn-deploy metadata: {EXPORT_ANEW}")
    metadata = decode_metadata(text, str(path))
    if metadata.role == "weights":
        raise EngineError(f"{path} claims to be a model file, and is an ONNX file: {EXPORT_ANEW}")
    return metadata


def check_ports(path: Path, kind: str, found: Sequence[Any], expected: Ports) -> None:
    """Refuse inputs or outputs (`kind`) that are not those expected.

    Raises:
        EngineError: names the first that is missing, unexpected, or of another type or shape.
    """
    try:
        ports = {port.name: (port.type, port.shape) for port in found}
    except UnicodeDecodeError:
        raise EngineError(f"{path}: an {kind} whose name is no text: {EXPORT_ANEW}") from None
    needed = {name for name, port in expected.items() if not port.optional}
    if missing := needed - set(ports):
        raise EngineError(f"{path}: no {kind} '{min(missing)}', which its role needs: {EXPORT_ANEW}")
    if (extra := set(ports) - set(expected)) and kind == "input":
        raise EngineError(f"{path}: unexpected input '{min(extra)}': {EXPORT_ANEW}")
    for name, port in expected.items():
        if name not in ports:
            continue
        found_dtype, found_shape = ports[name]
        # A dimension that the graph leaves open has a name or None for a length.
        fits = len(found_shape) == len(port.shape) and all(
            not isinstance(there, int) or there == wanted for there, wanted in zip(found_shape, port.shape, strict=True)
        )
        if found_dtype != _TYPES[port.dtype] or not fits:
            raise EngineError(
                f"{path}: {kind} '{name}' is {found_dtype} {found_shape}, expected {_TYPES[port.dtype]} "
                f"{list(port.shape)}: {EXPORT_ANEW}"
            )


def brief(error: Exception) -> str:
    """What ONNX Runtime says, on one line of at most 160 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "…"
