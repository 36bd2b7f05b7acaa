"""The commands on model files: long jobs, completion, scoring, Ctrl-C, and what a batch or a thread must not change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import EMBEDDED, LABELLED, NAMES, PLAIN, Make, model_of

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler
from gpcnn_runtime.commands.sample.cli import main as sample_main
from gpcnn_runtime.commands.score.cli import main as score_main


def model_file(folder: Path, spec: ModelSpec = LABELLED) -> Path:
    path = folder / "model.gpcnn"
    path.write_bytes(draft_model_file(model_of(spec), NAMES if spec.conditioning == "label" else None).content)
    return path


def sample(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(sample_main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def test_a_long_job_goes_on_and_is_the_onnx_engines(tmp_path: Path, make: Make) -> None:
    """Twenty images in one job, cut short and finished, in other batches and threads: the same as any other way."""
    path, order = model_file(tmp_path), ("--label", "all", "--count", "7", "--output-format", "png")
    sample("--engine", path, *order, "-o", tmp_path / "whole", "--threads", "2", "--batch-size", "3")
    pictures = sorted(p.name for p in (tmp_path / "whole").glob("*.png"))
    assert len(pictures) == 21
    sample("--engine", path, *order, "-o", tmp_path / "again", "--threads", "1", "--batch-size", "64")
    for gone in pictures[4:9]:
        (tmp_path / "again" / gone).unlink()
    told = sample("--engine", path, *order, "-o", tmp_path / "again", "--threads", "2", "--batch-size", "1")
    assert "16 of them drawn before" in told.stdout
    sample("--engine", make(LABELLED, 2), *order, "-o", tmp_path / "onnx")
    for name in pictures:
        whole = (tmp_path / "whole" / name).read_bytes()
        assert whole == (tmp_path / "again" / name).read_bytes() == (tmp_path / "onnx" / name).read_bytes()


@pytest.mark.parametrize("spec", [LABELLED, PLAIN, EMBEDDED], ids=["labelled", "rgb", "embedded"])
def test_batches_and_threads_change_no_bit(tmp_path: Path, spec: ModelSpec) -> None:
    given: dict[str, object] = {"count": 9}
    if spec.conditioning == "label":
        given["labels"] = "boot"
    if spec.conditioning == "embedding":
        given["embedding"] = np.linspace(-1, 1, spec.conditioning_size, dtype=np.float32)
    path, found = model_file(tmp_path, spec), []
    for threads, batch_size in ((1, 64), (1, 1), (2, 4), (3, 2)):
        with Sampler.load(path, threads, batch_size) as sampler:
            found.append(sampler.sample(seed=5, **given))  # type: ignore[arg-type]
    for other in found[1:]:
        assert np.array_equal(other.levels, found[0].levels)
        assert np.array_equal(other.log_prob, found[0].log_prob)


def test_completing_and_scoring_are_the_onnx_engines(tmp_path: Path, make: Make) -> None:
    levels = np.random.default_rng(0).integers(0, LABELLED.levels, (LABELLED.height, LABELLED.width))
    picture = tmp_path / "picture.png"
    Image.fromarray((levels * 85).astype(np.uint8)).save(picture)
    tables, sheets = [], []
    for engine in (model_file(tmp_path), make(LABELLED, 2)):
        out = tmp_path / "completed.png"
        sample("--engine", engine, "--complete", picture, "--rows", "3", "--label", "boot", "--count", "3", "-o", out)
        sheets.append(out.read_bytes())
        done = CliRunner().invoke(score_main, [str(picture), "--engine", str(engine), "--label", "boot"])
        assert done.exit_code == 0, done.output
        tables.append([line for line in done.stdout.splitlines() if "picture.png" in line])
    assert sheets[0] == sheets[1]
    assert tables[0] == tables[1] != []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_inside_a_long_call_ends_it_at_once(tmp_path: Path) -> None:
    """One call of 512 images takes many seconds: the library looks at the flag meanwhile."""
    command = [sys.executable, "-m", "gpcnn_runtime.commands.sample.cli", "--label", "3", "--count", "20000"]
    command += ["--batch-size", "512", "--threads", "2", "--output-format", "npz", "-o", str(tmp_path / "out.npz")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        started = time.monotonic()
        while _cpu_seconds(process.pid) < 2:  # half a second to start, as much for the noise, and then it draws
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - started < 60
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert time.monotonic() - begin < 5
    assert "interrupted" in told
    assert "Traceback" not in told


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
