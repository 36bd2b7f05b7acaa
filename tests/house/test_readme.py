"""The README's commands run as they stand, in an empty folder; only the training is made short."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpcnn_training.commands.train.cli import main as train

README = Path(__file__).parents[2] / "README.md"


def commands(page: Path) -> list[str]:
    """The commands in a page's blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("gpcnn-")]


COMMANDS = commands(README)
TRAINING = [
    re.sub(r" --devices \d+", "", line)  # which would start processes; that the option exists is tested with all others
    for line in dict.fromkeys((*COMMANDS, *commands(README.parent / "docs" / "training.md")))
    if line.startswith("gpcnn-train")
]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = shlex.split(line)
    command[0] = str(Path(sys.executable).parent / command[0])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_three_commands_come_first() -> None:
    assert COMMANDS[:3] == [
        "gpcnn-train --data mnist",
        "gpcnn-export --format trt",
        "gpcnn-sample --engine model.plan --label 3",
    ]


def test_commands_run_in_order_in_an_empty_folder(tmp_path: Path) -> None:
    """`digits` for 3 steps stands for `mnist`: the same labels, no download."""
    drawing = [line for line in COMMANDS if not line.startswith(("gpcnn-train", "gpcnn-bench"))]
    for line in [COMMANDS[0], *drawing]:
        if line.startswith("gpcnn-train"):
            line = line.replace("mnist", "digits") + " --max-steps 3 --layers 2 --features 8"
        result = run(line, tmp_path)
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
        assert "Traceback" not in result.stderr
    written = {path.name for path in tmp_path.iterdir()}
    expected = {"runs", "model.plan", "model.plan.json", "model.onnx", "sample.png", "digits.png", "digits.npz"}
    assert expected <= written
    (python,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    checks = "assert drawn.levels.shape == drawn.log_prob.shape == (8, 1, 8, 8)\nassert drawn.levels.dtype == 'uint8'\n"
    result = subprocess.run(
        [sys.executable, "-c", python + checks], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("line", TRAINING)
def test_training_commands_are_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flag exists: an unknown one is a usage error (2) before any data is looked at."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train, [*shlex.split(line)[1:], "--data", "nowhere.npz"])
    assert result.exit_code != 0
    assert "nowhere.npz" in result.stderr, result.stderr
