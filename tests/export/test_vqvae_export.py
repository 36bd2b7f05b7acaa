"""A VQ-VAE in one ONNX graph: codes and pictures are eager PyTorch's, and what is not so is found and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_vqvae import SPEC, models, save

import gpcnn_export.commands.export.cli
import gpcnn_export.commands.verify.cli
import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
from gpcnn_deploy.errors import EngineError, ParityError
from gpcnn_deploy.model_file import read_model_file
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.checkpoint_to_onnx import make_engine, write_engine
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.pictures import check_pictures, prove_codes, prove_pictures
from gpcnn_runtime import Sampler
from gpcnn_runtime.engines.native.engine import NativeEngine
from gpcnn_runtime.engines.native.library import instruction_sets
from gpcnn_runtime.engines.native.load import native_engine
from gpcnn_runtime.engines.native.picture_encoder import PictureEncoder
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_training.checkpoint import load_vqvae, save_vqvae
from gpcnn_training.vqvae.pictures import decode, encode


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save(Path("my.safetensors"))


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("window", "downsample"), [(1, 2), (2, 8), (Schedule(2, 1, 3), 8)])
def test_one_call_gives_the_codes_and_the_pictures_of_eager_pytorch(window: Any, downsample: int) -> None:
    channels = 1 if downsample == 2 else 3
    spec = VqvaeSpec(height=3 * downsample, width=2 * downsample, channels=channels, codes=9, downsample=downsample,
                     code_size=3, features=4, blocks=downsample // 4)  # fmt: skip
    model, pictures = models(spec)
    with draft_engine(model, "sampler", window, pictures=pictures).load() as engine:
        parity = prove_pictures(model, pictures, engine)
        assert (parity.images, parity.pixel_error <= 1) == (24, True)
        samples = Sampler(engine).sample([0, 1], seed=5, count=3)
    assert samples.pictures is not None
    assert samples.pictures.shape == (6, *spec.image_shape)
    assert np.array_equal(samples.pixels(), samples.pictures)
    eager = decode(pictures, samples.levels.astype(np.int32))
    assert np.abs(eager.astype(int) - samples.pictures).max() <= 1
    assert {0, 255} <= set(np.unique(samples.pictures).tolist())


def test_a_graph_of_a_fixed_batch_gives_pictures_of_any_number(checkpoint: Path) -> None:
    static = make_engine(checkpoint, "sampler", window=1, batch=2)
    free = make_engine(checkpoint, "sampler", window=1)
    with Sampler(static.load()) as one, Sampler(free.load()) as other:
        a, b = (sampler.sample([0], seed=3, count=5) for sampler in (one, other))
    assert a.pictures is not None
    assert b.pictures is not None
    assert np.array_equal(a.levels, b.levels)
    assert np.abs(a.pictures.astype(int) - b.pictures).max() <= 1


def test_the_encoder_gives_the_codes_of_eager_pytorch_and_belongs_to_its_engine(checkpoint: Path) -> None:
    engine = make_engine(checkpoint, "sampler", window=1)
    write_engine(Path("model.onnx"), engine)
    _, pictures, _ = load_vqvae(checkpoint)
    pixels = check_pictures(SPEC, 70)
    with Sampler.load("model.onnx") as sampler, Encoder.beside(sampler.engine) as encoder:
        assert np.array_equal(encoder.encode(pixels), encode(pictures, pixels))
    with torch.no_grad():
        pictures.encoder.out.bias += 1
    other = draft_engine(load_vqvae(checkpoint)[0], "encoder", pictures=pictures)
    Path("model.encoder.onnx").write_bytes(other.content)
    with Sampler.load("model.onnx") as sampler, pytest.raises(EngineError, match="is not the"):
        Encoder.beside(sampler.engine)


def test_another_decoder_or_codebook_is_found_by_the_proof() -> None:
    model, pictures = models()
    _, other = models()
    with torch.no_grad():
        other.decoder.first.bias[0] += 1
        other.codebook.copy_(other.codebook.flip(0))
    with (
        draft_engine(model, "sampler", 1, pictures=pictures).load() as engine,
        pytest.raises(
            ParityError, match=r"pictures differ from eager PyTorch's by up to \d+ of 255: expected at most 1"
        ),
    ):
        prove_pictures(model, other, engine)
    with (
        draft_engine(model, "encoder", pictures=pictures).load_encoder() as encoder,
        pytest.raises(ParityError, match="further than the nearest"),
    ):
        prove_codes(other, encoder.encode)


def test_commands_export_inspect_draw_and_verify_it(checkpoint: Path) -> None:
    np.savez("my.npz", images=np.moveaxis(check_pictures(SPEC, 60), 1, 3), labels=np.arange(60) % 2,
             class_names=["a", "b"])  # fmt: skip
    result = run(gpcnn_export.commands.export.cli.main, checkpoint, "--format", "onnx", "--window", 1)
    assert result.exit_code == 0, result.output
    assert "Pictures of the same codes: " in result.stdout
    assert "Wrote model.encoder.onnx: encoder" in result.stdout
    result = run(gpcnn_runtime.commands.inspect.cli.main, "model.onnx")
    assert "12×8 RGB, of 3×2 codes" in result.stdout
    result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", "model.onnx", "--label", "a,b", "--count", 4)
    assert result.exit_code == 0, result.output
    with Image.open("sample.png") as sheet:
        assert (sheet.mode, sheet.size) == ("RGB", (6 * 42, 6 * 30))
    png = ("--output-format", "png", "-o", "out")
    result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", "model.onnx", "--label", "b", *png)
    assert result.exit_code == 0, result.output
    with Image.open("out/000000-b.png") as picture, Sampler.load("model.onnx") as sampler:
        drawn = sampler.sample("b").pixels()[0]
        assert np.array_equal(np.asarray(picture), drawn.transpose(1, 2, 0))
    arguments = ("--checkpoint", checkpoint, "--data", "my.npz", "--images", 8, "--json", "v.json")
    result = run(gpcnn_export.commands.verify.cli.main, "model.onnx", *arguments)
    assert result.exit_code == 0, result.output
    for words in ("nats/picture's codes, eager", "bits/code, log-prob", "nats per code", "codes"):
        assert words in result.stdout
    for words in ("nats/image", "bits/dim", "sub-pixel"):
        assert words not in result.stdout
    found = json.loads(Path("v.json").read_text())
    assert found["proven"]
    assert found["pictures"]["images"] == 24
    assert found["codes"]["differing"] == 0
    assert found["data"]["images"] > 0
    model, pictures, header = load_vqvae(checkpoint)
    with torch.no_grad():
        pictures.decoder.first.bias[0] += 1
    save_vqvae(Path("other.safetensors"), model, pictures, header)
    result = run(gpcnn_export.commands.verify.cli.main, "model.onnx", "--checkpoint", "other.safetensors")
    assert result.exit_code == 1
    assert "pictures differ from eager PyTorch's by up to" in result.output


@pytest.mark.parametrize(
    ("downsample", "blocks", "features", "code_size"), [(2, 0, 3, 2), (4, 2, 17, 33), (8, 1, 32, 1), (16, 1, 5, 16)]
)
def test_the_native_decoder_gives_the_pictures_of_eager_pytorch(
    downsample: int, blocks: int, features: int, code_size: int
) -> None:
    spec = VqvaeSpec(height=3 * downsample, width=2 * downsample, channels=3 if blocks else 1, codes=9,
                     downsample=downsample, code_size=code_size, features=features, blocks=blocks)  # fmt: skip
    model, pictures = models(spec)
    file = draft_model_file(model, checkpoint_digest="", pictures=pictures)
    for name in instruction_sets():
        for reproducible in (False, True):
            path = Path("model.gpcnn")
            with native_engine(path, file.content, reproducible=reproducible, instructions=name) as engine:
                parity = prove_pictures(model, pictures, engine)
                assert (parity.images, parity.pixel_error <= 1) == (24, True)


def test_a_model_file_draws_what_the_onnx_engine_draws_and_becomes_one(checkpoint: Path) -> None:
    result = run(gpcnn_export.commands.export.cli.main, checkpoint)
    assert result.exit_code == 0, result.output
    assert "Pictures of the same codes: " in result.stdout
    result = run(gpcnn_export.commands.export.cli.main, "model.gpcnn", "--format", "onnx", "--window", 1)
    assert result.exit_code == 0, result.output
    with Sampler.load("model.onnx") as one, Sampler.load("model.gpcnn", threads=2, batch_size=3) as other:
        a, b = (sampler.sample([0, 1], seed=9, count=7) for sampler in (one, other))
    assert a.pictures is not None
    assert b.pictures is not None
    assert np.array_equal(a.levels, b.levels)
    assert np.abs(a.pictures.astype(int) - b.pictures).max() <= 1
    metadata, weights = read_model_file(Path("model.gpcnn"))
    assert metadata.codes_parity is not None
    _, pictures, _ = load_vqvae(checkpoint)
    pixels = check_pictures(SPEC, 40)
    assert np.array_equal(PictureEncoder(metadata, weights).encode(pixels), encode(pictures, pixels))
    result = run(gpcnn_export.commands.verify.cli.main, "model.gpcnn", "--checkpoint", checkpoint, "--images", 8)
    assert result.exit_code == 0, result.output
    assert "Pictures: " in result.output


def test_a_model_file_whose_decoder_is_damaged_or_of_other_codes_is_refused(checkpoint: Path) -> None:
    model, pictures, _ = load_vqvae(checkpoint)
    content = draft_model_file(model, ("a", "b"), pictures=pictures).content
    for wrong in (content[:-4], content + bytes(4), content.replace(b'\\"codes\\":9', b'\\"codes\\":8', 1)):
        with pytest.raises(EngineError):
            native_engine(Path("model.gpcnn"), wrong)
    not_finite = content[:-4] + b"\0\0\x80\x7f"
    with pytest.raises(EngineError, match=r"pictures\.encoder\.out\.weight has numbers that are not finite"):
        native_engine(Path("model.gpcnn"), not_finite)
    with native_engine(Path("model.gpcnn"), content) as engine:
        assert isinstance(engine, NativeEngine)
        assert engine.decoder is not None
        for code in (-1, 9):
            with pytest.raises(EngineError, match="an argument is missing or out of range"):
                engine.decoder.decode(np.full((1, 1, 3, 2), code, np.int32))
