"""gpcnn-verify on plans: run by TensorRT (the double here) and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import small_vqvae
import torch
from click.testing import CliRunner, Result
from small_engines import metadata_of, model_of, write_checkpoint
from small_plans import LABEL, write_plan
from tensorrt_double import Machine, install

import gpcnn_export.commands.verify.verification
from gpcnn_deploy.commands.child import Answer
from gpcnn_export.commands.verify.cli import main
from gpcnn_export.commands.verify.judge import main as judge_main
from gpcnn_training.checkpoint import checkpoint_digest, load_vqvae, save_vqvae


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Machine:
    def in_process(module: str, arguments: list[str], answer: type[Answer], smaller: str) -> Answer:
        done = CliRunner().invoke(judge_main, arguments, catch_exceptions=False)
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=answer)

    monkeypatch.setattr(gpcnn_export.commands.verify.verification, "run_child", in_process)
    return install(monkeypatch, "tensorrt")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "c.safetensors", model_of(LABEL))


def plan_of(folder: Path, checkpoint: Path, window: int | None, **change: Any) -> Path:
    engine = msgspec.structs.replace(metadata_of(LABEL, window), checkpoint_digest=checkpoint_digest(checkpoint))
    return write_plan(folder, LABEL, window, engine=engine, **change)


def run(plan: Path, checkpoint: Path) -> Result:
    return CliRunner().invoke(main, [str(plan), "--checkpoint", str(checkpoint), "--images", "3"])


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("window", [None, 5])
def test_a_plan_is_proven_on_the_gpu(tmp_path: Path, checkpoint: Path, window: int | None) -> None:
    done = run(plan_of(tmp_path, checkpoint, window), checkpoint)
    assert done.exit_code == 0, done.output
    assert "TensorRT 99.1, Double 3000" in " ".join(done.stdout.split())
    assert "PROVEN" in done.stdout


@pytest.mark.parametrize("change", [{"devices": 0}, {"compute_capability": (7, 5)}])
def test_where_the_plan_cannot_run_nothing_runs_in_its_place(
    tmp_path: Path, checkpoint: Path, gpu: Machine, change: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(gpu, name, value)
    done = run(plan_of(tmp_path, checkpoint, None), checkpoint)
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    reason = "no NVIDIA GPU answers" if "devices" in change else "runs on GPUs of compute capability 8.6, 8.9"
    assert line.startswith("Error: ")
    assert reason in line


@pytest.mark.usefixtures("gpu")
def test_the_plans_of_a_vqvae_are_proven_together(tmp_path: Path) -> None:
    path = small_vqvae.save(tmp_path / "v.safetensors")
    plan = small_vqvae.write_step_plan(tmp_path, checkpoint=checkpoint_digest(path))
    done = run(plan, path)
    assert done.exit_code == 0, done.output
    assert "Pictures: " in done.stdout
    assert "PROVEN" in done.stdout
    model, pictures = small_vqvae.models()
    with torch.no_grad():
        pictures.decoder.first.bias[0] += 1
    save_vqvae(path, model, pictures, load_vqvae(path)[2])
    plan = small_vqvae.write_step_plan(tmp_path, checkpoint=checkpoint_digest(path))
    done = run(plan, path)
    assert done.exit_code == 1
    assert "pictures differ from eager PyTorch's by up to" in done.output
