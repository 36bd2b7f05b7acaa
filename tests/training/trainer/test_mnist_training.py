"""A few minutes of real MNIST reach the likelihood that the architecture is known to reach in that time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main

THRESHOLD = 105.0
"""Nats an image. Independent Bernoulli pixels take 206; a run of this length on two free cores ends near 95."""


@pytest.mark.slow
@pytest.mark.skipif("GPCNN_DATA_DIR" not in os.environ, reason="GPCNN_DATA_DIR does not name a folder with MNIST")
def test_minutes_of_mnist(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["--data", "mnist", "--time-limit", "4m", "--test-images", "2000", "--out", str(tmp_path / "run")]
    )
    assert result.exit_code == 0, result.output
    print(result.stdout)
    _, header = load_checkpoint(tmp_path / "run")
    assert header.quantization == "stochastic-binary"
    assert header.test_nll is not None
    assert header.test_nll < THRESHOLD
