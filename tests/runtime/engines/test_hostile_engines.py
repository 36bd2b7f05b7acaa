"""Engine files made to do harm: each ends in one line, and nothing crashes, hangs, grows or reads another file.

What ONNX Runtime may see is loaded in a process of its own, which may neither die nor open a file elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto, TensorProto, TypeProto, helper
from small_engines import EMBEDDED, LABELLED, PLAIN, Make, engine_bytes, metadata_of, model_of, write_checkpoint

from gpcnn_deploy.errors import EngineError, GpcnnError
from gpcnn_deploy.metadata import MAX_METADATA_BYTES, METADATA_KEY, encode_metadata
from gpcnn_deploy.system.files import sha256
from gpcnn_runtime.commands.inspect.cli import main
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.engines.plan_file import PlanMetadata, encode_plan_metadata, metadata_path, read_plan_metadata
from gpcnn_runtime.inspection import inspect_engine
from gpcnn_training.checkpoint import load_checkpoint

LOADER = """
import os, resource, sys, warnings
from pathlib import Path
from gpcnn_deploy.errors import GpcnnError
from gpcnn_runtime.inspection import inspect_engine
from gpcnn_runtime.engines.load import load_engine

def attempt(path):
    outcomes = []
    for read in (inspect_engine, lambda path: load_engine(path, provider="cpu").close()):
        try:
            read(path)
            outcomes.append("read")
        except GpcnnError as error:
            outcomes.append(str(error))
    return outcomes

folder, good = Path(sys.argv[1]), Path(sys.argv[2])
assert attempt(good) == ["read", "read"]  # everything that is imported has been
opened = []
sys.addaudithook(lambda event, values: event == "open" and opened.append(values[0]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(folder.glob("*.onnx")):
    opened.clear()
    inspected, loaded = attempt(path)
    elsewhere = [str(name) for name in opened if not isinstance(name, int) and Path(os.fsdecode(name)) != path]
    print(repr((path.stem, inspected, loaded, elsewhere)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def load_all(folder: Path, good: Path, seconds: float = 120) -> dict[str, tuple[str, str]]:
    """Name → what (inspect, load) said of every engine in a folder; `read` where it was taken for sound."""
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(folder), str(good)], capture_output=True, timeout=seconds, check=False
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{done.returncode} after {stdout.splitlines()[-1:]}: {stderr}"
    *lines, grown = stdout.splitlines()
    assert int(grown) < 500_000  # kB
    found = {}
    for name, inspected, loaded, elsewhere in map(eval, lines):
        assert elsewhere == [], name
        for text in (inspected, loaded):
            assert text.isprintable()
            assert text == "read" or f"{name}.onnx" in text
        found[name] = inspected, loaded
    return found


@pytest.fixture(scope="module")
def good(sampler_path: Path) -> bytes:
    return sampler_path.read_bytes()


def flipped(content: bytes, seed: int) -> bytes:
    rng, damaged = random.Random(seed), bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        damaged[rng.randrange(len(damaged))] ^= rng.choice([1 << rng.randrange(8), 255])
    return bytes(damaged)


def reshaped(content: bytes, seed: int) -> bytes:
    """Some fields of some messages cleared, repeated, exchanged or made absurd; still well-formed protobuf."""
    rng, model = random.Random(seed), onnx.load_from_string(content)

    def messages(message: Any) -> list[Any]:
        parts = [value for field, value in message.ListFields() if field.type == field.TYPE_MESSAGE]
        inner = [part for value in parts for part in (value if hasattr(value, "__len__") else [value])]
        return [message, *(one for part in inner for one in messages(part))]

    for _ in range(rng.choice([1, 1, 2, 4])):
        message = rng.choice([one for one in messages(model) if one.ListFields()])
        field, value = rng.choice(message.ListFields())
        absurd = rng.choice([0, -1, 255, 2**31 - 1, 2**62, -(2**63)])
        choice = rng.randrange(3)
        with contextlib.suppress(ValueError, TypeError):  # a number that this field cannot hold
            if choice == 0:
                message.ClearField(field.name)
            elif hasattr(value, "extend"):
                other = rng.choice(value)
                value.extend([other] if choice == 1 else [absurd if isinstance(other, int) else other] * 3)
                if choice == 2:
                    del value[0]
            elif isinstance(value, int):
                setattr(message, field.name, absurd if choice == 1 else rng.randrange(30))
            elif isinstance(value, (bytes, str)):
                setattr(message, field.name, value[: rng.randrange(len(value) + 1)] if choice == 1 else value * 2)
    return bytes(model.SerializeToString())


def fuzz(tmp_path: Path, content: bytes, seeds: range, seconds: float = 120) -> None:
    source = tmp_path / "good.onnx"
    source.write_bytes(content)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for seed in seeds:
        (folder / f"flipped-{seed}.onnx").write_bytes(flipped(content, seed))
        (folder / f"reshaped-{seed}.onnx").write_bytes(reshaped(content, seed))
        length = random.Random(seed).randrange(len(content))
        (folder / f"cut-{seed}.onnx").write_bytes(content[:length])
    found = load_all(folder, source, seconds)
    assert len(found) == 3 * len(seeds)
    sound = [name for name, (_, loaded) in found.items() if loaded == "read"]
    assert len(sound) > len(seeds) // 20  # damaged weights are weights
    assert len(found) - len(sound) > len(seeds)
    assert not [name for name in sound if name.startswith("cut")]
    # Whatever loads can be inspected.
    assert all(found[name][0] == "read" for name in sound)


def test_damaged_engines(tmp_path: Path, good: bytes) -> None:
    fuzz(tmp_path, good, range(70))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "window"), [(LABELLED, 2), (LABELLED, None), (PLAIN, 3), (PLAIN, None), (EMBEDDED, 4)]
)
def test_many_damaged_engines(tmp_path: Path, spec: Any, window: int | None) -> None:
    fuzz(tmp_path, engine_bytes(spec, window), range(1000, 1800), seconds=1200)


def output(model: ModelProto, dtype: int = 1, rank: int = 0) -> None:
    model.graph.output.append(helper.make_tensor_value_info("evil", dtype, [f"d{k}" for k in range(rank)]))


def node(model: ModelProto, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    model.graph.node.append(helper.make_node(kind, inputs, outputs, **attributes))


def number(model: ModelProto, name: str, *values: int, scalar: bool = False) -> str:
    model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [] if scalar else [len(values)], values))
    return name


def filled(*shape: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        node(model, "ConstantOfShape", [number(model, "shape", *shape)], ["evil"])
        output(model, rank=len(shape))

    return change


def endless_range(model: ModelProto) -> None:
    bounds = [number(model, f"n{k}", value, scalar=True) for k, value in enumerate((0, 1 << 40, 1))]
    node(model, "Range", bounds, ["evil"])
    output(model, 7, 1)


def doubling(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("k0", 1, [1024], [1.0] * 1024))
    for k in range(24):
        node(model, "Concat", [f"k{k}"] * 2, [f"k{k + 1}"], axis=0)
    node(model, "Identity", ["k24"], ["evil"])
    output(model, rank=1)


def weights(*shape: int, kind: int = 1, raw: bytes = b"") -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.initializer.add(name="evil", dims=shape, data_type=kind, raw_data=raw)

    return change


def claimed(*shape: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        del tensor.dims[:]
        tensor.dims.extend(shape)

    return change


def sparse(model: ModelProto) -> None:
    tensor = model.graph.sparse_initializer.add(dims=[1 << 31])
    tensor.values.CopyFrom(helper.make_tensor("s", 1, [1], [1.0]))
    tensor.indices.CopyFrom(helper.make_tensor("i", 7, [1], [5]))


def laughing_functions(model: ModelProto) -> None:
    """Forty functions, each of which calls the next twice."""
    for k in range(40):
        calls = [helper.make_node(f"F{k + 1}", ["x"], ["y"]), helper.make_node(f"F{k + 1}", ["y"], ["z"])]
        body = calls if k < 39 else [helper.make_node("Identity", ["x"], ["z"])]
        model.functions.append(helper.make_function("", f"F{k}", ["x"], ["z"], body, [helper.make_opsetid("", 18)]))
    node(model, "F0", ["temperature"], ["evil"])
    output(model)


def foreign(model: ModelProto) -> None:
    """An operator of ONNX Runtime that reads a file."""
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node(
        model,
        "EPContext",
        ["temperature"],
        ["evil"],
        domain="com.microsoft",
        embed_mode=0,
        ep_cache_context="/etc/passwd",
    )
    output(model)


def nested(depth: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        ends = [helper.make_tensor_value_info("o", 1, [])]
        leaf = body = helper.make_graph([helper.make_node("Identity", ["temperature"], ["o"])], "leaf", [], ends)
        for _ in range(depth):
            inner = helper.make_node("If", ["yes"], ["o"], then_branch=body, else_branch=leaf)
            body = helper.make_graph([inner], "body", [], ends)
        node(model, "If", ["yes"], ["evil"], then_branch=body, else_branch=leaf)
        output(model)

    return change


def many_graphs(model: ModelProto) -> None:
    nested(3)(model)
    for k in range(30):
        copied = model.graph.node.add()
        copied.CopyFrom(model.graph.node[-2 - k])
        copied.output[0] = f"evil{k}"


def many_nodes(model: ModelProto) -> None:
    neg = helper.make_node("Neg", ["temperature"], ["evil"])
    model.graph.node.extend([neg] * (1 << 17))


def nested_type(model: ModelProto) -> None:
    kind = model.graph.input[0].type
    for _ in range(20):
        outer = TypeProto()
        outer.sequence_type.elem_type.CopyFrom(kind)
        kind.CopyFrom(outer)


def cycle(model: ModelProto) -> None:
    node(model, "Neg", ["a"], ["b"])
    node(model, "Neg", ["b"], ["a"])


def second_key(model: ModelProto) -> None:
    model.metadata_props.append(model.metadata_props[0])


def control_codes(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("a\nb\x1b[31m", 1, []))


def absurd_attributes(model: ModelProto) -> None:
    for one in model.graph.node:
        for attribute in one.attribute:
            attribute.i = 1 << 62


def versions(opset: int, ir: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.opset_import[0].version, model.ir_version = opset, ir

    return change


SOUND = None  # it loads, and costs nothing
CRAFTED: dict[str, tuple[Callable[[ModelProto], None], str | None]] = {
    "filled": (filled(1 << 30), SOUND),
    "filled-twice": (filled(1 << 62, 1 << 62), SOUND),
    "filled-negative": (filled(-1), "damaged"),
    "range": (endless_range, SOUND),
    "doubling": (doubling, SOUND),
    "unused-weights": (weights(1 << 32, 1 << 32), SOUND),
    "unused-text": (weights(1, kind=8, raw=b"abc"), SOUND),
    "no-such-type": (weights(1, kind=99, raw=b"1234"), "damaged"),
    "claimed": (claimed(1 << 62, 1 << 62), "damaged"),
    "claimed-negative": (claimed(-1), "damaged"),
    "claimed-rank": (claimed(*[1] * 1000), "damaged"),
    "sparse": (sparse, "has sparse tensors, which is refused"),
    "functions": (laughing_functions, "has functions of its own, which is refused"),
    "foreign": (foreign, "has operators that are not ONNX's own, which is refused"),
    "nested": (nested(24), SOUND),
    "many-graphs": (many_graphs, "more than 64 graphs"),
    "many-nodes": (many_nodes, "more than 131072 nodes, attributes and tensors"),
    "nested-type": (nested_type, "damaged"),
    "cycle": (cycle, "acyclic"),
    "second-key": (second_key, "its metadata has a key twice"),
    "control-codes": (control_codes, "unexpected input 'a b�[31m'"),
    "absurd-attributes": (absurd_attributes, "damaged"),
    "opset": (versions(99_999, 9), "damaged"),
    "ir": (versions(18, 1 << 62), "damaged"),
}


def test_crafted_graphs(tmp_path: Path, sampler_path: Path, good: bytes) -> None:
    for name, (change, _) in CRAFTED.items():
        model = onnx.load_from_string(good)
        change(model)
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    for name, text in (("metadata", b'"boot"'), ("input", b"noise"), ("output", b"log_prob")):
        (tmp_path / f"no-text-{name}.onnx").write_bytes(good.replace(text, b"\xff" + text[1:]))
    found = load_all(tmp_path, sampler_path)
    for name, (_, message) in CRAFTED.items():
        loaded = found[name][1]
        assert loaded == "read" if message is SOUND else message in loaded, (name, loaded)
    assert "its metadata is no text" in found["no-text-metadata"][0]
    for name in ("no-text-metadata", "no-text-input", "no-text-output"):
        assert found[name][1] != "read"


def test_weights_outside_are_never_opened(tmp_path: Path, sampler_path: Path, good: bytes) -> None:
    """A pipe stands where they are said to be: a process that opened it would wait for ever."""
    folder, outside = tmp_path / "engines", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    os.mkfifo(outside / "w.bin")
    (folder / "link.bin").symlink_to(outside / "w.bin")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "own.bin")
    places = [
        str(outside / "w.bin"),
        "../outside/w.bin",
        "./.././engines/../outside/w.bin",
        "link.bin",
        "linked/w.bin",
        "LINKED/../link.bin",
        "..\\outside\\w.bin",
        "own.bin",
        "file://" + str(outside / "w.bin"),
        "*/_ORT_MEM_ADDR_/*",  # ONNX Runtime's own name for an address in memory
        "",
    ]
    for k, place in enumerate(places):
        model = onnx.load_from_string(good)
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place), ("offset", "140000000000000"), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        (folder / f"{k}.onnx").write_bytes(model.SerializeToString())
    found = load_all(folder, sampler_path, seconds=60)
    assert len(found) == len(places)
    assert all("keeps weights in other files" in text for pair in found.values() for text in pair)


def refused(path: Path, message: str) -> None:
    """By the loader, the inspector and its command alike, in one line."""
    for read in (inspect_engine, load_engine):
        with pytest.raises(GpcnnError) as caught:
            read(path)
        assert message in str(caught.value)
        assert str(caught.value).isprintable()
    done = CliRunner().invoke(main, [str(path)])
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, message in line) == (1, True), line


@pytest.mark.parametrize("name", ["model.onnx", "model.plan", "checkpoint.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    message = {"model.onnx": "is a device or a pipe", "model.plan": "no such file"}.get(name, "no regular file")
    done = subprocess.run(
        [sys.executable, "-m", "gpcnn_runtime.commands.inspect.cli", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_device_without_end(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("/dev/zero")
    refused(tmp_path / "model.onnx", "is a device or a pipe")


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as stream:
        stream.truncate(1 << 40)  # takes no space
    refused(tmp_path / "model.onnx", "1,099,511,627,776 bytes: expected an ONNX file of a few MB")


METADATA = encode_metadata(metadata_of(LABELLED, 2))


def damaged_texts() -> dict[str, tuple[str, str]]:
    fields = json.loads(METADATA)

    def text(**change: object) -> str:
        return json.dumps(fields | change)

    digits = "9" * 5000
    return {
        "nothing": ("", "damaged"),
        "null": ("null", "damaged"),
        "list": ("[]", "damaged"),
        "deep list": ("[" * 200_000, "damaged"),
        "deep unknown field": ('{"x":' + "[" * 200_000 + "]" * 200_000 + "," + METADATA[1:], "damaged"),
        "deep known field": (METADATA.replace('"tools":{}', '"tools":' + '{"a":' * 100_000), "damaged"),
        "gigantic": (text(tools={"a": "x" * MAX_METADATA_BYTES}), "expected at most"),
        "many digits": (METADATA.replace('"parameters":1', f'"parameters":{digits}'), "damaged"),
        "many digits in the schema": (METADATA.replace('"schema":1', f'"schema":{digits}'), ""),
        "surrogate": (METADATA.replace("boot", "\\ud800"), "damaged"),
        "schema as text": (text(schema="1"), "damaged"),
        "schema of zero": (text(schema=0), "schema 0"),
        "schema below": (text(schema=-(1 << 62)), "schema -46"),
        "role": (text(role="oracle"), "damaged"),
        "role as number": (text(role=7), "damaged"),
        "no role": (METADATA.replace('"role"', '"rule"'), "damaged"),
        "height as text": (text(spec=fields["spec"] | {"height": "6"}), "damaged"),
        "height": (text(spec=fields["spec"] | {"height": 1 << 62}), "height is"),
        "no height": (text(spec=fields["spec"] | {"height": 0}), "height is 0"),
        "a field with a line break": (text(spec=fields["spec"] | {"a\nb\x1b[2J": 1}), "unknown field `a b"),
        "window": (text(window=1 << 40), "window is"),
        "no window": (text(window=None), "window is None"),
        "window of batches": (text(batch_window=1 << 40, batch_from=4), "window of batches is 1099511627776, from 4"),
        "window of no batch": (text(batch_window=1, batch_from=None), "from None images on"),
        "batches of no window": (text(batch_window=None, batch_from=4), "window of batches is None"),
        "one window twice": (text(batch_window=fields["window"], batch_from=4), "window of batches is"),
        "batches of one": (text(batch_window=1, batch_from=1), "from 1 images on"),
        "parameters": (text(parameters=-5), "-5 parameters"),
        "classes": (text(class_names=["a"] * 100), "100 class names for 3 classes"),
        "a second role": (METADATA[:-1] + ',"role":"step"}', "role step with a window"),
    }


@pytest.mark.parametrize(("text", "message"), damaged_texts().values(), ids=damaged_texts())
def test_metadata(tmp_path: Path, good: bytes, text: str, message: str) -> None:
    model = onnx.load_from_string(good)
    model.metadata_props[0].value = text
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, message)
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"never deserialized")
    metadata_path(plan).write_text('{"schema":1,"engine":' + text + "}")
    refused(plan, "")


PLAN = PlanMetadata(
    engine=metadata_of(LABELLED, None),
    digest="",
    flavor="tensorrt",
    tensorrt_version="10.3.0",
    platform="linux-x86_64",
    compute_capabilities=("8.7",),
    max_batch=64,
    opt_batch=8,
    tensors=(),
)


def write_plan(path: Path, **change: Any) -> bytes:
    path.write_bytes(b"never deserialized")
    text = encode_plan_metadata(msgspec.structs.replace(PLAN, **({"digest": sha256(path)} | change)))
    metadata_path(path).write_bytes(text)
    return text


def taken(read: Callable[[Path], object], path: Path) -> bool:
    """Whether it was read; if not, one line says so."""
    message = ""
    try:
        read(path)
    except GpcnnError as error:
        message = str(error)
    assert message.isprintable()
    assert not message or str(path) in message
    return not message


def test_damaged_plan_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    good = write_plan(path)
    read_plan_metadata(path)
    read = 0
    for seed in range(400):
        content = flipped(good, seed) if seed % 2 else good[: random.Random(seed).randrange(len(good) - 2)]
        metadata_path(path).write_bytes(content)
        read += taken(inspect_engine, path)
        with pytest.raises(GpcnnError):  # nobody can run it
            load_engine(path, fallback=False)
    assert 0 < read < 200  # names and digests may be any text


def test_plan_metadata_names_no_file(tmp_path: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it holds, the files beside the plan are found by the plan's own name."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.onnx").write_bytes(sampler_path.read_bytes())
    path = tmp_path / "model.plan"
    fields = json.loads(write_plan(path))
    names = dict.fromkeys(("portable", "path", "plan", "onnx", "file", "encoder"), str(other / "model.onnx"))
    metadata_path(path).write_text(json.dumps(fields | names))
    found = inspect_engine(path)
    assert found.plan is not None
    assert found.plan.portable is None
    metadata_path(path).write_text(json.dumps(fields | {"digest": sha256(other / "model.onnx")}))
    for fallback in (False, True):
        with pytest.raises(EngineError, match=r"its digest .* is not the .* of model.plan.json: it was changed"):
            load_engine(path, fallback=fallback)


def test_plan_metadata_that_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    write_plan(path)
    metadata_path(path).unlink()
    os.mkfifo(metadata_path(path))
    refused(path, "no regular file")
    metadata_path(path).unlink()
    metadata_path(path).mkdir()
    refused(path, "no regular file")
    metadata_path(path).rmdir()
    metadata_path(path).symlink_to("/dev/zero")
    refused(path, "no regular file")
    metadata_path(path).unlink()
    metadata_path(path).write_bytes(b" " * (MAX_METADATA_BYTES + 1))
    refused(path, "not a plan's metadata")


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, model_of(PLAIN), data="photos")
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    inspected = loaded = 0
    for seed in range(200):
        head = flipped(content[:length], seed) + content[length:]
        path.write_bytes(head if seed % 2 else content[: random.Random(seed).randrange(length + 50)])
        inspected += taken(inspect_engine, path)
        loaded += taken(load_checkpoint, path)
    assert 0 < loaded <= inspected < 150


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1", "1" + "0" * 400, "1e5", '"5"', "null"])
def test_numbers_of_checkpoints(tmp_path: Path, number: str) -> None:
    path = tmp_path / "c.safetensors"
    fields = '"spec":{"height":4,"width":5},"data":"x","quantization":"nearest"'
    for where in ('"schema":1,"step":N', '"schema":1,"test_nll":N', '"schema":N'):
        header = json.dumps({"__metadata__": {METADATA_KEY: "{" + where.replace("N", number) + "," + fields + "}"}})
        shape = '{"a":{"dtype":"F32","shape":[N,N,N,N,N,N,N,N]},'.replace("N", number)
        for text in (header, shape + header[1:]):
            path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
            done = CliRunner().invoke(main, [str(path)])
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            assert done.exit_code in (0, 1)
            assert len(done.stderr.splitlines()) == done.exit_code


def test_an_engine_whose_classes_hold_codes(make: Make, tmp_path: Path) -> None:
    """What it is called is not obeyed by a terminal, in errors neither."""
    from gpcnn_runtime.sampler import Sampler

    with Sampler.load(make(LABELLED, 2, names=("a\nb", "\x1b[2J", "c")), threads=1) as sampler:
        for labels in ("none of them", None):
            with pytest.raises(GpcnnError) as caught:
                sampler.sample(labels)
            assert str(caught.value).isprintable()
