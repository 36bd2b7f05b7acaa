"""Every way to draw gives the image that the naive eager loop gives, for the same noise."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_engines import model_of

from gpcnn_deploy.errors import EngineError, ParityError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_onnx import proof_batches
from gpcnn_export.graphs.one_window import first_schedule
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.parity import NEAR_TIE, Feed, compare, draw_on, feeds, prove, request_of
from gpcnn_runtime.engines.base import Engine
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached, sample_jacobi, sample_raster

SMALL = {"features": 8, "layers": 3, "head_features": 12}
SPECS = {
    "binary, label": ModelSpec(height=7, width=6, conditioning="label", conditioning_size=4, **SMALL),
    "binary, none, wide kernels": ModelSpec(height=5, width=8, kernel_size=5, first_kernel_size=5, **SMALL),
    "17 levels, embedding": ModelSpec(
        height=6, width=5, levels=17, first_kernel_size=3, conditioning="embedding", conditioning_size=3, **SMALL
    ),
    "256-level RGB, label": ModelSpec(
        height=4, width=5, channels=3, levels=256, conditioning="label", conditioning_size=2, **SMALL
    ),
    "binary RGB, none": ModelSpec(height=4, width=4, channels=3, kernel_size=5, **SMALL),
    "300 categories, label": ModelSpec(
        height=4,
        width=5,
        levels=300,
        conditioning="label",
        conditioning_size=3,
        input="categorical",
        input_size=5,
        **SMALL,
    ),
    "RGB of 2 categories": ModelSpec(
        height=4, width=4, channels=3, kernel_size=5, first_kernel_size=5, input="categorical", input_size=3, **SMALL
    ),
    "a mixture of 256 levels, RGB": ModelSpec(
        height=4, width=5, channels=3, levels=256, head="mixture", mixtures=10, **SMALL
    ),
    "a mixture of 17 levels, label": ModelSpec(
        height=5,
        width=6,
        levels=17,
        kernel_size=5,
        conditioning="label",
        conditioning_size=3,
        head="mixture",
        mixtures=3,
        **(SMALL | {"layers": 2}),
    ),
    "a logistic of 2 levels": ModelSpec(height=4, width=3, head="mixture", mixtures=1, **SMALL),
    "map of categories, 2 planes": ModelSpec(
        height=6, width=8, conditioning="map", conditioning_size=2, map_height=3, map_width=2, map_features=5,
        map_categories=7, map_kind="categories", **SMALL
    ),
    "RGB, the picture at a third": ModelSpec(
        height=3, width=6, channels=3, levels=4, kernel_size=5, conditioning="map", conditioning_size=3, map_height=1,
        map_width=2, map_features=4, map_kind="picture", **SMALL
    ),
    "map of values, full size": ModelSpec(
        height=5, width=4, levels=5, conditioning="map", conditioning_size=1, map_height=5, map_width=4, map_features=6,
        **SMALL
    ),
    "one layer": ModelSpec(height=3, width=4, levels=3, features=4, layers=1, head_features=4),
    "one row": ModelSpec(height=1, width=7, levels=4, **(SMALL | {"kernel_size": 7})),
    "one column": ModelSpec(height=5, width=1, levels=3, **SMALL),
}  # fmt: skip


def model_named(name: str) -> GatedPixelCNN:
    return model_of(SPECS[name], 3, 2.5)


@functools.cache
def graph_of(name: str, window: int | Schedule | None) -> onnx.ModelProto:
    model = model_named(name)
    return step_graph(model) if window is None else sampler_graph(model, window)


@functools.cache
def engine_of(name: str, window: int | Schedule | None) -> Engine:
    return draft_engine(model_named(name), "step" if window is None else "sampler", window).load()


def schedules_of(spec: ModelSpec) -> list[Schedule]:
    """Two windows in one file, the second one for the five images of a feed, or not yet for them."""
    found = [Schedule(spec.width, 1, 5), Schedule(1, spec.width, 6), Schedule(2, spec.width, 2)]
    return [schedule for schedule in found if schedule.fits(spec.width)]


def windows_of(spec: ModelSpec) -> list[int]:
    return sorted({w for w in (1, 2, 3, spec.width - 1, spec.width) if 1 <= w <= spec.width})


def tensors(feed: Feed, spec: ModelSpec) -> dict[str, torch.Tensor | float | None]:
    condition = None if spec.conditioning == "none" else torch.from_numpy(feed[spec.conditioning])
    return {
        "noise": torch.from_numpy(feed["noise"]),
        "condition": condition,
        "known": torch.from_numpy(feed["known"]),
        "mask": torch.from_numpy(feed["mask"]),
        "temperature": float(feed["temperature"]),
    }


def assert_same(model: GatedPixelCNN, feed: Feed, image: np.ndarray, log_prob: np.ndarray, eager: np.ndarray) -> None:
    """Images equal; or each that differs is explained by a near-tie at its first differing sub-pixel, with numbers."""
    comparison = compare(model, feed, image, log_prob)
    explained = {divergence.image: divergence for divergence in comparison.divergences}
    for k in np.flatnonzero((image != eager).reshape(len(image), -1).any(1)):
        assert k in explained, f"image {k} differs from the eager loop, though each of its sub-pixels is drawn right"
        print(f"near-tie: {explained[k]}")
        assert explained[k].margin <= NEAR_TIE, str(explained[k])
    assert comparison.log_prob_error < 1e-4


@pytest.mark.parametrize("name", SPECS)
def test_all_schedules_draw_the_image_of_the_eager_raster_loop(name: str) -> None:
    model, spec = model_named(name), SPECS[name]
    for feed in feeds(spec, 5, seed=11):
        arguments = tensors(feed, spec)
        eager = sample_raster(model, **arguments).numpy()
        jacobi, evaluations = sample_jacobi(model, **arguments)
        assert evaluations <= spec.subpixels + 1
        np.testing.assert_array_equal(jacobi.numpy(), eager)
        for schedule in schedules_of(spec):
            draw = draw_on(engine_of(name, schedule))
            assert_same(model, feed, *draw(feed), eager)
        for window in windows_of(spec):
            cached, log_prob = sample_cached(model, **arguments, window=window)
            assert_same(model, feed, cached.numpy(), log_prob.numpy(), eager)
            draw = draw_on(engine_of(name, window))
            assert_same(model, feed, *draw(feed), eager)
        draw = draw_on(engine_of(name, None))
        assert_same(model, feed, *draw(feed), eager)


@pytest.mark.parametrize("name", ["binary, label", "256-level RGB, label"])
@pytest.mark.parametrize("batch", [1, 16])
def test_an_image_does_not_depend_on_its_batch(name: str, batch: int) -> None:
    spec = SPECS[name]
    feed = feeds(spec, batch, seed=5)[0]
    alone_feed = {key: value[-1:] if value.ndim else value for key, value in feed.items()}
    for window in (1, 2, spec.width, None):
        draw = draw_on(engine_of(name, window))
        image, log_prob = draw(feed)
        alone, alone_log_prob = draw(alone_feed)
        np.testing.assert_array_equal(image[-1:], alone)
        np.testing.assert_allclose(log_prob[-1:], alone_log_prob, atol=1e-5)


def test_window_evaluations_are_counted() -> None:
    spec = SPECS["binary, label"]
    feed = feeds(spec, 3)[0]
    for window in (1, 2, spec.width):
        count = engine_of("binary, label", window).run(request_of(feed)).evaluations
        pixels = spec.height * spec.width
        assert count == pixels if window == 1 else spec.height <= count <= pixels


def test_the_second_window_draws_large_batches_unless_all_is_known() -> None:
    spec = SPECS["binary, label"]
    session = engine_of("binary, label", Schedule(spec.width, 1, 3)).session
    pixels = spec.height * spec.width
    for images in (1, 2, 3, 4):
        samples, completions, scores = feeds(spec, images)
        for feed in (samples, completions):
            (count,) = session.run(["evaluations"], feed)
            assert count == pixels if images >= 3 else count < pixels
        (count,) = session.run(["evaluations"], scores)
        assert count == spec.height, "images that are known take one evaluation a row"
    session = engine_of("binary, label", Schedule(1, spec.width, 3)).session
    for images in (1, 2, 3, 4):
        samples, _, scores = feeds(spec, images)
        (count,) = session.run(["evaluations"], samples)
        assert count < pixels if images >= 3 else count == pixels
        (count,) = session.run(["evaluations"], scores)
        assert count == spec.height


@pytest.mark.parametrize(
    "name", ["binary, label", "17 levels, embedding", "256-level RGB, label", "a mixture of 256 levels, RGB"]
)
@pytest.mark.parametrize("garbage", [-(1 << 31), -1, 256, (1 << 31) - 1])
def test_what_known_holds_where_nothing_is_known_does_not_matter(name: str, garbage: int) -> None:
    spec = SPECS[name]
    feed = feeds(spec, 3)[1]
    dirty = {**feed, "known": np.where(feed["mask"], feed["known"], np.int32(garbage))}
    for window in (1, 2, spec.width, Schedule(spec.width, 1, 3)):
        draw = draw_on(engine_of(name, window))
        np.testing.assert_array_equal(draw(dirty)[0], draw(feed)[0])


def test_rows_that_are_known_take_one_evaluation() -> None:
    spec = SPECS["17 levels, embedding"]
    feed = feeds(spec, 4, seed=2)[1]
    feed["mask"][:, :, :3] = True
    session = engine_of("17 levels, embedding", spec.width).session
    image, count = session.run(["image", "evaluations"], feed)
    np.testing.assert_array_equal(image[:, :, :3], feed["known"][:, :, :3])
    assert count <= 3 + (spec.height - 3) * (spec.width + 1)


def test_a_proof_makes_both_windows_draw() -> None:
    seen = []
    draw = draw_on(engine_of("binary, label", Schedule(6, 1, 3)))

    def counted(feed: Feed) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(feed["noise"]))
        return draw(feed)

    report = prove(model_named("binary, label"), counted, proof_batches(Schedule(6, 1, 3)))
    assert seen == [2, 2, 2] * 4 + [8, 8, 8]
    assert report.images == 48
    assert proof_batches(Schedule(6, 1, 16)) == (8, 16)
    assert proof_batches(Schedule(6, 1, 2)) == (1,) * 8 + (8,)
    assert proof_batches(Schedule(6)) == (8,)


def test_matrices_are_where_the_runtime_packs_them() -> None:
    """ONNX Runtime packs a matrix when it loads a model only if it belongs to the body that uses it, or around that."""

    def outer(graph: onnx.GraphProto) -> list[str]:
        own = {tensor.name for tensor in graph.initializer}
        found = []
        for node in graph.node:
            if node.op_type in ("Gemm", "MatMul") and node.input[1] not in own:
                found.append(node.input[1])
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    found += outer(attribute.g)
        return found

    for window in (1, 2, 6, Schedule(6, 1, 3)):
        assert outer(graph_of("binary, label", window).graph) == []


def test_one_schedule_of_two_can_be_taken_out() -> None:
    both = graph_of("binary, label", Schedule(6, 1, 3))
    single = first_schedule(both, "x")
    simplified = onnx.ModelProto()
    simplified.CopyFrom(both)
    chosen = next(node for node in simplified.graph.node if node.op_type == "If")
    for node in [node for node in simplified.graph.node if node.op_type == "Identity"]:
        chosen.output[list(chosen.output).index(node.input[0])] = node.output[0]
        simplified.graph.node.remove(node)
    assert "If" not in {node.op_type for node in first_schedule(simplified, "x").graph.node}
    del chosen.attribute[:]
    with pytest.raises(EngineError, match="x: export it anew"):
        first_schedule(simplified, "x")
    assert "If" in {node.op_type for node in both.graph.node}
    assert "If" not in {node.op_type for node in single.graph.node}
    assert first_schedule(single, "x") is single
    assert single.ByteSize() < 0.6 * both.ByteSize()
    feed = feeds(SPECS["binary, label"], 4)[0]
    expected = engine_of("binary, label", 6).session.run(None, feed)
    session = onnxruntime.InferenceSession(single.SerializeToString())
    for found, right in zip(session.run(None, feed), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_a_divergence_that_is_no_near_tie_is_an_error_with_numbers() -> None:
    model = model_named("binary, label")
    draw = draw_on(engine_of("binary, label", 1))

    def doctored(feed: Feed) -> tuple[np.ndarray, np.ndarray]:
        image, log_prob = draw(feed)
        image = image.copy()
        free = np.flatnonzero(~feed["mask"][1].ravel())
        image[1].reshape(-1)[free[5:6]] ^= 1
        return image, log_prob

    with pytest.raises(ParityError, match=r"image 1, row \d+, column \d+, channel 0: engine drew [01], .*CDF step"):
        prove(model, doctored)


def test_wrong_log_probabilities_and_changed_known_pixels_are_errors() -> None:
    model = model_named("binary, label")
    draw = draw_on(engine_of("binary, label", 1))
    with pytest.raises(ParityError, match=r"log-probabilities differ .* 1\.0.e-03"):
        prove(model, lambda feed: (draw(feed)[0], draw(feed)[1] + np.float32(1e-3)))
    for bad in range(3):  # not-a-number in the results of one kind of input alone
        calls = iter(range(3))

        def spoiled(feed: Feed, bad: int = bad, calls: Iterator[int] = calls) -> tuple[np.ndarray, np.ndarray]:
            image, log_prob = draw(feed)
            return image, log_prob * np.float32(np.nan if next(calls) == bad else 1)

        with pytest.raises(ParityError, match="differ from eager PyTorch by up to nan"):
            prove(model, spoiled)
    with pytest.raises(ParityError, match="known sub-pixels"):
        prove(model, lambda feed: (1 - draw(feed)[0], draw(feed)[1]))
    with pytest.raises(ParityError, match="expected 0 to 1"):
        prove(model, lambda feed: (draw(feed)[0] + 1, draw(feed)[1]))


def test_a_near_tie_does_not_excuse_what_comes_after_it() -> None:
    model, spec = model_named("binary, label"), SPECS["binary, label"]
    feed = feeds(spec, 1)[0]
    image = sample_raster(model, **tensors(feed, spec)).numpy()
    with torch.no_grad():
        logits = model(torch.from_numpy(image), torch.from_numpy(feed["label"]))
    feed["noise"][0, 0, 0, 0] = torch.softmax(logits.double(), 1)[0, 0, 0, 0, 0].float()
    image[0, 0, 0, 0] = 1 - int(compare(model, feed, image, feed["noise"]).divergences == ())
    image[0, 0, 3] = 1 - image[0, 0, 3]
    (divergence,) = compare(model, feed, image, feed["noise"]).divergences
    assert divergence.worst > NEAR_TIE


@pytest.mark.parametrize("temperature", [1e-6, 0.01, 100.0])
@pytest.mark.parametrize("u", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_extreme_noise_and_temperatures(temperature: float, u: float) -> None:
    for name in ("binary, label", "17 levels, embedding", "a mixture of 17 levels, label"):
        model, feed = model_named(name), feeds(SPECS[name], 2)[0]
        feed["noise"][:, :, ::2] = u
        feed["temperature"] = np.array(temperature, np.float32)
        for window in (1, 2, None):
            draw = draw_on(engine_of(name, window))
            comparison = compare(model, feed, *draw(feed))
            assert all(divergence.worst <= NEAR_TIE for divergence in comparison.divergences)


def test_a_near_tie_is_recognised() -> None:
    """Noise on a CDF step: whichever side an engine takes there is explained, with a margin of rounding size."""
    model, spec = model_named("17 levels, embedding"), SPECS["17 levels, embedding"]
    feed = feeds(spec, 1)[0]
    place = (0, 0, 2, 2)
    image = sample_raster(model, **tensors(feed, spec)).numpy()
    with torch.no_grad():
        logits = model(torch.from_numpy(image), torch.from_numpy(feed["embedding"]))[0, :, 0, 2, 2]
    level = min(int(image[place]), spec.levels - 2)
    feed["noise"][place] = torch.softmax(logits.double(), 0).cumsum(0)[level].float()
    feed["mask"][:] = True
    feed["mask"][place] = False
    found = []
    for side in (level, level + 1):
        image[place] = side
        feed["known"] = np.where(feed["mask"], image, 0).astype(np.int32)
        found += compare(model, feed, image, np.zeros_like(feed["noise"])).divergences
    assert [(d.row, d.column, {d.engine, d.eager}) for d in found] == [(2, 2, {level, level + 1})]
    assert found[0].margin < 1e-6


def test_noise_of_an_image_is_its_own() -> None:
    spec = SPECS["256-level RGB, label"]
    np.testing.assert_array_equal(noise(spec, 9, 8)[3:5], noise(spec, 9, 2, first=3))
