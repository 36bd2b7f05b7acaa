"""Model files: what is written is read; what is damaged is refused, by Python and by C alike."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpcnn_deploy.errors import EngineError, SpecError
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, encode_metadata
from gpcnn_deploy.model_file import (
    decode_model_file,
    encode_model_file,
    read_model_file,
    tensor_shapes,
)
from gpcnn_deploy.spec import LATER_FIELDS, ModelSpec
from gpcnn_training.model import GatedPixelCNN

OK, BAD_FILE, BAD_SPEC, NEWER_FILE = 0, 1, 2, 6
SPECS = {
    "grey": ModelSpec(height=3, width=4, features=2, layers=2, head_features=3),
    "labels": ModelSpec(
        height=2, width=2, levels=5, features=3, layers=1, conditioning="label", conditioning_size=3, head_features=2
    ),
    "colour": ModelSpec(height=2, width=3, channels=3, levels=7, features=2, layers=3, kernel_size=5, head_features=2),
    "categories": ModelSpec(
        height=2,
        width=2,
        channels=3,
        levels=300,
        features=2,
        layers=2,
        head_features=2,
        input="categorical",
        input_size=3,
    ),
    "a mixture in colour": ModelSpec(
        height=2, width=3, channels=3, levels=256, features=2, layers=2, head_features=3, head="mixture", mixtures=5
    ),
    "a mixture in grey": ModelSpec(height=2, width=2, levels=16, features=2, layers=1, head="mixture", mixtures=128),
    "embedding": ModelSpec(height=2, width=2, features=2, layers=12, conditioning="embedding", conditioning_size=4),
    "deep": ModelSpec(height=1, width=1, features=1, layers=123, head_features=1),
    "map": ModelSpec(
        height=12,
        width=2,
        features=2,
        layers=2,
        head_features=2,
        conditioning="map",
        conditioning_size=2,
        map_height=2,
        map_width=2,
        map_features=3,
        map_categories=4,
        map_kind="categories",
    ),
    "small picture": ModelSpec(
        height=1 << 11,
        width=3,
        channels=3,
        features=1,
        layers=1,
        head_features=1,
        conditioning="map",
        conditioning_size=3,
        map_height=1,
        map_width=1,
        map_features=1,
        map_kind="picture",
    ),
}
Answer = tuple[int, list[int]]


class Reader:
    """The reader in C, under AddressSanitizer and UndefinedBehaviorSanitizer, which end it at the first fault."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __call__(self, content: bytes) -> Answer:
        """(status, spec and offsets) of a file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(content).to_bytes(8, "little") + content)
        self._process.stdin.flush()
        line = self._process.stdout.readline().split()
        if not line:
            fault = self._process.communicate()[1].decode()
            self._start()
            pytest.fail(f"the reader in C fell over: {fault}")
        return int(line[0]), [int(number) for number in line[1:]]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="module")
def reader(compile_c: Callable[..., Path]) -> Iterator[Reader]:
    sources = ["tests/read_model_file.c", "src/model_file.c", "src/json.c"]
    sanitizers = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    reader = Reader(compile_c("read_model_file", sources, *sanitizers))
    yield reader
    reader.close()


@pytest.fixture(scope="module", params=SPECS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


def python_refuses(content: bytes) -> str | None:
    """Why the reader in Python refuses a file, in one line; None if it does not."""
    try:
        decode_model_file(content, "model.gpcnn")
    except EngineError as error:
        refusal = str(error)
    else:
        return None
    assert refusal.isprintable()
    assert refusal.startswith("model.gpcnn")
    return refusal


def both_refuse(reader: Reader, content: bytes, reason: str, status: int) -> None:
    refusal = python_refuses(content)
    assert refusal is not None
    assert reason in refusal
    assert reader(content)[0] == status


def parts(content: bytes) -> tuple[str, str, bytes]:
    """(metadata's JSON, the header's text behind it, data) of a model file."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].decode()
    at = header.index(':"') + 1
    text, after = json.JSONDecoder().raw_decode(header, at)
    return text, header[after:].rstrip(" "), content[end:]


def assemble(text: str, rest: str, data: bytes, escaped: str | None = None) -> bytes:
    """The inverse of `parts`; `escaped` is the metadata with its escapes."""
    quoted = json.dumps(text, ensure_ascii=False) if escaped is None else f'"{escaped}"'
    header = ('{"__metadata__":{"gpcnn":' + quoted + rest).encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def with_metadata(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    text, rest, data = parts(content)
    written = json.loads(text)
    change(written)
    return assemble(json.dumps(written), rest, data)


def test_tensors_are_those_of_the_checkpoint_in_order_of_name(spec: ModelSpec) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in GatedPixelCNN(spec).state_dict().items()}
    shapes = tensor_shapes(spec)
    assert shapes == wanted
    assert list(shapes) == sorted(wanted)


def test_a_file_is_what_the_library_of_safetensors_writes(model_file: Callable[..., bytes], spec: ModelSpec) -> None:
    content = model_file(spec)
    weights = safetensors.numpy.load(content)
    metadata, _ = decode_model_file(content, "model.gpcnn")
    assert safetensors.numpy.save(weights, {METADATA_KEY: encode_metadata(metadata)}) == content


def test_what_is_written_is_read(model_file: Callable[..., bytes], spec: ModelSpec, tmp_path: Path) -> None:
    content = model_file(spec, seed=3)
    (tmp_path / "model.gpcnn").write_bytes(content)
    metadata, weights = read_model_file(tmp_path / "model.gpcnn")
    assert metadata.spec == spec
    assert encode_model_file(metadata, weights) == content
    assert all(not array.flags.writeable for array in weights.values())


def test_c_finds_what_python_finds(reader: Reader, model_file: Callable[..., bytes], spec: ModelSpec) -> None:
    content = model_file(spec)
    assert reader(content) == (OK, expected_answer(content))


def expected_answer(content: bytes) -> list[int]:
    """What the reader in C says of a sound file, from what Python reads."""
    metadata, weights = decode_model_file(content, "model.gpcnn")
    spec = metadata.spec
    begin = np.frombuffer(content, np.uint8).ctypes.data
    found = {name: array.ctypes.data - begin for name, array in weights.items()}
    numbers = [getattr(spec, name) for name in spec.__struct_fields__[:9]]
    numbers += [("none", "label", "embedding", "map").index(spec.conditioning), spec.conditioning_size]
    numbers += [spec.input_size, ("categorical", "mixture").index(spec.head), spec.mixtures]
    numbers += [spec.map_height, spec.map_width, spec.map_features, spec.map_categories]
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    quote = header.index(':"') + 1
    _, after = json.JSONDecoder().raw_decode(header, quote)
    numbers += [8 + quote + 1, len(header[quote:after].encode()) - 2]
    head = ["hidden.weight", "hidden.bias", "earlier.weight", "logits.weight", "logits.bias"]
    head += ["mixture.weight", "mixture.bias"]
    numbers += [found.get(f"head.{name}", 0) for name in head]
    numbers += [found.get(f"{name}.weight", 0) for name in ("input_embedding", "condition_projection")]
    map_names = ["read.weight", "read.bias", *(f"context.{k}.{part}" for part in ("weight", "bias") for k in range(2))]
    map_names += [f"up.{k}.{part}" for part in ("weight", "bias") for k in range(20)]
    numbers += [found.get(f"map_network.{name}", 0) for name in map_names]
    layer_names = "vertical.weight vertical.bias link.weight horizontal.weight horizontal.bias out.weight skip.weight"
    for layer in range(spec.layers):
        numbers += [found.get(f"layers.{layer}.{name}", 0) for name in [*layer_names.split(), "skip.bias"]]
    return numbers


def test_every_truncation_is_refused(reader: Reader, model_file: Callable[..., bytes]) -> None:
    content = model_file(SPECS["grey"])
    header = 8 + int.from_bytes(content[:8], "little")
    for length in itertools.chain(range(header + 9), range(header + 9, len(content), 7), [len(content) - 1]):
        assert python_refuses(content[:length]) is not None, length
        assert reader(content[:length])[0] != OK, length


def test_bytes_behind_the_end_are_refused(reader: Reader, model_file: Callable[..., bytes]) -> None:
    both_refuse(reader, model_file(SPECS["grey"]) + b"\0\0\0\0", "bytes, expected", BAD_FILE)


@pytest.mark.parametrize("length", [0, 7, 9, 2**21 + 8, 2**31, 2**32 + 8, 2**63, 2**64 - 1, 2**64 - 8])
def test_hostile_header_lengths(reader: Reader, model_file: Callable[..., bytes], length: int) -> None:
    content = length.to_bytes(8, "little") + model_file(SPECS["grey"])[8:]
    assert python_refuses(content) is not None
    assert reader(content)[0] == BAD_FILE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 17, -1])
def test_weights_that_are_not_finite(
    reader: Reader, model_file: Callable[..., bytes], value: float, place: int
) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    numbers = np.frombuffer(data, "<f4").copy()
    numbers[place] = value
    both_refuse(reader, assemble(text, rest, numbers.tobytes()), "not finite", BAD_FILE)


@pytest.mark.parametrize("value", [0x7F800001, 0xFFC00000, 0x7F7FFFFF, 0x00000001, 0x80000000])
def test_every_kind_of_float(reader: Reader, model_file: Callable[..., bytes], value: int) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    content = assemble(text, rest, value.to_bytes(4, "little") + data[4:])
    finite = bool(np.isfinite(np.uint32(value).view(np.float32)))
    assert (python_refuses(content) is None) == finite
    assert reader(content)[0] == (OK if finite else BAD_FILE)


ENTRIES: dict[str, Callable[[str], str]] = {
    "another offset": lambda rest: rest.replace("[0,", "[4,", 1),
    "overlap": lambda rest: rest.replace("[12,", "[8,", 1),
    "a gap": lambda rest: rest.replace("[12,", "[16,", 1),
    "a huge offset": lambda rest: rest.replace("[0,", "[18446744073709551615,", 1),
    "a negative offset": lambda rest: rest.replace("[0,", "[-1,", 1),
    "another type": lambda rest: rest.replace("F32", "F16", 1),
    "another shape": lambda rest: rest.replace('"shape":[3]', '"shape":[4]', 1),
    "a huge shape": lambda rest: rest.replace('"shape":[3]', '"shape":[4294967299]', 1),
    "a name twice": lambda rest: rest.replace("head.hidden.weight", "head.hidden.bias"),
    "an unknown name": lambda rest: rest.replace("head.hidden.weight", "head.hidden.weigh"),
    "a name too many": lambda rest: rest[:-1] + ',"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
    "a name too few": lambda rest: rest[: rest.rindex(',"layers')] + "}",
    "white space": lambda rest: rest.replace(",", ", ", 1),
    "an entry of metadata": lambda rest: ',"more":""' + rest,
    "no end": lambda rest: rest[:-1],
    "an end too many": lambda rest: rest + "}",
}


@pytest.mark.parametrize("change", ENTRIES)
def test_hostile_tensor_entries(reader: Reader, model_file: Callable[..., bytes], change: str) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    changed = ENTRIES[change](rest)
    assert changed != rest
    content = assemble(text, changed, data)
    refusal = python_refuses(content)
    assert refusal is not None
    assert "header does not" in refusal
    assert reader(content)[0] in (BAD_SPEC, BAD_FILE)


SPEC_CHANGES = [
    ("height", 0), ("height", -1), ("height", 2**20 + 1), ("height", 2**32 + 3), ("height", 2**64 + 3), ("height", 3.0),
    ("height", "3"), ("height", None), ("height", True), ("height", [3]), ("width", 2**20), ("channels", 0),
    ("channels", 2), ("channels", 4), ("levels", 1), ("levels", 257), ("features", 0), ("features", 4097),
    ("layers", 0), ("layers", 513), ("first_kernel_size", 1), ("first_kernel_size", 4), ("first_kernel_size", 65),
    ("kernel_size", 2), ("kernel_size", 10**30), ("head_features", 0), ("head_features", 4097),
    ("conditioning", "map"), ("conditioning", "Label"), ("conditioning", ""), ("conditioning", "label"),
    ("conditioning", 1),
    ("conditioning_size", 1), ("conditioning_size", -1), ("extra", 1),
    ("input", "categorical"), ("input", "value"), ("input", 1), ("input", None), ("input", ""),
    ("input_size", 1), ("input_size", -1), ("input_size", 0.5), ("input_size", None), ("input_size", 2**32),
    ("head", "mixture"), ("head", "softmax"), ("head", ""), ("head", 1), ("head", None), ("head", "Categorical"),
    ("mixtures", 1), ("mixtures", -1), ("mixtures", 10), ("mixtures", None), ("mixtures", 2**32),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), SPEC_CHANGES)
def test_hostile_specs(reader: Reader, model_file: Callable[..., bytes], field: str, value: Any) -> None:
    content = with_metadata(model_file(SPECS["grey"]), lambda written: written["spec"].update({field: value}))
    both_refuse(reader, content, "damaged", BAD_SPEC)


CATEGORY_CHANGES = [
    ("levels", 4097), ("levels", 1), ("input_size", 0), ("input_size", 4097), ("input_size", "3"), ("input", "values"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), CATEGORY_CHANGES)
def test_hostile_categories(reader: Reader, model_file: Callable[..., bytes], field: str, value: Any) -> None:
    content = with_metadata(model_file(SPECS["categories"]), lambda written: written["spec"].update({field: value}))
    both_refuse(reader, content, "damaged", BAD_SPEC)


MIXTURE_CHANGES = [
    ("mixtures", 0), ("mixtures", 129), ("mixtures", 6), ("mixtures", 4), ("mixtures", 2**32 + 5), ("mixtures", "5"),
    ("mixtures", 5.5), ("head", "categorical"), ("head", "logistic"), ("levels", 257), ("levels", 300),
    ("input", "categorical"), ("input_size", 2), ("channels", 1), ("head_features", 4),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), MIXTURE_CHANGES)
def test_hostile_mixtures(reader: Reader, model_file: Callable[..., bytes], field: str, value: Any) -> None:
    content = model_file(SPECS["a mixture in colour"])
    content = with_metadata(content, lambda written: written["spec"].update({field: value}))
    both_refuse(reader, content, "damaged", BAD_SPEC)


def test_a_mixture_of_categories_is_refused(reader: Reader, model_file: Callable[..., bytes]) -> None:
    both = {"input": "categorical", "input_size": 3}
    content = with_metadata(model_file(SPECS["a mixture in colour"]), lambda written: written["spec"].update(both))
    both_refuse(reader, content, "expected values, whose order logistics need", BAD_SPEC)


@pytest.mark.parametrize("field", ["head", "mixtures"])
def test_half_of_what_says_mixtures_is_refused(reader: Reader, model_file: Callable[..., bytes], field: str) -> None:
    content = model_file(SPECS["a mixture in grey"])
    both_refuse(reader, with_metadata(content, lambda written: written["spec"].pop(field)), "damaged", BAD_SPEC)


MAP_CHANGES = [
    ("map_height", 0), ("map_height", 5), ("map_height", 24), ("map_height", "2"), ("map_height", None),
    ("map_height", 2.5),
    ("map_width", 0), ("map_width", 4), ("map_width", -1), ("map_width", 2**32 + 2), ("map_features", 0),
    ("map_features", 4097), ("map_categories", 0), ("map_categories", 1), ("map_categories", 4097),
    ("map_categories", -4),
    ("map_kind", "values"), ("map_kind", "picture"), ("map_kind", ""), ("map_kind", 1), ("map_kind", None),
    ("conditioning", "none"), ("conditioning", "label"), ("conditioning", "embedding"), ("conditioning_size", 0),
    ("conditioning_size", 257),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), MAP_CHANGES)
def test_hostile_maps(reader: Reader, model_file: Callable[..., bytes], field: str, value: Any) -> None:
    content = with_metadata(model_file(SPECS["map"]), lambda written: written["spec"].update({field: value}))
    both_refuse(reader, content, "damaged", BAD_SPEC)


@pytest.mark.parametrize("field", ["map_height", "map_width", "map_features", "map_categories", "map_kind"])
def test_half_of_what_says_a_map_is_refused(reader: Reader, model_file: Callable[..., bytes], field: str) -> None:
    content = with_metadata(model_file(SPECS["map"]), lambda written: written["spec"].pop(field))
    both_refuse(reader, content, "damaged", BAD_SPEC)


@pytest.mark.parametrize("field", ["input", "input_size"])
def test_half_of_what_says_categories_is_refused(reader: Reader, model_file: Callable[..., bytes], field: str) -> None:
    content = with_metadata(model_file(SPECS["categories"]), lambda written: written["spec"].pop(field))
    both_refuse(reader, content, "damaged", BAD_SPEC)


def test_values_may_be_said_or_left_out(reader: Reader, model_file: Callable[..., bytes]) -> None:
    content = model_file(SPECS["grey"])
    assert '"input' not in parts(content)[0], "earlier versions read files of values"
    assert '"head":' not in parts(content)[0], "and of a probability for every level"
    defaults = {"input": "values", "input_size": 0, "head": "categorical", "mixtures": 0}
    said = with_metadata(content, lambda written: written["spec"].update(defaults))
    assert python_refuses(said) is None
    assert reader(said)[0] == OK


@pytest.mark.parametrize("field", [name for name in ModelSpec.__struct_fields__ if name not in LATER_FIELDS])
def test_a_spec_says_every_dimension(reader: Reader, model_file: Callable[..., bytes], field: str) -> None:
    content = with_metadata(model_file(SPECS["grey"]), lambda written: written["spec"].pop(field))
    both_refuse(reader, content, field, BAD_SPEC)


@pytest.mark.parametrize("field", ModelSpec.__struct_fields__[:9])
def test_a_spec_that_contradicts_the_tensors(reader: Reader, model_file: Callable[..., bytes], field: str) -> None:
    """Height and width shape no tensor; of every other dimension another value is refused."""
    step = {"channels": 2, "first_kernel_size": 2, "kernel_size": 2}.get(field, 1)
    content = model_file(SPECS["grey"])
    content = with_metadata(content, lambda written: written["spec"].update({field: written["spec"][field] + step}))
    if field in ("height", "width"):
        assert python_refuses(content) is None
        assert reader(content)[0] == OK
    else:
        both_refuse(reader, content, "header does not fit its spec", BAD_SPEC)


def test_huge_dimensions_allocate_nothing(reader: Reader, model_file: Callable[..., bytes]) -> None:
    huge: dict[str, Any] = {"features": 4096, "layers": 512, "kernel_size": 63, "first_kernel_size": 63}
    huge |= {"head_features": 4096, "levels": 4096, "channels": 3}
    huge |= {"input": "categorical", "input_size": 4096}
    maps = {
        "height": 1 << 20,
        "width": 1,
        "map_height": 1,
        "map_width": 1,
        "map_features": 4096,
        "map_categories": 4096,
    }
    for condition in (
        {"conditioning": "embedding", "conditioning_size": 1_000_000},
        {"conditioning": "map", "conditioning_size": 256, "map_kind": "categories", **maps},
        {"conditioning": "map", "conditioning_size": 256, "map_kind": "categories", **maps, "height": 1_048_573},
    ):
        change = huge | condition
        content = with_metadata(
            model_file(SPECS["grey"]), lambda written, change=change: written["spec"].update(change)
        )
        both_refuse(reader, content, "header does not fit its spec", BAD_SPEC)


METADATA: dict[str, tuple[Callable[[str], str], str, int]] = {
    "a newer schema": (lambda text: text.replace('"schema":1', '"schema":2'), "pip install --upgrade", NEWER_FILE),
    "schema 0": (lambda text: text.replace('"schema":1', '"schema":0'), "schema 0", BAD_FILE),
    "no schema": (lambda text: text.replace('"schema":1', '"schemas":1'), "damaged", BAD_FILE),
    "another role": (lambda text: text.replace('"weights"', '"step"'), "role is step", BAD_FILE),
    "no role": (lambda text: text.replace('"role"', '"roles"'), "role", BAD_FILE),
    "no spec": (lambda text: text.replace('"spec"', '"specs"'), "spec", BAD_SPEC),
    "two specs": (lambda text: text.replace('"spec":', '"spec":{},"spec":'), "twice", BAD_FILE),
    "two schemas": (lambda text: text.replace('"schema":1', '"schema":1,"\\u0073chema":1'), "twice", BAD_FILE),
    "two heights": (lambda text: text.replace('"height":3', '"height":3,"height":3'), "twice", BAD_SPEC),
    "no object": (lambda text: "[1]", "damaged", BAD_FILE),
    "nothing": (lambda text: "", "damaged", BAD_FILE),
    "no JSON": (lambda text: text[:-1], "damaged", BAD_FILE),
    "more behind it": (lambda text: text + "{}", "damaged", BAD_FILE),
    "a comma too many": (lambda text: text[:-1] + ",}", "damaged", BAD_FILE),
    "a control character": (lambda text: text[:-1] + ',"a":"\n"}', "damaged", BAD_FILE),
    "half of a pair": (lambda text: text[:-1] + ',"a":"\\ud800"}', "damaged", BAD_FILE),
    "an unknown escape": (lambda text: text[:-1] + ',"a":"\\x41"}', "damaged", BAD_FILE),
    "NaN": (lambda text: text[:-1] + ',"a":NaN}', "damaged", BAD_FILE),
    "a number with a zero": (lambda text: text[:-1] + ',"a":01}', "damaged", BAD_FILE),
    "too deep": (lambda text: text[:-1] + ',"a":' + "[" * 32 + "]" * 32 + "}", "nested too deeply", BAD_FILE),
    "far too deep": (lambda text: text[:-1] + ',"a":' + "[" * 100000 + "]" * 100000 + "}", "damaged", BAD_FILE),
    "too long": (lambda text: text[:-1] + " " * 2**20 + "}", "more than", BAD_FILE),
}


@pytest.mark.parametrize("change", METADATA)
def test_hostile_metadata(reader: Reader, model_file: Callable[..., bytes], change: str) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    edit, reason, status = METADATA[change]
    changed = edit(text)
    assert changed != text
    both_refuse(reader, assemble(changed, rest, data), reason, status)


@pytest.mark.parametrize(
    "escaped", ["\\ud83d", "\\udc00", "\\u12g4", "\\q", "\x01", "\x1f", "\ud800", "\\ud83d\\u0041"]
)
def test_hostile_escapes_in_the_header(reader: Reader, model_file: Callable[..., bytes], escaped: str) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    tools = text.replace('"tool"', '"HERE"')
    quoted = json.dumps(tools, ensure_ascii=False)[1:-1].replace("HERE", escaped)
    both_refuse(reader, assemble("", rest, data, quoted), "damaged", BAD_FILE)


@pytest.mark.parametrize("sequence", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"])
def test_bytes_that_are_no_utf8(reader: Reader, model_file: Callable[..., bytes], sequence: bytes) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    content = assemble(text.replace('"tool"', '"' + "x" * len(sequence) + '"'), rest, data)
    both_refuse(reader, content.replace(b"x" * len(sequence), sequence, 1), "no UTF-8", BAD_FILE)


@pytest.mark.parametrize(
    "escaped",
    ["\\u0041", "\\/", "ä€\N{GRINNING FACE}", "\\ud83d\\ude00", "\\\\u0041\\\\ud83d\\\\ude00", "\\\\n", "\x7f"],
)
def test_escapes_that_both_read(reader: Reader, model_file: Callable[..., bytes], escaped: str) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    quoted = json.dumps(text.replace('"tool"', '"HERE"'), ensure_ascii=False)[1:-1].replace("HERE", escaped)
    content = assemble("", rest, data, quoted)
    assert python_refuses(content) is None
    assert reader(content)[0] == OK


def test_escaped_names_are_the_names_they_stand_for(reader: Reader, model_file: Callable[..., bytes]) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    spelt = text.replace('"height"', '"\\u0068eight"').replace('"weights"', '"w\\u0065ights"').replace(",", " ,\t")
    content = assemble(spelt, rest, data)
    assert python_refuses(content) is None
    assert reader(content)[0] == OK


def test_values_of_other_versions_are_passed_over(reader: Reader, model_file: Callable[..., bytes]) -> None:
    more = {"x": [1, -0.5e-3, True, False, None, {}, [], {"spec": {"height": 9}}, "\u2028"], "schemata": {"role": 0}}
    content = with_metadata(model_file(SPECS["colour"]), lambda written: written.update(more))
    assert python_refuses(content) is None
    assert reader(content)[0] == OK


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_makes_the_readers_disagree(
    reader: Reader, model_file: Callable[..., bytes], data: st.DataObject
) -> None:
    """C accepts all that Python accepts, and finds the same; what C alone accepts differs in unused metadata."""
    content = bytearray(model_file(SPECS[data.draw(st.sampled_from(["grey", "labels", "colour"]))]))
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header) | st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["byte", "cut", "copy", "token"])):
            case "byte":
                content[at] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 9))]
            case "copy":
                content[at:at] = content[at : at + data.draw(st.integers(1, 9))]
            case "token":
                token = data.draw(
                    st.sampled_from([b'\\"', b"\\\\", b"{", b"}", b"[", b",", b"-", b"0", b"1e9", b"\\u"])
                )
                content[at : at + len(token)] = token
        if not content:
            return
    mutated = bytes(content)
    refusal, (status, found) = python_refuses(mutated), reader(mutated)
    if refusal is None:
        assert (status, found) == (OK, expected_answer(mutated))
    elif status == OK:
        assert "metadata" in refusal or "class" in refusal or "parameters" in refusal
        assert "weights" in refusal or "damaged" in refusal or "export it anew" in refusal


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, b"\x7fELF" + b"\0" * 64, b"{}" * 40])
def test_foreign_files(reader: Reader, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gpcnn").write_bytes(content)
    with pytest.raises(EngineError, match="export it anew"):
        read_model_file(tmp_path / "model.gpcnn")
    assert reader(content)[0] == BAD_FILE


def test_a_folder_a_missing_file_and_a_device(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is a folder"):
        read_model_file(tmp_path)
    with pytest.raises(EngineError, match="no such file"):
        read_model_file(tmp_path / "model.gpcnn")
    with pytest.raises(EngineError, match="device or a pipe"):
        read_model_file(Path("/dev/zero"))


def test_a_bomb_is_refused_before_it_is_read(model_file: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.gpcnn"
    path.write_bytes(model_file(SPECS["grey"]))
    with path.open("rb+") as stream:
        stream.truncate(1 << 42)  # sparse: 4 TiB
    with pytest.raises(EngineError, match="bytes, expected"):
        read_model_file(path)


def test_a_checkpoint_is_called_one(model_file: Callable[..., bytes]) -> None:
    text, rest, data = parts(model_file(SPECS["grey"]))
    header = {"schema": 1, "spec": json.loads(text)["spec"], "data": "digits", "quantization": {}}
    refusal = python_refuses(assemble(json.dumps(header), rest, data))
    assert refusal is not None
    assert "gpcnn-export model.gpcnn --format native" in refusal


def test_writing_refuses_what_is_no_model(model_file: Callable[..., bytes]) -> None:
    metadata, weights = decode_model_file(model_file(SPECS["grey"]), "model.gpcnn")
    name = "layers.0.link.weight"
    with pytest.raises(EngineError, match="role weights, not step"):
        encode_model_file(msgspec.structs.replace(metadata, role="step"), weights)
    for changed, reason in [
        ({**weights, name: weights[name].astype(np.float64)}, "float64"),
        ({**weights, name: weights[name][:1]}, r"\[1, 4, 1, 1\], expected float32 \[4, 4, 1, 1\]"),
        ({**weights, name: np.full_like(weights[name], np.nan)}, "not finite"),
        ({**weights, "more": weights[name]}, "more is missing or unknown"),
        ({key: weights[key] for key in weights if key != name}, f"{name} is missing"),
    ]:
        with pytest.raises(EngineError, match=reason):
            encode_model_file(metadata, changed)


dimensions = st.integers(1, 3)


@settings(max_examples=60, deadline=None)
@given(
    fields=st.fixed_dictionaries(
        {
            "height": st.integers(1, 40),
            "width": st.integers(1, 40),
            "channels": st.sampled_from([1, 3]),
            "levels": st.integers(2, 9),
            "features": dimensions,
            "layers": st.integers(1, 25),
            "first_kernel_size": st.sampled_from([3, 5, 7]),
            "kernel_size": st.sampled_from([3, 5]),
            "head_features": dimensions,
            "conditioning": st.sampled_from(["none", "label", "embedding"]),
            "conditioning_size": st.integers(0, 4),
            "input": st.sampled_from(["values", "categorical"]),
            "input_size": st.integers(0, 3),
            "head": st.sampled_from(["categorical", "mixture"]),
            "mixtures": st.integers(0, 3),
        }
    )
)
def test_every_spec(reader: Reader, model_file: Callable[..., bytes], fields: dict[str, Any]) -> None:
    try:
        spec = ModelSpec(**fields)
    except SpecError:
        return
    content = model_file(spec)
    assert reader(content) == (OK, expected_answer(content))
    assert isinstance(decode_model_file(content, "")[0], EngineMetadata)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    planes=st.integers(1, 3),
    features=dimensions,
    kind=st.sampled_from(["values", "categories", "picture"]),
    channels=st.sampled_from([1, 3]),
)
def test_every_map(
    reader: Reader,
    model_file: Callable[..., bytes],
    size: tuple[int, int, int, int],
    planes: int,
    features: int,
    kind: Any,
    channels: int,
) -> None:
    rows, columns, down, across = size
    spec = ModelSpec(
        height=rows * down,
        width=columns * across,
        channels=channels,
        features=2,
        layers=2,
        head_features=1,
        conditioning="map",
        conditioning_size=channels if kind == "picture" else planes,
        map_height=rows,
        map_width=columns,
        map_features=features,
        map_categories=3 if kind == "categories" else 0,
        map_kind=kind,
    )
    content = model_file(spec)
    assert reader(content) == (OK, expected_answer(content))
