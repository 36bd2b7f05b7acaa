"""The native engine as the runtime drives it: ctypes, threads, cancellation, errors; and the example in C."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract_models import (
    SPECS,
    contract,
    eager_condition,
    hash_words,
    recipe_file,
    recipe_inputs,
    recipe_weights,
)

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.base import OutOfMemoryError, Request
from gpcnn_runtime.engines.cancel import Cancellation, Cancelled
from gpcnn_runtime.engines.native import library
from gpcnn_runtime.engines.native.library import (
    CancelledError,
    NativeModel,
    cancel_flag,
    instruction_sets,
    load_library,
)
from gpcnn_runtime.engines.native.load import load_native_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached, score

NATIVE = Path(__file__).parents[2] / "runtime" / "native"
LABELS, COLOUR = SPECS["17 levels, labels"], SPECS["colour, 256 levels"]
SLOW = ModelSpec(height=64, width=64, features=64, layers=8, head_features=16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.gpcnn").write_bytes(recipe_file(LABELS))
    return tmp_path / "model.gpcnn"


def eager(spec: ModelSpec) -> GatedPixelCNN:
    model = GatedPixelCNN(spec).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in recipe_weights(spec).items()})
    return model


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("instructions", instruction_sets())
@pytest.mark.parametrize("reproducible", [False, True])
def test_images_and_bits_are_those_of_the_contract(name: str, instructions: str, reproducible: bool) -> None:
    """tests/native/targets.py compares the same hashes on other CPUs, and with eager PyTorch."""
    model = NativeModel(recipe_file(SPECS[name]), name, reproducible, instructions)
    levels, log_prob, evaluations = model.draw(**recipe_inputs(SPECS[name]))
    written = contract()["hashes"][name]
    assert hash_words(levels) == written["image"]
    assert model.instructions.startswith(instructions)
    assert hash_words(log_prob) == written["fused" if "fused" in model.instructions else "unfused"]
    assert evaluations > 0


@pytest.mark.parametrize("name", SPECS)
def test_completions_and_scores_are_those_of_eager_pytorch(name: str) -> None:
    spec, model = SPECS[name], eager(SPECS[name])
    inputs = recipe_inputs(spec)
    given = eager_condition(spec, inputs)
    condition = None if given is None else torch.from_numpy(given)
    draw = np.random.default_rng(0)
    known = draw.integers(0, spec.levels, inputs["noise"].shape, np.int32)
    mask = draw.random(known.shape) < 0.4
    wanted, wanted_log_prob = sample_cached(
        model, torch.from_numpy(inputs["noise"]), condition, torch.from_numpy(known), torch.from_numpy(mask)
    )
    native = NativeModel(recipe_file(spec), name)
    levels, log_prob, _ = native.draw(known=known, mask=mask, **inputs)
    assert np.array_equal(levels, wanted.numpy())
    np.testing.assert_allclose(log_prob, wanted_log_prob.numpy(), rtol=0, atol=1e-4)
    levels, log_prob, _ = native.draw(known=known, mask=np.ones_like(mask), **inputs)
    assert np.array_equal(levels, known)
    np.testing.assert_allclose(log_prob, score(model, torch.from_numpy(known), condition).numpy(), rtol=0, atol=1e-4)


def test_a_sampler_drives_it(path: Path) -> None:
    with Sampler(load_native_engine(path), threads=2) as sampler:
        alone = [sampler.sample(2, seed=7, first=k) for k in range(9)]
        together = sampler.sample(2, seed=7, count=9)
        assert sampler.engine.concurrent
        assert sampler.engine.info.runtime == "native engine"
        assert sampler.engine.info.content == path.read_bytes()
    assert np.array_equal(together.levels, np.concatenate([samples.levels for samples in alone]))
    assert np.array_equal(together.log_prob, np.concatenate([samples.log_prob for samples in alone]))


def test_every_window_draws_the_same(path: Path) -> None:
    noises = noise(LABELS, 3, 4)
    request = Request(
        noises, np.zeros(noises.shape, np.int32), np.zeros(noises.shape, np.bool_), np.arange(4, dtype=np.int32)
    )
    results = [load_native_engine(path, window).run(request) for window in range(LABELS.width + 1)]
    for result in results:
        assert np.array_equal(result.levels, results[0].levels)
        assert np.array_equal(result.log_prob, results[0].log_prob)
    assert results[1].evaluations == LABELS.height * LABELS.width
    with pytest.raises(UsageError, match="window is 9: expected 0 to 8"):
        load_native_engine(path, LABELS.width + 1)


def test_threads_draw_at_the_same_time_and_share_nothing(path: Path) -> None:
    model = NativeModel(path.read_bytes(), "model.gpcnn")
    wanted = {k: model.draw(noise(LABELS, k, 2), label=np.full(2, k % 4, np.int32)) for k in range(12)}
    faults: list[int] = []

    def work(k: int) -> None:
        for _ in range(5):
            levels, log_prob, _ = model.draw(noise(LABELS, k, 2), label=np.full(2, k % 4, np.int32))
            if not (np.array_equal(levels, wanted[k][0]) and np.array_equal(log_prob, wanted[k][1])):
                faults.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_other_python_threads_run_meanwhile() -> None:
    model = NativeModel(recipe_file(SLOW), "slow")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (model.draw(noise(SLOW, 0, 4)), done.set()))
    thread.start()
    turns = 0
    while not done.is_set():
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns > 10


def test_cancelling_ends_a_call_early() -> None:
    model = NativeModel(recipe_file(SLOW), "slow")
    begin = time.perf_counter()
    model.draw(noise(SLOW, 0, 8))
    whole = time.perf_counter() - begin
    flag, stop = cancel_flag()
    threading.Timer(whole / 10, stop).start()
    begin = time.perf_counter()
    with pytest.raises(CancelledError):
        model.draw(noise(SLOW, 0, 8), cancel=flag)
    assert time.perf_counter() - begin < whole * 0.8


def test_a_request_that_was_called_off(path: Path) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    noises = noise(LABELS, 3, 1)
    blank = np.zeros(noises.shape, np.int32)
    request = Request(noises, blank, blank.astype(bool), np.zeros(1, np.int32), cancellation=cancellation)
    with load_native_engine(path) as engine, pytest.raises(Cancelled):
        engine.run(request)


def test_a_closed_engine_and_a_schedule_that_it_has_not(path: Path) -> None:
    noises = noise(LABELS, 3, 1)
    blank = np.zeros(noises.shape, np.int32)
    request = Request(noises, blank, blank.astype(bool), np.zeros(1, np.int32))
    engine = load_native_engine(path)
    with pytest.raises(UsageError, match="leave --strategy out"):
        engine.run(request, "raster")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed: load it again"):
        engine.run(request)


def test_what_the_library_refuses(path: Path) -> None:
    model = NativeModel(path.read_bytes(), "model.gpcnn")
    noises = noise(LABELS, 0, 2)
    good, blank = np.zeros(2, np.int32), np.zeros(noises.shape, np.int32)
    everywhere = np.ones(noises.shape, np.bool_)
    for wrong in (
        {"label": np.array([0, 4], np.int32)},
        {"label": np.array([-1, 0], np.int32)},
        {"label": None},
        {"label": good, "known": blank + 17, "mask": everywhere},
        {"label": good, "known": blank - 1, "mask": everywhere},
        {"label": good, "temperature": -1.0},
        {"label": good, "temperature": float("nan")},
        {"label": good, "window": 9},
    ):
        with pytest.raises(EngineError, match="argument is missing or out of range"):
            model.draw(noises, **wrong)
    for value in (np.nan, 1.0, -0.1):
        with pytest.raises(EngineError, match="argument is missing or out of range"):
            model.draw(np.full_like(noises, value), label=good)


def test_arrays_that_c_would_misread(path: Path) -> None:
    model = NativeModel(path.read_bytes(), "model.gpcnn")
    noises, good = noise(LABELS, 0, 2), np.zeros(2, np.int32)
    for arguments in (
        (noises.astype(np.float64), None, None, good),
        (noises[:, :, :4], None, None, good),
        (noises[:, :, ::-1], None, None, good),
        (noises, None, None, np.zeros(3, np.int32)),
        (noises, None, None, np.zeros(2, np.int64)),
        (noises, np.zeros(noises.shape, np.int32), np.zeros(noises.shape, np.int32), good),
        (noises, None, None, good, np.zeros((2, 4), np.float64)),
    ):
        with pytest.raises(ValueError, match="expected contiguous"):
            model.draw(*arguments)


def test_a_batch_that_no_memory_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = NativeModel(path.read_bytes(), "model.gpcnn")

    def full(size: int) -> None:
        raise MemoryError

    monkeypatch.setattr(library, "aligned", full)
    with pytest.raises(OutOfMemoryError, match="not enough memory for 2 images at a time"):
        model.draw(noise(LABELS, 0, 2), label=np.zeros(2, np.int32))
    with pytest.raises(OutOfMemoryError, match="no memory for the weights"):
        NativeModel(path.read_bytes(), "model.gpcnn")


def test_instructions_that_this_cpu_has_not() -> None:
    with pytest.raises(EngineError, match="this CPU has no x86-64-v9: expected one of "):
        NativeModel(recipe_file(LABELS), "model.gpcnn", instructions="x86-64-v9")


def test_the_library_refuses_a_damaged_file_by_itself() -> None:
    content = recipe_file(LABELS)
    with pytest.raises(EngineError, match=r"x: the native engine refuses it \(.*damaged\): export it anew"):
        NativeModel(content[:-4], "x")
    newer = content.replace(b'\\"schema\\":1', b'\\"schema\\":2')
    with pytest.raises(EngineError, match="pip install --upgrade gpcnn-deploy"):
        NativeModel(newer, "x")


def test_a_library_that_is_missing_foreign_or_old(tmp_path: Path, compile_c: Callable[..., Path]) -> None:
    with pytest.raises(EngineError, match=r"missing .*: compile it with python runtime/native/build\.py"):
        load_library(tmp_path / "libgpcnn.so")
    (tmp_path / "foreign.so").write_bytes(b"MZ")
    with pytest.raises(EngineError, match="cannot be loaded"):
        load_library(tmp_path / "foreign.so")
    (tmp_path / "old.c").write_text("unsigned gpcnn_abi(void) { return 0; }\n")
    old = compile_c("old.so", [str(tmp_path / "old.c")], "-shared", "-fPIC")
    with pytest.raises(EngineError, match=r"cannot be loaded .*undefined symbol"):
        load_library(old)


def test_workspaces_are_reused(path: Path) -> None:
    model = NativeModel(path.read_bytes(), "model.gpcnn")
    label = np.zeros(64, np.int32)
    model.draw(noise(LABELS, 0, 64), label=label)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        model.draw(noise(LABELS, 0, 1), label=label[:1])
    assert len(model._idle) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 20 * model._idle[0].nbytes // 4096 // 4


def test_the_runtime_needs_numpy_alone(path: Path) -> None:
    """Neither ONNX Runtime nor torch is imported."""
    code = (
        "import sys; from pathlib import Path; from gpcnn_runtime.engines.native.load import load_native_engine\n"
        f"load_native_engine(Path({str(path)!r}))\n"
        "assert not {'onnxruntime', 'torch', 'onnx', 'safetensors'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def picture(path: Path) -> npt.NDArray[np.uint8]:
    """Pixels of a PGM or PPM file: uint8 [C, H, W]."""
    kind, size, most, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    channels = {b"P5": 1, b"P6": 3}[kind]
    assert most == b"255"
    return np.frombuffer(pixels, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def example(compile_c: Callable[..., Path]) -> Path:
    """The C example, linked to the library as a user would."""
    folder = library.LIBRARY.parent
    return compile_c("draw", ["examples/draw.c"], f"-L{folder}", "-lgpcnn", f"-Wl,-rpath,{folder}")


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (LABELS, 3),
        (COLOUR, None),
        *((ModelSpec(height=5, width=20, levels=levels, features=4, layers=2), None) for levels in (2, 3, 7, 11, 31)),
    ],
    ids=lambda value: f"{value.levels} levels" if isinstance(value, ModelSpec) else "",
)
def test_the_example_draws_what_python_draws(example: Path, tmp_path: Path, spec: ModelSpec, label: int | None) -> None:
    """Of 3, 7, 11 and 31 levels, some lie halfway between two pixel values."""
    (tmp_path / "model.gpcnn").write_bytes(recipe_file(spec))
    command = [example, tmp_path / "model.gpcnn", tmp_path / "picture", "11", *([] if label is None else [str(label)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    with Sampler(load_native_engine(tmp_path / "model.gpcnn")) as sampler:
        wanted = sampler.sample(label, seed=11)
    assert np.array_equal(picture(tmp_path / "picture"), pixels_from_levels(wanted.levels, spec.levels)[0])


def test_the_example_says_what_is_wrong(example: Path, path: Path) -> None:
    for arguments, reason in [
        ([], "usage: draw MODEL PICTURE"),
        ([path, "/dev/null", "1", "4"], "label: the model has no such label"),
        ([path, "/dev/null", "-1"], "-1: expected a number"),
        ([path.parent / "none", "/dev/null"], "No such file"),
        ([path.parent, "/dev/null"], "draw: "),
        ([__file__, "/dev/null"], "no model file, or it is damaged"),
        ([path, path.parent / "no" / "folder"], "No such file"),
    ]:
        done = subprocess.run([example, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_file_that_is_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EngineError, match=r"damaged: it has .* bytes, expected .*: export it anew"):
        load_native_engine(path)


CPP_MAIN = """
#include <cstdio>
#include <fstream>
#include <iterator>
int main(int, char **arguments) {
  std::ifstream stream(arguments[1], std::ios::binary);
  const std::vector<char> file{std::istreambuf_iterator<char>(stream), {}};
  for (std::int32_t level : draw(file, 11, 3)) std::printf("%d ", int(level));
}
"""


def test_the_readme_s_cpp_draws_what_python_draws(path: Path, tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here: c++, g++ and clang++ are missing")
    text = (NATIVE / "README.md").read_text()
    source, program = tmp_path / "draw.cpp", tmp_path / "draw"
    source.write_text(text.split("```cpp\n")[1].split("```")[0] + CPP_MAIN)
    folder = library.LIBRARY.parent
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", NATIVE / "include", source, "-o", program]
    subprocess.run([*command, f"-L{folder}", "-lgpcnn", f"-Wl,-rpath,{folder}"], check=True)
    drawn = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout.split()
    with Sampler(load_native_engine(path)) as sampler:
        wanted = sampler.sample(3, seed=11)
    assert [int(level) for level in drawn] == wanted.levels.ravel().tolist()
