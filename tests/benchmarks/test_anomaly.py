"""The benchmark of anomaly scores, on small stand-ins for the data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import anomaly, background_data
from benchmarks.models import random_model
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.anomaly import auroc
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import score
from gpcnn_training.data.dataset import DataSet

SPEC = ModelSpec(height=28, width=28, features=4, layers=2, first_kernel_size=3, head_features=5)


def data(name: str, _: object = None) -> DataSet:
    """`mnist`: dark pictures; the other: light ones."""
    random = np.random.default_rng(len(name))
    most = 100 if name == "mnist" else 256
    pixels = random.integers(0, most, (240, 1, 28, 28), np.uint8)
    labels = np.zeros(120, np.int64)
    return DataSet(name, pixels[:120], labels, pixels[120:], labels, ("0",))


@pytest.fixture
def engines(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "model", tmp_path / "background"
    for folder in folders:
        folder.mkdir()
    return random_model(SPEC, folders[0], scale=3).engine(28), random_model(SPEC, folders[1], scale=2).engine(7)


def test_auroc_of_every_score(tmp_path: Path, engines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomaly, "load_data", data)
    model, background = engines
    arguments = ["--engine", model, "--background", background, "--background", model, "--count", 100]
    arguments += ["--json", tmp_path / "a.json"]
    result = CliRunner().invoke(anomaly.main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["command"] == (
        "python -m benchmarks.anomaly --usual mnist --engine w28.onnx --background w7.onnx --background w28.onnx"
        " --count 100"
    )
    rows = {(row["method"], row["background"], row["binarization"]): row for row in report["rows"]}
    assert len(rows) == 8
    nats = {}
    for path in engines:
        with Sampler.load(path) as sampler:
            for name in ("mnist", "fashion-mnist"):
                levels = (data(name).test_pixels[:100] > 127).astype(np.int32)
                nats[path, name] = score(sampler, levels).nats
    likelihood = auroc(nats[model, "mnist"], nats[model, "fashion-mnist"])
    ratio = auroc(*(nats[model, name] - nats[background, name] for name in ("mnist", "fashion-mnist")))
    assert rows["likelihood", None, "nearest"]["auroc"] == pytest.approx(likelihood)
    assert rows["ratio", "w7.onnx", "nearest"]["auroc"] == pytest.approx(ratio)
    assert rows["ratio", "w28.onnx", "nearest"]["auroc"] == 0.5  # against itself nothing is left
    assert all(0 <= row["flagged_usual"] <= 1 for row in rows.values())
    lines = result.stdout.splitlines()
    assert lines[0] == "| score | pixels | AUROC | mnist flagged | fashion-mnist flagged |"
    assert lines[2].startswith(f"| likelihood | nearest | {likelihood:.4f} | ")


def test_other_engines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomaly, "load_data", data)
    path = random_model(ModelSpec(height=4, width=4, features=4, layers=2, head_features=5), tmp_path).engine(4)
    result = CliRunner().invoke(anomaly.main, ["--engine", str(path), "--background", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{path}: expected an engine of 28×28 grey images with 2 levels" in result.stderr


def test_mutation_replaces_its_share_uniformly() -> None:
    pixels = np.full((50, 1, 28, 28), 7, np.uint8)
    mutated = background_data.mutate(pixels, 0.2, np.random.default_rng(0))
    changed = mutated != 7
    assert changed.mean() == pytest.approx(0.2 * 255 / 256, abs=0.01)  # one in 256 is replaced by itself
    assert np.bincount(mutated[changed], minlength=256).std() < 3 * np.sqrt(changed.sum() / 256)
    np.testing.assert_array_equal(background_data.mutate(pixels, 0.0, np.random.default_rng(0)), pixels)


def test_background_data_is_what_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpcnn_training.data import sources as training_data
    from gpcnn_training.data.own_arrays import load_npz

    monkeypatch.setattr(training_data, "load_data", data)
    output = tmp_path / "b.npz"
    result = CliRunner().invoke(background_data.main, ["-o", str(output)], catch_exceptions=False)
    assert result.output == f"Wrote {output}: 120 pictures, 0.2 of their pixels replaced.\n"
    found, source = load_npz(output), data("mnist")
    assert (found.train_pixels == source.train_pixels).mean() == pytest.approx(0.8, abs=0.01)
    assert (found.test_pixels == source.test_pixels).mean() == pytest.approx(0.8, abs=0.01)
    assert found.class_names == ()
