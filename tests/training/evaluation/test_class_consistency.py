"""The classifier, and what is counted with it: against truths known beforehand."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_engines import model_of, write_checkpoint

import gpcnn_training.evaluation.class_consistency
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec, Quantization
from gpcnn_training.commands.evaluate.cli import main
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.quantize import to_levels
from gpcnn_training.data.sources import load_data
from gpcnn_training.evaluation.class_consistency import ClassRow, class_consistency, compare, conditional_samples
from gpcnn_training.evaluation.classifier import Classifier, classify, train_classifier
from gpcnn_training.evaluation.likelihood import levels_of_draw
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_raster

STRIPES = ModelSpec(height=6, width=5, features=6, layers=2, head_features=8, conditioning="label", conditioning_size=2)
SHORT = functools.partial(train_classifier, images_seen=6_000)


def random_model(spec: ModelSpec) -> GatedPixelCNN:
    return model_of(spec, 1, 2.5)


def test_counting() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    found = np.array([0, 0, 1, 2, 1, 1, 1, 1, 0, 1, 1, 2])
    test_labels = np.array([0, 1, 0, 1, 1])
    found_test = np.array([0, 1, 1, 0, 2])
    result = compare(("cat", "dog", "eel"), 7, labels, found, test_labels, found_test)
    assert (result.samples, result.seed, result.accuracy) == (12, 7, 7 / 12)
    assert (result.test_images, result.classifier_accuracy) == (5, 2 / 5)
    assert result.classes == (
        ClassRow(
            name="cat", samples=4, accuracy=0.5, test_images=2, classifier_accuracy=0.5, mistaken_for="dog"
        ),
        ClassRow(
            name="dog", samples=4, accuracy=1.0, test_images=3, classifier_accuracy=1 / 3, mistaken_for=None
        ),
        ClassRow(
            name="eel", samples=4, accuracy=0.25, test_images=0, classifier_accuracy=None, mistaken_for="dog"
        ),
    )  # fmt: skip


def test_samples_are_those_of_the_seed_class_after_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image k is what the naive loop draws from noise k and label k // (N / classes): what gpcnn-sample draws too."""
    model = random_model(STRIPES)
    monkeypatch.setattr(gpcnn_training.evaluation.class_consistency, "_SUBPIXELS_AT_ONCE", 100)  # three images at once
    shares: list[float] = []
    levels, labels = conditional_samples(model, 8, 5, shares.append)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    expected = sample_raster(model, torch.from_numpy(noise(STRIPES, 5, 8)), torch.from_numpy(labels))
    assert np.array_equal(levels, expected.numpy())
    assert shares == [3 / 8, 6 / 8, 1.0]
    cool, _ = conditional_samples(model, 8, 5, temperature=0.3)
    uniforms = torch.from_numpy(noise(STRIPES, 5, 8))
    expected = sample_raster(model, uniforms, torch.from_numpy(labels), temperature=0.3)
    assert np.array_equal(cool, expected.numpy())
    assert not np.array_equal(cool, levels)


def test_the_same_seed_trains_the_same_classifier(stripes: DataSet) -> None:
    def weights(seed: int) -> torch.Tensor:
        classifier = train_classifier(
            STRIPES, stripes.train_pixels, stripes.train_labels, 2, "stochastic-binary", seed, images_seen=600
        )
        assert not classifier.training
        return torch.cat([value.double().flatten() for value in classifier.state_dict().values()])

    before = torch.random.get_rng_state()
    first = weights(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


def test_digits_are_learnt() -> None:
    data = load_data("digits")
    spec = ModelSpec(height=8, width=8, levels=17)
    shares: list[float] = []
    classifier = train_classifier(
        spec, data.train_pixels, data.train_labels, 10, "nearest", images_seen=20_000, on_progress=shares.append
    )
    found = classify(classifier, levels_of_draw(data.test_pixels, spec, "nearest", range(300)))
    assert (found == data.test_labels).mean() > 0.97
    assert (len(shares), shares[0], shares[-1]) == (156, 1 / 156, 1.0)


@pytest.mark.parametrize("quantization", ["stochastic-binary", "nearest"])
def test_training_images_are_quantized_as_the_models(
    quantization: Quantization, stripes: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*arguments: object) -> np.ndarray:
        assert arguments[1:3] == (2, quantization)
        seen.append(to_levels(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr("gpcnn_training.evaluation.classifier.to_levels", watched)
    train_classifier(STRIPES, stripes.train_pixels, stripes.train_labels, 2, quantization, images_seen=256)
    assert [levels.shape for levels in seen] == [(128, 1, 6, 5)] * 2
    grey = np.mean([(levels == 1).mean() for levels in seen])
    assert grey == pytest.approx((stripes.train_pixels / 255).mean() if quantization != "nearest" else 0.5, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "levels", "classes", "images"),
    [((1, 1, 1), 2, 2, 1), ((3, 32, 32), 256, 10, 3), ((1, 70, 33), 4, 3, 3), ((3, 5, 64), 256, 1, 2),
     ((1, 2, 17), 9, 4, 5)],
)  # fmt: skip
def test_any_size_number_of_images_and_of_classes(
    shape: tuple[int, int, int], levels: int, classes: int, images: int
) -> None:
    c, h, w = shape
    spec = ModelSpec(channels=c, height=h, width=w, levels=levels)
    pixels = np.random.default_rng(0).integers(0, 256, (images, c, h, w)).astype(np.uint8)
    labels = np.arange(images) % classes
    classifier = train_classifier(spec, pixels, labels, classes, "nearest", images_seen=256)
    found = classify(classifier, levels_of_draw(pixels, spec, "nearest", range(images)))
    assert found.shape == (images,)
    assert found.min() >= 0
    assert found.max() < classes


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    classifier = Classifier(ModelSpec(height=6, width=5), 4).eval()
    levels = np.random.default_rng(1).integers(0, 2, (11, 1, 6, 5))
    whole = classify(classifier, levels)
    monkeypatch.setattr("gpcnn_training.evaluation.classifier._IMAGES_AT_ONCE", 4)
    assert classify(classifier, levels).tolist() == whole.tolist()
    assert len(set(whole.tolist())) > 1


@pytest.mark.parametrize("swapped", [False, True])
def test_samples_of_the_right_class_count_and_of_the_wrong_one_do_not(
    swapped: bool, stripes: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real images in place of samples the outcome is known: all of them, or none."""

    def real(model: GatedPixelCNN, samples: int, *arguments: object) -> tuple[np.ndarray, np.ndarray]:
        levels = (stripes.train_pixels[:samples] >= 128).astype(np.int64)
        labels = stripes.train_labels[:samples]
        return levels, 1 - labels if swapped else labels

    monkeypatch.setattr(gpcnn_training.evaluation.class_consistency, "conditional_samples", real)
    monkeypatch.setattr(gpcnn_training.evaluation.class_consistency, "train_classifier", SHORT)
    told: list[str] = []
    result = class_consistency(
        random_model(STRIPES), stripes, "stochastic-binary", 20, on_progress=lambda task, share: told.append(task)
    )
    assert result.classifier_accuracy == 1.0
    assert result.accuracy == (0.0 if swapped else 1.0)
    assert [row.mistaken_for for row in result.classes] == (["columns", "rows"] if swapped else [None, None])
    assert set(told) == {"training the classifier"}


def test_the_command_shows_the_table(stripes: DataSet, stripes_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stripes_file.parent)
    monkeypatch.setattr(gpcnn_training.evaluation.class_consistency, "train_classifier", SHORT)
    model = random_model(STRIPES)
    header = {"class_names": stripes.class_names, "data": "stripes", "quantization": "stochastic-binary"}
    write_checkpoint(Path("c.safetensors"), model, **header)
    arguments = ["c.safetensors", "--data", str(stripes_file), "--samples", "20", "--json", "out.json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(Path("out.json").read_text())["class_consistency"]
    levels, labels = conditional_samples(model, 20, 0)
    classifier = SHORT(STRIPES, stripes.train_pixels, stripes.train_labels, 2, "stochastic-binary")
    taken_for = classify(classifier, levels)
    assert found["accuracy"] == (taken_for == labels).mean()
    rows, columns = ((taken_for == labels)[:10].mean(), (taken_for == labels)[10:].mean())
    assert [row["accuracy"] for row in found["classes"]] == [rows, columns]
    lines = result.stdout.splitlines()[6:]
    assert lines[:2] == [
        f"consistency {found['accuracy']:.1%} of 20 samples are taken for their class "
        "(10 of each, seed 0, temperature 1)",
        "classifier  takes 100.0% of the 8 real test images for their class",
    ]
    assert lines[3].split() == ["class", "samples", "test", "images", "samples", "most", "often", "mistaken", "for"]
    assert [line.split()[:3] for line in lines[4:]] == [
        ["rows", f"{rows:.1%}", "100.0%"], ["columns", f"{columns:.1%}", "100.0%"],
    ]  # fmt: skip
    assert len({len(line[: line.index("%")]) for line in lines[4:]}) == 1
    other = CliRunner().invoke(main, [*arguments, "--seed", "1"])
    assert "seed 1, temperature 1" in other.stdout


@pytest.mark.slow
@pytest.mark.skipif("GPCNN_DATA_DIR" not in os.environ, reason="GPCNN_DATA_DIR does not name a folder with MNIST")
def test_the_classifier_knows_binarized_mnist() -> None:
    data = load_data("mnist", Path(os.environ["GPCNN_DATA_DIR"]))
    spec = ModelSpec(height=28, width=28)
    classifier = train_classifier(spec, data.train_pixels, data.train_labels, 10, "stochastic-binary")
    levels = levels_of_draw(data.test_pixels, spec, "stochastic-binary", range(10_000))
    assert (classify(classifier, levels) == data.test_labels).mean() >= 0.985
