"""A model as C: `model.h` and `model.c`, which hold its weights or know where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.spec import FIRST_FIELDS, ModelSpec, VqvaeSpec
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.native.packing import PackedWeights

_CONDITIONING: Final = {
    "none": "GPCNN_UNCONDITIONAL",
    "label": "GPCNN_LABEL",
    "embedding": "GPCNN_EMBEDDING",
    "map": "GPCNN_MAP",
}
_LATER: Final = ("input_size", "head", "mixtures", "map_height", "map_width", "map_features", "map_categories")
_HEAD: Final = {"categorical": "GPCNN_CATEGORICAL", "mixture": "GPCNN_MIXTURE"}
_WORDS_A_LINE: Final = 11


@dataclass(frozen=True)
class StaticMemory:
    """Bytes that a program with static memory takes, for one image at a time.

    Attributes:
        ram: model structs, workspace, noise, image, and of a VQ-VAE its picture; the stack and the program's own are
            not in it.
        weights: read-only.
    """

    ram: int
    weights: int


@dataclass(frozen=True)
class PackedDecoder:
    """A VQ-VAE's decoder in a program with static memory.

    Attributes:
        spec: its dimensions.
        weights: packed.
    """

    spec: VqvaeSpec
    weights: PackedWeights

    @property
    def values(self) -> int:
        """Bytes of a picture."""
        return math.prod(self.spec.image_shape)


def static_memory(spec: ModelSpec, packed: PackedWeights, decoder: PackedDecoder | None = None) -> StaticMemory:
    """What the buffers of the program with static memory add up to; drawing and decoding share a workspace."""
    subpixels = spec.channels * spec.height * spec.width
    ram = packed.memory + workspace_bytes(packed, decoder) + 8 * subpixels + 4 * condition_numbers(spec)
    if decoder is None:
        return StaticMemory(ram, len(packed.content))
    weights = decoder.weights
    return StaticMemory(ram + weights.memory + decoder.values, len(packed.content) + len(weights.content))


def workspace_bytes(packed: PackedWeights, decoder: PackedDecoder | None) -> int:
    """Of one image, first drawn and then decoded."""
    return max(packed.workspace, 0 if decoder is None else decoder.weights.workspace)


def condition_numbers(spec: ModelSpec) -> int:
    """Numbers of an embedding or of a map, which a program reads from a file; 0 for other models."""
    if spec.conditioning == "map":
        return math.prod(spec.map_shape)
    return spec.conditioning_size if spec.conditioning == "embedding" else 0


def model_h(metadata: EngineMetadata, static: PackedWeights | None, decoder: PackedDecoder | None = None) -> str:
    """`model.h`; `static` and `decoder` as of `model_c`."""
    spec, vqvae = metadata.spec, metadata.vqvae
    two = spec.code_levels == 2
    of = "" if vqvae is None else f", the codes of pictures of {vqvae.height} x {vqvae.width}"
    about = f"/* {_about(spec)}{of}. Written by gpcnn-export; do not edit. */\n#ifndef MODEL_H\n#define MODEL_H\n"
    about += '#include "gpcnn.h"\n' + ("" if vqvae is None else '#include "gpcnn_pictures.h"\n') + "\n"
    if two:
        about += (
            "/* The model files, for gpcnn_inspect and gpcnn_load, and their lengths; NULL if one cannot be read.\n"
            "   model_top_file draws the top codes. They are the map that the bottom codes of model_file need. */\n"
            "const void *model_top_file(size_t *bytes);\nconst void *model_file(size_t *bytes);\n"
        )
    elif static is None:
        about += (
            "/* The model file, for gpcnn_inspect and gpcnn_load, and its length; NULL if it cannot be read. */\n"
            "const void *model_file(size_t *bytes);\n"
        )
    else:
        about += (
            f"#define MODEL_MEMORY_BYTES {static.memory} /* of gpcnn_attach */\n"
            f"#define MODEL_WORKSPACE_BYTES {workspace_bytes(static, decoder)} /* of gpcnn_draw"
            f"{' and gpcnn_decode' if decoder else ''}, for one image */\n"
            f"#define MODEL_SUBPIXELS {spec.channels * spec.height * spec.width} /* numbers in an image */\n"
            f"#define MODEL_CONDITION {condition_numbers(spec)} /* numbers in an embedding or a map */\n\n"
            "extern const gpcnn_packed model_packed;\n"
        )
    if decoder is not None:
        about += (
            f"\n#define MODEL_DECODER_BYTES {decoder.weights.memory} /* of gpcnn_decoder_attach */\n"
            f"#define MODEL_PICTURE_BYTES {decoder.values} /* of the picture that gpcnn_decode makes */\n\n"
            "extern const gpcnn_packed_pictures model_decoder;\n"
        )
    elif vqvae is not None:
        about += (
            "\n/* The decoder: the weights, for gpcnn_decoder_load, and how many; NULL if they cannot be read. */\n"
            "extern const gpcnn_pictures model_pictures;\nconst float *model_decoder(uint64_t *floats);\n"
        )
    if metadata.class_names:
        about += f"extern const char *const model_class_names[{len(metadata.class_names)}];\n"
    return about + "#endif\n"


def model_c(
    metadata: EngineMetadata,
    content: bytes,
    static: PackedWeights | None,
    in_file: bool,
    decoder: bytes | PackedDecoder = b"",
    top: bytes = b"",
) -> str:
    """`model.c`.

    Args:
        metadata: of the model file.
        content: the model file; of a VQ-VAE, its prior alone; of a VQ-VAE-2, that of the bottom codes.
        static: its packed weights, for a program with static memory.
        in_file: the program reads `model.bin`, `decoder.bin` and `top.bin`; else the weights are arrays.
        decoder: weights of a VQ-VAE's decoder, float32, or packed, with `static`; empty for other models.
        top: of a VQ-VAE-2, the model file of the top codes; empty for other models.
    """
    spec = metadata.spec
    parts = ['/* Written by gpcnn-export; do not edit. */\n#include "model.h"\n']
    if static is not None:
        numbers = ", ".join(str(getattr(spec, name)) for name in FIRST_FIELDS if name[:7] != "conditi")
        later = ", ".join(_HEAD[spec.head] if name == "head" else str(getattr(spec, name)) for name in _LATER)
        parts.append(_array(static.content))
        parts.append(
            "\nconst gpcnn_packed model_packed = {\n"
            f"    {{{numbers}, {_CONDITIONING[spec.conditioning]}, {spec.conditioning_size}, {later}}},\n"
            f"    GPCNN_PACKED_BLOCK, data.numbers, {len(static.content)}}};\n"
        )
    elif in_file:
        parts.append(_READ_FILE + (_READ_TOP if top else ""))
    else:
        parts.append(_file_array(content, "data", "model_file"))
        parts += [_file_array(top, "top", "model_top_file")] if top else []
    if isinstance(decoder, PackedDecoder):
        content = decoder.weights.content
        parts.append("\n" + _array(content, "decoder"))
        parts.append(
            "\nconst gpcnn_packed_pictures model_decoder = {\n"
            f"    {{{_fields(decoder.spec)}}}, GPCNN_PACKED_BLOCK, decoder.numbers, {len(content)}}};\n"
        )
    elif metadata.vqvae is not None:
        fields = _fields(metadata.vqvae)
        parts.append(f"\nconst gpcnn_pictures model_pictures = {{{fields}}};\n")
        parts.append(_READ_DECODER if in_file else _array(decoder, "decoder"))
        if not in_file:
            parts.append(
                "\nconst float *model_decoder(uint64_t *floats) {\n"
                f"  *floats = {len(decoder) // 4};\n  return decoder.numbers;\n}}\n"
            )
    if metadata.class_names:
        names = ",\n".join(f"    {_c_text(name)}" for name in metadata.class_names)
        parts.append(f"\nconst char *const model_class_names[{len(metadata.class_names)}] = {{\n{names}}};\n")
    return "".join(parts)


def _file_array(content: bytes, name: str, function: str) -> str:
    """The array of a model file, and the function that gives it."""
    return (
        _array(content, name)
        + f"\nconst void *{function}(size_t *bytes) {{\n  *bytes = {len(content)};\n  return {name}.words;\n}}\n"
    )


def _fields(vqvae: VqvaeSpec) -> str:
    """Initializers of a `gpcnn_pictures`."""
    return ", ".join(str(getattr(vqvae, name)) for name in vqvae.__struct_fields__)


def _about(spec: ModelSpec) -> str:
    condition = {
        "none": "",
        "label": f", {counted(spec.conditioning_size, 'label')}",
        "embedding": ", an embedding",
        "map": ", a map",
    }
    if spec.code_levels == 2:
        grids = " and ".join(f"{rows} x {columns}" for rows, columns in spec.code_grids)
        return (
            f"Two Gated PixelCNNs of {counted(spec.layers, 'layer')} of {counted(spec.features, 'feature')}: {grids} "
            f"codes of {spec.levels}{condition[spec.conditioning]}"
        )
    return (
        f"A Gated PixelCNN of {counted(spec.layers, 'layer')} of {counted(spec.features, 'feature')}: {spec.height} x "
        f"{spec.width} pixels, {counted(spec.channels, 'channel')}, {spec.levels} levels{condition[spec.conditioning]}"
    )


def _array(content: bytes, name: str = "data") -> str:
    """The bytes as 32-bit words: a third of the text that bytes would take, and of the compiler's work."""
    words = np.frombuffer(content + b"\0" * (-len(content) % 4), "<u4")
    texts = [f"0x{word:x}" for word in words.tolist()]
    lines = [",".join(texts[at : at + _WORDS_A_LINE]) for at in range(0, len(texts), _WORDS_A_LINE)]
    return (
        "#if defined __BYTE_ORDER__ && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__\n"
        '#error "these words are little-endian"\n#endif\n'
        f"\nstatic const union {{\n  uint32_t words[{len(words)}];\n  float numbers[{len(words)}];\n}} {name}\n"
        "    __attribute__((aligned(GPCNN_ALIGNMENT))) = {{\n" + ",\n".join(lines) + "}};\n"
    )


def _c_text(text: str) -> str:
    """A string literal: UTF-8, in octal where it is not plain ASCII."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


_READ_FILE = """#include <stdio.h>
#include <stdlib.h>

static void *read_file(const char *name, size_t *bytes) {
  FILE *stream = fopen(name, "rb");
  if (!stream) return NULL;
  unsigned char *content = NULL;
  long length = -1;
  if (!fseek(stream, 0, SEEK_END)) length = ftell(stream);
  if (length > 0) content = malloc((size_t)length);
  rewind(stream);
  *bytes = content ? fread(content, 1, (size_t)length, stream) : 0;
  fclose(stream);
  return content;
}

const void *model_file(size_t *bytes) { return read_file("model.bin", bytes); }
"""

_READ_TOP = """
const void *model_top_file(size_t *bytes) { return read_file("top.bin", bytes); }
"""

_READ_DECODER = """
const float *model_decoder(uint64_t *floats) {
  size_t bytes = 0;
  const float *weights = read_file("decoder.bin", &bytes);
  *floats = bytes / sizeof *weights;
  return weights;
}
"""
