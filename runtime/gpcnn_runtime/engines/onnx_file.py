"""What an ONNX file says, read without ONNX Runtime and without the package `onnx`.

ONNX Runtime reads a tensor's external data from wherever the file says, in old versions outside its folder too: files
that reach outside themselves are found before it sees them. So are parts that can grow without measure while they are
loaded, and operators that are not ONNX's own. That walks the messages that can hold a tensor, in whatever order and
encoding their fields come, and skips everything else.
"""

from __future__ import annotations

from collections.abc import Iterator

_MAX_DEPTH = 100  # protobuf's own limit on messages in messages
_MAX_MESSAGES = 1 << 17  # nodes, attributes and tensors; a sampler of 512 layers and two windows has 40,000
_MAX_GRAPHS = 64  # loop bodies and branches; a sampler has up to 9

# Of each message of onnx.proto: fields that hold a tensor somewhere, and the message they are.
_MESSAGES = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        **{5: "Tensor", 10: "Tensor"},
        **{6: "Graph", 11: "Graph"},
        **{22: "SparseTensor", 23: "SparseTensor"},
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_DOMAIN = 7  # of Node
_STANDARD = (b"", b"ai.onnx")
EXTERNAL = "weights in other files"
# Functions of functions expand without bound; sparse tensors become dense ones of any size.
_REFUSED = {"Function": "functions of its own", "SparseTensor": "sparse tensors"}
_OPERATORS = "operators that are not ONNX's own"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2  # of Model and of StringStringEntry
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class MalformedError(ValueError):
    """The bytes are no ONNX file."""


def has_external_data(content: bytes) -> bool:
    """Whether any tensor of an ONNX file says that its data is elsewhere; errors as `unsafe_part`."""
    return unsafe_part(content) == EXTERNAL


def unsafe_part(content: bytes) -> str | None:
    """What an ONNX file holds that ONNX Runtime must not see, `EXTERNAL` before all else; None in engines of ours.

    Raises:
        MalformedError: truncated, damaged, foreign, too large in parts, or ONNX Runtime's own format.
    """
    if content[4:8] == b"ORTM":
        raise MalformedError("it is in ONNX Runtime's own format")
    try:
        return _walk(content)
    except IndexError:
        raise MalformedError("it ends inside a field") from None


def _walk(content: bytes) -> str | None:
    messages = [(0, len(content), "Model", 0)]
    unsafe, walked, graphs = None, 0, 0
    while messages:
        at, end, kind, depth = messages.pop()
        if depth > _MAX_DEPTH:
            raise MalformedError("its graphs are nested too deeply")
        children = _MESSAGES[kind]
        in_tensor, in_node = kind == "Tensor", kind == "Node"
        graphs += kind == "Graph"
        unsafe = _REFUSED.get(kind, unsafe)
        if graphs > _MAX_GRAPHS:
            raise MalformedError(f"more than {_MAX_GRAPHS} graphs")
        while at < end:
            tag = content[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(content, at - 1)
            field, wire = tag >> 3, tag & 7
            if field == 0 or tag >> 32:
                raise MalformedError("a field has no valid number")
            if in_tensor and field == _EXTERNAL_DATA:
                return EXTERNAL
            if wire == _BYTES:
                length = content[at]
                at += 1
                if length > 0x7F:
                    length, at = _varint(content, at - 1)
                if field in children:
                    messages.append((at, at + length, children[field], depth + 1))
                    walked += 1
                    if walked > _MAX_MESSAGES:
                        raise MalformedError(f"more than {_MAX_MESSAGES} nodes, attributes and tensors")
                elif in_node and field == _DOMAIN and content[at : at + length] not in _STANDARD:
                    unsafe = _OPERATORS
                at += length
            elif wire == _VARINT:
                value, at = _varint(content, at)
                if in_tensor and field == _DATA_LOCATION and value:
                    return EXTERNAL
            elif wire == _FIXED32:
                at += 4
            elif wire == _FIXED64:
                at += 8
            else:
                raise MalformedError("a field is of no valid type")
            if at > end:
                raise MalformedError("a field is longer than what holds it")
    return unsafe


def properties(content: bytes) -> dict[str, str]:
    """The `metadata_props` of an ONNX file; nothing else of it is read.

    Raises:
        MalformedError: truncated, damaged or foreign.
    """
    found = {}
    try:
        for start, stop in _messages(content, 0, len(content), _METADATA_PROPS):
            parts = []
            for field in (_KEY, _VALUE):
                text = [content[a:b] for a, b in _messages(content, start, stop, field)]
                parts.append(text[-1].decode() if text else "")
            if parts[0] in found:
                raise MalformedError("its metadata has a key twice")
            found[parts[0]] = parts[1]
    except IndexError:
        raise MalformedError("it ends inside a field") from None
    except UnicodeDecodeError:
        raise MalformedError("its metadata is no text") from None
    return found


def _messages(content: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of every field `wanted` that holds bytes, between `at` and `end`."""
    while at < end:
        tag, at = _varint(content, at)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, at = _varint(content, at)
            if at + length > end:
                raise MalformedError("a field is longer than what holds it")
            if field == wanted:
                yield at, at + length
            at += length
        elif wire == _VARINT:
            _, at = _varint(content, at)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise MalformedError("a field is of no valid type")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError("a number is too long")
