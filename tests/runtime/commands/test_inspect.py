"""gpcnn-inspect: what it says is what is in the file, nothing is run, and hostile files get one line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_engines import EMBEDDED, LABELLED, NAMES, PLAIN, add_metadata, metadata_of, model_of

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.metadata import METADATA_KEY, EncoderParity, ParityReport, encode_metadata
from gpcnn_deploy.system.files import sha256
from gpcnn_runtime.commands.inspect.cli import main
from gpcnn_runtime.engines.onnx_file import MalformedError, properties
from gpcnn_runtime.engines.plan_file import PlanMetadata, encode_plan_metadata, metadata_path
from gpcnn_runtime.inspection import Inspection, engine_metadata, inspect_engine
from gpcnn_training.checkpoint import save_checkpoint
from gpcnn_training.model import parameter_count

PARITY = ParityReport(images=24, identical=23, near_ties=1, log_prob_error=2e-6, log_prob_tolerance=1e-4)
METADATA = msgspec.structs.replace(
    metadata_of(LABELLED, 2), parity=PARITY, parameters=1234, tools={"torch": "2.13.0"}, checkpoint_digest="ab" * 32
)
PLAN = PlanMetadata(
    engine=msgspec.structs.replace(metadata_of(LABELLED, None), precision="fp16"),
    digest="",
    flavor="tensorrt-rtx",
    tensorrt_version="1.7.1",
    platform="linux-x86_64",
    compute_capabilities=("8.6", "12.0"),
    max_batch=64,
    opt_batch=8,
    tensors=(),
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def write_onnx(path: Path, text: str | None = None) -> Path:
    """A file whose graph nothing could run."""
    model = onnx.ModelProto(ir_version=10, producer_name="x")
    model.graph.node.add(op_type="NoSuchOperator")
    other = model.metadata_props.add()
    other.key, other.value = "other", "ü"
    add_metadata(model, encode_metadata(METADATA) if text is None else text)
    path.write_bytes(model.SerializeToString())
    return path


def write_plan(path: Path, content: bytes = b"never deserialized", **change: Any) -> Path:
    path.write_bytes(content)
    metadata = msgspec.structs.replace(PLAN, **({"digest": sha256(path)} | change))
    metadata_path(path).write_bytes(encode_plan_metadata(metadata))
    return path


def test_an_onnx_engine_says_what_it_is(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    found = inspect_engine(path)
    assert (found.kind, found.role, found.window, found.precision) == ("onnx", "sampler", 2, "fp32")
    assert (found.spec, found.class_names, found.parameters) == (LABELLED, NAMES, 1234)
    assert found.multiply_adds == LABELLED.multiply_adds()
    assert (found.bytes, found.digest) == (path.stat().st_size, sha256(path))
    assert (found.checkpoint_digest, found.parity, found.tools) == ("ab" * 32, PARITY, {"torch": "2.13.0"})
    assert found.plan is found.checkpoint is None
    done = run(path)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    for fact in (
        "ONNX engine: sampler, window 2, fp32",
        "6×5 grey, 4 levels",
        "3 layers × 6 features",
        "3: boot, 3, bag, red",
        "1,234",
        f"checkpoint {'ab' * 32}",
        "torch 2.13.0",
        "23 of 24 images identical, 1 by proven near-ties not; log-probabilities within 2.0e-06 nats (limit 1e-04)",
    ):
        assert fact in text


def test_a_real_engine(sampler_path: Path, step_path: Path) -> None:
    for path in (sampler_path, step_path):
        found = inspect_engine(path)
        assert found.spec == LABELLED
        assert found.role == ("step" if path == step_path else "sampler")
        assert engine_metadata(path).class_names == NAMES


def test_json_holds_everything(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    done = run(path, "--json", "-")
    assert msgspec.json.decode(done.stdout, type=Inspection) == inspect_engine(path)
    assert "ONNX engine" in done.stderr
    assert run(path, "--json", tmp_path / "i.json").stdout.strip().startswith(str(path)[:20])
    written = json.loads((tmp_path / "i.json").read_text())
    assert written["spec"]["levels"] == 4
    assert written["parity"]["near_ties"] == 1


def test_an_encoder_and_the_engine_that_names_it(tmp_path: Path) -> None:
    metadata = metadata_of(EMBEDDED, None)
    parity = EncoderParity(images=32, embedding_error=3e-6, embedding_tolerance=1e-4)
    encoder = msgspec.structs.replace(metadata, role="encoder", encoder_parity=parity)
    found = inspect_engine(write_onnx(tmp_path / "m.encoder.onnx", encode_metadata(encoder)))
    assert (found.role, found.window, found.multiply_adds, found.encoder_parity) == ("encoder", None, None, parity)
    text = " ".join(run(tmp_path / "m.encoder.onnx").stdout.split())
    assert "ONNX engine: encoder, fp32" in text
    assert "embedding gives 5 numbers" in text
    assert "embeddings of 32 images within 3.0e-06 (limit 1e-04)" in text
    engine = msgspec.structs.replace(metadata, encoder_digest="cd" * 32)
    path = write_onnx(tmp_path / "m.onnx", encode_metadata(engine))
    assert inspect_engine(path).encoder_digest == "cd" * 32
    text = " ".join(run(path).stdout.split())
    assert "embedding is conditioned on 5 numbers" in text
    assert f"m.encoder.onnx beside it, SHA-256 {'cd' * 32}" in text


def test_a_plan_is_not_deserialized(tmp_path: Path) -> None:
    path = write_plan(tmp_path / "model.plan")
    found = inspect_engine(path)
    assert (found.kind, found.role, found.window, found.precision) == ("plan", "step", None, "fp16")
    assert found.plan is not None
    assert (found.plan.flavor, found.plan.compute_capabilities) == ("tensorrt-rtx", ("8.6", "12.0"))
    assert (found.plan.digest_matches, found.plan.portable) == (True, None)
    write_onnx(tmp_path / "model.onnx")
    done = run(path)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    for fact in (
        "TensorRT plan: step, fp16",
        "tensorrt-rtx 1.7.1 on linux-x86_64",
        "compute capability 8.6, 12.0",
        "1 to 64, tuned for 8",
        "model.onnx runs instead",
        "parity not shown by its export: gpcnn-verify shows it",
    ):
        assert fact in text


def test_a_plan_that_was_exchanged_is_shown_and_an_error(tmp_path: Path) -> None:
    path = write_plan(tmp_path / "model.plan", digest="0" * 64)
    done = run(path, "--json", tmp_path / "i.json")
    assert done.exit_code == 1
    assert json.loads((tmp_path / "i.json").read_text())["plan"]["digest_matches"] is False
    assert "NOT THAT OF ITS METADATA" in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"Error: {path}: is not the plan that model.plan.json was written for")


def test_a_checkpoint_says_what_to_do_with_it(tmp_path: Path) -> None:
    model = model_of(PLAIN)
    header = Header(spec=PLAIN, data="photos", quantization="nearest", step=12, test_nll=81.5, test_images=10_000)
    save_checkpoint(tmp_path / "checkpoint.safetensors", model, header)
    for path in (tmp_path, tmp_path / "checkpoint.safetensors"):
        found = inspect_engine(path)
        assert (found.kind, found.spec, found.parameters) == ("checkpoint", PLAIN, parameter_count(model))
        assert found.role is found.precision is found.checkpoint_digest is None
        assert found.checkpoint is not None
        assert (found.checkpoint.data, found.checkpoint.step, found.checkpoint.test_nll) == ("photos", 12, 81.5)
        assert found.digest == sha256(tmp_path / "checkpoint.safetensors")
    text = " ".join(run(tmp_path).stdout.split())
    assert "gpcnn-export " in text
    assert "makes an engine of it" in text
    assert "81.50 nats an image, on 10,000 images" in text


def safetensors(path: Path, header: bytes, length: int | None = None) -> None:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)


HEADER = {"schema": 1, "spec": {"height": 4, "width": 5}, "data": "x", "quantization": "nearest"}


def entry(**change: Any) -> bytes:
    return json.dumps({"__metadata__": {METADATA_KEY: json.dumps(HEADER | change)}}).encode()


@pytest.mark.parametrize(
    ("header", "length", "message"),
    [
        (b"", None, "not a checkpoint, or a damaged one"),
        (entry(), 1 << 40, "a header of 1,099,511,627,776 bytes"),
        (entry(), 10, "not a checkpoint, or a damaged one"),
        (b"[" * 100_000, None, "not a checkpoint, or a damaged one"),
        (b'{"a": {"dtype": "F32", "shape": [-5]}, ' + entry()[1:], None, "a tensor of no possible shape"),
        (b'{"a": {"dtype": "F32", "shape": ' + b"[" + b"9," * 99 + b"9]}, " + entry()[1:], None, "no possible shape"),
        (b"{}", None, "but not of gpcnn-train (no 'gpcnn' entry)"),
        (
            entry(schema=99),
            None,
            "written with checkpoint schema 99, this version reads up to 1: pip install --upgrade",
        ),
        (entry(spec={"height": 0, "width": 5}), None, "height is 0"),
        (entry(data=5), None, "damaged"),
        (json.dumps({"__metadata__": {METADATA_KEY: "[" * 100_000}}).encode(), None, "damaged"),
    ],
)
def test_hostile_checkpoints_get_a_line(tmp_path: Path, header: bytes, length: int | None, message: str) -> None:
    path = tmp_path / "c.safetensors"
    safetensors(path, header, length)
    done = run(path)
    (line,) = done.stderr.strip().splitlines()
    assert (done.exit_code, message in line) == (1, True), line
    assert line.startswith(f"Error: {path}: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "none: no such file or folder; name an engine, a checkpoint or zoo:NAME"),
        ("none.txt", None, "none.txt: no such file or folder"),
        ("none.onnx", None, "no such file"),
        ("none.plan", None, "no such file"),
        ("none.safetensors", None, "no such file: train one with gpcnn-train"),
        ("model.txt", b"x", "expected an engine whose name ends in .gpcnn, .onnx or .plan, or a checkpoint"),
        ("model.onnx", b"", "is empty"),
        ("model.onnx", b"\x89PNG....", "is a PNG picture"),
        ("model.onnx", b"\xff" * 50, "cannot be loaded as ONNX"),
        ("model.onnx", b"\x08\x0a", "is an ONNX file without gpcnn-deploy metadata"),
        ("model.plan", b"x", "a plan needs the metadata written beside it"),
    ],
)
def test_mistakes(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run(tmp_path / name)
    (line,) = done.stderr.strip().splitlines()
    assert (done.exit_code, message in line) == (1, True), line


def test_a_folder_without_a_run_and_no_argument(tmp_path: Path) -> None:
    assert "expected an engine whose name ends in" in run(tmp_path).stderr
    done = run()
    assert done.exit_code == 2
    assert "Missing argument 'ENGINE'" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "metadata is damaged"),
        (encode_metadata(METADATA).replace('"schema":1', '"schema":9'), "pip install --upgrade gpcnn-deploy"),
        ("y" * (1 << 21), "expected at most"),
    ],
)
def test_bad_metadata_gets_a_line(tmp_path: Path, text: str, message: str) -> None:
    done = run(write_onnx(tmp_path / "m.onnx", text))
    (line,) = done.stderr.strip().splitlines()
    assert (done.exit_code, message in line) == (1, True), line


def test_codes_that_a_terminal_obeys_are_not_shown(tmp_path: Path) -> None:
    names = ("\x1b[31mred", "[bold]b[/bold]", "new\nline")
    metadata = msgspec.structs.replace(METADATA, class_names=names)
    done = run(write_onnx(tmp_path / "m.onnx", encode_metadata(metadata)))
    assert "\x1b" not in done.stdout
    assert "3: �[31mred, [bold]b[/bold], new�line" in done.stdout


def test_properties_are_those_that_onnx_reads(tmp_path: Path, sampler_path: Path) -> None:
    for path in (sampler_path, write_onnx(tmp_path / "m.onnx")):
        expected = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        assert properties(path.read_bytes()) == expected


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_files_are_read_or_refused(tmp_path: Path, at: int, value: int, cut: bool) -> None:
    source = tmp_path / "source.onnx"
    content = bytearray(source.read_bytes() if source.exists() else write_onnx(source).read_bytes())
    at %= len(content)
    damaged = bytes(content[:at]) if cut else bytes(content[:at]) + bytes([value]) + bytes(content[at + 1 :])
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged)
    message = ""
    try:
        inspect_engine(path)
    except GpcnnError as error:
        message = str(error)
    assert "\n" not in message
    with contextlib.suppress(MalformedError):
        properties(damaged)


def test_inspect_needs_no_torch_no_onnx_and_no_runtime(sampler_path: Path) -> None:
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxruntime", "safetensors", "tensorrt", "cuda"):
            raise SystemExit(f"imported {name}")
sys.meta_path.insert(0, Refuse())
from gpcnn_runtime.commands.inspect.cli import main
main(sys.argv[1:])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(sampler_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sampler, window 2" in done.stdout


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from gpcnn_runtime.commands.inspect.cli import main; main(['--help'], standalone_mode=False); "
    )
    program += "print(sorted({'numpy', 'onnxruntime', 'msgspec', 'rich', 'torch'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
