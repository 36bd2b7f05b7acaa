"""Settings of another day: a folder of data that has gone concerns those alone who need it, and the way on is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.evaluate.cli import main as evaluate
from gpcnn_training.commands.train.cli import main as train
from gpcnn_training.trainer.state import read_state

SMALL = ["--layers", "1", "--features", "4", "--compile", "off", "--precision", "fp32", "--device", "cpu"]
SMALL += ["--max-steps", "3", "--test-images", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPCNN_DATA_DIR", str(tmp_path / "gone"))
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "own.npz", images=rng.integers(0, 255, (20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    return tmp_path


def call(main: object, *arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])  # type: ignore[arg-type]


def test_what_needs_no_files_does_not_ask_for_them() -> None:
    for data in ("digits", "own.npz"):
        assert call(train, "--data", data, *SMALL, "--out", f"run-{data}").exit_code == 0
    result = call(train, "--epochs", 0, "--resume", "run-digits")
    assert result.exit_code == 0, result.output
    result = call(evaluate, "run-digits", "--test-images", 4)
    assert result.exit_code == 0, result.output


def test_what_needs_them_is_told_where_the_name_comes_from() -> None:
    for name in ("mnist", "cifar10"):
        result = call(train, "--data", name, *SMALL)
        assert result.exit_code == 1
        assert "gone: no such folder, but --data-dir or GPCNN_DATA_DIR names it" in result.stderr
        assert result.stderr.count("\n") == 1


def test_one_that_is_typed_is_refused_at_once() -> None:
    result = call(train, "--data", "digits", "--data-dir", "typed", *SMALL)
    assert result.exit_code == 2
    assert "Directory 'typed' does not exist." in result.stderr


def test_a_run_whose_data_moved_says_how_to_go_on(folder: Path) -> None:
    assert call(train, "--data", "own.npz", *SMALL, "--out", "run").exit_code == 0
    (folder / "own.npz").rename(folder / "moved.npz")
    result = call(train, "--resume", "run", "--max-steps", 5)
    assert result.exit_code == 1
    assert "own.npz, which is not there any more" in result.stderr
    assert "gpcnn-train --resume run --data NEW" in result.stderr
    result = call(train, "--resume", "run", "--max-steps", 5, "--data", "moved.npz", "--test-images", 4)
    assert result.exit_code == 0, result.output
    assert read_state(folder / "run").settings.data == str(folder / "moved.npz")
    result = call(train, "--resume", "run", "--max-steps", 6, "--test-images", 4)  # it knows now
    assert result.exit_code == 0, result.output
    assert load_checkpoint(folder / "run" / "last.safetensors")[1].step == 6


def test_samples_of_an_autoencoder_of_own_data_find_its_pictures(folder: Path) -> None:
    result = call(train, "--data", "own.npz", "--model", "autoencoder", *SMALL, "--out", "run")
    assert result.exit_code == 0, result.output
    assert call(train, "--epochs", 0, "--resume", "run").exit_code == 0
    (folder / "own.npz").rename(folder / "moved.npz")
    result = call(train, "--epochs", 0, "--resume", "run")
    assert result.exit_code == 1
    assert "say where it is with --data" in result.stderr
    result = call(train, "--epochs", 0, "--resume", "run", "--data", "moved.npz")
    assert result.exit_code == 0, result.output
