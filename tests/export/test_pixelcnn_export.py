"""The PixelCNN of 2016 from gpcnn-train to its step engine, and what refuses it in one line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import model_of, write_checkpoint

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.model_file import decode_model_file
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.export.cli import main as export_main
from gpcnn_export.commands.verify.cli import main as verify_main
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_runtime import Sampler
from gpcnn_runtime.commands.inspect.cli import main as inspect_main
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.evaluate.cli import main as evaluate_main
from gpcnn_training.commands.train.cli import main as train_main
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_raster, score

SPEC = ModelSpec(
    height=5,
    width=6,
    channels=3,
    levels=5,
    features=6,
    layers=3,
    first_kernel_size=5,
    head_features=9,
    conditioning="label",
    conditioning_size=3,
    architecture="pixelcnn",
)
SMALL = ("--layers", "3", "--features", "4", "--batch-size", "8", "--compile", "off", "--precision", "fp32")


def call(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("pixelcnn") / "c.safetensors", model_of(SPEC, 3, 2.5))


@pytest.fixture(scope="module")
def step(checkpoint: Path) -> Path:
    path = checkpoint.parent / "step.onnx"
    result = call(export_main, checkpoint, "--format", "onnx", "--graph", "step", "-o", path)
    assert result.exit_code == 0, result.output
    assert "Checked against eager PyTorch" in result.stdout
    return path


def test_the_step_engine_draws_and_scores_as_the_naive_loop(step: Path) -> None:
    model = model_of(SPEC, 3, 2.5)
    labels = torch.tensor([0, 1, 2, 1])
    with Sampler.load(step) as sampler:
        assert sampler.metadata.spec == SPEC
        samples = sampler.sample(labels.tolist(), seed=4, temperature=0.8)
        scored = sampler.score(samples.levels, labels.tolist())
    eager = sample_raster(model, torch.from_numpy(noise(SPEC, 4, 4)), labels, temperature=0.8)
    assert np.array_equal(samples.levels, eager.numpy())
    assert len(np.unique(samples.levels)) == 5
    wanted = score(model, eager, labels)
    np.testing.assert_allclose(samples.log_prob, wanted, atol=1e-4)
    np.testing.assert_allclose(scored, wanted, atol=1e-4)


def test_the_step_engine_is_verified_and_inspected(step: Path, checkpoint: Path) -> None:
    result = call(verify_main, step, "--checkpoint", checkpoint, "--images", 4)
    assert result.exit_code == 0, result.output
    for path in (step, checkpoint):
        shown = call(inspect_main, path)
        assert shown.exit_code == 0, shown.output
        assert "PixelCNN of 2016, 3 layers × 6 features, kernels 5 and 3, head of 9" in shown.stdout
        found = json.loads(call(inspect_main, path, "--json", "-").stdout)
        assert found["spec"]["architecture"] == "pixelcnn"
        assert found["multiply_adds"] == SPEC.multiply_adds()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--format", "native"), ("--format", "onnx"), ("--format", "onnx", "--static"), ("--format", "c"),
     ("--format", "web"), ("--format", "triton")],
    ids=" ".join,
)  # fmt: skip
def test_every_other_engine_is_refused_in_one_line(
    checkpoint: Path, empty_folder: Path, arguments: tuple[str, ...]
) -> None:
    result = call(export_main, checkpoint, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert "of --architecture pixelcnn draws in PyTorch and as a step engine alone" in result.stderr
    assert "--graph step" in result.stderr
    assert list(empty_folder.iterdir()) == []


def test_a_plan_of_its_step_is_refused(step: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="of which there is no plan"):
        build_plan(step, tmp_path / "model.plan")
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.parametrize("architecture", ["pixelcnn", "gated", "other"])
def test_a_model_file_that_names_an_architecture_is_refused(architecture: str) -> None:
    spec = ModelSpec(height=4, width=4, features=4, layers=2, head_features=4)
    content = draft_model_file(GatedPixelCNN(spec).eval()).content
    name = rb"\"channels\":1"
    assert name in content
    forged = content.replace(name, name + rb",\"architecture\":\"" + architecture.encode() + rb"\"")
    size = int.from_bytes(content[:8], "little") + len(forged) - len(content)
    padding = -size % 8
    header, data = forged[8 : 8 + size], forged[8 + size :]
    forged = (size + padding).to_bytes(8, "little") + header + b" " * padding + data
    with pytest.raises(EngineError) as caught:
        decode_model_file(forged, "model.gpcnn")
    assert "architecture" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_digits_from_start_to_end() -> None:
    result = call(train_main, "--architecture", "pixelcnn", "--max-steps", 12, *SMALL, "--test-images", 50)
    assert result.exit_code == 0, result.output
    run = Path("runs/digits-pixelcnn-conditional")
    model, header = load_checkpoint(run)
    assert (header.spec.architecture, header.spec.layers, header.step) == ("pixelcnn", 3, 12)
    assert "model: PixelCNN of 2016, 3 layers × 4 features" in result.stderr
    assert f"gpcnn-export {run}/checkpoint.safetensors --format onnx --graph step" in result.stdout
    with Image.open(run / "samples.png") as image:
        drawn = np.asarray(image)
    assert len(np.unique(drawn)) > 5
    evaluated = call(evaluate_main, run, "--test-images", 20, "--json", "e.json")
    assert evaluated.exit_code == 0, evaluated.output
    assert header.test_nll is not None
    (run / "samples.png").unlink()
    again = call(train_main, "--epochs", 0, "--resume", run)
    assert again.exit_code == 0, again.output
    with Image.open(run / "samples.png") as image:
        assert np.array_equal(np.asarray(image), drawn)
    more = call(train_main, "--resume", run, "--max-steps", 15, "--test-images", 10)
    assert more.exit_code == 0, more.output
    after, header = load_checkpoint(run)
    assert header.step == 15
    assert not torch.equal(after.state_dict()["first.weight"], model.state_dict()["first.weight"])


def test_training_by_muon_with_dropout_lowers_the_loss() -> None:
    result = call(
        train_main, "--architecture", "pixelcnn", "--model", "unconditional", "--optimizer", "muon", "--max-steps", 60,
        *SMALL, "--dropout", "0.1", "--ema", "0.9", "--test-images", 50, "--out", "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = [row["train_nats_per_image"] for row in rows if "train_nats_per_image" in row]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "upscale"), "not --model upscale: add --model conditional or unconditional"),
        (("--model", "autoencoder"), "not --model autoencoder"),
        (("--model", "map"), "has no maps"),
        (("--head", "mixture"), "leave out --head mixture"),
        (("--model", "vqvae"), "its prior is a Gated PixelCNN"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(
    empty_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = call(train_main, "--architecture", "pixelcnn", "--max-steps", 1, *arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (empty_folder / "runs").exists()


def test_a_specs_default_is_gated() -> None:
    assert msgspec.json.decode(b'{"height":4,"width":4}', type=ModelSpec).architecture == "gated"
