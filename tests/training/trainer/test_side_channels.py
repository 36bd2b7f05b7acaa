"""Nothing beside the training ends it: no pipe, terminal, log or TensorBoard; and what must end it, ends it saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from torch.utils import tensorboard
from torch.utils.tensorboard import SummaryWriter

from gpcnn_deploy.errors import OutputError
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main
from gpcnn_training.trainer import trainer
from gpcnn_training.trainer.state import load_state

SMALL = ["--layers", "1", "--features", "4", "--compile", "off", "--precision", "fp32", "--device", "cpu"]
SMALL += ["--test-images", "4"]
MAIN = "from gpcnn_training.commands.train.cli import main; main()"
CHATTY = (  # a line of progress at every step
    "import gpcnn_training.trainer.display as d; d._SECONDS_BETWEEN_LINES = 0\n"
    "import gpcnn_training.trainer.trainer as t; t.STEPS_BETWEEN_REPORTS = 1\n"
)


def start(
    folder: Path, *arguments: object, before: str = "", shell: str = "", out: str = "run"
) -> subprocess.Popen[str]:
    (folder / "train.py").write_text(before + MAIN)
    words = " ".join(f"'{word}'" for word in (sys.executable, "train.py", *arguments))
    if "--resume" not in arguments:
        words += " " + " ".join(SMALL) + f" --out {out}"
    return subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; exec {words} {shell}" if "|" not in shell else f"{words} {shell}"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=120)


def wait_for(process: subprocess.Popen[str], ready: Path) -> None:
    end = time.monotonic() + 90
    while not ready.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_head_closes_the_pipe_and_the_run_is_trained_to_its_end(tmp_path: Path) -> None:
    finish(start(tmp_path, "--max-steps", 60, before=CHATTY, shell="2>&1 | head -2"))
    _, header = load_checkpoint(tmp_path / "run")
    assert (load_checkpoint(tmp_path / "run" / "last.safetensors")[1].step, header.test_images) == (60, 4)
    assert (tmp_path / "run" / "samples.png").exists()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_a_signal_saves_the_run_even_where_nobody_listens(tmp_path: Path, name: str) -> None:
    process = start(tmp_path, "--max-steps", 10**6, before=CHATTY, shell="2>/dev/full")
    wait_for(process, tmp_path / "run" / "metrics.jsonl")
    number = signal.Signals[name]
    process.send_signal(number)
    process.send_signal(number)
    finish(process)
    assert process.returncode == 128 + number
    assert load_state(tmp_path / "run").state.checkpoint.step > 0
    assert not (tmp_path / "run" / ".lock").exists()


class Writer(SummaryWriter):
    """TensorBoard's, of which a test replaces a method."""


def fail(error: Exception) -> Callable[..., None]:
    def failing(*arguments: object, **more: object) -> None:
        raise error

    return failing


def trained(*arguments: object) -> Result:
    """A run of 12 steps, in this process."""
    return CliRunner().invoke(main, ["--max-steps", "12", *SMALL, "--out", "run", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorboard, "SummaryWriter", Writer)
    monkeypatch.setattr(trainer, "STEPS_BETWEEN_REPORTS", 1)
    return tmp_path


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("__init__", OSError(28, "No space left on device")),
        ("add_scalar", UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")),
        ("add_graph", RuntimeError("no graph")),
        ("flush", OSError("stale file handle")),
        ("close", ValueError("closed")),
    ],
)
@pytest.mark.usefixtures("folder")
def test_tensorboard_may_fail_wherever_it_likes(method: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, method, fail(error), raising=False)
    result = trained()
    assert result.exit_code == 0, result.output
    assert "test NLL" in result.stdout
    assert result.stderr.count("Warning: TensorBoard shows nothing") == 1
    assert "training goes on" in result.stderr


def test_a_log_that_cannot_be_written_is_told_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.Metrics, "write", fail(OutputError("cannot write metrics.jsonl: No space left")))
    result = trained()
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Warning: cannot write metrics.jsonl") == 1
    assert load_checkpoint(folder / "run" / "last.safetensors")[1].step == 12


def test_a_save_on_the_way_that_fails_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = trainer.save_state, []

    def failing(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) < 4:
            raise OutputError("cannot write run: No space left on device")
        save(*arguments)

    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.setattr(trainer, "save_state", failing)
    result = trained()
    assert result.exit_code == 0, result.output
    assert result.stderr.count("training goes on, and the next try is in a minute") == 3
    assert load_state(folder / "run").state.checkpoint.step == 12


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Error: cpu has not enough memory"),
        (MemoryError(), "Error: cpu has not enough memory"),
        (ValueError("a bug"), None),
    ],
)
def test_a_run_that_must_end_is_saved_first(
    folder: Path, error: Exception, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = trainer.Trainer._take_step

    def failing(self: trainer.Trainer) -> None:
        if self.step == 7:
            raise error
        take(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_take_step", failing)
        result = trained()
    if told is None:
        assert result.exception is error  # a bug keeps its traceback
    else:
        assert result.exit_code == 1
        assert told in result.stderr
        assert "run keeps what was trained" in result.stderr
    assert load_state(folder / "run").state.checkpoint.step == 7
    assert load_checkpoint(folder / "run")[1].step == 7
    again = CliRunner().invoke(main, ["--resume", "run", "--max-steps", "9", "--test-images", "4"])
    assert again.exit_code == 0, again.output


def test_two_processes_do_not_train_in_one_run(tmp_path: Path) -> None:
    first = start(tmp_path, "--max-steps", 10**6, before=CHATTY)
    wait_for(first, tmp_path / "run" / "metrics.jsonl")
    first.send_signal(signal.SIGINT)
    finish(first)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    first = start(tmp_path, "--resume", "run", before=CHATTY)
    wait_for(first, tmp_path / "run" / "metrics.jsonl")
    second = start(tmp_path, "--resume", "run")
    _, error = finish(second)
    assert second.returncode == 1
    assert f"Error: run is in use by process {first.pid} on " in error
    first.send_signal(signal.SIGINT)
    finish(first)
    rows = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == sorted(rows)


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """A folder whose name, and those of the files and classes in it, are not UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    return folder


def test_names_that_are_not_utf8_are_trained_on_saved_and_gone_on_with(latin: Path) -> None:
    data = latin / os.fsdecode(b"donn\xe9es.npz")
    with data.open("wb") as stream:
        rng = np.random.default_rng(1)
        np.savez(stream, images=rng.integers(0, 255, (20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    process = subprocess.run(
        [sys.executable, "-c", MAIN, "--data", data.name, "--max-steps", "3", *SMALL, "--json", "result.json"],
        cwd=latin,
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    run = latin / "runs" / "donn-udce9es-conditional"
    assert load_checkpoint(run)[1].data == "donn\\udce9es"
    assert json.loads((latin / "result.json").read_text())["steps"] == 3
    again = subprocess.run(
        [sys.executable, "-c", MAIN, "--resume", run, "--max-steps", "5"], cwd=latin, capture_output=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert load_state(run).state.settings.data == str(data)


def test_a_run_folder_may_have_such_a_name_too(latin: Path) -> None:
    name = os.fsdecode(b"r\xfcn")
    arguments = ["--max-steps", "3", *SMALL, "--out", name, "--json", "-"]
    process = subprocess.run([sys.executable, "-c", MAIN, *arguments], cwd=latin, capture_output=True, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["checkpoint"] == "r\\udcfcn/checkpoint.safetensors"
    assert b"TensorBoard shows nothing of this run" in process.stderr
    assert load_checkpoint(latin / name)[1].step == 3
