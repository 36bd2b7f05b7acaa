"""Plans on a real GPU draw what eager PyTorch and the CPU draw. The same tests run on the double everywhere.

`make gpu-test` runs those marked `gpu`: each builds its plan with the TensorRT that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu_here import needs_tensorrt
from small_engines import Make, model_of
from small_plans import LABEL, SPECS, write_plan
from tensorrt_double import install

from gpcnn_deploy.metadata import Precision
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_export.proof.parity import compare, draw_on, feeds, prove
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.engines.plan_file import Flavor
from gpcnn_runtime.engines.tensorrt.engine import PlanEngine
from gpcnn_runtime.engines.tensorrt.load import load_plan_engine

Build = Callable[[ModelSpec, int | None], Path]
ROLES = pytest.mark.parametrize("window", [None, 2], ids=["step", "sampler"])
KINDS = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def flavor(request: pytest.FixtureRequest) -> Flavor:
    return request.param  # type: ignore[no-any-return]


def plan_of(
    folder: Path, make: Make, flavor: Flavor, spec: ModelSpec, window: int | None, precision: Precision
) -> Path:
    plan = folder / f"{'step' if window is None else window}.plan"
    build_plan(make(spec, window), plan, flavor=flavor, precision=precision, max_batch=16)
    return plan


@pytest.fixture(params=["double", pytest.param("gpu", marks=pytest.mark.gpu)])
def build(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make, flavor: Flavor
) -> Build:
    """build(spec, window) → a plan that runs here: on the real GPU, or on the double."""
    if request.param == "double":
        install(monkeypatch, flavor)
        return lambda spec, window: write_plan(tmp_path, spec, window, flavor)
    needs_tensorrt(flavor)
    return lambda spec, window: plan_of(tmp_path, make, flavor, spec, window)


@ROLES
@KINDS
def test_images_are_those_of_eager_pytorch(build: Build, spec: ModelSpec, window: int | None) -> None:
    with load_plan_engine(build(spec, window)) as engine:
        report = prove(model_of(spec), draw_on(engine), (1, 8, 16))
    assert report.images == 3 * (1 + 8 + 16)
    assert report.identical + report.near_ties == report.images
    assert report.near_ties <= 1  # they are proven, and rare


@ROLES
@KINDS
def test_images_are_those_of_the_cpu(build: Build, make: Make, spec: ModelSpec, window: int | None) -> None:
    equal = images = 0
    with load_plan_engine(build(spec, window)) as gpu, load_engine(make(spec, window)) as cpu:
        for feed in feeds(spec, 8):
            (found, found_log_prob), (expected, log_prob) = draw_on(gpu)(feed), draw_on(cpu)(feed)
            same = (found == expected).all(axis=(1, 2, 3))
            np.testing.assert_allclose(found_log_prob[same], log_prob[same], rtol=0, atol=1e-4)
            equal, images = equal + int(same.sum()), images + len(same)
    assert equal >= images - 1  # a near-tie, which the test above proves to be one


def test_every_batch_size_and_strategy_draws_the_same(build: Build) -> None:
    """One image at a time, all at once, again from a replayed graph, and pixel by pixel in raster order."""
    feed = feeds(LABEL, 7)[0]
    with load_plan_engine(build(LABEL, None)) as engine:
        whole, _ = draw_on(engine)(feed)
        again, _ = draw_on(engine)(feed)
        raster, _ = draw_on(engine, "raster")(feed)
        parts = []
        for k in range(7):
            one = {name: array if array.ndim == 0 else array[k : k + 1] for name, array in feed.items()}
            parts.append(draw_on(engine)(one)[0])
        assert isinstance(engine, PlanEngine)
        assert engine.launched(7)[0] > 0
    np.testing.assert_array_equal(again, whole)
    for other in (raster, np.concatenate(parts)):
        assert (other != whole).any(axis=(1, 2, 3)).sum() <= 1


@pytest.mark.gpu
@ROLES
@KINDS
def test_half_precision_stays_close(
    tmp_path: Path, make: Make, flavor: Flavor, spec: ModelSpec, window: int | None
) -> None:
    """fp16 promises no equal images, but nearly the same likelihood of the same images."""
    needs_tensorrt(flavor)
    plan = plan_of(tmp_path, make, flavor, spec, window, "fp16")
    known = feeds(spec, 16)[2]
    with load_plan_engine(plan) as engine, load_engine(make(spec, window)) as cpu:
        half, full = draw_on(engine)(known)[1], draw_on(cpu)(known)[1]
    assert abs(float((half - full).mean())) / np.log(2) < 0.05  # bits/dim
    assert not np.array_equal(half, full)


@pytest.mark.gpu
def test_a_plan_of_other_weights_is_found(tmp_path: Path, make: Make, flavor: Flavor) -> None:
    """The check that the others rely on fails where it should, on this GPU, too."""
    needs_tensorrt(flavor)
    with load_plan_engine(plan_of(tmp_path, make, flavor, LABEL, None)) as engine:
        feed = feeds(LABEL, 8)[0]
        found = compare(model_of(LABEL, seed=7), feed, *draw_on(engine)(feed))
    assert found.divergences or found.log_prob_error > 1e-2
