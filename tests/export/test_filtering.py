"""Minimal filtering in the window for large batches: exact transforms, and the images of the direct convolution."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_engines import model_of

from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.filtering import KERNEL, OUTPUTS, POSITIONS, transforms
from gpcnn_export.graphs.one_window import first_schedule
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.parity import draw_on, feeds, prove, request_of

BINARY = ModelSpec(height=5, width=8, features=6, layers=3, kernel_size=5, head_features=8)
LABELLED = ModelSpec(
    height=4,
    width=7,
    levels=4,
    features=6,
    layers=3,
    first_kernel_size=5,
    kernel_size=5,
    head_features=8,
    conditioning="label",
    conditioning_size=3,
)
RGB = ModelSpec(height=4, width=6, channels=3, levels=5, features=4, layers=4, kernel_size=5, head_features=6)
SPECS = {"8 columns": BINARY, "7 columns, labels": LABELLED, "6 columns, rgb": RGB}


def test_the_transforms_are_a_convolution() -> None:
    at, g, bt = transforms()
    rng = np.random.default_rng(0)
    inputs, kernel = rng.standard_normal(POSITIONS), rng.standard_normal(KERNEL)
    direct = [inputs[k : k + KERNEL] @ kernel for k in range(OUTPUTS)]
    assert np.abs(at @ ((g @ kernel) * (bt @ inputs)) - direct).max() < 1e-13
    # All are multiples of 1 / 1440, up to the rounding of float64.
    assert np.array_equal(np.rint(bt * 1440) / 1440, bt)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("window", [1, 2])
def test_the_window_for_many_draws_the_same_images(spec: ModelSpec, window: int) -> None:
    model = model_of(spec)
    with (
        draft_engine(model, "sampler", window).load() as direct,
        draft_engine(model, "sampler", Schedule(spec.width, window, 3)).load() as both,
    ):
        for count in (1, 3, 8):
            for feed in feeds(spec, count, seed=count):
                expected, found = direct.run(request_of(feed)), both.run(request_of(feed))
                assert np.array_equal(expected.levels, found.levels)
                assert np.abs(expected.log_prob - found.log_prob).max() < 1e-4
        report = prove(model, draw_on(both), (8,))
        assert report.identical == report.images == 24


def vertical_products(graph: onnx.GraphProto) -> set[int]:
    """Ranks of matrices that belong to the scan over rows: 3 where filtering is used."""
    scan = next(node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    return {len(tensor.dims) for tensor in body.initializer}


def test_only_the_window_for_many_filters_and_only_kernels_of_5() -> None:
    for spec, expected in ((BINARY, {2, 3}), (ModelSpec(height=5, width=8, features=6, layers=3), {2})):
        model = sampler_graph(model_of(spec), Schedule(8, 1, 4))
        chosen = next(node for node in model.graph.node if node.op_type == "If")
        branches = {attribute.name: attribute.g for attribute in chosen.attribute}
        assert vertical_products(branches["then_branch"]) == expected
        assert vertical_products(branches["else_branch"]) == {2}
        assert vertical_products(first_schedule(model, "model.onnx").graph) == {2}
        assert vertical_products(sampler_graph(model_of(spec), 1).graph) == {2}
        assert vertical_products(sampler_graph(model_of(spec), 1, many=True).graph) == expected
