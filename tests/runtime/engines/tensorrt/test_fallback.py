"""A plan that cannot run here: one warning, and the same images from the ONNX engine beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import engine_bytes, model_of
from small_plans import GREY, LABEL, write_plan
from tensorrt_double import install

import gpcnn_runtime.commands.score.cli
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.commands.sample.cli import main
from gpcnn_runtime.sampler import Sampler


def sample(plan: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["--engine", str(plan), "--label", "1", "-o", str(plan.parent / "s.png"), *more])


def test_one_warning_and_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    with Sampler.load(plan) as sampler:
        assert sampler.engine.info.runtime == "TensorRT"
        expected = sampler.sample(1, count=4)
    machine.devices = 0
    with pytest.warns(UserWarning, match="cannot run here") as warned:
        sampler = Sampler.load(plan)
    with sampler:
        assert sampler.engine.info.runtime == "ONNX Runtime"
        np.testing.assert_array_equal(sampler.sample(1, count=4).levels, expected.levels)
    assert len(warned) == 1
    result = sample(plan)
    assert result.exit_code == 0
    assert result.stderr == (
        f"Warning: {plan} cannot run here: no NVIDIA GPU answers (cudaGetDeviceCount failed: double says "
        "cudaErrorNoDevice). model.onnx runs on the CPU instead: the same images, more slowly; --no-fallback makes "
        "this an error\n"
    )
    assert "model.onnx (step) on ONNX Runtime" in result.stdout


REASONS = {
    "version": {"tensorrt_version": "1.2"},
    "capability": {"compute_capabilities": ("9.0",)},
    "flavour": {"flavor": "tensorrt-rtx"},
}


@pytest.mark.parametrize("reason", REASONS)
def test_no_fallback_makes_it_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None, **REASONS[reason])  # type: ignore[arg-type]
    result = sample(plan)
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert result.stderr.startswith("Warning: ")
    strict = sample(plan, "--no-fallback")
    assert (strict.exit_code, strict.stderr.count("\n")) == (1, 1)
    assert strict.stderr.startswith("Error: ")


@pytest.mark.parametrize("name", ["model.gpcnn", "model.onnx", "zoo:digits"])
def test_no_fallback_is_refused_where_nothing_could_fall_back(tmp_path: Path, name: str) -> None:
    plan = write_plan(tmp_path, LABEL, None)
    (tmp_path / "model.gpcnn").write_bytes(draft_model_file(model_of(LABEL), ("a", "b", "c")).content)
    engine = name if name.startswith("zoo:") else str(tmp_path / name)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "p.png")
    before = set(tmp_path.iterdir())
    message = f"Error: --no-fallback is for plans (.plan), and {engine} is none: leave it out, nothing else runs it\n"
    drawn = CliRunner().invoke(
        main, ["--engine", engine, "--label", "1", "-o", str(tmp_path / "s.png"), "--no-fallback"]
    )
    assert (drawn.exit_code, drawn.stderr) == (2, message)
    scored = [str(tmp_path / "p.png"), "--engine", engine, "--no-fallback", "--csv", str(tmp_path / "s.csv")]
    result = CliRunner().invoke(gpcnn_runtime.commands.score.cli.main, scored)
    assert (result.exit_code, result.stderr) == (2, message)
    assert set(tmp_path.iterdir()) == before
    result = CliRunner().invoke(gpcnn_runtime.commands.score.cli.main, [*scored, "--background", "other.onnx"])
    assert "other.onnx are none: leave it out" in result.stderr
    result = CliRunner().invoke(gpcnn_runtime.commands.score.cli.main, [*scored, "--background", str(plan)])
    assert "--no-fallback" not in result.stderr  # it says something of the plan


def test_a_refused_deserialization_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.fail = {"deserialize_cuda_engine": 1}
    result = sample(write_plan(tmp_path, LABEL, None))
    assert result.exit_code == 0
    assert "refuses the plan: double: the plan is not to my liking. model.onnx runs" in result.stderr


def test_a_changed_plan_does_not_fall_back(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, LABEL, None)
    plan.write_bytes(plan.read_bytes() + b"x")
    result = sample(plan)
    assert result.exit_code == 1
    assert "it was changed or exchanged" in result.stderr
    assert not (tmp_path / "s.png").exists()


def test_the_portable_engine_must_be_the_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt").devices = 0
    plan = write_plan(tmp_path, LABEL, None)
    plan.with_suffix(".onnx").write_bytes(engine_bytes(GREY, None))
    result = sample(plan)
    assert result.exit_code == 1
    assert "model.onnx beside it is of another checkpoint: export both anew" in result.stderr
    plan.with_suffix(".onnx").write_bytes(b"junk")
    assert "; nor can model.onnx: " in sample(plan).stderr
    plan.with_suffix(".onnx").unlink()
    assert "there is no model.gpcnn or model.onnx beside it to run instead" in sample(plan).stderr


def test_a_provider_is_for_onnx_engines(tmp_path: Path) -> None:
    result = sample(write_plan(tmp_path, LABEL, None), "--provider", "cuda")
    assert result.exit_code == 2
    assert "--provider cuda is for .onnx engines" in result.stderr


def test_a_broken_tensorrt_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt")
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise RuntimeError('libnvinfer.so.10:\\nno such file')\n")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = sample(write_plan(tmp_path, LABEL, None))
    assert result.exit_code == 0, result.stderr
    assert "tensorrt is installed but cannot be imported (libnvinfer.so.10: no such file): install it" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_gpu_that_refuses_a_stream_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt").fail = {"cudaStreamCreateWithFlags": 1}
    result = sample(write_plan(tmp_path, LABEL, None))
    assert result.exit_code == 0
    assert "model.onnx runs on the CPU instead" in result.stderr


def test_the_model_file_beside_a_plan_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt").devices = 0
    plan = write_plan(tmp_path, LABEL, None)
    with Sampler.load(plan.with_suffix(".onnx")) as onnx:
        expected = onnx.sample(1, seed=4, count=3).levels
    file = plan.with_suffix(".gpcnn")
    file.write_bytes(draft_model_file(model_of(LABEL), checkpoint_digest="0" * 64).content)
    with pytest.warns(UserWarning, match=r"model\.gpcnn runs on the CPU instead: the same images"):
        sampler = Sampler.load(plan)
    with sampler:
        assert sampler.engine.info.path == file
        np.testing.assert_array_equal(sampler.sample(1, seed=4, count=3).levels, expected)
    for content in (b"junk", draft_model_file(model_of(GREY), checkpoint_digest="0" * 64).content):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match=r"model\.onnx runs on the CPU instead"):
            Sampler.load(plan).close()
