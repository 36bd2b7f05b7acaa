"""No conditional sees itself or what comes after it; each sees all of its receptive field: no blind spot.

The receptive field is worked out here a second time, from the spec alone, by passing sets of sub-pixels through the
layers. The model is then perturbed one sub-pixel at a time, in float64 with random weights, and must agree with it.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.conditionals import conditionals
from gpcnn_training.model import GatedPixelCNN

Field = npt.NDArray[np.bool_]

SMALL = {"features": 12, "head_features": 24, "levels": 4}
SPECS = {
    "1 layer": ModelSpec(height=6, width=7, layers=1, first_kernel_size=3, **SMALL),
    "1 layer, first kernel 7": ModelSpec(height=7, width=9, layers=1, first_kernel_size=7, **SMALL),
    "2 layers, 7 and 3": ModelSpec(height=7, width=6, layers=2, first_kernel_size=7, kernel_size=3, **SMALL),
    "3 layers, 3 and 5": ModelSpec(height=8, width=5, layers=3, first_kernel_size=3, kernel_size=5, **SMALL),
    "4 layers, 3 and 3": ModelSpec(height=5, width=11, layers=4, first_kernel_size=3, kernel_size=3, **SMALL),
    "2 layers, 5 and 7": ModelSpec(height=6, width=10, layers=2, first_kernel_size=5, kernel_size=7, **SMALL),
    "RGB, 1 layer": ModelSpec(height=4, width=5, channels=3, layers=1, first_kernel_size=3, **SMALL),
    "RGB, 3 layers": ModelSpec(
        height=5, width=4, channels=3, layers=3, first_kernel_size=5, kernel_size=3, conditioning="label",
        conditioning_size=3, **SMALL
    ),
    "RGB of categories, 2 layers": ModelSpec(
        height=4, width=5, channels=3, layers=2, first_kernel_size=5, kernel_size=3, input="categorical", input_size=3,
        **SMALL
    ),
    "a mixture in RGB, 2 layers": ModelSpec(
        height=4, width=5, channels=3, layers=2, first_kernel_size=5, kernel_size=3, head="mixture", mixtures=3,
        **(SMALL | {"features": 40})
    ),
    "7 layers, all of the image": ModelSpec(
        height=5, width=6, layers=7, first_kernel_size=3, kernel_size=3, **SMALL
    ),
    "one row": ModelSpec(height=1, width=9, layers=2, first_kernel_size=3, kernel_size=3, **SMALL),
    "one column": ModelSpec(height=9, width=1, layers=2, first_kernel_size=3, kernel_size=3, **SMALL),
}  # fmt: skip


def pixel_fields(spec: ModelSpec) -> Field:
    """[H, W, H, W]: which pixels the skip sum at a pixel depends on."""
    h, w = spec.height, spec.width
    r1, r = spec.first_kernel_size // 2, spec.kernel_size // 2
    inside = [(i, j) for i in range(h) for j in range(w)]
    v, g = np.zeros((2, h, w, h, w), bool)
    for i, j in inside:
        v[i, j, max(0, i - r1) : i, max(0, j - r1) : j + r1 + 1] = True
        g[i, j, i, max(0, j - r1) : j] = True
    g |= v
    residual, skip = g, g.copy()
    for _ in range(spec.layers - 1):
        v_next, g = np.zeros((2, h, w, h, w), bool)
        for i, j in inside:
            v_next[i, j] = v[max(0, i - r) : i + 1, max(0, j - r) : j + r + 1].any((0, 1))
            g[i, j] = residual[i, max(0, j - r) : j + 1].any(0)
        v = v_next
        g |= v
        residual = residual | g
        skip |= g
    return skip


def predicted(spec: ModelSpec) -> Field:
    """[H, W, C, H, W, C]: whether the conditional at the first three depends on the sub-pixel at the last three."""
    c = spec.channels
    fields = np.repeat(pixel_fields(spec)[:, :, None, :, :, None], c, 2).repeat(c, 5)
    for i in range(spec.height):
        for j in range(spec.width):
            fields[i, j, :, i, j] |= np.tri(c, k=-1, dtype=bool)
    return fields


@functools.cache
def measured(name: str) -> Field:
    """As `predicted`, by perturbing the model: each sub-pixel to every other level."""
    spec = SPECS[name]
    torch.manual_seed(5)
    model = GatedPixelCNN(spec).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5 / max(1, parameter[0].numel()) ** 0.5)
    c, h, w = spec.image_shape
    image = torch.randint(spec.levels, (1, c, h, w))
    label = torch.tensor([1]) if spec.conditioning == "label" else None
    changed = torch.zeros(h, w, c, spec.subpixels, dtype=torch.bool)
    with torch.no_grad():
        for shift in range(1, spec.levels):
            batch = image.repeat(spec.subpixels + 1, 1, 1, 1)
            flat = batch.permute(0, 2, 3, 1).reshape(spec.subpixels + 1, -1)
            index = torch.arange(spec.subpixels)
            flat[index, index] = (flat[index, index] + shift) % spec.levels
            batch = flat.view(-1, h, w, c).permute(0, 3, 1, 2)
            labels = None if label is None else label.expand(len(batch))
            given = conditionals(spec, model(batch, labels), batch)
            levels = [given.log_probability(torch.full_like(batch, level)) for level in range(spec.levels)]
            log_prob = torch.stack(levels, -1).permute(0, 2, 3, 1, 4)  # [N, H, W, C, K], its last image unperturbed
            difference = (log_prob[:-1] - log_prob[-1:]).abs().amax(-1)
            changed |= (difference > 1e-13).permute(1, 2, 3, 0)
    return changed.view(h, w, c, h, w, c).numpy()


@pytest.mark.parametrize("name", SPECS)
def test_each_conditional_depends_on_exactly_its_receptive_field(name: str) -> None:
    difference = np.argwhere(measured(name) != predicted(SPECS[name]))
    assert difference.size == 0, f"conditional [i j c], sub-pixel [i j c]: {difference[:5].tolist()}"


@pytest.mark.parametrize("name", SPECS)
def test_no_conditional_depends_on_itself_or_on_what_comes_after_it(name: str) -> None:
    subpixels = SPECS[name].subpixels
    dependence = measured(name).reshape(subpixels, subpixels)
    assert not np.triu(dependence).any()
    assert subpixels == 1 or dependence.any()


def test_enough_layers_see_all_that_came_before() -> None:
    """The blind spot of the first PixelCNN leaves out pixels above and to the right, however deep the network."""
    dependence = measured("7 layers, all of the image").reshape(30, 30)
    assert np.array_equal(dependence, np.tri(30, k=-1, dtype=bool))


MAPS = {
    "categories": ModelSpec(
        height=6, width=8, layers=2, first_kernel_size=3, conditioning="map", conditioning_size=2, map_height=3,
        map_width=2, map_features=6, map_categories=3, map_kind="categories", **SMALL
    ),
    "the picture itself": ModelSpec(
        height=6, width=6, channels=3, layers=2, first_kernel_size=3, conditioning="map", conditioning_size=3,
        map_height=3, map_width=2, map_features=6, map_kind="picture", **SMALL
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_map_pixel_may_influence_every_pixel_and_an_image_pixel_later_ones_only(name: str) -> None:
    """The context of m reaches over the whole of so small a map, so each of its pixels must reach each conditional."""
    spec = MAPS[name]
    torch.manual_seed(6)
    model = GatedPixelCNN(spec).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5 / max(1, parameter[0].numel()) ** 0.5)
    map_numbers = spec.map_shape[0] * spec.map_shape[1] * spec.map_shape[2]
    image = torch.randint(spec.levels, (1, *spec.image_shape))
    if spec.map_categories:
        given = torch.randint(spec.map_categories, (1, *spec.map_shape), dtype=torch.int32)
        moved = (given + 1) % spec.map_categories
    else:
        given = torch.randn(1, *spec.map_shape).double()
        moved = given + 1
    with torch.no_grad():
        logits = model(image, given)
        batch = given.repeat(map_numbers, 1, 1, 1).flatten(1)
        index = torch.arange(map_numbers)
        batch[index, index] = moved.flatten()
        changed = model(image.expand(map_numbers, -1, -1, -1), batch.view(-1, *spec.map_shape))
        assert bool(((changed - logits).abs().amax(1) > 1e-12).all()), "a map pixel that a conditional does not see"

        images = image.repeat(spec.subpixels, 1, 1, 1).permute(0, 2, 3, 1).reshape(spec.subpixels, -1)
        index = torch.arange(spec.subpixels)
        images[index, index] = (images[index, index] + 1) % spec.levels
        h, w, c = spec.height, spec.width, spec.channels
        images = images.view(-1, h, w, c).permute(0, 3, 1, 2)
        changed = model(images, given.expand(spec.subpixels, -1, -1, -1))
    depends = ((changed - logits).abs().amax(1) > 1e-13).permute(0, 2, 3, 1).reshape(spec.subpixels, spec.subpixels)
    assert not bool(depends.T.triu().any())
    assert np.array_equal(depends.T.view(h, w, c, h, w, c).numpy(), predicted(spec))


def test_a_category_is_read_as_its_column_of_a_one_hot_product() -> None:
    spec = MAPS["categories"]
    torch.manual_seed(7)
    network = GatedPixelCNN(spec).double().map_network
    assert network is not None
    given = torch.randint(spec.map_categories, (2, *spec.map_shape))
    hot = torch.nn.functional.one_hot(given, spec.map_categories).permute(0, 1, 4, 2, 3).flatten(1, 2).double()
    with torch.no_grad():
        x = network.read(hot)
        for layer in (*network.context, *network.up):
            x = torch.where(layer(x) > 0, layer(x), layer(x) / 8)
        torch.testing.assert_close(network(given.int()), x, rtol=0, atol=1e-12)
    assert x.shape == (2, spec.map_features, spec.height, spec.width)


def test_every_conditional_depends_on_the_label() -> None:
    spec = SPECS["RGB, 3 layers"]
    torch.manual_seed(5)
    model = GatedPixelCNN(spec).double()
    image = torch.randint(spec.levels, (1, *spec.image_shape)).expand(3, -1, -1, -1)
    with torch.no_grad():
        logits = model(image, torch.arange(3))
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert bool(((logits[a] - logits[b]).abs().amax(0) > 1e-9).all())
