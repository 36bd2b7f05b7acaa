"""`gpcnn-export --format native`: model files, proven, and engines of other kinds made from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import gpcnn_export.checkpoint_to_native
from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import encode_model_file, read_model_file
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.checkpoint_to_native import ModelFile, draft_model_file
from gpcnn_export.commands.export.cli import main
from gpcnn_export.commands.export.result import ExportResult
from gpcnn_runtime import Sampler
from gpcnn_training.checkpoint import checkpoint_digest, load_checkpoint, save_checkpoint
from gpcnn_training.model import GatedPixelCNN

SPEC = ModelSpec(
    height=7, width=6, levels=3, features=6, layers=3, head_features=8, conditioning="label", conditioning_size=4
)
NAMES = ("a", "b", "c", "d")


def random_model(spec: ModelSpec, encoder: EncoderSpec | None = None) -> GatedPixelCNN:
    """Weights large enough that pixels depend on each other."""
    torch.manual_seed(7)
    model = GatedPixelCNN(spec, encoder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    return model


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "test" / "checkpoint.safetensors"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, random_model(SPEC), Header(spec=SPEC, class_names=NAMES, data="test", quantization="nearest"))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_model_file_is_the_default_and_holds_the_very_weights(checkpoint: Path) -> None:
    result = run("--json", "r.json")
    assert result.exit_code == 0, result.output
    assert "Wrote model.gpcnn: model file, " in result.stdout
    assert "Checked against eager PyTorch: 48 of 48 images identical" in result.stdout
    metadata, weights = read_model_file(Path("model.gpcnn"))
    assert (metadata.role, metadata.class_names) == ("weights", NAMES)
    assert metadata.checkpoint_digest == checkpoint_digest(checkpoint)
    assert metadata.parity is not None
    assert msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult).engine == metadata
    model, _ = load_checkpoint(checkpoint)
    state = model.state_dict()
    assert weights.keys() == state.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, state[name].numpy())


def test_engines_made_from_a_model_file_are_those_of_the_checkpoint(checkpoint: Path) -> None:
    assert run(checkpoint).exit_code == 0
    assert run("model.gpcnn", "--window", "6", "-o", "from-file.onnx").exit_code == 0
    assert run(checkpoint, "--window", "6", "-o", "from-checkpoint.onnx").exit_code == 0
    assert Path("from-file.onnx").read_bytes() == Path("from-checkpoint.onnx").read_bytes()
    with Sampler.load("model.gpcnn") as native, Sampler.load("from-file.onnx") as onnx:
        drawn, other = native.sample(labels=[0, 3], count=5), onnx.sample(labels=[0, 3], count=5)
    np.testing.assert_array_equal(drawn.levels, other.levels)
    np.testing.assert_allclose(drawn.log_prob, other.log_prob, atol=1e-5)


def test_a_plan_gets_the_model_file_beside_it(checkpoint: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    for source in (checkpoint, "model.gpcnn"):
        result = run(source, "--format", "trt", "--window", "6", "--json", "r.json")
        assert result.exit_code == 0, result.output
        assert msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult).native == "model.gpcnn"
        assert read_model_file(Path("model.gpcnn"))[0].checkpoint_digest == checkpoint_digest(checkpoint)


def test_an_autoencoder_keeps_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = msgspec.structs.replace(SPEC, conditioning="embedding", conditioning_size=3)
    encoder = EncoderSpec(features=(3, 4, 5))
    header = Header(spec=spec, encoder=encoder, data="test", quantization="nearest")
    save_checkpoint(tmp_path / "c.safetensors", random_model(spec, encoder), header)
    result = run("c.safetensors")
    assert result.exit_code == 0, result.output
    assert "Wrote model.encoder.onnx: encoder, " in result.stdout
    assert run("model.gpcnn", "--window", "1", "-o", "again.onnx").exit_code == 0
    assert Path("again.encoder.onnx").read_bytes() == Path("model.encoder.onnx").read_bytes()
    Path("model.encoder.onnx").write_bytes(b"another")
    result = run("model.gpcnn", "--window", "1", "-o", "again.onnx")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "model.encoder.onnx is not the encoder that model.gpcnn was exported with" in result.stderr


def test_a_model_file_that_draws_otherwise_is_an_error_and_leaves_no_file(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: GatedPixelCNN, *arguments: object) -> ModelFile:
        draft = draft_model_file(model, *arguments)  # type: ignore[arg-type]
        weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
        weights["layers.1.link.weight"] *= 1.5
        return ModelFile(encode_model_file(draft.metadata, weights), draft.metadata)

    Path("model.gpcnn").write_bytes(b"older")
    monkeypatch.setattr(gpcnn_export.checkpoint_to_native, "draft_model_file", wrong)
    result = run(checkpoint)
    assert result.exit_code == 1
    assert "the engine is not the trained model" in result.stderr
    assert Path("model.gpcnn").read_bytes() == b"older"
    assert sorted(path.name for path in Path().iterdir()) == ["model.gpcnn", "runs"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--format", "native", "--window", "6"), "--window goes with --format onnx or trt: a model file has no graph"),
        (("--format", "native", "--graph", "step"), "--graph goes with --format onnx or trt"),
        (("--format", "native", "-o", "model.onnx"), "model.onnx: expected a name that ends in .gpcnn"),
        (("--format", "native", "--precision", "fp16"), "--precision goes with --format trt"),
        (("-o", "x.gpcnn", "--window", "2"), "--window goes with --format onnx or trt"),
    ],
)
def test_options_that_contradict_each_other(checkpoint: Path, arguments: tuple[str, ...], match: str) -> None:
    result = run(checkpoint, *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert match in result.stderr


def test_a_model_file_is_no_source_of_a_model_file(checkpoint: Path) -> None:
    assert run(checkpoint).exit_code == 0
    result = run("model.gpcnn")
    assert result.exit_code == 2
    assert "model.gpcnn is a model file already" in result.stderr


def test_it_needs_no_onnx(checkpoint: Path) -> None:
    code = (
        "import sys; sys.modules.update({name: None for name in ('onnx', 'onnxscript', 'onnxruntime')})\n"
        "from gpcnn_export.commands.export.cli import main; main([])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=checkpoint.parents[2])
    assert result.returncode == 0, result.stderr
    assert (checkpoint.parents[2] / "model.gpcnn").is_file()


def test_what_a_draft_says_of_itself() -> None:
    metadata: EngineMetadata = draft_model_file(random_model(SPEC)).metadata
    assert metadata.class_names == ("0", "1", "2", "3")
    assert metadata.role_words == "model file"
