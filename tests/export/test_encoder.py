"""The encoder engine: its embeddings are the eager encoder's, and it is written with the engine that it belongs to."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from small_engines import model_of, write_checkpoint

import gpcnn_export.onnx_engine
from gpcnn_deploy.errors import EngineError, ParityError, UsageError
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, decode_metadata
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.checkpoint_to_onnx import make_engine
from gpcnn_export.commands.export.cli import main
from gpcnn_export.graphs.encoder import encoder_graph
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_export.proof.encoder import EMBEDDING_TOLERANCE, check_images, embedding_error, prove_encoder
from gpcnn_training.checkpoint import checkpoint_digest
from gpcnn_training.encoder import Encoder
from gpcnn_training.model import GatedPixelCNN, parameter_count

ENCODER = EncoderSpec(features=(5, 7, 6))
# Odd sides, so that pooling must round up; colours; a single row; a size that is a multiple of 4.
SPECS = [
    ModelSpec(height=h, width=w, channels=c, levels=k, conditioning="embedding", conditioning_size=e, **small)
    for (h, w, c, k, e) in [(7, 5, 1, 2, 3), (6, 9, 3, 256, 10), (1, 6, 1, 5, 1), (8, 8, 1, 2, 4)]
    for small in [{"features": 4, "layers": 2, "head_features": 5, "first_kernel_size": 3}]
]
SPEC = SPECS[0]


def autoencoder(spec: ModelSpec = SPEC, seed: int = 0) -> GatedPixelCNN:
    return model_of(spec, seed, 2.0, ENCODER)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_checkpoint(tmp_path / "checkpoint.safetensors", autoencoder())


def run(*arguments: str | Path) -> Result:
    """An export, of format onnx unless another is named."""
    form = () if "--format" in arguments else ("--format", "onnx")
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, *form)])


def metadata_of(path: Path) -> EngineMetadata:
    props = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    return decode_metadata(props[METADATA_KEY], str(path))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.channels}x{s.height}x{s.width}")
@pytest.mark.parametrize("batch", [1, 3])
def test_embeddings_are_the_eager_encoders(spec: ModelSpec, batch: int) -> None:
    model = autoencoder(spec)
    assert model.encoder is not None
    encoder = draft_engine(model, "encoder").load_encoder()
    rng = np.random.default_rng(4)
    levels = rng.integers(0, spec.levels, (batch, *spec.image_shape), np.int32)
    found = encoder.embed(levels)
    with torch.no_grad():
        eager = model.embed(torch.from_numpy(levels)).numpy()
        black = model.embed(torch.zeros((1, *spec.image_shape), dtype=torch.int32)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, eager, rtol=0, atol=1e-5)
    assert np.abs(eager - black).max() > 1e-2


def test_check_images_hold_black_white_flat_and_noisy_ones() -> None:
    levels = check_images(SPECS[1])
    assert levels.shape == (32, 3, 6, 9)
    assert levels.dtype == np.int32
    assert (levels[0] == 0).all()
    assert (levels[1] == 255).all()
    assert (levels[2, :, :4, :4] == levels[2, :, :1, :1]).all()
    assert len(np.unique(levels[3])) > 50
    assert len({image.tobytes() for image in levels}) == 32


@pytest.mark.parametrize("weight", ["conv1", "conv2", "conv3", "code"])
def test_a_changed_weight_is_no_parity(weight: str) -> None:
    model = autoencoder()
    other = copy.deepcopy(model)
    assert isinstance(other.encoder, Encoder)
    with torch.no_grad():
        getattr(other.encoder, weight).weight[0] += 0.3
    with pytest.raises(ParityError, match=r"embeddings differ from eager PyTorch's by up to .*: expected at most"):
        prove_encoder(model, draft_engine(other, "encoder").load_encoder().embed)


def test_nan_and_other_shapes_are_no_parity() -> None:
    model = autoencoder()
    with pytest.raises(ParityError, match="up to nan"):
        prove_encoder(model, lambda levels: np.full((len(levels), 3), np.nan, np.float32))
    with pytest.raises(ParityError, match=r"embeddings \[32, 2\]: expected \[32, 3\]"):
        prove_encoder(model, lambda levels: np.zeros((len(levels), 2), np.float32))


def test_each_embedding_is_held_to_its_own_size() -> None:
    eager = np.array([[0.5, -0.25], [-200.0, 3.0]], np.float32)
    assert embedding_error(eager, eager) == 0
    assert embedding_error(eager, eager + np.array([[0, 0.5], [0, 0]], np.float32)) == 0.5
    assert embedding_error(eager, eager + np.array([[0, 0], [0, 0.5]], np.float32)) == pytest.approx(0.5 / 200)


@pytest.mark.parametrize("role", ["sampler", "step"])
def test_both_files_describe_themselves_and_each_other(checkpoint: Path, role: str) -> None:
    result = run(checkpoint, "--graph", role, *(["--window", "2"] if role == "sampler" else []))
    assert result.exit_code == 0, result.output
    engine, encoder = metadata_of(Path("model.onnx")), metadata_of(Path("model.encoder.onnx"))
    assert engine.encoder_digest == hashlib.sha256(Path("model.encoder.onnx").read_bytes()).hexdigest()
    model = autoencoder()
    assert model.encoder is not None
    assert (engine.role, encoder.role) == (role, "encoder")
    assert engine.spec == encoder.spec == SPEC
    assert engine.checkpoint_digest == encoder.checkpoint_digest == checkpoint_digest(checkpoint)
    assert encoder.parameters == parameter_count(model.encoder)
    assert engine.parameters == parameter_count(GatedPixelCNN(SPEC))
    assert engine.parameters + encoder.parameters == parameter_count(model)
    assert (encoder.window, encoder.encoder_digest, encoder.parity) == (None, None, None)
    parity = encoder.encoder_parity
    assert parity is not None
    assert parity.images == 32
    assert parity.embedding_error <= parity.embedding_tolerance == EMBEDDING_TOLERANCE == 1e-4
    assert f"Wrote model.encoder.onnx: encoder, {encoder.parameters:,} parameters" in result.stdout
    assert "Next: gpcnn-sample --engine model.onnx --like PICTURE" in result.stdout
    assert sorted(p.name for p in Path().iterdir()) == [checkpoint.name, "model.encoder.onnx", "model.onnx"]


def test_the_encoders_ports_and_bytes(checkpoint: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert run(checkpoint, "--window", "2", "-o", name).exit_code == 0
    assert Path("a.encoder.onnx").read_bytes() == Path("b.encoder.onnx").read_bytes()
    model = onnx.load("a.encoder.onnx")
    ports = [
        (
            port.name,
            port.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim],
        )
        for port in [*model.graph.input, *model.graph.output]
    ]
    assert ports == [
        ("image", onnx.TensorProto.INT32, ["N", 1, 7, 5]),
        ("embedding", onnx.TensorProto.FLOAT, ["N", 3]),
    ]
    assert [prop.key for prop in model.metadata_props] == [METADATA_KEY]


def test_an_encoder_that_encodes_otherwise_is_an_error_and_leaves_no_file(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(encoder: Encoder, spec: ModelSpec) -> onnx.ModelProto:
        wrong = autoencoder(spec, seed=1).encoder
        assert wrong is not None
        return encoder_graph(wrong, spec)

    monkeypatch.setattr(gpcnn_export.onnx_engine, "encoder_graph", other)
    result = run(checkpoint, "--window", "2")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: embeddings differ from eager PyTorch's by up to ")
    assert [p.name for p in Path().iterdir()] == [checkpoint.name]


def test_neither_file_appears_where_one_cannot_be_written(checkpoint: Path) -> None:
    Path("model.encoder.onnx").mkdir()
    result = run(checkpoint, "--window", "2")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: cannot write model.encoder.onnx: it is a folder")
    assert sorted(p.name for p in Path().iterdir()) == [checkpoint.name, "model.encoder.onnx"]


def test_a_model_without_an_encoder_has_none_to_export(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "checkpoint.safetensors", model_of(SPEC))
    with pytest.raises(UsageError, match="this model has no encoder: gpcnn-train --model autoencoder"):
        make_engine(path, "encoder")
    engine = make_engine(path, "sampler", window=1)
    assert (engine.encoder, engine.metadata.encoder_digest) == (None, None)


def test_a_plan_takes_the_encoder_along(checkpoint: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert run(checkpoint, "--format", "trt", "--window", "1", "-o", "p.plan", "--max-batch", "2").exit_code == 0
    there = {p.name for p in Path().iterdir()}
    assert there == {checkpoint.name, "p.plan", "p.plan.json", "p.onnx", "p.gpcnn", "p.encoder.onnx"}
    encoder = Path("p.encoder.onnx").read_bytes()
    portable = metadata_of(Path("p.onnx"))
    assert portable.encoder_digest == hashlib.sha256(encoder).hexdigest()
    report = build_plan(Path("p.onnx"), Path("q.plan"), flavor="tensorrt-rtx", max_batch=2)
    assert report.encoder == Path("q.encoder.onnx")
    assert report.encoder.read_bytes() == encoder
    assert report.metadata.engine.encoder_digest == portable.encoder_digest
    Path("p.encoder.onnx").write_bytes(encoder + b"\x12\x00")  # still an ONNX file: its producer is named ""
    with pytest.raises(EngineError, match=r"p.encoder.onnx is not the encoder that p.onnx was exported with"):
        build_plan(Path("p.onnx"), Path("r.plan"), flavor="tensorrt-rtx", max_batch=2)
    assert not Path("r.plan").exists()


def test_no_plan_is_made_of_an_encoder(checkpoint: Path) -> None:
    assert run(checkpoint, "--window", "1").exit_code == 0
    result = run("model.encoder.onnx", "--format", "trt")
    assert result.exit_code == 1
    assert "model.encoder.onnx is an encoder, which ONNX Runtime runs as it is" in result.stderr
    assert not Path("model.plan").exists()
