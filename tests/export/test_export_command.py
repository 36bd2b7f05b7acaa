"""`gpcnn-export`: what it writes, what it refuses, and that a failed run leaves everything as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from small_engines import NAMES, model_of, write_checkpoint

import gpcnn_export.checkpoint_to_onnx
import gpcnn_export.onnx_engine
import gpcnn_export.tuning
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, decode_metadata
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.commands.export.cli import main
from gpcnn_export.commands.export.result import ExportResult
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.proof.parity import draw_on, feeds
from gpcnn_export.tuning import tune_schedule
from gpcnn_runtime.engines.load import load_engine
from gpcnn_training.checkpoint import checkpoint_digest
from gpcnn_training.model import GatedPixelCNN, parameter_count

SPEC = ModelSpec(height=5, width=6, features=6, layers=2, head_features=8, conditioning="label", conditioning_size=3)


def make_checkpoint(path: Path, spec: ModelSpec = SPEC) -> Path:
    return write_checkpoint(path, model_of(spec, scale=1.0))


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_checkpoint(tmp_path / "runs" / "test" / "checkpoint.safetensors")


def run(*arguments: str | Path) -> Result:
    """An export, of format onnx unless another is named."""
    form = () if "--format" in arguments else ("--format", "onnx")
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, *form)])


def metadata_of(path: Path) -> EngineMetadata:
    props = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    return decode_metadata(props[METADATA_KEY], str(path))


@pytest.mark.parametrize("role", ["sampler", "step"])
def test_an_engine_describes_itself(checkpoint: Path, role: str) -> None:
    window = ["--window", "2"] if role == "sampler" else []
    result = run(checkpoint, "--format", "onnx", "--graph", role, *window)
    assert result.exit_code == 0, result.output
    metadata = metadata_of(Path("model.onnx"))
    assert metadata.role == role
    assert metadata.spec == SPEC
    assert metadata.class_names == NAMES
    assert metadata.window == (2 if role == "sampler" else None)
    assert metadata.checkpoint_digest == checkpoint_digest(checkpoint)
    assert metadata.parameters == parameter_count(GatedPixelCNN(SPEC))
    assert metadata.parity is not None
    assert metadata.parity.images == metadata.parity.identical + metadata.parity.near_ties == 24
    assert f"{metadata.parity.identical} of 24 images identical" in result.stdout
    assert "gpcnn-sample --engine model.onnx" in result.stdout


@pytest.mark.parametrize("role", ["sampler", "step"])
def test_the_file_is_self_contained_checked_and_without_traces(checkpoint: Path, role: str) -> None:
    window = ["--window", "3"] if role == "sampler" else []
    assert run(checkpoint, "--graph", role, *window, "-o", "deep/er/engine.onnx").exit_code == 0
    content = Path("deep/er/engine.onnx").read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert [prop.key for prop in model.metadata_props] == [METADATA_KEY]
    for trace in (b".py", b"stack_trace", os.sep.encode() + b"site-packages", str(Path(__file__).parents[2]).encode()):
        assert trace not in content
    batch = {
        value.name: value.type.tensor_type.shape.dim[0].dim_param
        for value in model.graph.input
        if value.name != "temperature"
    }
    assert set(batch.values()) == {"N"}
    assert [p.name for p in Path("deep/er").iterdir()] == ["engine.onnx"]


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert run(checkpoint, "--window", "2", "-o", name).exit_code == 0
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


def test_without_a_checkpoint_the_newest_run_is_taken(checkpoint: Path) -> None:
    os.utime(checkpoint, (1, 1))
    other = msgspec.structs.replace(SPEC, conditioning="none", conditioning_size=0)
    make_checkpoint(Path("runs/newer/checkpoint.safetensors"), other)
    result = run("--window", "1")
    assert result.exit_code == 0, result.output
    assert str(Path("runs/newer/checkpoint.safetensors")) in result.stderr
    assert metadata_of(Path("model.onnx")).spec == other
    assert run("runs/test", "--window", "1").exit_code == 0
    assert metadata_of(Path("model.onnx")).spec == SPEC


def test_auto_measures_the_windows_and_takes_one_of_them(checkpoint: Path) -> None:
    result = run(checkpoint, "--window", "auto", "--tune-batch", "2")
    assert result.exit_code == 0, result.output
    assert metadata_of(Path("model.onnx")).window in (1, 2, 3, 4, 6)
    assert "windows at batch 2, ms an image: 1: " in result.stderr
    for window in (2, 3, 4, 6):
        assert f", {window}: " in result.stderr


def test_an_engine_of_two_windows(checkpoint: Path) -> None:
    result = run(checkpoint, "--window", "6,1@3", "--json", "r.json")
    assert result.exit_code == 0, result.output
    assert "Wrote model.onnx: sampler, window 6, from 3 images on 1, " in result.stdout
    metadata = metadata_of(Path("model.onnx"))
    assert (metadata.window, metadata.batch_window, metadata.batch_from) == (6, 1, 3)
    assert msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult).engine == metadata
    assert metadata.parity is not None
    assert metadata.parity.images == 4 * 3 * 2 + 3 * 8, "both windows are proven"
    assert run(checkpoint, "--window", "6", "-o", "one.onnx").exit_code == 0
    draw = [draw_on(load_engine(name)) for name in ("model.onnx", "one.onnx")]
    for images in (2, 3):
        for feed in feeds(SPEC, images):
            np.testing.assert_array_equal(draw[0](feed)[0], draw[1](feed)[0])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # window → seconds of a batch
        ({1: lambda n: 5 + n, 6: lambda n: n * 2.0}, Schedule(6, 1, 8)),
        ({1: lambda n: 5.5 + n / 10, 6: lambda n: n * 2.0}, Schedule(6, 1, 4)),
        ({1: lambda n: 1.1 + n / 10, 6: lambda n: n * 1.0}, Schedule(6, 1, 2)),
        ({1: lambda n: 30 + n, 6: lambda n: n * 2.0}, Schedule(6, 1, 32)),
        ({1: lambda n: n * 1.0, 6: lambda n: n * 2.0}, Schedule(1)),
        ({1: lambda n: n * 1.0, 6: lambda n: n * 0.98}, Schedule(1)),
        ({1: lambda n: n * 2.0, 6: lambda n: n * 1.0}, Schedule(6)),
        ({1: lambda n: 5 + n, 6: lambda n: n * 1.15}, Schedule(6)),  # as good as, which one window alone does not tell
        ({1: lambda n: n * 1.0, 6: lambda n: 3 + n * 0.5}, Schedule(1, 6, 8)),
    ],
)
def test_auto_changes_the_window_where_that_pays(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, Callable[[int], float]], expected: Schedule
) -> None:
    class Timed:
        def __init__(self, model: GatedPixelCNN, window: int, many: bool = False) -> None:
            self.window = window

        def seconds(self, batch: int, enough: float = 0.0) -> float:
            return seconds.get(self.window, lambda n: 1e3 * n)(batch)

    monkeypatch.setattr(gpcnn_export.tuning, "_Draw", Timed)
    told: list[str] = []
    assert tune_schedule(GatedPixelCNN(SPEC), told.append) == expected
    assert any(line.startswith("windows at batch 32, ms an image: 1: ") for line in told)
    compared = [line for line in told if line.startswith("window ")]
    assert [line.endswith(f" images. Taken: {expected}") for line in compared] == [True] * len(compared)
    assert len(compared) == 1 or expected.batch_window is None


def test_auto_makes_an_engine_for_one_image_and_for_many(checkpoint: Path) -> None:
    result = run(checkpoint)
    assert result.exit_code == 0, result.output
    for batch in (1, 32):
        (line,) = [line for line in result.stderr.splitlines() if line.startswith(f"windows at batch {batch}, ms an ")]
        assert all(f" {window}: " in line for window in (1, 2, 3, 4, 6))
    schedule = metadata_of(Path("model.onnx")).schedule
    assert schedule is not None
    assert schedule.fits(6)


def test_an_engine_that_draws_otherwise_is_an_error_and_leaves_no_file(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_weights(
        model: GatedPixelCNN, window: Schedule, batch: int | None, many: bool, pictures: None
    ) -> onnx.ModelProto:
        with torch.no_grad():
            wrong = GatedPixelCNN(model.spec)
            wrong.load_state_dict(model.state_dict())
            wrong.layers[1].link.weight.mul_(1.5)
        return sampler_graph(wrong, window, batch, many)

    Path("model.onnx").write_bytes(b"older")
    monkeypatch.setattr(gpcnn_export.onnx_engine, "sampler_graph", other_weights)
    result = run(checkpoint, "--window", "2")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "CDF step" in result.stderr or "log-probabilities differ" in result.stderr
    assert Path("model.onnx").read_bytes() == b"older"
    assert sorted(path.name for path in Path().iterdir()) == ["model.onnx", "runs"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--window", "0"],
            2,
            "--window is 0: expected 1 to 6 (the image's width), auto, or two windows such as 6,1@16",
        ),
        (["--window", "-1"], 2, "--window is -1"),
        (["--window", "6,7@4"], 2, "--window is 6,7@4: expected 1 to 6"),
        (["--window", "6,6@4"], 2, "--window is 6,6@4"),
        (["--window", "6,1@1"], 2, "--window is 6,1@1: expected 1 to 6 (the image's width), auto, or two"),
        (["--window", "6,1@65"], 2, "the second from 2 to 64 images on"),
        (["--window", "6,1"], 2, "'6,1' is neither a number of columns, nor two such as 28,1@16, nor 'auto'"),
        (["--window", "7"], 2, "--window is 7"),
        (["--window", "wide"], 2, "neither a number of columns, nor two"),
        (["--tune-batch", "0"], 2, "--tune-batch is 0: expected 1 or more"),
        (["--format", "onnx", "--precision", "fp16"], 2, "--precision goes with --format trt"),
        (["--format", "tflite"], 2, "'tflite' is not one of"),
        (["missing.safetensors"], 1, "missing.safetensors: no such file"),
        (["empty.safetensors"], 1, "empty.safetensors"),
        (["cut.safetensors"], 1, "cut.safetensors"),
        (["model.onnx"], 2, "is an ONNX engine already"),
        (["model.onnx", "--format", "trt", "--graph", "step"], 2, "--graph goes with a checkpoint"),
        (["--format", "trt", "--max-batch", "0"], 2, "max-batch 0; expected 1 <= opt-batch"),
        (["--format", "trt", "-o", "."], 1, "cannot write .: it is a folder"),
        (["--max-batch", "7"], 2, "--max-batch goes with --format trt"),
        (["--graph", "step", "--window", "3"], 2, "--window goes with a sampler"),
        (["model.onnx", "--format", "trt", "--window", "3"], 2, "--window goes with a checkpoint"),
        (["-o", "w.bin", "--window", "1"], 2, "w.bin: expected a name that ends in .onnx"),
        (["-o", "n" * 300 + ".onnx", "--window", "1"], 1, "File name too long"),
        (["n" * 300], 1, "File name too long"),
        (["-o", "runs", "--window", "1"], 1, "cannot write runs: it is a folder"),
        (["--colour"], 2, "No such option"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    checkpoint: Path, arguments: list[str], code: int, message: str
) -> None:
    Path("empty.safetensors").touch()
    Path("cut.safetensors").write_bytes(checkpoint.read_bytes()[:-100])
    before = sorted(Path().rglob("*"))
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(Path().rglob("*")) == before


def test_ctrl_c_is_one_line_and_130(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpcnn_export.checkpoint_to_onnx, "prove", pressed)
    result = run(checkpoint, "--window", "1")
    assert (result.exit_code, result.stderr) == (130, "Error: interrupted: nothing half-finished is left behind\n")
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 1
    assert "train one with gpcnn-train" in result.stderr


def test_without_onnxruntime_the_missing_extra_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run(checkpoint, "--window", "1")
    assert result.exit_code == 1
    assert "pip install 'gpcnn-deploy[cpu]'" in result.stderr


@pytest.mark.parametrize(
    "module",
    [
        "gpcnn_training.commands.train.cli",
        "gpcnn_export.commands.export.cli",
        "gpcnn_runtime.commands.sample.cli",
        "gpcnn_runtime.commands.bench.cli",
    ],
)
def test_help_loads_nothing_heavy(module: str) -> None:
    code = (
        "import sys, click\n"
        f"from {module} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as error: assert error.code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'PIL', 'safetensors', 'tensorrt_rtx', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--help" in result.stdout


def test_json_says_what_was_written(checkpoint: Path) -> None:
    result = run(checkpoint, "--window", "2", "--json", "-")
    assert result.exit_code == 0, result.output
    written = msgspec.json.decode(result.stdout, type=ExportResult)
    assert (written.output, written.bytes) == ("model.onnx", Path("model.onnx").stat().st_size)
    assert written.engine == metadata_of(Path("model.onnx"))
    assert (written.plan, written.portable, written.encoder, written.seconds) == (None, None, None, None)
    assert "Wrote model.onnx: sampler, window 2" in result.stderr
    again = run(checkpoint, "--window", "2", "--json", "e.json")
    assert msgspec.json.decode(Path("e.json").read_bytes(), type=ExportResult) == written
    assert "Wrote model.onnx" in again.stdout


def test_json_into_a_folder_is_refused_before_anything_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, "--json", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"Error: cannot write {tmp_path}: it is a folder; name a file with --json\n"
    assert not Path("model.onnx").exists()
