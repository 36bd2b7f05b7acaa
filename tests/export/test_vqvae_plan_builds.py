"""Real plans of a VQ-VAE, built by the real TensorRT-RTX on the CPU, and the step that they are built from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from small_vqvae import SPEC, draft_step, models, save

import gpcnn_export.commands.export.cli
import gpcnn_export.commands.verify.cli
import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
from gpcnn_deploy.errors import EngineError, OutputError, ParityError, UsageError
from gpcnn_deploy.metadata import decode_metadata, decoder_path, encode_metadata
from gpcnn_export.checkpoint_to_onnx import make_engine, write_engine
from gpcnn_export.graphs.half import half_precision
from gpcnn_export.graphs.shapes import open_values
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_export.proof.pictures import prove_decoder
from gpcnn_runtime import Sampler
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.engines.plan_file import read_decoder, read_plan, read_plan_metadata
from gpcnn_runtime.ray.engine import EngineBytes
from gpcnn_training.checkpoint import load_vqvae, save_vqvae

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint() -> Path:
    return save(Path("my.safetensors"))


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def export(*arguments: object) -> Result:
    return run(gpcnn_export.commands.export.cli.main, *arguments)


def here() -> Files:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_step_is_verified_with_its_pictures(checkpoint: Path) -> None:
    write_engine(Path("step.onnx"), make_engine(checkpoint, "step"))
    arguments = ("step.onnx", "--checkpoint", checkpoint, "--images", 4)
    result = run(gpcnn_export.commands.verify.cli.main, *arguments)
    assert result.exit_code == 0, result.output
    assert "Pictures: " in result.output
    model, pictures, header = load_vqvae(checkpoint)
    with torch.no_grad():
        pictures.decoder.first.bias[0] += 1
    save_vqvae(checkpoint, model, pictures, header)
    result = run(gpcnn_export.commands.verify.cli.main, *arguments)
    assert result.exit_code == 1
    assert "pictures differ from eager PyTorch's by up to" in result.output


def test_a_step_draws_what_the_sampler_draws(checkpoint: Path) -> None:
    done = export(checkpoint, "--format", "onnx", "--graph", "step", "-o", "step.onnx", "--json", "e.json")
    assert done.exit_code == 0, done.output
    assert "Wrote step.decoder.onnx: decoder" in done.stderr + done.stdout
    assert json.loads(Path("e.json").read_text())["decoder"] == "step.decoder.onnx"
    write_engine(Path("one.onnx"), make_engine(checkpoint, "sampler", window=1))
    with Sampler.load("step.onnx", threads=2, batch_size=3) as step, Sampler.load("one.onnx") as one:
        a, b = (sampler.sample([0, 1], seed=9, count=7) for sampler in (step, one))
        assert Encoder.beside(step.engine).metadata.codes_parity is not None
    assert a.pictures is not None
    assert b.pictures is not None
    assert np.array_equal(a.levels, b.levels)
    assert np.abs(a.pictures.astype(int) - b.pictures).max() <= 1
    shown = run(gpcnn_runtime.commands.inspect.cli.main, "step.onnx")
    assert "step.decoder.onnx beside it" in shown.stdout
    shown = run(gpcnn_runtime.commands.inspect.cli.main, "step.decoder.onnx")
    assert "ONNX engine: decoder, fp32" in shown.stdout
    assert "of all pixels identical" in " ".join(shown.stdout.split())


def test_a_step_of_fixed_shapes_has_a_decoder_of_fixed_shapes(checkpoint: Path) -> None:
    static = make_engine(checkpoint, "step", batch=2)
    assert static.decoder is not None
    assert static.decoder.metadata.batch == 2
    assert not list(open_values(onnx.load_model_from_string(static.decoder.content).graph))
    with Sampler(static.load()) as one, Sampler(draft_step().load()) as other:
        a, b = (sampler.sample([0], seed=3, count=5) for sampler in (one, other))
    assert a.pictures is not None
    assert b.pictures is not None
    assert np.array_equal(a.levels, b.levels)
    assert np.abs(a.pictures.astype(int) - b.pictures).max() <= 1


@pytest.mark.parametrize("kind", ["missing", "damaged", "of other weights", "an encoder"])
def test_a_step_without_its_own_decoder_neither_draws_nor_becomes_a_plan(kind: str) -> None:
    write_engine(Path("step.onnx"), draft_step())
    model, pictures = models()
    encoder = draft_engine(model, "encoder", pictures=pictures)
    beside = Path("step.decoder.onnx")
    if kind == "missing":
        beside.unlink()
    elif kind == "damaged":
        beside.write_bytes(beside.read_bytes()[:-1])
    elif kind == "an encoder":
        beside.write_bytes(encoder.content)
    else:
        with torch.no_grad():
            pictures.codebook.neg_()
        beside.write_bytes(draft_engine(model, "decoder", pictures=pictures).content)
    before = here()
    for done in (
        run(gpcnn_runtime.commands.sample.cli.main, "--engine", "step.onnx", "--label", "a"),
        export("step.onnx", "--format", "trt"),
    ):
        assert done.exit_code == 1, done.output
        assert len(done.stderr.strip().splitlines()) == 1
        assert "step.decoder.onnx" in done.stderr
    assert here() == before


def test_another_decoder_is_found_by_the_proof() -> None:
    model, pictures = models()
    _, other = models()
    with torch.no_grad():
        other.decoder.up[-1].bias[0] += 1
    decoder = draft_step().decoder
    assert decoder is not None
    with decoder.load_decoder() as loaded:
        assert prove_decoder(model.spec, pictures, loaded.decode).pixel_error <= 1
        with pytest.raises(ParityError, match=r"pictures differ from eager PyTorch's by up to \d+ of 255"):
            prove_decoder(model.spec, other, loaded.decode)
        with pytest.raises(ParityError, match="the engine gives pictures"):
            prove_decoder(model.spec, pictures, lambda codes: loaded.decode(codes)[:, :, 1:])


def test_what_has_no_decoder_exports_none() -> None:
    with pytest.raises(UsageError, match="this model has no decoder: gpcnn-train --model vqvae"):
        make_engine(Path("zoo:digits"), "decoder")


def test_the_command_writes_both_plans_and_what_draws_where_they_cannot_run(checkpoint: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    done = export(checkpoint, "--format", "trt", "--window", 1, "--max-batch", 16, "--opt-batch", 4, "--json", "-")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["output"], told["decoder"]) == ("model.plan", "model.decoder.plan")
    assert "Wrote model.decoder.plan: decoder, fp32" in done.stderr
    names = ["decoder.plan", "decoder.plan.json", "encoder.onnx", "gpcnn", "onnx", "plan", "plan.json"]
    assert sorted(path.name for path in Path().iterdir()) == [*(f"model.{name}" for name in names), "my.safetensors"]
    plan = Path("model.plan")
    metadata = read_plan_metadata(plan)
    decoder = read_decoder(plan, metadata)
    assert decoder is not None
    path, theirs, content = decoder
    assert metadata.engine.decoder_digest == theirs.digest == hashlib.sha256(content).hexdigest()
    assert read_plan(path, theirs) == path.read_bytes() == content
    assert (theirs.engine.role, theirs.engine.vqvae, theirs.max_batch, theirs.opt_batch) == ("decoder", SPEC, 16, 4)
    assert theirs.engine.picture_parity is not None
    tensors = {tensor.name: (tensor.mode, tensor.dtype, tensor.shape, tensor.profile) for tensor in theirs.tensors}
    assert tensors == {
        "codes": ("input", "int32", (-1, 1, 3, 2), ((1, 1, 3, 2), (4, 1, 3, 2), (16, 1, 3, 2))),
        "picture": ("output", "uint8", (-1, 3, 12, 8), None),
    }
    result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", "model.plan", "--label", "a")
    assert result.exit_code == 0, result.output
    assert "model.gpcnn" in result.stderr
    for name in ("model.plan", "model.decoder.plan"):
        assert run(gpcnn_runtime.commands.inspect.cli.main, name).exit_code == 0
    Path("model.decoder.plan").write_bytes(content[:-1])
    for name in ("model.plan", "model.decoder.plan"):
        shown = run(gpcnn_runtime.commands.inspect.cli.main, name)
        assert shown.exit_code == 1
        assert "model.decoder.plan: " in shown.stderr
        assert len(shown.stderr.strip().splitlines()) == 1


def test_a_plan_is_built_from_a_step_without_torch() -> None:
    pytest.importorskip("tensorrt_rtx")
    write_engine(Path("step.onnx"), draft_step())
    code = (
        "import sys\nfor name in ('torch', 'gpcnn_training', 'onnxscript'): sys.modules[name] = None\n"
        "from pathlib import Path\nfrom gpcnn_export.onnx_to_plan import build_plan\n"
        "report = build_plan(Path('step.onnx'), Path('model.plan'), precision='fp16')\nprint(report.decoder)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "model.decoder.plan"
    step, decoder = (read_plan_metadata(Path(name)).engine for name in ("model.plan", "model.decoder.plan"))
    assert (step.precision, decoder.precision) == ("fp16", "fp32")
    # The step that is kept as the portable engine has its own decoder beside it.
    assert Path("model.onnx").read_bytes() == Path("step.onnx").read_bytes()
    with Sampler.load("model.onnx") as sampler:
        assert sampler.sample("a").pictures is not None


def test_both_plans_appear_or_none() -> None:
    pytest.importorskip("tensorrt_rtx")
    write_engine(Path("step.onnx"), draft_step())
    for name in ("model.decoder.plan", "model.decoder.plan.json", "model.decoder.onnx"):
        folder = Path(f"without {name}")
        (folder / name).mkdir(parents=True)
        with pytest.raises(OutputError, match=name):
            build_plan(Path("step.onnx"), folder / "model.plan")
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_sampler_is_one_plan_whose_decoder_stays_fp32() -> None:
    pytest.importorskip("tensorrt_rtx")
    model, pictures = models()
    engine = draft_engine(model, "sampler", 2, pictures=pictures)
    Path("one.onnx").write_bytes(engine.content)
    report = build_plan(Path("one.onnx"), Path("model.plan"), precision="fp16")
    assert (report.decoder, report.metadata.engine.decoder_digest) == (None, None)
    assert ("picture", "uint8") in {(tensor.name, tensor.dtype) for tensor in report.metadata.tensors}
    half, converted = half_precision(onnx.load_model_from_string(engine.content))
    _, alone_converted = half_precision(onnx.load_model_from_string(draft_engine(model, "sampler", 2).content))
    assert converted == alone_converted > 0
    kept = {
        onnx.numpy_helper.to_array(tensor).tobytes()
        for tensor in half.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    assert all(weight.detach().numpy().tobytes() in kept for weight in pictures.decoder.parameters())


@pytest.mark.parametrize("name", ["model.decoder.onnx", "model.encoder.onnx"])
def test_what_is_no_engine_becomes_no_plan(name: str) -> None:
    model, pictures = models()
    step = draft_step()
    encoder = draft_engine(model, "encoder", class_names=("a", "b"), pictures=pictures)
    write_engine(Path("model.onnx"), dataclasses.replace(step, encoder=encoder))
    before = here()
    done = export(name, "--format", "trt", "-o", "x.plan")
    assert done.exit_code == 1, done.output
    assert f"{name} is " in done.stderr
    assert here() == before


def test_metadata_that_contradicts_itself_is_refused() -> None:
    step = draft_step().metadata
    decoder = draft_step().decoder
    assert decoder is not None
    wrong = {
        "names no decoder, which a step of a VQ-VAE has": msgspec.structs.replace(step, decoder_digest=None),
        "names a decoder too many": msgspec.structs.replace(decoder.metadata, decoder_digest="0" * 64),
        "a decoder of a model that is no VQ-VAE": msgspec.structs.replace(decoder.metadata, vqvae=None),
        "an encoder for a model": msgspec.structs.replace(decoder.metadata, encoder_digest="0" * 64),
    }
    for text, metadata in wrong.items():
        with pytest.raises(EngineError, match=text):
            decode_metadata(encode_metadata(metadata), "x")
    assert decode_metadata(encode_metadata(step), "x") == step
    assert decoder_path(Path("a/model.plan")) == Path("a/model.decoder.plan")


def test_a_step_travels_to_other_machines_with_its_decoder() -> None:
    write_engine(Path("step.onnx"), draft_step())
    sent = EngineBytes.read("step.onnx")
    Path("step.decoder.onnx").unlink()
    with Sampler(sent.load("cpu")) as sampler:
        assert sampler.sample("a").pictures is not None
    with pytest.raises(EngineError, match=r"step\.decoder\.onnx: no such file"):
        dataclasses.replace(sent, decoder=None).load("cpu")
