"""kill -9 and a full disk: what was saved stays whole, and the run goes on from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.trainer.state import load_state

SMALL = ["--layers", "2", "--features", "8", "--compile", "off", "--device", "cpu", "--out", "run"]
OFTEN = "import gpcnn_training.trainer.trainer as t; t.SECONDS_BETWEEN_SAVES = 0; t.STEPS_BETWEEN_REPORTS = 1\n"
MAIN = "from gpcnn_training.commands.train.cli import main; main()"


def start(folder: Path, *arguments: object, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + MAIN, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("delay", [0.0, 0.37])
def test_a_run_that_is_killed_while_it_saves_goes_on(tmp_path: Path, delay: float) -> None:
    process = start(tmp_path, "--data", "digits", "--max-steps", 10**6, *SMALL, before=OFTEN)
    run = tmp_path / "run"
    end = time.monotonic() + 90
    while not (run / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    step = load_state(run).state.checkpoint.step
    for name in ("checkpoint.safetensors", "last.safetensors"):
        if name == "checkpoint.safetensors" or (run / name).exists():
            assert 0 < load_checkpoint(run / name)[1].step <= step
    again = start(tmp_path, "--resume", "run", "--max-steps", step + 3, "--test-images", 4)
    _, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    assert load_checkpoint(run / "last.safetensors")[1].step == step + 3


def test_a_full_disk_is_one_line_and_what_was_saved_stays(tmp_path: Path) -> None:
    first = start(tmp_path, "--data", "digits", "--max-steps", 3, "--test-images", 4, *SMALL)
    _, error = first.communicate(timeout=120)
    assert first.returncode == 0, error
    run = tmp_path / "run"
    kept = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    assert len(kept) == 3
    limit = min(map(len, kept.values())) // 2
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"  # no file may be larger
    second = start(tmp_path, "--resume", "run", "--max-steps", 9, before=full)
    _, error = second.communicate(timeout=120)
    assert second.returncode == 1
    lines = [line for line in error.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1
    assert "cannot write run/" in lines[0]
    assert "free space" in lines[0]
    assert "Traceback" not in error
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == kept
    assert not list(run.glob("*.part"))
