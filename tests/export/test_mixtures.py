"""The head that is a mixture of logistics, from gpcnn-train to every engine: files, samples, completions, scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import model_of, write_checkpoint

from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.commands.export.cli import main as export_main
from gpcnn_export.commands.verify.cli import main as verify_main
from gpcnn_runtime import Sampler, complete
from gpcnn_runtime.commands.bench.cli import main as bench_main
from gpcnn_runtime.commands.inspect.cli import main as inspect_main
from gpcnn_runtime.commands.sample.cli import main as sample_main
from gpcnn_runtime.commands.score.cli import main as score_main
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.evaluate.cli import main as evaluate_main
from gpcnn_training.commands.train.cli import main as train_main
from gpcnn_training.sampling import sample_raster, score

SPEC = ModelSpec(
    height=5,
    width=6,
    channels=3,
    levels=256,
    features=8,
    layers=2,
    first_kernel_size=5,
    head_features=12,
    conditioning="label",
    conditioning_size=3,
    head="mixture",
    mixtures=10,
)
ENGINES = ("model.gpcnn", "model.onnx", "static.onnx", "step.onnx")


def call(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model file, samplers and a step of one model, exported and proven."""
    folder = tmp_path_factory.mktemp("mixtures")
    checkpoint = write_checkpoint(folder / "c.safetensors", model_of(SPEC, 3, 2.0))
    for name, arguments in {
        "model.gpcnn": ("--format", "native"),
        "model.onnx": ("--format", "onnx", "--window", "2"),
        "static.onnx": ("--format", "onnx", "--static", "--batch", "2"),
        "step.onnx": ("--format", "onnx", "--graph", "step"),
    }.items():
        result = call(export_main, checkpoint, *arguments, "-o", folder / name)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(params=ENGINES)
def sampler(request: pytest.FixtureRequest, engines: Path) -> Iterator[Sampler]:
    with Sampler.load(engines / request.param) as made:
        yield made


def test_samples_are_those_of_the_naive_loop(sampler: Sampler) -> None:
    samples = sampler.sample([0, 1, 2], seed=4, temperature=0.8)
    u = torch.from_numpy(noise(SPEC, 4, 3))
    eager = sample_raster(model_of(SPEC, 3, 2.0), u, torch.arange(3), temperature=0.8)
    assert np.array_equal(samples.levels, eager.numpy())
    assert len(np.unique(samples.levels)) > 50
    wanted = score(model_of(SPEC, 3, 2.0), eager, torch.arange(3))
    np.testing.assert_allclose(samples.log_prob, wanted, atol=1e-4)


def test_what_is_known_stays_and_completions_are_ranked(sampler: Sampler) -> None:
    known = np.random.default_rng(0).integers(0, 256, SPEC.image_shape)
    keep = np.zeros((5, 6), bool)
    keep[:2] = True
    found = complete(sampler, known, keep, labels=[0, 1, 2], count=2)
    assert np.array_equal(found.levels[:, :, :2], np.broadcast_to(known[:, :2], (2, 3, 2, 6)))
    assert (found.log_prob <= 0).all()
    assert found.log_prob.mean() < -1


def test_the_commands_take_it(engines: Path, tmp_path: Path) -> None:
    for name in (*ENGINES, "c.safetensors"):
        shown = call(inspect_main, engines / name)
        assert "256 levels by mixtures of 10 logistics" in shown.stdout
    out = tmp_path / "sheet.png"
    drawn = call(sample_main, "--engine", engines / "model.gpcnn", "--label", "all", "--count", 2, "-o", out)
    assert drawn.exit_code == 0, drawn.output
    picture, heat = tmp_path / "picture.png", tmp_path / "heat"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 6, 3), np.uint8)).save(picture)
    nats = []
    for name in ENGINES:
        report = tmp_path / f"{name}.json"
        arguments = (picture, "--engine", engines / name, "--json", report, "--heatmap", heat / name)
        scored = call(score_main, *arguments)
        assert scored.exit_code == 0, scored.output
        nats.append(json.loads(report.read_text()))
        assert len(list((heat / name).rglob("*.png"))) == 1
    verified = call(verify_main, engines / "step.onnx", "--checkpoint", engines / "c.safetensors", "--images", 4)
    assert verified.exit_code == 0, verified.output


def test_training_and_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--max-steps", 6, "--layers", 2, "--features", 8, "--compile", "off", "--test-images", 8)
    result = call(train_main, "--head", "mixture", "--mixtures", 5, "--ema", 0, *small)
    assert result.exit_code == 0, result.output
    assert "17 levels by mixtures of 5 logistics" in result.stderr
    _, header = load_checkpoint(Path("runs/digits-conditional"))
    assert (header.spec.head, header.spec.mixtures) == ("mixture", 5)
    result = call(train_main, "--resume", "runs/digits-conditional", "--max-steps", 12, "--test-images", 8)
    assert result.exit_code == 0, result.output
    result = call(evaluate_main, "--test-images", 8)
    assert result.exit_code == 0, result.output


def test_a_few_steps_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test NLL falls far below the one of equally likely levels: log2 17 bits."""
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "report.json"
    arguments = ("--head", "mixture", "--layers", 2, "--features", 16, "--max-steps", 60, "--compile", "off")
    result = call(train_main, *arguments, "--ema", 0.9, "--test-images", 100, "--out", "run", "--json", report)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(Path("run"))[1].spec.mixtures == 10
    bits = json.loads(report.read_text())["test_bits_per_dim"]
    assert bits < 3, bits


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mixtures", 5), "leave it out, or add --head mixture"),
        (("--head", "categorical", "--mixtures", 5), "leave it out, or add --head mixture"),
        (("--head", "mixture", "--input", "categorical"), "needs levels in an order"),
        (("--head", "mixture", "--mixtures", 0), "--mixtures"),
        (("--head", "mixture", "--mixtures", 129), "--mixtures"),
        (("--head", "softmax"), "--head"),
    ],
)
def test_flags_that_contradict_each_other_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[object, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(train_main, *flags, "--max-steps", 1)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_bench_draws_the_same_images(engines: Path, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    arguments = (engines / "model.gpcnn", "--beside", engines / "model.onnx", "--checkpoint", engines / "c.safetensors")
    quick = ("--batch", 2, "--min-time", 0, "--repeat", 1, "--threads", 1)
    result = call(bench_main, *arguments, *quick, "--json", report)
    assert result.exit_code == 0, result.output
    assert "identical" in report.read_text()
