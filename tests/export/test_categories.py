"""Levels that are categories, from gpcnn-train to every engine: files, samples, completions, scores, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from small_engines import model_of, write_checkpoint

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.commands.export.cli import main as export_main
from gpcnn_runtime import Sampler, complete
from gpcnn_runtime.commands.inspect.cli import main as inspect_main
from gpcnn_runtime.commands.sample.cli import main as sample_main
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main as train_main
from gpcnn_training.sampling import sample_raster, score

SPEC = ModelSpec(
    height=4,
    width=5,
    levels=700,
    features=8,
    layers=2,
    first_kernel_size=5,
    head_features=12,
    conditioning="label",
    conditioning_size=3,
    input="categorical",
    input_size=6,
)


def call(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model file, a sampler and a step of one model of 700 categories, exported and proven."""
    folder = tmp_path_factory.mktemp("categories")
    checkpoint = write_checkpoint(folder / "c.safetensors", model_of(SPEC, 3, 2.5))
    for name, arguments in {
        "model.gpcnn": ("--format", "native"),
        "model.onnx": ("--format", "onnx"),
        "step.onnx": ("--format", "onnx", "--graph", "step"),
    }.items():
        result = call(export_main, checkpoint, *arguments, "-o", folder / name)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(params=["model.gpcnn", "model.onnx", "step.onnx"])
def sampler(request: pytest.FixtureRequest, engines: Path) -> Iterator[Sampler]:
    with Sampler.load(engines / request.param) as made:
        yield made


def test_samples_are_those_of_the_naive_loop(sampler: Sampler) -> None:
    from gpcnn_deploy.philox import noise

    samples = sampler.sample([0, 1, 2], seed=4, temperature=0.8)
    u = torch.from_numpy(noise(SPEC, 4, 3))
    eager = sample_raster(model_of(SPEC, 3, 2.5), u, torch.arange(3), temperature=0.8)
    assert np.array_equal(samples.levels, eager.numpy())
    assert samples.levels.max() > 255, "or the test shows nothing of more than 256 levels"
    assert samples.levels.dtype == np.uint16
    wanted = score(model_of(SPEC, 3, 2.5), eager, torch.arange(3))
    np.testing.assert_allclose(samples.log_prob, wanted, atol=1e-4)


def test_what_is_known_stays_and_codes_out_of_range_are_refused(sampler: Sampler) -> None:
    known = np.random.default_rng(0).integers(0, 700, SPEC.image_shape)
    known[0, 0, 0] = 699
    keep = np.zeros((4, 5), bool)
    keep[:2] = True
    found = complete(sampler, known, keep, labels=1, count=2)
    assert np.array_equal(found.levels[:, :, :2], np.broadcast_to(known[:, :2], (2, 1, 2, 5)))
    assert np.array_equal(found.original, known)
    for code in (700, -1):
        known[0, 3, 4] = code
        with pytest.raises(UsageError, match="expected 0 to 699"):
            complete(sampler, known, keep, labels=1, count=2)


def test_a_file_of_samples_keeps_every_code(engines: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    engine = engines / "model.gpcnn"
    result = call(sample_main, "--engine", engine, "--label", "all", "--count", 2, "--output-format", "npz", "-o", out)
    assert result.exit_code == 0, result.output
    with np.load(out) as arrays, Sampler.load(engine) as sampler:
        assert arrays["levels"].dtype == np.uint16
        assert np.array_equal(arrays["levels"], sampler.sample([0, 1, 2], count=2).levels)


def test_inspect_names_the_categories(engines: Path) -> None:
    for name in ("model.gpcnn", "model.onnx", "c.safetensors"):
        result = call(inspect_main, engines / name)
        assert "700 levels, categories that are read as vectors of 6 numbers" in result.stdout


def test_training_learns_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--max-steps", 6, "--layers", 2, "--features", 8, "--compile", "off", "--test-images", 8)
    result = call(train_main, "--input", "categorical", "--input-size", 5, "--ema", 0, *small)
    assert result.exit_code == 0, result.output
    assert "17 levels, categories that are read as vectors of 5 numbers" in result.stderr
    model, header = load_checkpoint(Path("runs/digits-conditional"))
    assert (header.spec.input, header.spec.input_size) == ("categorical", 5)
    resumed = call(train_main, "--resume", "runs/digits-conditional", "--max-steps", 12, "--test-images", 8)
    assert resumed.exit_code == 0, resumed.output
    later, header = load_checkpoint(Path("runs/digits-conditional/last.safetensors"))
    assert header.step == 12
    assert model.input_embedding is not None
    assert later.input_embedding is not None
    assert not torch.equal(model.input_embedding.weight, later.input_embedding.weight)


def test_a_size_without_categories_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(train_main, "--input-size", 5, "--max-steps", 1)
    assert result.exit_code == 2
    assert "leave it out, or add --input categorical" in result.stderr
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
