"""The PixelCNN of 2016: its receptive field to the pixel, its blind spot, its samplers, its arithmetic."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open
from small_engines import model_of, write_checkpoint

from gpcnn_deploy.errors import CheckpointError, UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.architectures import make_network
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.network import Network
from gpcnn_training.pixelcnn import MaskedConv2d, PixelCNN
from gpcnn_training.sampling import sample_cached, sample_jacobi, sample_raster, score
from gpcnn_training.trainer.initial import initial_weights
from gpcnn_training.trainer.optimizer import hidden_weights

SMALL = {"features": 12, "head_features": 24, "levels": 4, "architecture": "pixelcnn"}
SPECS = {
    "1 layer": ModelSpec(height=5, width=6, layers=1, first_kernel_size=5, **SMALL),
    "3 layers, 3 and 5": ModelSpec(height=6, width=7, layers=3, first_kernel_size=3, kernel_size=5, **SMALL),
    "RGB, 1 layer": ModelSpec(height=3, width=4, channels=3, layers=1, first_kernel_size=3, **SMALL),
    "RGB, 3 layers, label": ModelSpec(
        height=4, width=5, channels=3, layers=3, first_kernel_size=5, conditioning="label", conditioning_size=3, **SMALL
    ),
    "RGB of categories": ModelSpec(
        height=4, width=4, channels=3, layers=2, first_kernel_size=3, input="categorical", input_size=2, **SMALL
    ),
    "RGB of two features": ModelSpec(
        height=3, width=4, channels=3, layers=3, first_kernel_size=3, **(SMALL | {"features": 2})
    ),
    "one row": ModelSpec(height=1, width=9, layers=2, first_kernel_size=3, **SMALL),
    "one column": ModelSpec(height=9, width=1, layers=2, first_kernel_size=3, **SMALL),
}  # fmt: skip
DEEP = ModelSpec(height=7, width=9, layers=8, first_kernel_size=3, kernel_size=3, **SMALL)
"""Deep enough that a gated network sees all of the picture."""


@functools.cache
def model_named(name: str) -> Network:
    return copy.deepcopy(model_of(SPECS[name], 11, 2.5)).double()


def labels_of(spec: ModelSpec, count: int) -> torch.Tensor | None:
    return torch.arange(count) % 3 if spec.conditioning == "label" else None


def dependence(spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """[H, W, C, H, W, C]: whether the conditional at the first three moved as the sub-pixel at the last three did."""
    torch.manual_seed(5)
    model = make_network(spec).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5)
    c, h, w = spec.image_shape
    index = torch.arange(spec.subpixels)
    changed = torch.zeros(h, w, c, spec.subpixels, dtype=torch.bool)
    for _ in range(4):  # a unit that is off in one image is on in another
        image = torch.randint(spec.levels, (1, c, h, w))
        flat = image.repeat(spec.subpixels + 1, 1, 1, 1).permute(0, 2, 3, 1).reshape(spec.subpixels + 1, -1)
        flat[index, index] = (flat[index, index] + torch.randint(1, spec.levels, (spec.subpixels,))) % spec.levels
        batch = flat.view(-1, h, w, c).permute(0, 3, 1, 2)
        label = None if spec.conditioning == "none" else torch.ones(len(batch), dtype=torch.int64)
        with torch.no_grad():
            logits = model(batch, label).permute(0, 3, 4, 2, 1)
        changed |= ((logits[:-1] - logits[-1:]).abs().amax(-1) > 1e-13).permute(1, 2, 3, 0)
    return changed.view(h, w, c, h, w, c).numpy()


def predicted(spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """As `dependence`, from the spec alone: sets of sub-pixels that pass through the masks, a set for each channel."""
    c, h, w = spec.image_shape
    shape = (h, w, c, h, w, c)
    inside = [(i, j) for i in range(h) for j in range(w)]

    def convolved(field: npt.NDArray[np.bool_], reach: int, own: bool) -> npt.NDArray[np.bool_]:
        result = np.zeros(shape, bool)
        for i, j in inside:
            for a, b in inside:
                near = abs(a - i) <= reach and abs(b - j) <= reach
                if near and (a < i or (a == i and b < j)):
                    result[i, j] |= field[a, b].any(0)
            for channel in range(c):
                result[i, j, channel] |= field[i, j, : channel + own].any(0)
        return result

    values = np.zeros(shape, bool)
    for i, j in inside:
        values[i, j, range(c), i, j, range(c)] = True
    field = convolved(values, spec.first_kernel_size // 2, own=False)
    for _ in range(spec.layers - 1):
        field |= convolved(convolved(field, 0, own=True), spec.kernel_size // 2, own=True)
    return convolved(field, 0, own=True)


@pytest.mark.parametrize("name", [name for name in SPECS if name != "RGB of two features"])
def test_each_conditional_depends_on_exactly_its_receptive_field(name: str) -> None:
    difference = np.argwhere(dependence(SPECS[name]) != predicted(SPECS[name]))
    assert difference.size == 0, f"conditional [i j c], sub-pixel [i j c]: {difference[:5].tolist()}"


@pytest.mark.parametrize("name", SPECS)
def test_no_conditional_depends_on_itself_or_on_what_comes_after_it(name: str) -> None:
    subpixels = SPECS[name].subpixels
    seen = dependence(SPECS[name]).reshape(subpixels, subpixels)
    assert not np.triu(seen).any()
    assert seen.any()


def test_pixels_above_and_far_to_the_right_are_its_blind_spot_and_not_the_gated_ones() -> None:
    spec = DEEP
    seen = dependence(spec)[:, :, 0, :, :, 0]
    gated = dependence(msgspec.structs.replace(spec, architecture="gated"))[:, :, 0, :, :, 0]
    i, j, a, b = np.ogrid[: spec.height, : spec.width, : spec.height, : spec.width]
    earlier = (a < i) | ((a == i) & (b < j))
    blind = earlier & (b - j > i - a)  # a layer that goes one row up goes one column to the right at most
    assert np.array_equal(gated, np.broadcast_to(earlier, gated.shape))
    assert np.array_equal(seen, earlier & ~blind)
    assert blind[6, 4, 5, 6], "a pixel two columns to the right, in the row above"
    assert (gated[6, 4, 5, 6], seen[6, 4, 5, 6], seen[6, 4, 5, 5]) == (True, False, True)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", SPECS)
def test_all_samplers_draw_the_same_images(name: str, temperature: float) -> None:
    model, spec = model_named(name), SPECS[name]
    u = torch.from_numpy(noise(spec, seed=7, count=4)).double()
    known = torch.randint(spec.levels, u.shape, dtype=torch.int32)
    mask = torch.rand(u.shape) < torch.tensor([0.0, 0.3, 0.7, 1.0]).view(4, 1, 1, 1)
    arguments = (model, u, labels_of(spec, 4), known, mask, temperature)
    expected = sample_raster(*arguments)
    assert torch.equal(expected[mask], known[mask])
    assert torch.equal(sample_jacobi(*arguments)[0], expected)
    image, log_prob = sample_cached(*arguments, window=2)
    assert torch.equal(image, expected)
    torch.testing.assert_close(log_prob, score(model, expected, labels_of(spec, 4)), rtol=0, atol=1e-10)
    assert len(np.unique(expected)) > 1


def test_multiply_adds_are_the_weights_that_the_masks_let_through() -> None:
    for spec in SPECS.values():
        masks = [conv.mask for conv in make_network(spec).modules() if isinstance(conv, MaskedConv2d)]
        assert spec.multiply_adds() == spec.height * spec.width * sum(int(mask.sum()) for mask in masks)


def test_the_label_moves_every_conditional_and_must_fit() -> None:
    name = "RGB, 3 layers, label"
    model, spec = model_named(name), SPECS[name]
    image = torch.randint(spec.levels, (1, *spec.image_shape)).expand(3, -1, -1, -1)
    with torch.no_grad():
        logits = model(image, torch.arange(3))
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert bool(((logits[a] - logits[b]).abs().amax(0) > 1e-9).all())
    with pytest.raises(UsageError, match="conditioned on a label"):
        model(image)
    with pytest.raises(UsageError, match="unconditional"):
        model_named("1 layer")(torch.zeros(1, 1, 5, 6, dtype=torch.int32), torch.tensor([0]))


def test_dropout_leaves_features_out_of_training_steps_alone() -> None:
    model = copy.deepcopy(model_named("3 layers, 3 and 5"))
    image = torch.randint(4, (2, 1, 6, 7))
    plain = model(image)
    model.dropout = 0.5
    assert torch.equal(model(image), plain)
    model.train()
    assert not torch.allclose(model(image), plain)
    # what is left out must not open a way around the masks
    torch.manual_seed(1)
    one = model(image)
    other = image.clone()
    other[:, :, 3, 3] = (other[:, :, 3, 3] + 1) % 4
    torch.manual_seed(1)
    two = model(other)
    before = torch.arange(42).view(6, 7) <= 3 * 7 + 3
    assert torch.equal(one[..., before], two[..., before])


def test_muon_takes_the_convolutions_between_hidden_features() -> None:
    assert hidden_weights(make_network(SPECS["RGB, 1 layer"])) == {"head.hidden.weight"}
    assert hidden_weights(make_network(SPECS["RGB of categories"])) == {
        "head.hidden.weight",
        "blocks.0.down.weight",
        "blocks.0.conv.weight",
        "blocks.0.up.weight",
    }


def test_a_checkpoint_keeps_the_architecture_and_an_older_one_is_gated(tmp_path: Path) -> None:
    spec = SPECS["RGB, 3 layers, label"]
    model = model_of(spec)
    path = write_checkpoint(tmp_path / "c.safetensors", model)
    loaded, header = load_checkpoint(path)
    assert isinstance(loaded, PixelCNN)
    assert header.spec == spec
    u = torch.from_numpy(noise(spec, 1, 2))
    assert torch.equal(
        sample_cached(loaded, u, torch.tensor([0, 1]))[0], sample_cached(model, u, torch.tensor([0, 1]))[0]
    )
    gated = write_checkpoint(tmp_path / "g.safetensors", model_of(msgspec.structs.replace(spec, architecture="gated")))
    written = {}
    for file in (path, gated):
        with safe_open(file, "pt") as content:
            written[file] = json.loads(content.metadata()["gpcnn"])["spec"]
    assert written[path]["architecture"] == "pixelcnn"
    assert "architecture" not in written[gated]


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    spec = SPECS["1 layer"]
    gated = msgspec.structs.replace(spec, architecture="gated")
    path = write_checkpoint(tmp_path / "c.safetensors", model_of(gated), spec=spec)
    with pytest.raises(CheckpointError, match="weights do not fit the spec"):
        load_checkpoint(path)
    path = write_checkpoint(tmp_path / "g.safetensors", model_of(gated))
    with pytest.raises(UsageError, match="its architecture is gated, the new model's pixelcnn"):
        initial_weights(make_network(spec), path)


def test_init_starts_from_the_mean_over_the_classes(tmp_path: Path) -> None:
    spec = SPECS["RGB, 3 layers, label"]
    source = copy.deepcopy(model_of(spec))
    assert isinstance(source, PixelCNN)
    assert source.condition_projection is not None
    with torch.no_grad():  # of equal classes the mean is each of them
        source.condition_projection.weight[:] = source.condition_projection.weight[0]
    path = write_checkpoint(tmp_path / "c.safetensors", source)
    plain = make_network(msgspec.structs.replace(spec, conditioning="none", conditioning_size=0)).eval()
    initial_weights(plain, path)
    image = torch.randint(spec.levels, (2, *spec.image_shape))
    with torch.no_grad():
        torch.testing.assert_close(plain(image), source(image, torch.tensor([0, 2])), rtol=1e-4, atol=1e-4)
