"""`gpcnn-evaluate`: its figures against arithmetic done by hand, and what it says of a mistake."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from small_engines import model_of, write_checkpoint

from gpcnn_deploy.spec import EncoderSpec, ModelSpec, Quantization
from gpcnn_deploy.system.files import sha256
from gpcnn_training.commands.evaluate.cli import main
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.sources import load_data
from gpcnn_training.model import GatedPixelCNN

DIGITS = ModelSpec(
    height=8, width=8, levels=17, features=4, layers=2, head_features=6, conditioning="label", conditioning_size=10
)
STRIPES = ModelSpec(height=6, width=5, features=6, layers=2, head_features=8, conditioning="label", conditioning_size=2)
TEN = tuple("0123456789")
TWO = ("rows", "columns")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GPCNN_DATA_DIR", raising=False)


def checkpoint(
    path: str,
    spec: ModelSpec,
    names: tuple[str, ...],
    data: str,
    quantization: Quantization = "nearest",
    encoder: EncoderSpec | None = None,
    scale: float = 2.0,
) -> GatedPixelCNN:
    """A checkpoint of random weights (times `scale`), and its model."""
    model = model_of(spec, 1, scale, encoder)
    header = {"class_names": names, "data": data, "quantization": quantization, "step": 1234, "epoch": 5.25}
    write_checkpoint(Path(path), model, **header)
    return model


def gpcnn_evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def evaluated(*arguments: object) -> dict[str, Any]:
    result = gpcnn_evaluate(*arguments, "--json", "result.json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(Path("result.json").read_text())
    return found


@torch.no_grad()
def by_hand(model: GatedPixelCNN, levels: np.ndarray, labels: np.ndarray | None) -> float:
    """Mean over images of the sum of -log softmax, in float64, one image after the other."""
    total = 0.0
    for k, image in enumerate(levels):
        condition = None if labels is None else torch.from_numpy(labels[k : k + 1])
        logits = model(torch.from_numpy(image[None].astype(np.int64)), condition)[0].double().numpy()
        log_normalizer = np.log(np.exp(logits - logits.max(0)).sum(0)) + logits.max(0)
        total -= (np.take_along_axis(logits, image[None].astype(np.int64), 0)[0] - log_normalizer).sum()
    return total / len(levels)


def test_digits_in_all_three_units() -> None:
    model = checkpoint("runs/mine/checkpoint.safetensors", DIGITS, TEN, "digits")
    data = load_data("digits")
    levels = np.rint(data.test_pixels / 255 * 16)
    expected = by_hand(model, levels, data.test_labels)
    found = evaluated("runs/mine")
    path = "runs/mine/checkpoint.safetensors"
    assert (found["checkpoint"], found["checkpoint_digest"]) == (path, sha256(Path(path)))
    assert (found["step"], found["epoch"], found["data"]) == (1234, 5.25, "digits")
    assert (found["test_images"], found["all_test_images"]) == (300, 300)
    assert found["draws"] == [pytest.approx(expected, rel=1e-6)]
    assert found["nats_per_image"] == {"mean": found["draws"][0], "std": None}
    assert found["nats_per_pixel"]["mean"] == pytest.approx(expected / 64, rel=1e-6)
    assert found["bits_per_dim"]["mean"] == pytest.approx(expected / 64 / math.log(2), rel=1e-6)
    assert found["class_consistency"] is None
    shown = gpcnn_evaluate("runs/mine").stdout.splitlines()
    assert shown == [
        f"checkpoint  {path} (step 1,234, 5.2 epochs)",
        "data        digits, 300 test images",
        "protocol    pixels rounded to the nearest of 17 levels",
        f"test NLL    {expected:.3f} nats/image of p(x | y), given the label",
        f"            {expected / 64:.6f} nats/pixel",
        f"            {expected / 64 / math.log(2):.5f} bits/dim",
    ]


def test_a_model_that_knows_nothing_takes_log_k() -> None:
    checkpoint("c.safetensors", DIGITS, TEN, "digits", scale=0.0)
    found = evaluated("c.safetensors", "--test-images", 7)
    assert found["test_images"] == 7
    assert found["nats_per_pixel"]["mean"] == pytest.approx(math.log(17), rel=1e-6)
    assert found["bits_per_dim"]["mean"] == pytest.approx(math.log2(17), rel=1e-6)
    assert "data        digits, 7 of 300 test images" in gpcnn_evaluate("c.safetensors", "--test-images", 7).stdout


def test_a_pixel_of_rgb_is_three_dimensions() -> None:
    spec = ModelSpec(height=3, width=4, channels=3, levels=256, features=4, layers=1, head_features=4)
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 3)).astype(np.uint8)
    np.savez("colours.npz", images=images)
    checkpoint("c.safetensors", spec, (), "colours", scale=0.0)
    found = evaluated("c.safetensors", "--data", "colours.npz")
    assert found["nats_per_image"]["mean"] == pytest.approx(36 * math.log(256), rel=1e-6)
    assert found["nats_per_pixel"]["mean"] == pytest.approx(3 * math.log(256), rel=1e-6)
    assert found["bits_per_dim"]["mean"] == pytest.approx(8, rel=1e-6)
    assert found["protocol"] == "8-bit pixels as they are, 256 levels"


def binarized(data: DataSet, draw: int) -> np.ndarray:
    """Image k of draw d: Philox with key (2016 + d · 2³², k)."""
    streams = [
        np.random.Generator(np.random.Philox(key=np.array([2016 + draw * 2**32, k], np.uint64)))
        for k in range(len(data.test_pixels))
    ]
    pixels = data.test_pixels / np.float32(255)
    return np.stack([s.random(image.shape, np.float32) < image for s, image in zip(streams, pixels, strict=True)])


def test_mean_and_deviation_over_draws(stripes: DataSet, stripes_file: Path) -> None:
    model = checkpoint("c.safetensors", STRIPES, TWO, "stripes", "stochastic-binary")
    expected = [by_hand(model, binarized(stripes, draw), stripes.test_labels) for draw in range(4)]
    found = evaluated("c.safetensors", "--data", stripes_file)
    assert found["draws"] == pytest.approx(expected, rel=1e-6)
    assert len(set(found["draws"])) == 4
    mean = sum(found["draws"]) / 4
    deviation = math.sqrt(sum((draw - mean) ** 2 for draw in found["draws"]) / 3)
    for unit, factor in (
        ("nats_per_image", 1),
        ("nats_per_pixel", 1 / 30),
        ("bits_per_dim", 1 / 30 / math.log(2)),
    ):
        assert found[unit] == {"mean": pytest.approx(mean * factor), "std": pytest.approx(deviation * factor)}
    assert found["protocol"] == (
        "stochastic binarization (a pixel is 1 with probability value/255), "
        "mean ± standard deviation of 4 draws from fixed seeds"
    )
    shown = gpcnn_evaluate("c.safetensors", "--data", stripes_file).stdout
    assert f"test NLL    {mean:.3f} ± {deviation:.3f} nats/image of p(x | y), given the label\n" in shown
    two = evaluated("c.safetensors", "--data", stripes_file, "--draws", 2, "--binarization", "stochastic")
    assert two["draws"] == found["draws"][:2]
    one = evaluated("c.safetensors", "--data", stripes_file, "--draws", 1)
    assert one["nats_per_image"] == {"mean": found["draws"][0], "std": None}
    assert one["protocol"].endswith("1 draw from fixed seeds")


def test_fixed_binarization_is_a_threshold(stripes: DataSet, stripes_file: Path) -> None:
    model = checkpoint("c.safetensors", STRIPES, TWO, "stripes", "stochastic-binary")
    found = evaluated("c.safetensors", "--data", stripes_file, "--binarization", "fixed")
    assert found["draws"] == [pytest.approx(by_hand(model, stripes.test_pixels >= 128, stripes.test_labels), rel=1e-6)]
    assert found["protocol"] == "fixed binarization at 0.5 (a pixel is 1 from 128 up), not the published split"


def mixture_by_hand(model: GatedPixelCNN, levels: np.ndarray, classes: int) -> float:
    """-log of the mean over the labels of p(x | y), image by image, in float64."""
    total = 0.0
    for image in levels:
        scores = [-by_hand(model, image[None], np.array([label])) for label in range(classes)]
        total -= math.log(sum(math.exp(score - max(scores)) for score in scores) / classes) + max(scores)
    return total / len(levels)


def test_the_mixture_is_the_mean_over_the_labels(stripes: DataSet, stripes_file: Path) -> None:
    model = checkpoint("c.safetensors", STRIPES, TWO, "stripes", "stochastic-binary", scale=4.0)
    expected = [mixture_by_hand(model, binarized(stripes, draw), 2) for draw in range(2)]
    flags = ("c.safetensors", "--data", stripes_file, "--draws", 2)
    alone, found = evaluated(*flags), evaluated(*flags, "--mixture")
    assert alone["mixture"] is None
    assert found["draws"] == pytest.approx(alone["draws"], rel=1e-6)
    mixture = found["mixture"]
    assert mixture["draws"] == pytest.approx(expected, rel=1e-6)
    assert mixture["draws"] != pytest.approx(found["draws"], rel=1e-3)
    mean = sum(expected) / 2
    assert mixture["nats_per_image"]["mean"] == pytest.approx(mean, rel=1e-6)
    assert mixture["bits_per_dim"]["mean"] == pytest.approx(mean / 30 / math.log(2), rel=1e-6)
    assert f"mixture NLL {mean:.3f} ± " in gpcnn_evaluate(*flags, "--mixture").stdout


def test_knowing_the_label_is_worth_log_classes_at_most(stripes: DataSet, stripes_file: Path) -> None:
    """p(x) >= p(x | y) / classes, with equality where no other label explains the image."""
    checkpoint("c.safetensors", STRIPES, TWO, "stripes", "stochastic-binary", scale=4.0)
    found = evaluated("c.safetensors", "--data", stripes_file, "--draws", 1, "--mixture")
    assert found["mixture"]["draws"][0] <= found["draws"][0] + math.log(2)


def test_both_binarizations_one_after_the_other(stripes: DataSet, stripes_file: Path) -> None:
    model = checkpoint("c.safetensors", STRIPES, TWO, "stripes", "stochastic-binary", scale=4.0)
    flags = ("c.safetensors", "--data", stripes_file, "--binarization", "both", "--draws", 2, "--mixture")
    found = evaluated(*flags)
    assert found["draws"] == [
        pytest.approx(by_hand(model, binarized(stripes, draw), stripes.test_labels), rel=1e-6) for draw in range(2)
    ]
    fixed = found["fixed"]
    assert fixed["protocol"].startswith("fixed binarization at 0.5")
    threshold = stripes.test_pixels >= 128
    assert fixed["draws"] == [pytest.approx(by_hand(model, threshold, stripes.test_labels), rel=1e-6)]
    assert fixed["mixture"]["draws"] == [pytest.approx(mixture_by_hand(model, threshold, 2), rel=1e-6)]
    shown = gpcnn_evaluate(*flags).stdout
    assert [line[:11].strip() for line in shown.splitlines() if line[:11].strip()] == [
        *("checkpoint", "data", "protocol", "test NLL", "mixture NLL", "protocol", "test NLL", "mixture NLL")
    ]


def test_an_autoencoder_is_scored_under_its_own_codes(stripes: DataSet, stripes_file: Path) -> None:
    spec = msgspec.structs.replace(STRIPES, conditioning="embedding", conditioning_size=3)
    model = checkpoint(
        "c.safetensors", spec, (), "stripes", "stochastic-binary", EncoderSpec(features=(3, 4, 5)), scale=3.0
    )
    levels = binarized(stripes, 0).astype(np.int64)
    with torch.no_grad():
        codes = model.embed(torch.from_numpy(levels)).numpy()
    found = evaluated("c.safetensors", "--data", stripes_file, "--draws", 1)
    assert found["draws"] == [pytest.approx(by_hand(model, levels, codes), rel=1e-6)]
    assert found["draws"] != [pytest.approx(by_hand(model, levels, codes[::-1].copy()), rel=1e-6)]
    assert found["own_code"]
    shown = gpcnn_evaluate("c.safetensors", "--data", stripes_file, "--draws", 1).stdout
    assert "nats/image of p(x | h(x)), given the picture's own code\n" in shown


def test_json_alone_on_standard_output_and_the_newest_run() -> None:
    checkpoint("runs/a/checkpoint.safetensors", DIGITS, TEN, "digits")
    checkpoint("runs/b/checkpoint.safetensors", DIGITS, TEN, "digits", scale=0.0)
    os.utime("runs/a/checkpoint.safetensors", (1, 1))
    result = gpcnn_evaluate("--test-images", 2, "--json", "-", "--threads", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["checkpoint"] == "runs/b/checkpoint.safetensors"
    assert "Evaluating runs/b/checkpoint.safetensors, the newest run." in result.stderr
    assert "test NLL " in result.stderr


def fails(code: int, message: str, *arguments: object) -> Any:
    return pytest.param(code, message, arguments, id=message[:50])


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        fails(1, "nowhere: no such file: train one with gpcnn-train", "nowhere"),
        fails(1, "no checkpoint in runs: train one with gpcnn-train"),
        fails(1, "text.npz: not a checkpoint, or a damaged one", "text.npz"),
        fails(2, "binary was trained on 'stripes', which is none of digits, mnist, fashion-mnist, cifar10, emoji: "
                 "name its file or folder with --data", "binary"),
        fails(2, "--data nonsense: no such file or folder", "digits", "--data", "nonsense"),
        fails(1, "text.npz: is not an .npz file", "digits", "--data", "text.npz"),
        fails(1, "digits: images are 1×8×8, the model's 1×6×5 (channels × height × width): name the data that",
              "binary", "--data", "digits"),
        fails(1, "letters.npz: its classes (a, b) are not the model's (0, 1, 2, 3, …)", "digits", "--data",
              "letters.npz"),
        fails(1, "bare.npz: its classes (none) are not the model's (0, 1, 2, 3, …)", "digits", "--data", "bare.npz"),
        fails(2, "--binarization fixed goes with grey images of 2 levels, this model's are grey of 17: leave it out",
              "digits", "--binarization", "fixed"),
        fails(2, "--binarization stochastic goes with grey images of 2 levels, this model's are RGB of 2", "rgb",
              "--binarization", "stochastic"),
        fails(2, "--draws 3 goes with stochastic binarization: here pixels are rounded, leave it out", "digits",
              "--draws", 3),
        fails(2, "--draws 4 goes with stochastic binarization", "binary", "--binarization", "fixed", "--draws", 4),
        fails(2, "--binarization both goes with grey images of 2 levels", "digits", "--binarization", "both"),
        fails(2, "--mixture averages over the labels, but this model is unconditional: its figure is that of p(x) "
                 "already; leave it out", "rgb", "--mixture"),
        fails(2, "--mixture averages over the labels, but this model is not conditioned on labels", "auto",
              "--mixture"),
        fails(2, "0 is not in the range", "digits", "--draws", 0),
        fails(2, "0 is not in the range", "digits", "--samples", 0),
        fails(2, "--samples 1005: expected a multiple of 10, equally many of each class", "digits", "--samples", 1005),
        fails(2, "--samples 5: expected a multiple of 10", "digits", "--samples", 5),
        fails(2, "--samples 10 measures how samples fit their label, but this model is unconditional: leave it out",
              "rgb", "--samples", 10),
        fails(2, "but this model is an autoencoder: leave it out", "auto", "--samples", 10),
        fails(2, "--seed 3 goes with --samples", "digits", "--seed", 3),
        fails(2, "--temperature 0.5 goes with --samples", "digits", "--temperature", 0.5),
        fails(2, "0.0 is not in the range", "digits", "--samples", 10, "--temperature", 0),
        fails(2, "--device gpu: expected auto, cpu, cuda", "digits", "--device", "gpu"),
        fails(1, "cannot write .: it is a folder; name a file with --json", "digits", "--json", "."),
        fails(1, "huge: its log-probabilities are not finite: take another, or train it anew", "huge"),
        fails(2, "No such option", "digits", "--evaluate"),
        fails(2, "unexpected extra argument", "digits", "mnist"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_writes_nothing(code: int, message: str, arguments: tuple[object, ...]) -> None:
    checkpoint("digits", DIGITS, TEN, "digits")
    checkpoint("binary", STRIPES, TWO, "stripes", "stochastic-binary")
    checkpoint("rgb", ModelSpec(height=2, width=2, channels=3, layers=1), (), "digits")
    embedding = msgspec.structs.replace(STRIPES, conditioning="embedding", conditioning_size=3)
    checkpoint("auto", embedding, (), "digits", encoder=EncoderSpec(features=(1, 1, 1)))
    checkpoint("huge", DIGITS, TEN, "digits", scale=1e30)
    Path("text.npz").write_text("not an archive")
    images = np.full((4, 8, 8), 9, np.uint8)
    np.savez("letters.npz", images=images, labels=[0, 1, 0, 1], class_names=["a", "b"])
    np.savez("bare.npz", images=images)
    before = sorted(Path().rglob("*"))
    result = gpcnn_evaluate(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert result.stdout == ""
    assert sorted(Path().rglob("*")) == before


def test_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    checkpoint("c.safetensors", DIGITS, TEN, "digits")
    monkeypatch.setattr("gpcnn_training.commands.evaluate.run.negative_log_likelihood", full)
    result = gpcnn_evaluate("c.safetensors", "--device", "cpu")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: cpu has not enough memory for 8×8 images: try another --device\n",
    )


def test_a_missing_extra_is_named() -> None:
    checkpoint("x", DIGITS, TEN, "digits")
    code = "import sys; sys.modules['torch'] = None; from gpcnn_training.commands.evaluate.cli import main; main(['x'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: evaluating a checkpoint needs the package 'torch', which is not installed: "
        "pip install 'gpcnn-deploy[train]'\n"
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gpcnn_training.commands.evaluate.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'numpy', 'safetensors', 'PIL', 'pooch', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in result.stdout
    assert "--samples" in result.stdout


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    checkpoint("c.safetensors", DIGITS, TEN, "digits")
    monkeypatch.setattr("gpcnn_training.commands.evaluate.run.negative_log_likelihood", stop)
    result = gpcnn_evaluate("c.safetensors", "--json", "result.json")
    assert (result.exit_code, result.stderr) == (130, "Error: interrupted: nothing half-finished is left behind\n")
    assert not Path("result.json").exists()
