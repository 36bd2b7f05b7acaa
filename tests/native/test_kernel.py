"""The C kernel draws what eager PyTorch draws, with the same bits whatever computes it."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gpcnn_c import Library, Model, Refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpcnn_deploy.model_file import decode_model_file
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.conditionals import conditionals
from gpcnn_training.divergence import NEAR_TIE, first_divergences
from gpcnn_training.model import GatedPixelCNN

NATIVE = Path(__file__).parents[2] / "runtime" / "native"
BAD_ARGUMENT, OUT_OF_MEMORY, CANCELLED = 3, 4, 5

SPECS = {
    "binary, minimal filtering of 5 taps": ModelSpec(
        height=6, width=13, layers=3, kernel_size=5, conditioning="label", conditioning_size=10
    ),
    "colour, 256 levels, 3 taps": ModelSpec(height=4, width=9, channels=3, levels=256, features=16, layers=3),
    "odd sizes, 7 taps, an embedding": ModelSpec(
        height=5,
        width=6,
        channels=3,
        levels=17,
        features=33,
        layers=3,
        first_kernel_size=5,
        kernel_size=7,
        head_features=7,
        conditioning="embedding",
        conditioning_size=5,
    ),
    "few features, plain form": ModelSpec(height=4, width=7, features=3, layers=2, kernel_size=9, head_features=5),
    "one column, one layer, one feature": ModelSpec(height=5, width=1, features=1, layers=1, levels=3),
    "a mixture in colour, 256 levels": ModelSpec(
        height=4, width=9, channels=3, levels=256, features=16, layers=3, head="mixture", mixtures=10
    ),
    "a mixture in grey, labels": ModelSpec(
        height=4,
        width=5,
        levels=17,
        features=9,
        layers=2,
        head_features=7,
        conditioning="label",
        conditioning_size=10,
        head="mixture",
        mixtures=33,
    ),
    "one logistic, two levels": ModelSpec(height=4, width=5, features=5, layers=2, head="mixture", mixtures=1),
    "one row, widest kernels": ModelSpec(height=1, width=8, features=8, first_kernel_size=63, kernel_size=63, layers=3),
}


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


build = load_script(NATIVE / "build.py")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The library that an install of this machine gets."""
    return Library(build.build_library(build.host(), tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="session")
def libraries(library: Library, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Library]:
    """The same source by each C compiler here; by GCC, with vectors and tiles of AVX-512 compiled for AVX2."""
    found = {"installed": library}
    host = build.host()
    if host.name != "x86-64-linux":
        return found
    v2, v3, v4 = host.sets
    unused = dataclasses.replace(v4, vector_bytes=16, tiles="4x2")  # no need to compile AVX-512 again
    wide = dataclasses.replace(v3, vector_bytes=v4.vector_bytes, tiles=v4.tiles)
    for name, third in (("gcc", wide), ("clang", v3)):
        path = shutil.which(name)
        if path is not None:
            target = dataclasses.replace(host, sets=(v2, third, unused))
            folder = tmp_path_factory.mktemp("library")
            found[name] = Library(build.build_library(target, folder, build.Compiler((path,), name)))
    return found


def eager(file: bytes) -> GatedPixelCNN:
    """The PyTorch model of a model file."""
    metadata, weights = decode_model_file(file, "test")
    model = GatedPixelCNN(metadata.spec)
    model.load_state_dict({name: torch.from_numpy(np.array(weight)) for name, weight in weights.items()})
    return model.eval()


def conditions(spec: ModelSpec, count: int) -> dict[str, Any]:
    draw = np.random.default_rng(count)
    if spec.conditioning == "label":
        return {"label": draw.integers(0, spec.conditioning_size, count)}
    if spec.conditioning == "embedding":
        return {"embedding": draw.standard_normal((count, spec.conditioning_size)).astype(np.float32)}
    return {}


def prove(
    model: GatedPixelCNN,
    drawn: tuple[np.ndarray, np.ndarray, int],
    uniforms: np.ndarray,
    condition: dict[str, Any],
    mask: np.ndarray | None = None,
    temperature: float = 1,
) -> None:
    """The images are eager PyTorch's, but for proven near-ties; log-probabilities are within 1e-4."""
    levels, log_prob, _ = drawn
    assert levels.min() >= 0
    assert levels.max() < model.spec.levels
    given_condition = next((torch.from_numpy(value) for value in condition.values()), None)
    image = torch.from_numpy(levels)
    with torch.no_grad():
        given = conditionals(model.spec, model(image, given_condition), image)
    known = torch.zeros(levels.shape, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    found = first_divergences(given, image, torch.from_numpy(uniforms), known, temperature)
    assert all(divergence.worst < NEAR_TIE for divergence in found), [str(divergence) for divergence in found]
    allowed = 1e-4 + 1e-5 * given.log_probability(image).abs()
    assert (given.log_prob_error(image, torch.from_numpy(log_prob)) <= allowed).all()


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    conditioning = draw(st.sampled_from(["none", "label", "embedding"]))
    categorical = draw(st.booleans())
    mixture = not categorical and draw(st.booleans())
    return ModelSpec(
        height=draw(st.integers(1, 6)),
        width=draw(st.integers(1, 11)),
        channels=draw(st.sampled_from([1, 3])),
        levels=draw(st.sampled_from([2, 3, 16, 17, 31, 256, *([300, 4096] if categorical else [])])),
        features=draw(st.integers(1, 40)),
        layers=draw(st.integers(1, 4)),
        first_kernel_size=draw(st.sampled_from([3, 5, 7, 9])),
        kernel_size=draw(st.sampled_from([3, 5, 7, 9, 11])),
        head_features=draw(st.integers(1, 40)),
        conditioning=conditioning,
        conditioning_size=0 if conditioning == "none" else draw(st.integers(1, 9)),
        input="categorical" if categorical else "values",
        input_size=draw(st.integers(1, 19)) if categorical else 0,
        head="mixture" if mixture else "categorical",
        mixtures=draw(st.sampled_from([1, 2, 10, 16, 17, 128])) if mixture else 0,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=specs(),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 14),
    window=st.integers(0, 11),
    temperature=st.sampled_from([1.0, 0.5, 1.7]),
    share_known=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_every_model_is_drawn_as_by_eager_pytorch(
    library: Library,
    model_file: Any,
    spec: ModelSpec,
    seed: int,
    count: int,
    window: int,
    temperature: float,
    share_known: float | None,
) -> None:
    file = model_file(spec, seed)
    uniforms, condition = noise(spec, seed, count), conditions(spec, count)
    known = mask = None
    if share_known is not None:
        draw = np.random.default_rng(seed)
        mask = draw.random(uniforms.shape) < share_known
        known = draw.integers(0, spec.levels, uniforms.shape).astype(np.int32)
    drawn = Model(library, file).draw(
        uniforms, **condition, known=known, mask=mask, temperature=temperature, window=min(window, spec.width)
    )
    if mask is not None:
        assert (drawn[0][mask] == known[mask]).all()
    prove(eager(file), drawn, uniforms, condition, mask, temperature)


@pytest.mark.parametrize("name", SPECS)
def test_bits_depend_on_the_model_and_the_class_of_rounding_alone(
    libraries: dict[str, Library], model_file: Any, name: str
) -> None:
    spec, seen, images = SPECS[name], {}, set()
    file = model_file(spec)
    for which, library in libraries.items():
        for instructions in library.instruction_sets():
            for reproducible in (False, True):
                model = Model(library, file, instructions, reproducible)
                fused = "fused" in model.text
                assert not (fused and reproducible)
                for count in (1, 2, 5, 15):
                    for window in (0, 1, 2, spec.width):
                        condition = {key: value[:count] for key, value in conditions(spec, 15).items()}
                        levels, log_prob, _ = model.draw(
                            noise(spec, 1, count), **condition, window=min(window, spec.width)
                        )
                        images.add(levels[0].tobytes())
                        for image in range(count):
                            bits = log_prob[image].tobytes()
                            wanted = seen.setdefault((fused, image), bits)
                            assert bits == wanted, (which, model.text, count, window, image)
    assert len(images) == 1
    assert len(seen) == 15 * len({fused for fused, _ in seen})


@pytest.mark.parametrize("name", SPECS)
def test_a_known_image_is_scored_with_the_bits_it_was_drawn_with(library: Library, model_file: Any, name: str) -> None:
    spec = SPECS[name]
    model, condition = Model(library, model_file(spec)), conditions(spec, 2)
    levels, log_prob, _ = model.draw(noise(spec, 4, 2), **condition)
    scored = model.draw(None, images=2, **condition, known=levels, mask=np.ones(levels.shape, bool))
    assert (scored[0] == levels).all()
    assert scored[1].tobytes() == log_prob.tobytes()
    assert scored[2] == spec.height  # one window a row


def test_a_completion_keeps_the_bits_of_the_image_it_comes_from(library: Library, model_file: Any) -> None:
    spec = SPECS["colour, 256 levels, 3 taps"]
    model, uniforms = Model(library, model_file(spec)), noise(spec, 5, 3)
    levels, log_prob, evaluations = model.draw(uniforms)
    mask = np.zeros(levels.shape, bool)
    mask[:, :, 1:3, 2:6] = True
    again = model.draw(uniforms, known=levels, mask=mask)
    assert (again[0] == levels).all()
    assert again[1].tobytes() == log_prob.tobytes()
    assert again[2] < evaluations


def test_log_probabilities_may_be_left_out(library: Library, model_file: Any) -> None:
    spec = SPECS["binary, minimal filtering of 5 taps"]
    model, condition = Model(library, model_file(spec)), conditions(spec, 2)
    wanted = model.draw(noise(spec, 6, 2), **condition)
    levels, log_prob, _ = model.draw(noise(spec, 6, 2), **condition, want_log_prob=False)
    assert (levels == wanted[0]).all()
    assert np.isnan(log_prob).all()


def test_rows_are_reported_and_a_batch_can_be_cancelled_between_them(library: Library, model_file: Any) -> None:
    spec = ModelSpec(height=7, width=5, features=4, layers=2)
    model, cancel, rows = Model(library, model_file(spec)), np.zeros(1, np.int32), []
    model.draw(noise(spec, 1, 2), on_row=lambda _, row: rows.append(row), cancel=cancel)
    assert rows == list(range(7))

    def stop(_: Any, row: int) -> None:
        rows.append(row)
        cancel[0] = row == 3

    rows.clear()
    with pytest.raises(Refused) as refused:
        model.draw(noise(spec, 1, 2), on_row=stop, cancel=cancel)
    assert refused.value.status == CANCELLED
    assert rows == [0, 1, 2, 3]


def test_a_hot_and_a_cold_image_differ_and_score_under_the_model_itself(library: Library, model_file: Any) -> None:
    spec = ModelSpec(height=6, width=6, levels=16, features=8, layers=2)
    model, uniforms = Model(library, model_file(spec)), noise(spec, 2, 4)
    cold, hot = model.draw(uniforms, temperature=0.2), model.draw(uniforms, temperature=3)
    assert cold[1].mean() > hot[1].mean() + 0.5
    scored = model.draw(None, images=4, known=cold[0], mask=np.ones(cold[0].shape, bool))
    assert scored[1].tobytes() == cold[1].tobytes()


@pytest.mark.parametrize("spec", [ModelSpec(height=3, width=5), ModelSpec(height=4, width=3, channels=3)])
@pytest.mark.parametrize(("seed", "first"), [(0, 0), (7, 3), (2**64 - 1, 2**64 - 9)])
def test_noise_is_that_of_the_contract(
    library: Library, model_file: Any, spec: ModelSpec, seed: int, first: int
) -> None:
    assert library.noise(library.inspect(model_file(spec)).spec, seed, 4, first).tobytes() == (
        noise(spec, seed, 4, first).tobytes()
    )


def test_a_request_that_is_out_of_range_is_refused(library: Library, model_file: Any) -> None:
    spec = ModelSpec(height=2, width=3, levels=4, features=4, layers=2, conditioning="label", conditioning_size=3)
    model, uniforms = Model(library, model_file(spec)), noise(spec, 0, 2)
    good: dict[str, Any] = {"noise": uniforms, "label": [0, 2]}
    model.draw(**good)
    mask, known = np.ones(uniforms.shape, bool), np.zeros(uniforms.shape, np.int32)
    for change in (
        {"label": [0, 3]},
        {"label": [-1, 0]},
        {"label": None},
        {"noise": None, "images": 2},
        {"noise": np.where(uniforms > 0.5, 1, uniforms)},
        {"noise": np.where(uniforms > 0.5, np.nan, uniforms)},
        {"noise": uniforms - 1},
        {"temperature": -1},
        {"temperature": np.nan},
        {"temperature": np.inf},
        {"window": 4},
        {"mask": mask},
        {"mask": mask, "known": known + 4},
        {"mask": mask, "known": known - 1},
        {"noise": uniforms[:0]},
    ):
        with pytest.raises(Refused) as refused:
            model.draw(**{**good, **change})
        assert refused.value.status == BAD_ARGUMENT, change


def test_memory_that_is_too_small_or_misaligned_is_refused(library: Library, model_file: Any) -> None:
    spec = ModelSpec(height=2, width=3, features=4, layers=2)
    file = model_file(spec)
    model, pointer = Model(library, file), ctypes.c_void_p()
    for start, size in ((0, model.info.model_bytes - 1), (4, model.info.model_bytes)):
        at = model.memory.ctypes.data + start
        status = library.c.gpcnn_load_with(None, file, len(file), at, size, ctypes.byref(pointer))
        assert status == OUT_OF_MEMORY
    assert library.c.gpcnn_workspace_bytes(model.pointer, 0) == 0
    model.spaces[2] = (library.c.gpcnn_workspace_bytes(model.pointer, 2) - 1, np.full(1 << 20, 0xFF, np.uint8))
    with pytest.raises(Refused) as refused:
        model.draw(noise(spec, 0, 2))
    assert refused.value.status == OUT_OF_MEMORY


def test_the_workspace_of_a_large_batch_is_bounded(library: Library, model_file: Any) -> None:
    model = Model(library, model_file(ModelSpec(height=1, width=1 << 20, features=64, layers=40, levels=256)))
    sizes = [library.c.gpcnn_workspace_bytes(model.pointer, count) for count in (1, 2, 100, 1 << 20, (1 << 32) - 1)]
    assert 1 << 30 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[3] < 2 * sizes[2]  # a large batch is drawn in groups, in the workspace of one
    assert sizes[4] < 2 * sizes[2]


def test_an_instruction_set_that_is_not_there_is_refused(library: Library, model_file: Any) -> None:
    file = model_file(ModelSpec(height=2, width=2, features=2, layers=1))
    assert library.instruction_sets()
    with pytest.raises(Refused) as refused:
        Model(library, file, "mmx")
    assert refused.value.status == BAD_ARGUMENT


def test_the_tiles_are_those_that_their_script_writes() -> None:
    tiles = load_script(NATIVE / "src" / "tiles.py")
    for (rows, vectors), registers in tiles.SHAPES.items():
        assert (NATIVE / "src" / f"tiles_{rows}x{vectors}.h").read_text(encoding="utf-8") == (
            tiles.header(rows, vectors, registers)
        )


def test_an_instruction_set_takes_at_most_115_kilobytes(library: Library) -> None:
    assert Path(library.c._name).stat().st_size <= 115_000 * len(build.host().sets)
