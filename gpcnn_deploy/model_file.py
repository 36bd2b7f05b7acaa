"""Model files (`model.gpcnn`): the weights of a model and its metadata, as data that can execute nothing.

A model file is a safetensors file in one fixed layout, so that one model has one file, byte for byte, and a reader in C
needs no memory:

    8 bytes  length of the header in bytes, little-endian
    header   {"__metadata__":{"gpcnn":"…"},"NAME":{"dtype":"F32","shape":[…],"data_offsets":[begin,end]},…}
             without white space, then spaces up to a multiple of 8; `…` is the JSON of `EngineMetadata`, role `weights`
    data     float32, little-endian, tensor after tensor in the order of the header, which is that of `tensor_shapes`

`runtime/native/src/model_file.c` reads the same layout and refuses the same files; it looks at the metadata's `schema`,
`role` and `spec` alone, and refuses a VQ-VAE, of which `priors_alone` makes files that it reads.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.metadata import (
    MAX_METADATA_BYTES,
    METADATA_KEY,
    EngineMetadata,
    check_metadata,
    decode_metadata,
    encode_metadata,
)
from gpcnn_deploy.spec import LATER_FIELDS, ModelSpec, VqvaeSpec
from gpcnn_deploy.text import counted

SUFFIX: Final = ".gpcnn"
MAX_HEADER_BYTES: Final = 2 * MAX_METADATA_BYTES
LEVELS: Final = ("top", "bottom")
"""Of the codes of a VQ-VAE-2, in the order in which they are drawn: what the names of a level's network begin with."""
PICTURES: Final = "pictures."
"""Begins the names of a VQ-VAE's encoder, codebook and decoder."""
MAX_DEPTH: Final = 32
"""Of the metadata's JSON: objects and arrays inside each other."""

_OPENING = f'{{"__metadata__":{{"{METADATA_KEY}":'
_ANEW = "export it anew"
_REQUIRED = frozenset(ModelSpec.__struct_fields__) - LATER_FIELDS.keys()

Weights = dict[str, npt.NDArray[np.float32]]


def tensor_shapes(spec: ModelSpec, vqvae: VqvaeSpec | None = None) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of a model, in the order of a model file: by name.

    The names are those of the checkpoint. The matrix of the condition is stored as PyTorch has it: an embedding table
    [classes, L·2·2F] for labels, a linear layer [L·2·2F, E] for embeddings, a 1×1 convolution [L·2·2F, G, 1, 1] for
    maps. Of the two networks of a VQ-VAE-2's prior, names begin with `bottom.` and `top.`. The encoder, codebook and
    decoder of a VQ-VAE come behind its prior's tensors, as `picture_shapes` has them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    if spec.code_levels == 1:
        shapes = _network_shapes(spec)
    else:
        for level, prior in sorted(zip(LEVELS, spec.priors, strict=True)):
            shapes |= {f"{level}.{name}": shape for name, shape in _network_shapes(prior).items()}
    if vqvae is not None:
        pictures = picture_shapes(vqvae)
        shapes |= {PICTURES + name: pictures[name] for name in sorted(pictures)}
    return shapes


def _network_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Of one Gated PixelCNN."""
    f, c, s = spec.features, spec.channels, spec.head_features
    shapes: dict[str, tuple[int, ...]] = {}
    gates = spec.layers * 2 * 2 * f
    if spec.conditioning == "label":
        shapes["condition_projection.weight"] = (spec.conditioning_size, gates)
    elif spec.conditioning == "embedding":
        shapes["condition_projection.weight"] = (gates, spec.conditioning_size)
    elif spec.conditioning == "map":
        shapes["condition_projection.weight"] = (gates, spec.map_features, 1, 1)
    if c > 1 and spec.head == "categorical":
        shapes["head.earlier.weight"] = (c * s, spec.inputs, 1, 1)
    shapes["head.hidden.bias"] = (c * s,)
    shapes["head.hidden.weight"] = (c * s, f, 1, 1)
    if spec.head == "categorical":
        shapes["head.logits.bias"] = (c * spec.levels,)
        shapes["head.logits.weight"] = (c * spec.levels, s, 1, 1)
    else:
        shapes["head.mixture.bias"] = (spec.head_outputs,)
        shapes["head.mixture.weight"] = (spec.head_outputs, c * s, 1, 1)
    if spec.input == "categorical":
        shapes["input_embedding.weight"] = (spec.levels, spec.input_size)
    for layer in sorted(range(spec.layers), key=str):
        first = layer == 0
        inputs, size = (spec.inputs, spec.first_kernel_size) if first else (f, spec.kernel_size)
        half, this = size // 2, 0 if first else 1
        name = f"layers.{layer}"
        shapes[f"{name}.horizontal.bias"] = (2 * f,)
        shapes[f"{name}.horizontal.weight"] = (2 * f, inputs, 1, half + this)
        shapes[f"{name}.link.weight"] = (2 * f, 2 * f, 1, 1)
        if layer < spec.layers - 1:
            shapes[f"{name}.out.weight"] = (f, f, 1, 1)
        shapes[f"{name}.skip.bias"] = (f,)
        shapes[f"{name}.skip.weight"] = (f, f, 1, 1)
        shapes[f"{name}.vertical.bias"] = (2 * f,)
        shapes[f"{name}.vertical.weight"] = (2 * f, inputs, half + this, size)
    if spec.conditioning == "map":
        shapes |= _map_shapes(spec)
    return shapes


def _map_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Of the network m that brings a map to the size of the image."""
    g = spec.map_features
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(2):
        shapes[f"map_network.context.{k}.bias"] = (g,)
        shapes[f"map_network.context.{k}.weight"] = (g, g, 3, 3)
    shapes["map_network.read.bias"] = (g,)
    shapes["map_network.read.weight"] = (g, spec.map_inputs, 1, 1)
    stages = spec.map_stages
    for k in sorted(range(len(stages)), key=str):
        shapes[f"map_network.up.{k}.bias"] = (g,)
        shapes[f"map_network.up.{k}.weight"] = (g, g, *stages[k])
    return shapes


def picture_shapes(vqvae: VqvaeSpec) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors of a VQ-VAE's encoder, codebook and decoder, in the order that pictures take."""
    f, d, c = vqvae.features, vqvae.code_size, vqvae.channels

    def affine(name: str, *shape: int, outputs: int = 0) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": shape, f"{name}.bias": (outputs or shape[0],)}

    def blocks(name: str) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for index in range(vqvae.blocks):
            shapes |= affine(f"{name}.{index}.wide", f, f, 3, 3) | affine(f"{name}.{index}.out", f, f, 1, 1)
        return shapes

    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(vqvae.halvings):
        shapes |= affine(f"encoder.down.{index}", f, f if index else c, 4, 4)
    two = vqvae.code_levels == 2
    shapes |= affine("encoder.first", f, f, 3, 3) | blocks("encoder.blocks")
    if two:
        shapes |= affine("encoder.top.down", f, f, 4, 4) | blocks("encoder.top.blocks")
        shapes |= affine("encoder.top.out", d, f, 1, 1)
    shapes |= affine("encoder.out", d, f + d * two, 1, 1)
    shapes |= {"codebook": (vqvae.codes, d)}
    if two:
        shapes |= {"top_codebook": (vqvae.codes, d)} | affine("decoder.top_up", d, d, 4, 4)
    shapes |= affine("decoder.first", f, d * vqvae.code_levels, 3, 3) | blocks("decoder.blocks")
    for index in range(vqvae.halvings):
        outputs = f if index + 1 < vqvae.halvings else c
        shapes |= affine(f"decoder.up.{index}", f, outputs, 4, 4, outputs=outputs)
    return shapes


def priors_alone(metadata: EngineMetadata, weights: Weights) -> tuple[bytes, ...]:
    """The model files of a VQ-VAE's prior alone, which draw codes: what the library in C reads.

    There is one of each level of codes, in the order in which they are drawn.
    """
    changed = msgspec.structs.replace(metadata, vqvae=None, preparation=None, picture_parity=None)
    prefixes = [""] if metadata.spec.code_levels == 1 else [f"{level}." for level in LEVELS]
    files = []
    for prefix, spec in zip(prefixes, metadata.spec.priors, strict=True):
        names = metadata.class_names if spec.conditioning == "label" else ()
        alone = msgspec.structs.replace(changed, spec=spec, class_names=names)
        files.append(encode_model_file(alone, {name: weights[prefix + name] for name in tensor_shapes(spec)}))
    return tuple(files)


def decoder_weights(vqvae: VqvaeSpec, weights: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Codebook and decoder of a VQ-VAE's model file one after another, as `gpcnn_decoder_load` takes them."""
    names = [name for name in picture_shapes(vqvae) if not name.startswith("encoder.")]
    return np.concatenate([weights[PICTURES + name].ravel() for name in names]).astype(np.float32)


def encode_model_file(metadata: EngineMetadata, weights: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """The model file of these weights.

    Args:
        metadata: of role `weights`.
        weights: name → finite float32 array, exactly those of `tensor_shapes`.

    Raises:
        EngineError: another role, or weights that do not fit the spec or are not finite.
    """
    if metadata.role != "weights":
        raise EngineError(f"a model file has the role weights, not {metadata.role}")
    check_metadata(metadata, "model file")
    shapes = tensor_shapes(metadata.spec, metadata.vqvae)
    if unknown := weights.keys() ^ shapes.keys():
        raise EngineError(f"weights do not fit the spec: {min(unknown)} is missing or unknown")
    for name, shape in shapes.items():
        if weights[name].shape != shape or weights[name].dtype != np.float32:
            raise EngineError(
                f"weights do not fit the spec: {name} is {weights[name].dtype} {list(weights[name].shape)}, expected "
                f"float32 {list(shape)}"
            )
        if not np.isfinite(weights[name]).all():
            raise EngineError(f"{name} is not finite: take another checkpoint")
    text = json.dumps(encode_metadata(metadata), ensure_ascii=False)
    header = (_OPENING + text + _entries(shapes)).encode()
    header += b" " * (-len(header) % 8)
    data = [np.ascontiguousarray(weights[name], "<f4").tobytes() for name in shapes]
    return b"".join([len(header).to_bytes(8, "little"), header, *data])


def read_model_file(path: Path) -> tuple[EngineMetadata, Weights]:
    """Metadata and weights of a model file; the arrays are read-only views of one block of memory.

    Raises:
        EngineError: missing, truncated, damaged, foreign, of a newer schema, or weights that are not finite.
    """
    return decode_model_file(read_model_bytes(path), str(path))


def read_model_bytes(path: Path) -> bytes:
    """The bytes of a file whose header is that of a model file of its very length.

    Raises:
        EngineError: as `read_model_file`, as far as the header shows it; no more than the header is read before that.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise EngineError(f"{path} is a device or a pipe: expected a model file ({SUFFIX})")
        with path.open("rb") as stream:
            begin = stream.read(8)
            begin += stream.read(_header_bytes(begin, status.st_size, str(path)))
            _read_header(begin, status.st_size, str(path))
            return begin + stream.read()
    except FileNotFoundError:
        raise EngineError(f"{path}: no such file; make one with gpcnn-export, or name another") from None
    except IsADirectoryError:
        raise EngineError(f"{path} is a folder: expected a model file ({SUFFIX})") from None
    except MemoryError:
        raise EngineError(f"{path}: not enough memory to read it") from None
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error


def decode_model_file(content: bytes, source: str) -> tuple[EngineMetadata, Weights]:
    """Metadata and weights in the bytes of a model file that was found in `source` (a path, for messages).

    Raises:
        EngineError: as `read_model_file`.
    """
    metadata, at = _read_header(content, len(content), source)
    shapes = tensor_shapes(metadata.spec, metadata.vqvae)
    data = np.frombuffer(content, "<f4", offset=at)
    weights: Weights = {}
    begin = 0
    for name, shape in shapes.items():
        end = begin + math.prod(shape)
        weights[name] = data[begin:end].reshape(shape)
        begin = end
    if not np.isfinite(data).all():
        name = next(name for name, array in weights.items() if not np.isfinite(array).all())
        raise _damaged(source, f"{name} has numbers that are not finite")
    return metadata, weights


def _header_bytes(content: bytes, size: int, source: str) -> int:
    """Length of the header in a file of `size` bytes."""
    if size == 0:
        raise EngineError(f"{source} is empty: {_ANEW}")
    length = int.from_bytes(content[:8], "little")
    if size < 8 or length % 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise EngineError(f"{source} is no model file, or cut short: {_ANEW}")
    return length


def _read_header(content: bytes, size: int, source: str) -> tuple[EngineMetadata, int]:
    """The checked metadata of a file of `size` bytes, whose first ones are `content`, and where its data begins."""
    end = 8 + _header_bytes(content, size, source)
    try:
        header = content[8:end].decode()
    except UnicodeDecodeError as error:
        raise _damaged(source, "its header is no UTF-8") from error
    if not header.startswith(_OPENING + '"'):
        raise EngineError(f"{source} is no model file (its header does not begin with {_OPENING}…): {_ANEW}")
    try:
        text, after = json.JSONDecoder().raw_decode(header, len(_OPENING))
    except ValueError as error:
        raise _damaged(source, f"its metadata is no JSON string ({error})") from error
    if len(header[len(_OPENING) : after].encode()) - 2 > MAX_METADATA_BYTES:
        raise _damaged(source, f"its metadata has more than {MAX_METADATA_BYTES} bytes")
    metadata = _decode_metadata(text, source)
    shapes = tensor_shapes(metadata.spec, metadata.vqvae)
    expected = _entries(shapes)
    found = header[after:]
    padding = " " * (-len((header[:after] + expected).encode()) % 8)
    if found != expected + padding:
        raise _damaged(source, _difference(found, expected + padding, list(shapes)))
    if size != end + _data_bytes(shapes):
        raise _damaged(source, f"it has {counted(size, 'byte')}, expected {end + _data_bytes(shapes)}")
    return metadata, end


def _decode_metadata(text: str, source: str) -> EngineMetadata:
    """As `decode_metadata`, but strict, so that a reader in C cannot see anything else in it."""
    try:
        text.encode()  # halves of surrogate pairs
        written: Any = json.loads(text, object_pairs_hook=_unique)
        json.dumps(written, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _damaged(source, f"its metadata is no proper JSON ({error})") from error
    if isinstance(written, dict) and "role" not in written and "quantization" in written:
        raise EngineError(f"{source} is a checkpoint, no model file: gpcnn-export {source} --format native makes one")
    metadata = decode_metadata(text, source)
    if metadata.role != "weights":
        raise _damaged(source, f"its role is {metadata.role}, expected weights")
    if missing := _REQUIRED - written["spec"].keys():
        raise _damaged(source, f"its spec has no {min(missing)}")
    if "architecture" in written["spec"]:
        raise _damaged(source, "its spec names an architecture, and a model file is of the gated one")
    if _depth(written) > MAX_DEPTH:
        raise _damaged(source, "its metadata is nested too deeply")
    return metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _depth(value: Any) -> int:
    """Objects and arrays inside each other, level by level."""
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, (dict, list))]:
        depth += 1
        level = [x for inner in level for x in (inner.values() if isinstance(inner, dict) else inner)]
    return depth


def _data_bytes(shapes: dict[str, tuple[int, ...]]) -> int:
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def _entries(shapes: dict[str, tuple[int, ...]]) -> str:
    """The rest of the header behind the metadata's text."""
    parts, begin = ["}"], 0
    for name, shape in shapes.items():
        end = begin + 4 * math.prod(shape)
        numbers = ",".join(map(str, shape))
        parts.append(f',"{name}":{{"dtype":"F32","shape":[{numbers}],"data_offsets":[{begin},{end}]}}')
        begin = end
    return "".join(parts) + "}"


def _difference(found: str, expected: str, names: list[str]) -> str:
    """Which tensor's entry is not what the spec asks for."""
    at = next((k for k, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(expected))
    named = [name for name in names if expected.find(f'"{name}":') <= at + 1]
    if at < len(expected.rstrip()) and named:
        return f"its header does not fit its spec at {named[-1]}"
    return "its header does not end where its spec says"


def _damaged(source: str, reason: str) -> EngineError:
    return EngineError(f"{source} is damaged: {reason}: {_ANEW}")
