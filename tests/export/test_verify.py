"""gpcnn-verify: it proves sound engines of every kind, and nothing else; what is wrong is named with its numbers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import small_vqvae
from click.testing import CliRunner, Result
from onnx import numpy_helper
from small_engines import (
    EMBEDDED,
    ENLARGED,
    MAPPED,
    PLAIN,
    add_metadata,
    encoder_bytes_of,
    engine_bytes,
    engine_bytes_of,
    model_of,
    write_checkpoint,
)

import gpcnn_export.commands.verify.verification
from gpcnn_deploy.commands.child import Answer, ChildError
from gpcnn_deploy.metadata import METADATA_KEY
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.verify.cli import main
from gpcnn_export.commands.verify.judge import main as judge_main
from gpcnn_export.commands.verify.verification import Verification, verify
from gpcnn_export.graphs.half import half_precision
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_training.checkpoint import checkpoint_digest
from gpcnn_training.model import GatedPixelCNN

DIGITS = ModelSpec(
    height=8, width=8, levels=17, features=6, layers=2, head_features=8, conditioning="label", conditioning_size=10
)
OTHER = msgspec.structs.replace(DIGITS, height=4, width=6, levels=7)
NAMES = tuple(map(str, range(10)))


def in_process(module: str, arguments: list[str], answer: type[Answer], smaller: str = "") -> Answer:
    """In the place of `run_child`: the same command, without PyTorch being imported anew each time."""
    done = CliRunner().invoke(judge_main, arguments)
    if done.exit_code:
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        raise ChildError(done.stderr.strip().splitlines()[-1].removeprefix("Error: "), done.exit_code)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=answer)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPCNN_DATA_DIR", raising=False)
    monkeypatch.setattr(gpcnn_export.commands.verify.verification, "run_child", in_process)


def save(path: Path, spec: ModelSpec, seed: int = 0, data: str = "digits") -> Path:
    return write_checkpoint(path, model_of(spec, seed), data=data)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("run") / "checkpoint.safetensors", DIGITS)


def engine_of(
    path: Path, checkpoint: Path, spec: ModelSpec, window: int | Schedule | None, seed: int = 0, **change: Any
) -> Path:
    """An engine that names the checkpoint as its origin, whatever its weights are."""
    model = onnx.load_from_string(engine_bytes(spec, window, seed))
    return rewrite(
        path,
        model,
        **{
            "checkpoint_digest": checkpoint_digest(checkpoint),
            "class_names": NAMES if spec.conditioning == "label" else (),
            **change,
        },
    )


def rewrite(path: Path, model: onnx.ModelProto, **change: Any) -> Path:
    metadata = json.loads(next(prop.value for prop in model.metadata_props if prop.key == METADATA_KEY))
    del model.metadata_props[:]
    add_metadata(model, json.dumps(metadata | change))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    return engine_of(tmp_path_factory.mktemp("engines") / "sound.onnx", checkpoint, DIGITS, 4)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--images", "4", "--test-images", "20"])


def test_both_windows_are_proven(tmp_path: Path, checkpoint: Path) -> None:
    engine = engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, Schedule(8, 1, 5))
    found = verify(engine, checkpoint, images=4, test_images=3, data="digits", threads=2)
    assert [(row.inputs, row.strategy, row.images) for row in found.rows] == [
        *(("samples", "window 8", 5), ("samples", "window 1", 5)),
        *(("completions", "window 8", 5), ("completions", "window 1", 5), ("scores", "graph", 5)),
    ]
    assert (found.window, found.batch_window, found.batch_from) == (8, 1, 5)
    assert found.proven


def test_a_fixed_batch_is_proven(tmp_path: Path, checkpoint: Path) -> None:
    engine, digest = tmp_path / "e.onnx", checkpoint_digest(checkpoint)
    draft = draft_engine(model_of(DIGITS), "sampler", 4, class_names=NAMES, checkpoint_digest=digest, batch=3)
    engine.write_bytes(draft.content)
    found = verify(engine, checkpoint, images=4, test_images=3, data="digits", threads=2)
    assert [(row.inputs, row.images, row.identical) for row in found.rows] == [
        ("samples", 4, 4),
        ("completions", 4, 4),
        ("scores", 4, 4),
    ]
    assert (found.window, found.batch) == (4, 3)
    assert found.proven


def model_file_of(path: Path, checkpoint: Path, seed: int = 0) -> Path:
    path.write_bytes(draft_model_file(model_of(DIGITS, seed), NAMES, checkpoint_digest(checkpoint)).content)
    return path


def test_a_model_file_is_proven_one_by_one_and_in_batches(tmp_path: Path, checkpoint: Path) -> None:
    done = run(
        model_file_of(tmp_path / "model.gpcnn", checkpoint), "--checkpoint", checkpoint, "--json", tmp_path / "v"
    )
    assert done.exit_code == 0, done.output
    assert "model.gpcnn: model file, fp32, on native engine" in " ".join(done.stdout.split())
    found = msgspec.json.decode((tmp_path / "v").read_bytes(), type=Verification)
    one, many = "native, one by one", "native, in batches"
    assert [(row.inputs, row.strategy, row.images) for row in found.rows] == [
        *(("samples", one, 4), ("samples", many, 4), ("completions", one, 4), ("completions", many, 4)),
        ("scores", many, 4),
    ]
    assert all(row.identical == row.images for row in found.rows)
    assert (found.role, found.window, found.proven) == ("weights", None, True)


def test_a_model_file_of_other_weights_is_a_defect(tmp_path: Path, checkpoint: Path) -> None:
    done = run(model_file_of(tmp_path / "model.gpcnn", checkpoint, seed=1), "--checkpoint", checkpoint)
    assert done.exit_code == 1
    assert "First divergence: defect in samples (native, one by one)" in done.stdout


def test_a_second_window_of_other_weights_is_a_defect(tmp_path: Path, checkpoint: Path) -> None:
    """Large batches alone go wrong: a check of a few images at a time would not see it."""
    model = onnx.load_from_string(engine_bytes(DIGITS, Schedule(8, 1, 5)))
    other = onnx.load_from_string(engine_bytes(DIGITS, Schedule(8, 1, 5), seed=1))
    chosen, wrong = (next(node for node in m.graph.node if node.op_type == "If") for m in (model, other))
    for attribute, replacement in zip(chosen.attribute, wrong.attribute, strict=True):
        if attribute.name == "then_branch":
            attribute.CopyFrom(replacement)
    inside = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(tensor for tensor in other.graph.initializer if tensor.name not in inside)
    engine = rewrite(tmp_path / "e.onnx", model, checkpoint_digest=checkpoint_digest(checkpoint), class_names=NAMES)
    found = verify(engine, checkpoint, images=4, test_images=3, data="digits", threads=2)
    assert not found.proven
    assert {row.strategy for row in found.rows if row.identical + row.explained < row.images} == {"window 1"}


@pytest.mark.parametrize("window", [1, 3, 8, None])
def test_a_sound_engine_is_proven(tmp_path: Path, checkpoint: Path, window: int | None) -> None:
    engine = engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, window)
    done = run(engine, "--checkpoint", checkpoint.parent, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    assert "\nPROVEN: the engine draws the images of eager PyTorch" in done.stdout
    assert "Origin: the engine names this checkpoint" in done.stdout
    found = msgspec.json.decode((tmp_path / "v.json").read_bytes(), type=Verification)
    expected = [("samples", "graph", 4), ("completions", "graph", 4), ("scores", "graph", 4)]
    if window is None:
        expected = [("samples", "jacobi", 4), ("samples", "raster", 1), ("completions", "jacobi", 4)]
        expected += [("completions", "raster", 1), ("scores", "jacobi", 4)]
    assert [(row.inputs, row.strategy, row.images) for row in found.rows] == expected
    for row in found.rows:
        assert row.identical + row.explained == row.images
        assert row.agreement == (None if row.inputs == "scores" else 1.0)
        assert row.log_prob_error is not None
        assert row.log_prob_error < 1e-4
    assert found.data is not None
    assert (found.data.name, found.data.images) == ("digits", 20)
    assert found.data.engine_nll == pytest.approx(found.data.eager_nll, abs=1e-3)
    assert (found.role, found.window, found.precision) == ("sampler" if window else "step", window, "fp32")
    assert found.proven
    assert found.same_checkpoint
    assert found.failures == ()


def test_colour_without_labels_is_proven_and_missing_data_are_said(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c.safetensors", PLAIN, data="my-photos")
    found = verify(engine_of(tmp_path / "e.onnx", checkpoint, PLAIN, 2), checkpoint, images=3)
    assert found.proven
    assert found.data is None
    assert found.data_skipped is not None
    assert found.data_skipped.startswith("my-photos, which the checkpoint was trained on, is not here: name it with")
    done = run(tmp_path / "e.onnx", "--checkpoint", checkpoint)
    assert done.exit_code == 0
    assert "Real data: NOT SCORED: my-photos" in done.stdout


def test_images_are_those_of_the_seed(checkpoint: Path, sound: Path) -> None:
    errors = [verify(sound, checkpoint, images=2, seed=seed).rows[0].drift for seed in (0, 0, 5)]
    assert errors[0] == errors[1] != errors[2]


def test_other_weights_are_a_defect_with_sub_pixel_noise_and_step(tmp_path: Path, checkpoint: Path) -> None:
    """The engine claims the right origin: its images give it away."""
    engine = engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, 4, seed=1)
    done = run(engine, "--checkpoint", checkpoint, "--json", tmp_path / "v.json")
    assert done.exit_code == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f"Error: {engine} is not proven to be the model of {checkpoint}: ")
    )
    assert "no rounding error explains it; log-probabilities are off by up to" in done.stderr
    assert "First divergence: defect in samples (graph), image 0, row 0, column 0, channel 0: the engine drew" in (
        done.stdout
    )
    assert "Would pass with: u within" in done.stdout
    assert "PROVEN" not in done.stdout
    found = msgspec.json.decode((tmp_path / "v.json").read_bytes(), type=Verification)
    first = found.first_divergence
    assert not found.proven
    assert found.same_checkpoint
    assert first is not None
    assert abs(abs(first.u - first.cdf_step) - first.distance) < 1e-9
    # Between the engine's level and eager PyTorch's lies the step.
    assert (first.u < first.cdf_step) == (first.eager < first.engine)
    assert found.reached.near_tie is not None
    assert found.reached.near_tie >= first.worst > 1e-3
    assert sum(row.identical + row.explained for row in found.rows if row.inputs != "scores") < 8


def test_another_checkpoint_is_said_and_compared_all_the_same(tmp_path: Path, sound: Path) -> None:
    other = save(tmp_path / "other.safetensors", DIGITS, seed=1)
    done = run(sound, "--checkpoint", other)
    assert done.exit_code == 1
    assert "Origin: ANOTHER CHECKPOINT. The engine names " in done.stdout
    assert "First divergence: defect in samples" in done.stdout
    assert "as its origin, and this is" in done.stderr


def test_the_same_weights_of_another_file_are_no_proof_of_origin(tmp_path: Path, sound: Path) -> None:
    again = save(tmp_path / "again.safetensors", DIGITS, data="mnist")
    found = verify(sound, again, images=2)
    assert not found.proven
    assert not found.same_checkpoint
    (failure,) = found.failures
    assert failure.startswith("the engine names checkpoint ")
    assert found.first_divergence is None or found.first_divergence.cause == "near-tie"
    unnamed = verify(rewrite(tmp_path / "e.onnx", onnx.load(sound), checkpoint_digest=""), again, images=2)
    assert unnamed.failures[0].startswith("the engine names no checkpoint as its origin")


def test_exchanged_class_names_are_found(tmp_path: Path, checkpoint: Path) -> None:
    names = ("1", "0", *NAMES[2:])
    engine = engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, 4, class_names=names)
    found = verify(engine, checkpoint, images=2)
    assert found.failures == (f"the engine's classes are {list(names)}, the checkpoint's {list(NAMES)}",)


def weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) > 8]


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("window", [8, None])
def test_one_corrupted_weight_is_detected(tmp_path: Path, checkpoint: Path, window: int | None, which: int) -> None:
    engine = engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, window)
    model = onnx.load(engine)
    tensors = weights(model)
    tensor = tensors[which * len(tensors) // 8]
    values = numpy_helper.to_array(tensor).copy()
    place = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[place] *= 1.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    engine.write_bytes(model.SerializeToString())
    found = verify(engine, checkpoint, images=4)
    assert not found.proven, tensor.name
    assert any("log-probabilities are off" in failure for failure in found.failures)


def half(path: Path, source: Path) -> Path:
    return rewrite(path, half_precision(onnx.load(source))[0], precision="fp16")


@pytest.mark.parametrize("window", [8, None])
def test_fp16_is_held_to_its_limits(tmp_path: Path, checkpoint: Path, window: int | None) -> None:
    sound = half(tmp_path / "sound.onnx", engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, window))
    done = run(sound, "--checkpoint", checkpoint, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    assert "Limits (fp16): u within 5.0e-03 of a CDF step where levels differ; log-probabilities within" in done.stdout
    assert "99.000% of the sub-pixels agreeing; likelihood within 1.0e-03 bits/dim" in done.stdout
    assert "PROVEN: the engine is within its limits" in done.stdout
    found = msgspec.json.decode((tmp_path / "v.json").read_bytes(), type=Verification)
    reached, limits = found.reached, found.limits
    assert found.precision == "fp16"
    assert reached.log_prob is not None
    assert 1e-5 < reached.log_prob <= limits.log_prob  # type: ignore[operator]  # fp16 it is
    assert reached.agreement >= limits.agreement  # type: ignore[operator]
    assert reached.drift <= limits.drift  # type: ignore[operator]
    wrong = half(tmp_path / "wrong.onnx", engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, window, seed=1))
    found = verify(wrong, checkpoint, images=4)
    assert not found.proven
    texts = "; ".join(found.failures)
    for text in ("no rounding error explains it", "of the sub-pixels agree, limit 99%", "bits/dim, limit 1e-03"):
        assert text in texts


def test_fp16_that_says_it_is_fp32_fails(tmp_path: Path, checkpoint: Path) -> None:
    engine = half(tmp_path / "h.onnx", engine_of(tmp_path / "e.onnx", checkpoint, DIGITS, 8))
    found = verify(rewrite(engine, onnx.load(engine), precision="fp32"), checkpoint, images=4)
    assert any("log-probabilities are off" in failure for failure in found.failures)


def test_embeddings_are_verified(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "c.safetensors", EMBEDDED)
    found = verify(engine_of(tmp_path / "e.onnx", checkpoint, EMBEDDED, 2), checkpoint, images=3)
    assert found.proven
    assert [row.images for row in found.rows] == [3, 3, 3]


AUTOENCODER = ModelSpec(
    height=8, width=8, levels=17, features=4, layers=2, head_features=6, conditioning="embedding", conditioning_size=3
)


def autoencoder(seed: int = 0) -> GatedPixelCNN:
    return model_of(AUTOENCODER, seed, 1.0, EncoderSpec(features=(3, 4, 5)))


def write_autoencoder(folder: Path, encoder_seed: int = 0) -> tuple[Path, Path]:
    """(engine, checkpoint); the encoder beside the engine, which names it, may be of another model."""
    checkpoint = write_checkpoint(folder / "c.safetensors", autoencoder(), data="digits")
    encoder, engine = encoder_bytes_of(autoencoder(encoder_seed)), folder / "e.onnx"
    (folder / "e.encoder.onnx").write_bytes(encoder)
    digests = {
        "checkpoint_digest": checkpoint_digest(checkpoint),
        "encoder_digest": hashlib.sha256(encoder).hexdigest(),
    }
    engine.write_bytes(engine_bytes_of(autoencoder(), 4, **digests))
    return engine, checkpoint


def test_an_autoencoder_is_verified_with_its_encoder(tmp_path: Path) -> None:
    engine, checkpoint = write_autoencoder(tmp_path)
    done = run(engine, "--checkpoint", checkpoint, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    assert "Encoder: embeddings of 32 pictures within" in done.stdout
    found = msgspec.json.decode((tmp_path / "v.json").read_bytes(), type=Verification)
    assert found.encoder is not None
    assert found.encoder.error is not None
    assert found.encoder.error <= found.encoder.limit < 1e-3
    assert found.data is not None  # given the codes of the images themselves
    assert found.data.images == 20


def test_the_encoder_of_another_model_and_a_missing_one_are_found(tmp_path: Path) -> None:
    engine, checkpoint = write_autoencoder(tmp_path, encoder_seed=1)
    done = run(engine, "--checkpoint", checkpoint)
    assert done.exit_code == 1
    assert "embeddings differ from eager PyTorch's by up to " in done.stderr
    (tmp_path / "e.encoder.onnx").unlink()
    done = run(engine, "--checkpoint", checkpoint)
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"Error: {tmp_path / 'e.encoder.onnx'}: no such file")


def test_an_encoder_alone_is_refused(tmp_path: Path) -> None:
    _, checkpoint = write_autoencoder(tmp_path)
    done = run(tmp_path / "e.encoder.onnx", "--checkpoint", checkpoint)
    assert done.exit_code == 1
    assert "is an encoder, which draws nothing: name the engine beside it" in done.stderr


@pytest.mark.parametrize(("data", "scored"), [("mnist", False), ("digits", True)])
def test_a_folder_of_another_day_is_said_and_hinders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, scored: bool
) -> None:
    monkeypatch.setenv("GPCNN_DATA_DIR", str(tmp_path / "gone"))
    checkpoint = save(tmp_path / "run" / "checkpoint.safetensors", DIGITS, data=data)
    engine = engine_of(tmp_path / "model.onnx", checkpoint, DIGITS, 4)
    arguments = [str(engine), "--checkpoint", str(checkpoint), "--images", "2", "--test-images", "2"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert ("NOT SCORED" in done.stdout) != scored
    assert ("gone: no such folder, but --data-dir or GPCNN_DATA_DIR" in " ".join(done.stdout.split())) != scored


def test_own_data_are_scored(tmp_path: Path, checkpoint: Path, sound: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (30, 8, 8), np.uint8), "labels": np.arange(30) % 10}
    np.savez(tmp_path / "own.npz", **arrays, class_names=list(NAMES))
    found = verify(sound, checkpoint, images=2, data=str(tmp_path / "own.npz"))
    assert found.proven
    assert found.data is not None
    assert (found.data.name, found.data.images) == ("own", 3)


def test_json_has_standard_output_for_itself(checkpoint: Path, sound: Path) -> None:
    done = run(sound, "--checkpoint", checkpoint, "--json", "-")
    written = json.loads(done.stdout)
    assert written["proven"] is True
    assert written["checkpoint_digest"] == written["engine_checkpoint_digest"] == checkpoint_digest(checkpoint)
    assert written["limits"] == {"near_tie": 1e-5, "log_prob": 3e-4, "agreement": None, "drift": None}
    assert written["runs_on"].startswith("ONNX Runtime ")
    assert written["data_skipped"] is None
    assert {"role", "window", "precision", "engine", "library", "rows", "data", "first_divergence"} <= set(written)
    assert "PROVEN" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{engine}"], 2, "Missing option '--checkpoint'"),
        (["--checkpoint", "{checkpoint}"], 2, "Missing argument 'ENGINE'"),
        (["none.onnx", "--checkpoint", "{checkpoint}"], 1, "none.onnx: no such file"),
        (["{checkpoint}", "--checkpoint", "{checkpoint}"], 1, "is a checkpoint, no engine"),
        (["{engine}", "--checkpoint", "none"], 1, "none: no such file: train one with gpcnn-train"),
        (["{engine}", "--checkpoint", "{engine}"], 1, "not a checkpoint, or a damaged one"),
        (["{engine}", "--checkpoint", "{other}"], 1, "a model of other dimensions than the engine's"),
        (["{engine}", "--checkpoint", "{other}"], 1, "(height 4, engine 8, width 6, engine 8, levels 7, engine 17"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--data", "nowhere"], 2, "--data nowhere: no such file or"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--data", "{small}"], 1, "small: images of [1, 5, 5], but the"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--data", "{classes}"], 1, "its classes are not the model's"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--data-dir", "none"], 2, "'none' does not exist"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--seed", "-1"], 2, "seed is -1: expected 0 to 2**64 - 1"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--images", "0"], 2, "'--images'"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--provider", "cuda"], 1, "provider cuda: onnxruntime"),
        (["{engine}", "--checkpoint", "{checkpoint}", "--json", "{folder}"], 1, "it is a folder; name a file with"),
    ],
)
def test_mistakes(tmp_path: Path, checkpoint: Path, sound: Path, arguments: list[str], code: int, message: str) -> None:
    for name, size, classes in (("small", 5, NAMES), ("classes", 8, tuple("abcdefghij"))):
        images = np.full((20, size, size), 255, np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(20) % 10, class_names=list(classes))
    names = {
        "engine": sound,
        "checkpoint": checkpoint,
        "other": save(tmp_path / "other.safetensors", OTHER),
        "small": tmp_path / "small.npz",
        "classes": tmp_path / "classes.npz",
        "folder": tmp_path,
    }
    done = CliRunner().invoke(main, ["--images", "1", *(text.format(**names) for text in arguments)])
    assert (done.exit_code, message in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (PLAIN, "a model without conditioning"),
        (EMBEDDED, "a model with embeddings"),
        (MAPPED, "a model with maps of categories"),
        (ENLARGED, "a model that enlarges pictures"),
        (msgspec.structs.replace(DIGITS, architecture="pixelcnn"), "a PixelCNN of 2016 with labels"),
        (None, "a VQ-VAE with labels"),
    ],
)
def test_a_model_of_another_kind_is_named_without_its_dimensions(
    tmp_path: Path, sound: Path, spec: ModelSpec | None, kind: str
) -> None:
    path = tmp_path / "other.safetensors"
    other = small_vqvae.save(path) if spec is None else save(path, spec)
    done = CliRunner().invoke(main, ["--images", "1", str(sound), "--checkpoint", str(other)])
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: {other}: is {kind}, and the engine is a model with labels, so there is nothing to compare: name the "
        "checkpoint that the engine was made from\n"
    )


@pytest.mark.parametrize("options", [{"images": 0}, {"test_images": 0}])
def test_the_api_refuses_nothing_to_compare(checkpoint: Path, sound: Path, options: dict[str, int]) -> None:
    with pytest.raises(Exception, match="expected 1 or more of each"):
        verify(sound, checkpoint, **options)  # type: ignore[arg-type]


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpcnn_export.commands.verify.cli", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_itself_judges_in_another_process(checkpoint: Path, sound: Path) -> None:
    done = command(sound, "--checkpoint", checkpoint, "--images", "2", "--test-images", "5")
    assert done.returncode == 0, done.stderr
    assert "PROVEN" in done.stdout


def test_without_torch_the_message_names_the_extra(tmp_path: Path, checkpoint: Path, sound: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('none here', name='torch')")
    done = command(sound, "--checkpoint", checkpoint, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "Error: gpcnn-verify, which asks eager PyTorch, needs the package 'torch', which is not installed: "
        "pip install 'gpcnn-deploy[train]'"
    )


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; from gpcnn_export.commands.verify.cli import main; main(['--help'], standalone_mode=False); "
    program += "print(sorted({'numpy', 'onnxruntime', 'msgspec', 'rich', 'torch'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
