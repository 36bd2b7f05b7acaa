"""One row and one window at a time is the same network as the whole image, and all samplers are the same function."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from small_engines import model_of
from torch import Tensor

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import inverse_cdf, log_probability, sample_cached, sample_jacobi, sample_raster, score

SMALL = {"features": 8, "head_features": 12}
SPECS = {
    "binary, 3 layers": ModelSpec(height=6, width=7, layers=3, **SMALL),
    "17 levels, 4 layers, kernel 5, label": ModelSpec(
        height=5, width=6, levels=17, layers=4, kernel_size=5, conditioning="label", conditioning_size=3, **SMALL
    ),
    "RGB, 256 levels, kernel 7": ModelSpec(
        height=4, width=5, channels=3, levels=256, layers=2, first_kernel_size=3, kernel_size=7, **SMALL
    ),
    "300 categories, label": ModelSpec(
        height=4,
        width=5,
        levels=300,
        layers=3,
        conditioning="label",
        conditioning_size=3,
        input="categorical",
        input_size=5,
        **SMALL,
    ),
    "RGB of 2 categories": ModelSpec(
        height=4, width=4, channels=3, layers=2, first_kernel_size=5, input="categorical", input_size=3, **SMALL
    ),
    "RGB, a mixture of 256 levels": ModelSpec(
        height=4, width=5, channels=3, levels=256, layers=3, head="mixture", mixtures=4, **SMALL
    ),
    "a mixture of 17 levels, label": ModelSpec(
        height=5,
        width=4,
        levels=17,
        layers=2,
        kernel_size=5,
        conditioning="label",
        conditioning_size=3,
        head="mixture",
        mixtures=3,
        **SMALL,
    ),
    "1 layer": ModelSpec(height=5, width=4, levels=3, layers=1, **SMALL),
    "embedding, one column": ModelSpec(
        height=5, width=1, layers=2, conditioning="embedding", conditioning_size=4, **SMALL
    ),
    "map of categories, 2 planes": ModelSpec(
        height=6, width=8, layers=3, conditioning="map", conditioning_size=2, map_height=3, map_width=2, map_features=5,
        map_categories=7, map_kind="categories", **SMALL
    ),
    "RGB, the picture at a third": ModelSpec(
        height=6, width=6, channels=3, levels=4, layers=2, conditioning="map", conditioning_size=3, map_height=2,
        map_width=2, map_features=4, map_kind="picture", **SMALL
    ),
    "map of values, full size": ModelSpec(
        height=5, width=4, levels=5, layers=3, kernel_size=5, conditioning="map", conditioning_size=1, map_height=5,
        map_width=4, map_features=6, **SMALL
    ),
}  # fmt: skip
CASES = [
    (name, window) for name, spec in SPECS.items() for window in sorted({1, 2, 3, spec.width}) if window <= spec.width
]


@functools.cache
def model_named(name: str) -> GatedPixelCNN:
    """Float64 with large random weights: no near-ties, and pixels that depend on each other."""
    return copy.deepcopy(model_of(SPECS[name], 11, 2.5)).double()


def condition_of(spec: ModelSpec, count: int) -> Tensor | None:
    if spec.conditioning == "label":
        return torch.arange(count) % spec.conditioning_size
    if spec.map_categories:
        return torch.randint(spec.map_categories, (count, *spec.map_shape), dtype=torch.int32)
    if spec.conditioning == "map":
        return torch.randn(count, *spec.map_shape).double()
    return torch.randn(count, spec.conditioning_size).double() if spec.conditioning == "embedding" else None


@pytest.mark.parametrize(("name", "window"), CASES)
def test_rows_and_windows_give_the_logits_of_the_whole_image(name: str, window: int) -> None:
    model, spec = model_named(name), SPECS[name]
    image = torch.randint(spec.levels, (3, *spec.image_shape))
    condition = condition_of(spec, 3)
    with torch.no_grad():
        whole = model(image, condition)
        bias, values = model.condition(condition), model.values(image)
        k1, k = spec.first_kernel_size // 2, spec.kernel_size // 2
        above = values.new_zeros(3, spec.inputs, k1, spec.width)
        v_caches = [values.new_zeros(3, spec.features, k, spec.width) for _ in range(spec.layers - 1)]
        for i in range(spec.height):
            links, v_caches = model.vertical_row(above, v_caches, model.row_of(bias, i))
            row = torch.nn.functional.pad(values[:, :, i : i + 1], (k1, 0))
            h_caches = [values.new_zeros(3, spec.features, 1, k) for _ in range(spec.layers - 1)]
            for j in range(0, spec.width, window):
                end = min(j + window, spec.width)
                cut = [link[..., j:end] for link in links]
                outputs, features = model.horizontal_window(row[..., j : k1 + end], h_caches, cut)
                torch.testing.assert_close(outputs[..., 0, :], whole[..., i, j:end], rtol=0, atol=1e-11)
                h_caches = [x[..., -k:] for x in features]
            above = torch.cat([above, values[:, :, i : i + 1]], 2)[:, :, 1:]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("known_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", SPECS)
def test_all_samplers_draw_the_same_images(name: str, known_share: float, temperature: float) -> None:
    model, spec = model_named(name), SPECS[name]
    count = 4
    u = torch.from_numpy(noise(spec, seed=7, count=count)).double()
    condition = condition_of(spec, count)
    known = torch.randint(spec.levels, u.shape, dtype=torch.int32)
    mask = torch.rand(u.shape) < known_share
    arguments = (model, u, condition, known, mask, temperature)
    expected = sample_raster(*arguments)
    assert torch.equal(expected[mask], known[mask])
    assert torch.equal(sample_jacobi(*arguments)[0], expected)
    for window in sorted({1, min(2, spec.width), spec.width}):
        image, log_prob = sample_cached(*arguments, window=window)
        assert torch.equal(image, expected), f"window {window}"
        torch.testing.assert_close(log_prob, score(model, expected, condition), rtol=0, atol=1e-10)


def test_jacobi_needs_at_most_one_evaluation_per_subpixel_and_one_to_see_that_it_is_done() -> None:
    for name, spec in SPECS.items():
        u = torch.from_numpy(noise(spec, seed=1, count=2)).double()
        evaluations = sample_jacobi(model_named(name), u, condition_of(spec, 2))[1]
        assert 2 <= evaluations <= spec.subpixels + 1


def test_an_image_does_not_depend_on_its_batch() -> None:
    name = "17 levels, 4 layers, kernel 5, label"
    model, spec = model_named(name), SPECS[name]
    labels = torch.arange(6) % 3
    together = sample_raster(model, torch.from_numpy(noise(spec, 3, 6)).double(), labels)
    for k in range(6):
        alone = sample_raster(model, torch.from_numpy(noise(spec, 3, 1, first=k)).double(), labels[k : k + 1])
        assert torch.equal(alone[0], together[k])
    assert len({tuple(image.flatten().tolist()) for image in together}) == 6


def test_inverse_cdf_steps_where_the_cdf_steps() -> None:
    logits = torch.tensor([0.125, 0.25, 0.5, 0.125], dtype=torch.float64).log().expand(6, 4)
    u = torch.tensor([0.0, 0.125 - 1e-12, 0.125 + 1e-12, 0.375 - 1e-12, 0.375 + 1e-12, 1 - 1e-12], dtype=torch.float64)
    assert inverse_cdf(logits, u).tolist() == [0, 0, 1, 1, 2, 3]


def test_inverse_cdf_gives_the_last_level_however_the_cdf_is_rounded() -> None:
    """u is the largest float32 below 1; the last step of a CDF of 256 rounded numbers lies on either side of it."""
    torch.manual_seed(0)
    logits = torch.randn(64, 256)
    logits[:, -1] += 5
    assert inverse_cdf(logits, torch.full((64,), 1 - 2.0**-24)).tolist() == [255] * 64


def test_log_probability_is_the_normalized_logit() -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0]]).double()
    expected = logits[0] - logits[0].exp().sum().log()
    found = [log_probability(logits, torch.tensor([level])).item() for level in range(3)]
    assert found == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize("draw", [sample_raster, sample_jacobi, sample_cached, None])
def test_scores_and_samples_are_of_single_precision_on_a_gpu_too(
    draw: Callable[..., object] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(convolution: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return forward(convolution, x)

    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    model = GatedPixelCNN(ModelSpec(height=2, width=2, features=4, layers=2, head_features=4)).eval()
    assert torch.backends.cudnn.allow_tf32, "PyTorch's default, which training keeps"
    u = torch.full((1, 1, 2, 2), 0.5)
    if draw is None:
        score(model, torch.zeros(1, 1, 2, 2, dtype=torch.int32))
    else:
        draw(model, u)
    assert set(seen) == {False}
    assert torch.backends.cudnn.allow_tf32


def test_sampling_follows_the_distribution() -> None:
    """Scores of what is drawn average to minus the entropy that the drawn conditionals have."""
    model, spec = model_named("binary, 3 layers"), SPECS["binary, 3 layers"]
    u = torch.from_numpy(noise(spec, seed=2, count=256)).double()
    image, log_prob = sample_cached(model, u, window=3)
    with torch.no_grad():
        logs = torch.log_softmax(model(image), 1)
    entropy = -(logs.exp() * logs).sum(1)
    residual = (log_prob + entropy).sum((1, 2, 3))
    assert abs(residual.mean().item()) < 4 * residual.std().item() / 256**0.5


@pytest.mark.parametrize("name", ["binary, 3 layers", "17 levels, 4 layers, kernel 5, label"])
def test_a_condition_too_many_or_missing_is_refused(name: str) -> None:
    spec = SPECS[name]
    condition = torch.tensor([0]) if spec.conditioning == "none" else None
    with pytest.raises(UsageError, match=r"unconditional|conditioned on a label"):
        model_named(name)(torch.zeros(1, *spec.image_shape, dtype=torch.int32), condition)


@pytest.mark.parametrize("name", SPECS)
def test_multiply_adds_counts_each_weight_of_a_convolution_once_a_pixel(name: str) -> None:
    model, spec = model_named(name), SPECS[name]
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    if spec.channels == 3 and spec.head == "categorical":  # of the 9 channel pairs the mask keeps 3
        weights -= 6 * spec.head_features * (spec.inputs // 3)
    total = weights * spec.height * spec.width
    if model.map_network is not None:  # the network of the map works at sizes of its own
        network, (rows, columns) = model.map_network, spec.map_shape[1:]
        convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
        total -= sum(convolution.weight.numel() for convolution in convolutions) * spec.height * spec.width
        total += spec.conditioning_size * spec.map_features * rows * columns  # a category is looked up
        total += sum(convolution.weight.numel() for convolution in network.context) * rows * columns
        for stage in network.up:
            total += stage.weight.numel() * rows * columns  # each of its weights meets each pixel that it reads
            rows, columns = rows * stage.kernel_size[0], columns * stage.kernel_size[1]
    assert spec.multiply_adds() == total
