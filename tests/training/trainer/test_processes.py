"""Two processes on one global batch train as one does; what stops one stops both, with one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpcnn_training.checkpoint import load_checkpoint

SMALL = ["--layers", "2", "--features", "8", "--precision", "fp32", "--compile", "off", "--device", "cpu"]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as a file, as an installed one is: Fabric starts it again for the other processes."""
    path = tmp_path_factory.mktemp("command") / "gpcnn_train.py"
    path.write_text("from gpcnn_training.commands.train.cli import main\n\nmain()\n")
    return path


@pytest.fixture(scope="module")
def one(script: Path) -> Path:
    """The run of one process."""
    train_once([script], script.parent / "one")
    return script.parent / "one"


def gpcnn_train(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def train_once(command: list[object], out: Path) -> None:
    flags = ["--max-steps", "20", "--batch-size", "16", "--test-images", "8", *SMALL]
    result = gpcnn_train(*command, *flags, "--out", out, folder=out.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("test NLL") == 1, result.stdout


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["train_nats_per_image"] for row in rows if "train_nats_per_image" in row]


@pytest.mark.parametrize(
    "several",
    [
        pytest.param([], id="devices"),
        pytest.param(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2], id="torchrun"),
    ],
)
def test_two_processes_train_as_one(several: list[object], tmp_path: Path, script: Path, one: Path) -> None:
    two = tmp_path / "two"
    train_once([*several, script] if several else [script, "--devices", 2], two)
    assert len(losses(one)) == 2
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    (model, first), (other, second) = (load_checkpoint(run / "last.safetensors") for run in (one, two))
    assert first.step == second.step == 20
    for name, weight in model.state_dict().items():
        assert torch.allclose(other.state_dict()[name], weight, atol=2e-5), name


def test_a_batch_that_two_cannot_share_is_refused_once(tmp_path: Path, script: Path) -> None:
    result = gpcnn_train(script, "--devices", 2, "--batch-size", 3, "--max-steps", 1, *SMALL, folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("Error:") == 1
    assert "--batch-size 3 cannot be shared by 2 processes: expected a multiple, such as 4" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "runs").iterdir())
