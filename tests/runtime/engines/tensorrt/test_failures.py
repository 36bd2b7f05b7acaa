"""Every call of CUDA and TensorRT is made to fail: one message, nothing left behind, and no surprise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from small_plans import LABEL, UNCONDITIONAL, write_plan
from tensorrt_double import Machine, install

from gpcnn_deploy.errors import EngineError, GpcnnError, MissingExtraError, NotHereError
from gpcnn_runtime.engines.base import OutOfMemoryError
from gpcnn_runtime.engines.plan_file import PlanTensor, encode_plan_metadata, metadata_path, read_plan_metadata
from gpcnn_runtime.engines.tensorrt.load import load_plan_engine
from gpcnn_runtime.sampler import Sampler


def attempt(plan: Path) -> str | None:
    """Load, draw twice, close; the class and message of the expected error, if one came."""
    try:
        with Sampler(load_plan_engine(plan)) as sampler:
            for count in (2, 3):
                sampler.sample(1 if sampler.metadata.class_names else None, count=count)
    except GpcnnError as error:
        return f"{type(error).__name__}: {error}"
    return None


# A failure of these costs speed or nothing: the images come all the same.
HARMLESS = {
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaFree",
    "cudaStreamDestroy",
    "recorded enqueue",
    "evaluations",
    "cudaGetErrorString",
}
# The double counts what was not released, even where the release is what was told to fail.
RELEASES = {"cudaGraphDestroy", "cudaGraphExecDestroy", "cudaFree", "cudaStreamDestroy", "cudaStreamEndCapture"}


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("flavor", ["tensorrt", "tensorrt-rtx"])
def test_each_call_may_fail_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavor: str, window: int | None
) -> None:
    machine = install(monkeypatch, flavor)
    plan = write_plan(tmp_path, UNCONDITIONAL, window, flavor)
    assert attempt(plan) is None
    made = dict(machine.calls)
    assert machine.leaks() == {}
    for name, times in made.items():
        often = name in ("cudaMalloc", "set_tensor_address", "set_input_shape", "cudaMemcpyAsync")
        for time in range(1, min(times, 40 if often else 2) + 1):
            machine.calls.clear()
            machine.fail = {name: time}
            message = attempt(plan)
            machine.fail = {}
            if name in HARMLESS:
                assert message is None, (name, time, message)
            else:
                assert message is not None, (name, time)
                assert "\n" not in message
            leaks = machine.leaks()
            if name in RELEASES:
                assert sum(leaks.values()) <= 1, (name, time, leaks)
                machine.live.clear()
                machine.memory.clear()
            else:
                assert leaks == {}, (name, time, leaks)


MESSAGES = {
    "deserialize_cuda_engine": "refuses the plan: double: the plan is not to my liking",
    # A context takes memory for the plan's largest batch, whatever the batch that is drawn.
    "create_execution_context": "not enough GPU memory for the largest batch that it was built for: build it with a "
    "smaller --max-batch: Error Code 2: OutOfMemory (requested 12345 bytes)",
    "set_input_shape": "TensorRT refuses shape [",
    "set_tensor_address": "TensorRT refuses the memory of tensor '",
    "execute_async_v3": "TensorRT could not enqueue the network: double: enqueue refused",
    "cudaMalloc": "not enough memory for 2 images at a time: try --batch-size 1",
    "cudaMemcpyAsync": "cudaMemcpyAsync failed: double says cudaErrorInvalidValue",
    "cudaStreamSynchronize": "cudaStreamSynchronize failed: double says",
    "cudaGraphLaunch": "cudaGraphLaunch failed: double says",
    "cudaGetDeviceCount": "no NVIDIA GPU answers (cudaGetDeviceCount failed",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    machine.fail = {name: 1}
    message = attempt(plan)
    assert message is not None
    assert MESSAGES[name] in message


@pytest.mark.parametrize("name", ["create_runtime_config", "create_runtime_cache", "set_runtime_cache"])
def test_messages_of_rtx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    machine = install(monkeypatch, "tensorrt-rtx")
    plan = write_plan(tmp_path, LABEL, None, "tensorrt-rtx")
    machine.fail = {name: 1}
    message = attempt(plan)
    assert message is not None
    assert "runtime c" in message


def test_memory_that_was_short_is_there_for_the_next_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    with Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None))) as sampler:
        machine.fail = {"cudaMalloc": 4}
        with pytest.raises(OutOfMemoryError, match="try --batch-size 4"):
            sampler.sample(1, count=8)
        assert machine.live["allocations"] == 0
        assert len(sampler.sample(1, count=8)) == 8


@pytest.mark.parametrize(("refusal", "lacking"), [("bad file", False), ("Error 2: OutOfMemory (12 bytes)", True)])
def test_only_what_tensorrt_says_is_taken_for_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: str, lacking: bool
) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.refusal, machine.fail = refusal, {"execute_async_v3": 1}
    folder = tmp_path / "out of memory, allocated"
    folder.mkdir()
    message = attempt(write_plan(folder, LABEL, None))
    assert message is not None
    assert ("try --batch-size 1" in message) == lacking
    assert ("could not enqueue the network: bad file" in message) != lacking


def change(plan: Path, **changes: object) -> None:
    path = metadata_path(plan)
    path.write_bytes(encode_plan_metadata(msgspec.structs.replace(read_plan_metadata(plan), **changes)))


def deserialized(machine: Machine) -> int:
    return machine.calls["deserialize_cuda_engine"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"tensorrt_version": "98.0"},
            "was built by tensorrt 98.0, installed is 99.1: build it here: gpcnn-export CHECKPOINT --format trt; or "
            "make step.onnx elsewhere (gpcnn-export CHECKPOINT --graph step -o step.onnx), copy it here and "
            "gpcnn-export step.onnx --format trt -o model.plan",
        ),
        ({"compute_capabilities": ("7.5", "9.0")}, "runs on GPUs of compute capability 7.5, 9.0; this one has 8.6"),
        ({"platform": "win32-AMD64"}, "was built for win32-AMD64, this is"),
    ],
)
def test_a_plan_of_elsewhere_is_never_deserialized(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    change(plan, **changes)
    with pytest.raises(NotHereError) as caught:
        load_plan_engine(plan)
    assert text in str(caught.value)
    assert deserialized(machine) == 0


def test_a_sampler_of_elsewhere_is_built_from_the_engine_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, "tensorrt")
    with pytest.raises(NotHereError, match=r": build it here: gpcnn-export model\.onnx --format trt$"):
        load_plan_engine(write_plan(tmp_path, LABEL, 2, tensorrt_version="98.0"))


def test_another_flavour_is_never_deserialized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None, "tensorrt-rtx")
    with pytest.raises(MissingExtraError, match=r"pip install 'gpcnn-deploy\[tensorrt-rtx\]'"):
        load_plan_engine(plan)
    assert deserialized(machine) == 0


@pytest.mark.parametrize("flip", [0, 1000, -1])
def test_a_changed_plan_is_never_deserialized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flip: int) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    content = bytearray(plan.read_bytes())
    content[flip] ^= 1
    plan.write_bytes(content)
    with pytest.raises(EngineError, match="it was changed or exchanged, and a plan is code") as caught:
        load_plan_engine(plan)
    assert not isinstance(caught.value, NotHereError)  # no fallback hides it
    assert deserialized(machine) == 0
    assert machine.calls["cudaGetDeviceCount"] == 0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read"),
        (b"", "metadata is damaged"),
        (b"{}", "metadata is damaged"),
        (b"[" * 100_000, "metadata is damaged"),
        (b'{"schema": 99}', "written with plan schema 99, this version reads up to 1: pip install --upgrade"),
        (b" " * (1 << 20 | 1), "this is not a plan's metadata"),
    ],
)
def test_metadata_that_cannot_be_trusted(tmp_path: Path, content: bytes | None, text: str) -> None:
    plan = write_plan(tmp_path, LABEL, None)
    if content is None:
        metadata_path(plan).unlink()
    else:
        metadata_path(plan).write_bytes(content)
    with pytest.raises(EngineError, match=text):
        load_plan_engine(plan)


def test_metadata_that_does_not_fit_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    engine = read_plan_metadata(plan).engine
    change(plan, engine=msgspec.structs.replace(engine, spec=msgspec.structs.replace(engine.spec, height=7)))
    with pytest.raises(EngineError, match=r"input 'image' is int32 \[-1, 1, 6, 5\], expected int32 \[-1, 1, 7, 5\]"):
        load_plan_engine(plan)
    assert machine.leaks() == {}


def _without(tensors: tuple[PlanTensor, ...]) -> tuple[PlanTensor, ...]:
    return ()


def _log_prob_of_one(tensors: tuple[PlanTensor, ...]) -> tuple[PlanTensor, ...]:
    replace = msgspec.structs.replace
    return tuple(replace(tensor, shape=(1,)) if tensor.name == "log_prob" else tensor for tensor in tensors)


def _wider_profile(tensors: tuple[PlanTensor, ...]) -> tuple[PlanTensor, ...]:
    noise = next(tensor for tensor in tensors if tensor.name == "noise")
    wider = ((1, 1, 6, 5), (8, 1, 6, 5), (9999, 1, 6, 5))
    return (*(tensor for tensor in tensors if tensor is not noise), msgspec.structs.replace(noise, profile=wider))


@pytest.mark.parametrize(
    ("described", "name"),
    [(_without, "input 'image'"), (_log_prob_of_one, "output 'log_prob'"), (_wider_profile, "input 'noise'")],
)
def test_metadata_of_other_tensors(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    described: Callable[[tuple[PlanTensor, ...]], tuple[PlanTensor, ...]],
    name: str,
) -> None:
    """Memory is allocated for what the plan says of itself, never for what the file beside it says."""
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    change(plan, tensors=described(read_plan_metadata(plan).tensors))
    with pytest.raises(EngineError, match=rf"model\.plan\.json: {name} is not as the plan itself has it"):
        load_plan_engine(plan)
    assert machine.leaks() == {}


@pytest.mark.parametrize("fixed", [True, False])
def test_a_plan_of_one_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fixed: bool) -> None:
    """TensorRT may say a batch that is always 1 is fixed, or leave it open."""
    install(monkeypatch, "tensorrt").max_batch = 1
    plan = write_plan(tmp_path, LABEL, None, max_batch=1, opt_batch=1)
    tensors = read_plan_metadata(plan).tensors
    if fixed:
        replace = msgspec.structs.replace
        change(plan, tensors=tuple(replace(one, shape=tuple(map(abs, one.shape)), profile=None) for one in tensors))
    with Sampler(load_plan_engine(plan)) as sampler:
        assert sampler.batch_size == 1
        assert len(sampler.sample(1, count=2)) == 2


def test_more_images_than_the_plan_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.max_batch = 2
    plan = write_plan(tmp_path, LABEL, None, max_batch=2, opt_batch=2)
    change(plan, max_batch=1000)  # the plan's own profile decides
    with Sampler(load_plan_engine(plan)) as sampler:
        assert sampler.batch_size == 2
        assert len(sampler.sample(1, count=5)) == 5


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.devices = 0
    with pytest.raises(NotHereError, match="no NVIDIA GPU answers"):
        load_plan_engine(write_plan(tmp_path, LABEL, None))


def test_a_closed_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    sampler = Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None)))
    sampler.close()
    sampler.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        sampler.sample(1)
    assert machine.leaks() == {}


def test_a_gpu_that_refuses_a_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.fail = {"cudaStreamCreateWithFlags": 1}
    with pytest.raises(NotHereError, match=r"this GPU cannot be used \(cudaStreamCreateWithFlags failed"):
        load_plan_engine(write_plan(tmp_path, LABEL, None))
    assert machine.leaks() == {}
