"""Plans of a VQ-VAE: the step draws codes, the decoder makes pictures of them, and a wrong one is found first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from gpu_here import needs_tensorrt
from small_plans import LABEL, write_plan, write_plan_of
from small_vqvae import SPEC, draft_step, models, write_step_plan
from tensorrt_double import install, nothing_left

from gpcnn_deploy.errors import EngineError, GpcnnError, NotHereError
from gpcnn_deploy.metadata import decoder_path
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.checkpoint_to_onnx import write_engine
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_export.proof.parity import draw_on, prove
from gpcnn_export.proof.pictures import prove_pictures
from gpcnn_runtime.engines.base import Engine, OutOfMemoryError, Result
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.engines.plan_file import Flavor, encode_plan_metadata, metadata_path, read_plan_metadata
from gpcnn_runtime.engines.tensorrt.engine import cache_path
from gpcnn_runtime.engines.tensorrt.load import load_plan_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.samples import Samples
from gpcnn_runtime.serving import BatchSampler, check_images, load_served

FLAVORS = ("tensorrt", "tensorrt-rtx")


def draw(engine: Engine, count: int = 7, **more: object) -> Samples:
    with Sampler(engine) as sampler:
        return sampler.sample([0, 1], seed=5, count=count, **more)  # type: ignore[arg-type]


def assert_equal(found: Samples, expected: Samples) -> None:
    np.testing.assert_array_equal(found.levels, expected.levels)
    assert found.pictures is not None
    assert expected.pictures is not None
    assert np.abs(found.pictures.astype(int) - expected.pictures).max() <= 1


@pytest.mark.parametrize("flavor", FLAVORS)
def test_codes_and_pictures_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavor: str) -> None:
    machine = install(monkeypatch, flavor)
    plan = write_step_plan(tmp_path, flavor)
    expected = draw(load_onnx_engine(plan.with_suffix(".onnx")))
    with nothing_left(machine):
        assert_equal(draw(load_plan_engine(plan)), expected)
        assert_equal(draw(load_plan_engine(plan), strategy="raster"), expected)
    assert len(np.unique(expected.pictures)) > 50
    assert cache_path(decoder_path(plan)).exists() == (flavor == "tensorrt-rtx")


@pytest.mark.parametrize(
    "flavor", [*FLAVORS, *(pytest.param(f"real {name}", marks=pytest.mark.gpu) for name in FLAVORS)]
)
@pytest.mark.parametrize("role", ["step", "sampler"])
def test_the_proof_holds_on_plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, role: str, flavor: str) -> None:
    """`make gpu-test` builds both plans with the TensorRT that is installed, and runs them on the GPU."""
    model, pictures = models()
    engine = draft_step() if role == "step" else draft_engine(model, "sampler", 2, pictures=pictures)
    if flavor.startswith("real "):
        name: Flavor = "tensorrt" if flavor.endswith("tensorrt") else "tensorrt-rtx"
        needs_tensorrt(name)
        write_engine(tmp_path / "network.onnx", engine)
        plan = build_plan(tmp_path / "network.onnx", tmp_path / "model.plan", flavor=name, max_batch=16).plan
    else:
        install(monkeypatch, flavor)
        one_graph = role == "sampler"
        plan = tmp_path / "model.plan"
        plan = (
            write_plan_of(plan, engine.content, engine.metadata, flavor)
            if one_graph
            else write_step_plan(tmp_path, flavor)
        )
    with load_plan_engine(plan) as loaded:
        report = prove(model, draw_on(loaded), (1, 8))
        shown = prove_pictures(model, pictures, loaded)
    assert report.identical + report.near_ties == report.images == 27
    assert (shown.images, shown.pixel_error <= 1) == (24, True)


def test_more_codes_than_the_decoder_takes_are_decoded_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, "tensorrt").max_batch = 3
    plan = write_step_plan(tmp_path, max_batch=3)
    with load_plan_engine(plan) as engine:
        codes = np.arange(7 * 6, dtype=np.int32).reshape(7, 1, 3, 2) % SPEC.codes
        assert engine.decoder is not None  # type: ignore[attr-defined]
        found = engine.decoder.decode(codes)  # type: ignore[attr-defined]
    step = draft_step()
    assert step.decoder is not None
    with step.decoder.load_decoder() as decoder:
        expected = decoder.decode(codes)
    assert found.shape == (7, *SPEC.image_shape)
    assert np.abs(found.astype(int) - expected).max() <= 1


def attempt(plan: Path) -> str | None:
    """Load, draw, close; class and message of the expected error, if one came."""
    try:
        with Sampler(load_plan_engine(plan)) as sampler:
            sampler.sample(1, count=2)
    except GpcnnError as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("flavor", FLAVORS)
def test_each_call_may_fail_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavor: str) -> None:
    machine = install(monkeypatch, flavor)
    plan = write_step_plan(tmp_path, flavor)
    assert attempt(plan) is None
    made = dict(machine.calls)
    names = ["deserialize_cuda_engine", "create_execution_context", "set_input_shape", "set_tensor_address"]
    names += ["execute_async_v3", "cudaMalloc", "cudaMemcpyAsync", "cudaStreamCreateWithFlags"]
    for name in names:
        for time in range(1, made[name] + 1):
            machine.calls.clear()
            machine.fail = {name: time}
            message = attempt(plan)
            machine.fail = {}
            if name == "execute_async_v3" and message is None:  # while a graph is recorded: drawn without
                continue
            assert message is not None, (name, time)
            assert "\n" not in message
            assert machine.leaks() == {}, (name, time)
    assert made["deserialize_cuda_engine"] == made["cudaStreamCreateWithFlags"] == 2


def test_memory_that_the_decoder_lacks_is_told_as_of_the_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    with Sampler(load_plan_engine(write_step_plan(tmp_path))) as sampler:
        sampler.sample(1, count=8)
        machine.calls.clear()
        machine.fail = {"cudaMalloc": 10}  # nine buffers of the step
        with pytest.raises(OutOfMemoryError, match="try --batch-size 2"):
            sampler.sample(1, count=4)
        assert len(sampler.sample(1, count=4)) == 4


def changed(plan: Path) -> None:
    beside = decoder_path(plan)
    beside.write_bytes(beside.read_bytes()[:-1])


def of_other_weights(plan: Path) -> None:
    """A sound decoder, but of another export."""
    model, pictures = models()
    pictures.codebook.neg_()
    other = draft_engine(model, "decoder", class_names=("a", "b"), checkpoint_digest="0" * 64, pictures=pictures)
    write_plan_of(decoder_path(plan), other.content, other.metadata)


def of_another_role(plan: Path) -> None:
    """The step in its decoder's place, and named as such."""
    shutil.copy(plan, decoder_path(plan))
    shutil.copy(metadata_path(plan), metadata_path(decoder_path(plan)))
    name(plan, read_plan_metadata(decoder_path(plan)).digest)


def of_another_model(plan: Path) -> None:
    write_plan(plan.parent / "other", LABEL, None)
    for suffix in (".plan", ".plan.json"):
        shutil.copy(plan.parent / "other" / f"model{suffix}", plan.parent / f"model.decoder{suffix}")
    name(plan, read_plan_metadata(decoder_path(plan)).digest)


def name(plan: Path, digest: str) -> None:
    """Let the plan's metadata name another decoder."""
    metadata = read_plan_metadata(plan)
    engine = msgspec.structs.replace(metadata.engine, decoder_digest=digest)
    metadata_path(plan).write_bytes(encode_plan_metadata(msgspec.structs.replace(metadata, engine=engine)))


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda plan: decoder_path(plan).unlink(), "no such file, but model.plan needs it to make pictures"),
    "without metadata": (
        lambda plan: metadata_path(decoder_path(plan)).unlink(),
        "a plan needs the metadata written beside it",
    ),
    "damaged": (changed, "it was changed or exchanged, and a plan is code; build it anew"),
    "damaged metadata": (
        lambda plan: metadata_path(decoder_path(plan)).write_text("{}"),
        r"metadata is damaged \(.*\): export the plan anew",
    ),
    "of other weights": (of_other_weights, "is not the .* that model.plan was built with: build both anew"),
    "a step": (of_another_role, "is no decoder of the codes of model.plan: build both anew"),
    "of another model": (of_another_model, "is no decoder of the codes of model.plan: build both anew"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_decoder_that_is_not_the_plans_is_found_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_step_plan(tmp_path)
    (tmp_path / "other").mkdir()
    break_it, text = WRONG[kind]
    break_it(plan)
    with pytest.raises(EngineError, match=text) as caught:
        load_plan_engine(plan)
    assert not isinstance(caught.value, NotHereError)  # nothing takes its place
    assert "\n" not in str(caught.value)
    assert machine.calls["deserialize_cuda_engine"] == 0


def test_a_decoder_of_another_tensorrt_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_step_plan(tmp_path)
    beside = metadata_path(decoder_path(plan))
    metadata = read_plan_metadata(decoder_path(plan))
    beside.write_bytes(encode_plan_metadata(msgspec.structs.replace(metadata, tensorrt_version="1.2")))
    with pytest.raises(NotHereError, match=r"was built by tensorrt 1\.2, installed is 99\.1: build it and the plan"):
        load_plan_engine(plan)
    assert machine.leaks() == {}


def test_a_decoder_alone_draws_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "tensorrt")
    plan = write_step_plan(tmp_path)
    with pytest.raises(EngineError, match=r"model\.decoder\.plan is a decoder, which draws nothing: name the plan"):
        load_plan_engine(decoder_path(plan))
    with pytest.raises(EngineError, match=r"model\.decoder\.onnx is a decoder, which draws nothing: name the engine"):
        load_onnx_engine(decoder_path(plan.with_suffix(".onnx")))


def test_where_the_plan_cannot_run_the_model_file_draws_the_codes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, "tensorrt").devices = 0
    plan = write_step_plan(tmp_path)
    model, pictures = models()
    expected = draw(load_onnx_engine(plan.with_suffix(".onnx")))
    with pytest.warns(UserWarning, match=r"model\.onnx runs on the CPU instead: the same codes, and pictures that"):
        assert_equal(draw(Sampler.load(plan).engine), expected)
    content = draft_model_file(model, ("a", "b"), "0" * 64, pictures=pictures).content
    plan.with_suffix(".gpcnn").write_bytes(content)
    with pytest.warns(UserWarning, match=r"model\.gpcnn runs on the CPU instead"):
        assert_equal(draw(Sampler.load(plan).engine), expected)


def test_a_server_draws_with_both_plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "tensorrt")
    model, pictures = models()
    plan = write_step_plan(tmp_path)
    plan.with_suffix(".gpcnn").write_bytes(draft_model_file(model, ("a", "b"), "0" * 64, pictures=pictures).content)
    expected = draw(load_onnx_engine(plan.with_suffix(".onnx")), count=1)
    with BatchSampler(load_served(tmp_path)) as batch:
        assert batch.sampler.engine.info.runtime == "TensorRT"
        label = np.array([[0], [1]], np.int32)
        (answer,) = batch.draw([check_images(batch.sampler.metadata, label=label, seed=np.full_like(label, 5))])
    assert isinstance(answer, Result)
    np.testing.assert_array_equal(answer.levels, expected.levels)
    assert answer.pictures is not None
    assert np.abs(answer.pictures.astype(int) - expected.pixels()).max() <= 1
