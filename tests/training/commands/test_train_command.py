"""`gpcnn-train` as it is typed: what it writes and prints, how it stops, and what it says of a mistake."""

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
import torch
from click.testing import CliRunner, Result
from PIL import Image

from gpcnn_deploy.philox import noise
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main

SMALL = ("--layers", "2", "--features", "8", "--batch-size", "8", "--compile", "off")
EXACT = ("--precision", "fp32")  # on a busy machine, which precision is faster is a matter of chance


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GPCNN_DATA_DIR", raising=False)
    return folder


def gpcnn_train(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_digits_from_start_to_end(empty_folder: Path) -> None:
    result = gpcnn_train("--max-steps", 12, *SMALL, *EXACT)
    assert result.exit_code == 0, result.output
    run = Path("runs/digits-conditional")
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.safetensors", "last.safetensors", "metrics.jsonl", "samples.png", "tensorboard",
        "training-state.safetensors",
    ]  # fmt: skip
    _, header = load_checkpoint(run)
    assert (header.data, header.step, header.test_images, header.quantization) == ("digits", 12, 300, "nearest")
    assert (header.spec.levels, header.spec.layers, header.spec.features) == (17, 2, 8)
    assert header.class_names == tuple("0123456789")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_nats_per_image"] == pytest.approx(header.test_nll)
    assert f"test NLL    {header.test_nll:.2f} nats/image" in result.stdout
    assert "next        gpcnn-export runs/digits-conditional/checkpoint.safetensors" in result.stdout
    with Image.open(run / "samples.png") as image:
        assert image.mode == "L"
        assert len(np.unique(np.asarray(image))) > 5
    assert "training on cpu with 1 thread, fp32 for 12 steps" in result.stderr


def test_runs_are_numbered_and_never_overwritten() -> None:
    for folder in ("digits-unconditional", "digits-unconditional-2", "digits-unconditional-3"):
        assert gpcnn_train("--max-steps", 1, "--model", "unconditional", *SMALL).exit_code == 0
        assert load_checkpoint(Path("runs") / folder)[1].spec.conditioning == "none"
    before = Path("runs/digits-unconditional-2/checkpoint.safetensors").read_bytes()
    result = gpcnn_train("--max-steps", 1, "--out", "runs/digits-unconditional-2", *SMALL)
    assert result.exit_code == 2
    assert (
        "already holds a checkpoint.safetensors: name another folder with --out, or go on with --resume"
        in result.stderr
    )
    assert Path("runs/digits-unconditional-2/checkpoint.safetensors").read_bytes() == before


def test_own_data_with_levels_and_a_name_of_ones_own(stripes_file: Path) -> None:
    result = gpcnn_train("--data", stripes_file, "--levels", 2, "--max-steps", 2, "--out", "mine/first", *SMALL)
    assert result.exit_code == 0, result.output
    _, header = load_checkpoint(Path("mine/first"))
    assert (header.quantization, header.spec.levels, header.class_names) == (
        "stochastic-binary", 2, ("rows", "columns"),
    )  # fmt: skip
    assert header.data == "stripes"
    assert str(stripes_file.parent) not in str(header)
    result = gpcnn_train("--data", stripes_file, "--max-steps", 1, "--test-images", 3, *SMALL)
    assert load_checkpoint(Path("runs/stripes-conditional"))[1].spec.levels == 256
    assert "(3 of 8 test images)" in result.stdout


def test_the_seed_decides_and_is_recorded() -> None:
    weights = []
    for seed in (1, 1, 2):
        run = f"run{len(weights)}"
        assert gpcnn_train("--max-steps", 2, "--seed", seed, "--out", run, *SMALL, *EXACT).exit_code == 0
        model, header = load_checkpoint(Path(run))
        assert header.seed == seed
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_epochs_0_only_draws_samples(stripes_file: Path) -> None:
    assert gpcnn_train("--data", stripes_file, "--max-steps", 2, *SMALL).exit_code == 0
    run = Path("runs/stripes-conditional")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    (run / "samples.png").unlink()
    for arguments in ((), ("--resume", run), ("--resume", run / "checkpoint.safetensors")):
        result = gpcnn_train("--epochs", 0, *arguments)
        assert result.exit_code == 0, result.output
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    result = gpcnn_train("--epochs", 0, "--seed", 9, "--out", "elsewhere")
    assert "elsewhere/samples.png" in result.stdout
    assert Path("elsewhere/samples.png").read_bytes() != before["samples.png"]


def test_epochs_0_takes_the_newest_run_of_the_data_set_named() -> None:
    assert gpcnn_train("--max-steps", 1, *SMALL).exit_code == 0
    assert "runs/digits-conditional/samples.png" in gpcnn_train("--epochs", 0, "--data", "digits").stdout
    result = gpcnn_train("--epochs", 0, "--data", "mnist")
    assert result.exit_code == 1
    assert "no checkpoint in runs/mnist-*: train one with gpcnn-train" in result.stderr
    for arguments, message in (
        (("--data", "digits", "--model", "unconditional"), "no checkpoint in runs/digits-unconditional*"),
        (("--model", "conditional"), "--epochs 0 with --model needs --data too"),
        (("--resume", "runs/digits-conditional", "--data", "mnist"), "leave out --data and --model"),
    ):
        result = gpcnn_train("--epochs", 0, *arguments)
        assert result.exit_code in (1, 2)
        assert message in result.stderr


def test_resume_refuses_other_class_names(stripes_file: Path) -> None:
    assert gpcnn_train("--data", stripes_file, "--max-steps", 1, *SMALL).exit_code == 0
    run = Path("runs/stripes-conditional")
    before = (run / "checkpoint.safetensors").read_bytes()
    with np.load(stripes_file) as arrays:
        changed = dict(arrays)
    names = changed["class_names"].tolist()
    np.savez(stripes_file, **{**changed, "class_names": np.array([*names, "one more"])})
    result = gpcnn_train("--resume", run, "--max-steps", 2)
    assert result.exit_code == 1
    assert "its images or classes differ" in result.stderr
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_resume_with_a_larger_limit_goes_on(stripes_file: Path) -> None:
    assert gpcnn_train("--data", stripes_file, "--max-steps", 5, *SMALL).exit_code == 0
    run = Path("runs/stripes-conditional")
    result = gpcnn_train("--resume", run, "--max-steps", 9)
    assert result.exit_code == 0, result.output
    assert "going on at step 5" in result.stderr
    assert load_checkpoint(run)[1].step == 9
    result = gpcnn_train("--resume", run / "checkpoint.safetensors")
    assert "that is reached already; to train on, give a larger limit" in result.stderr
    assert load_checkpoint(run)[1].step == 9
    assert [path.name for path in Path("runs").iterdir()] == ["stripes-conditional"]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from gpcnn_training.commands.train.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(stripes_file: Path, number: signal.Signals) -> None:
    process = start("--data", stripes_file, "--max-steps", 10**6, "--device", "cpu", "--out", "my run", *SMALL)
    metrics = Path("my run/metrics.jsonl")
    until(lambda: metrics.exists() and metrics.stat().st_size > 0)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in error
    step = load_checkpoint(Path("my run/last.safetensors"))[1].step
    assert step >= 10
    assert (
        f"interrupted at step {step}, saved in my run; go on with:\n  gpcnn-train --resume 'my run' --device cpu"
        in error
    )
    result = gpcnn_train("--resume", "my run", "--device", "cpu", "--max-steps", step + 2)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(Path("my run/last.safetensors"))[1].step == step + 2


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def fails(code: int, message: str, *arguments: object) -> Any:
    return pytest.param(code, message, arguments, id=" ".join(map(str, arguments)))


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        fails(2, "--data nothing: no such file or folder; expected digits, mnist", "--data", "nothing"),
        fails(2, "'none' does not exist", "--data", "mnist", "--data-dir", "none"),
        fails(1, "train-images-idx3-ubyte.gz is not in . nor in mnist", "--data", "mnist", "--data-dir", "."),
        fails(1, "empty: has no class folders", "--data", "empty"),
        fails(1, "text.npz: is not an .npz file", "--data", "text.npz"),
        fails(1, "plain.npz: has no labels: add them, or train with --model unconditional", "--data", "plain.npz"),
        fails(2, "'both' is not one of", "--model", "both"),
        fails(2, "-1 is not in the range", "--epochs", -1),
        fails(2, "0 is not in the range", "--max-steps", 0),
        fails(2, "expected for example 90s, 10m or 1h30m", "--time-limit", "10"),
        fails(2, "expected for example 90s, 10m or 1h30m", "--time-limit", "10 m"),
        fails(2, "expected for example 90s, 10m or 1h30m", "--time-limit", "m"),
        fails(2, "expected for example 90s, 10m or 1h30m", "--time-limit", "-5m"),
        fails(2, "expected more than 0 seconds", "--time-limit", "0s"),
        fails(2, "0 is not in the range", "--batch-size", 0),
        fails(2, "0 is not in the range", "--layers", 0),
        fails(2, "513 is not in the range", "--layers", 513),
        fails(2, "4097 is not in the range", "--features", 4097),
        fails(2, "257 is not in the range", "--levels", 257),
        fails(2, "-1 is not in the range", "--seed", -1),
        fails(2, "0.0 is not in the range", "--learning-rate", 0),
        fails(2, "nan is not a finite number", "--learning-rate", "nan"),
        fails(2, "--device gpu: expected auto, cpu, cuda", "--device", "gpu"),
        fails(2, "--device cuda:99: PyTorch sees", "--device", "cuda:99"),
        fails(2, "--device cpu:0: expected auto", "--device", "cpu:0"),
        fails(2, "names one, --devices 2 takes several: name cuda", "--device", "cuda:1", "--devices", 2),
        fails(2, "No such option", "--epoch-count", 3),
        fails(2, "unexpected extra argument", "mnist"),
        fails(1, "nowhere: no such run", "--resume", "nowhere"),
        fails(1, "only a run folder that still has its training-state.safetensors can be resumed", "--resume", "empty"),
        fails(2, "--resume goes on with empty as it was begun: leave out --layers", "--resume", "empty", "--layers", 3),
        fails(2, "leave out --levels, --seed, --out", "--resume", "x", "--seed", 1, "--levels", 2, "--out", "y"),
        fails(2, "with empty as it was begun: leave out --recipe", "--resume", "empty", "--recipe", "x"),
        fails(2, "--recipe nothing: no such recipe or file; there are: ", "--recipe", "nothing"),
        fails(2, "--recipe text.npz: ", "--recipe", "text.npz"),
        fails(2, "--code-size is the length of an autoencoder's code", "--code-size", 4),
        fails(2, "kernel_size is 4: expected an odd number from 3 to 63", "--kernel-size", 4),
        fails(2, "1.0 is not in the range", "--ema", 1),
        fails(2, "'fp8' is not one of", "--precision", "fp8"),
        fails(1, "nowhere.safetensors: no such file", "--init", "nowhere.safetensors"),
        fails(1, "no checkpoint in runs: train one with gpcnn-train", "--epochs", 0),
        fails(1, "text.npz: not a checkpoint, or a damaged one", "--epochs", 0, "--resume", "text.npz"),
        fails(2, "--epochs 0 trains nothing, it only draws samples: leave out --layers", "--epochs", 0, "--layers", 2),
        fails(1, "cannot write into text.npz: it is no folder", "--max-steps", 1, "--out", "text.npz"),
        fails(1, "cannot write text.npz/run: Not a directory", "--max-steps", 1, "--out", "text.npz/run"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing_behind(code: int, message: str, arguments: tuple[object]) -> None:
    Path("empty").mkdir()
    Path("text.npz").write_text("not an archive")
    np.savez("plain.npz", images=np.full((4, 3, 3), 9, np.uint8))
    before = sorted(Path().rglob("*"))
    result = gpcnn_train(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert isinstance(result.exception, SystemExit)
    assert sorted(Path().rglob("*")) == before


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("gpcnn_training.commands.train.run.load_data", broken)
    result = gpcnn_train()
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("package", ["torch", "safetensors", "lightning_fabric"])
def test_a_missing_extra_is_named(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from gpcnn_training.commands.train.cli import main; main(['--max-steps', '1'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    name = package.replace("_", "-")
    assert result.stderr == (
        f"Error: training needs the package '{name}', which is not installed: pip install 'gpcnn-deploy[train]'\n"
    )


def test_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr("gpcnn_training.trainer.trainer.Trainer._take_step", full)
    result = gpcnn_train("--max-steps", 1, *SMALL)
    assert result.exit_code == 1
    assert "Error: cpu has not enough memory: try a smaller --batch-size" in result.stderr


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gpcnn_training.commands.train.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'lightning_fabric', 'PIL', 'pooch', 'rich'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert "heavy: []" in result.stdout
    assert "--time-limit" in result.stdout
    assert min(seconds) < 0.5


def test_the_first_image_of_the_sheet_is_image_0_of_the_seed() -> None:
    """So a sample can be drawn again, by any engine: noise(seed, 0) with label 0."""
    from gpcnn_deploy.pictures.levels import pixels_from_levels
    from gpcnn_training.sampling import sample_raster

    assert gpcnn_train("--max-steps", 3, "--seed", 7, *SMALL).exit_code == 0
    model, header = load_checkpoint(Path("runs/digits-conditional"))
    levels = sample_raster(model, torch.from_numpy(noise(header.spec, 7, 1)), torch.tensor([0]))
    with Image.open("runs/digits-conditional/samples.png") as sheet:
        first = np.asarray(sheet)[::5, ::5][2:10, 2:10]
    assert np.array_equal(first, pixels_from_levels(levels.numpy(), 17)[0, 0])
