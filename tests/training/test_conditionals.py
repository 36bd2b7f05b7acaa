"""The mixture head is a distribution: that of Salimans et al. 2017, computed here a second time, the plain way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.conditionals import LogisticMixture, conditionals, log_scale_bounds
from gpcnn_training.divergence import NEAR_TIE, first_divergences

GREY = ModelSpec(height=1, width=1, levels=6, head="mixture", mixtures=3)
RGB = ModelSpec(height=1, width=1, channels=3, levels=5, head="mixture", mixtures=4)


def numbers_of(spec: ModelSpec, count: int = 1, seed: int = 0, sharp: float = 0.0) -> Tensor:
    """Outputs of a head, float64 [N, P, 1, 1]; `sharp` is taken off the log-scales."""
    outputs = torch.randn(count, spec.head_outputs, 1, 1, generator=torch.manual_seed(seed), dtype=torch.float64)
    kinds, c = outputs.view(count, -1, spec.mixtures), spec.channels
    kinds[:, 1 + c : 1 + 2 * c] -= 1 + sharp
    return outputs


def all_levels(spec: ModelSpec) -> Tensor:
    """Every value of a pixel, int32 [K^C, C, 1, 1]."""
    every = list(itertools.product(range(spec.levels), repeat=spec.channels))
    return torch.tensor(every, dtype=torch.int32).view(-1, spec.channels, 1, 1)


def joint(spec: ModelSpec, outputs: Tensor) -> np.ndarray:
    """P of every value of a pixel: the sum over components of the weight times a mass per channel, straight."""
    c, k, m = spec.channels, spec.levels, spec.mixtures
    kinds = outputs.view(-1, m).numpy()
    weights = np.exp(kinds[0]) / np.exp(kinds[0]).sum()
    means, scales, coefficients = kinds[1 : 1 + c], np.exp(kinds[1 + c : 1 + 2 * c]), np.tanh(kinds[1 + 2 * c :])
    names = {(1, 0): 0, (2, 0): 1, (2, 1): 2}  # (channel, earlier one) → its coefficient
    found = []
    for pixel in all_levels(spec).view(-1, c).tolist():
        x = [2 * level / (k - 1) - 1 for level in pixel]
        mass = weights.copy()
        for channel, level in enumerate(pixel):
            mean = means[channel] + sum(coefficients[names[channel, e]] * x[e] for e in range(channel))
            above = 1 if level == k - 1 else 1 / (1 + np.exp(-(x[channel] + 1 / (k - 1) - mean) / scales[channel]))
            below = 0 if level == 0 else 1 / (1 + np.exp(-(x[channel] - 1 / (k - 1) - mean) / scales[channel]))
            mass *= above - below
        found.append(mass.sum())
    return np.array(found)


@pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey", "rgb"])
def test_conditionals_multiply_to_the_mixture(spec: ModelSpec) -> None:
    outputs, every = numbers_of(spec), all_levels(spec)
    given = conditionals(spec, outputs.expand(len(every), -1, 1, 1), every)
    found = given.log_probability(every).sum((1, 2, 3)).exp().numpy()
    np.testing.assert_allclose(found, joint(spec, outputs), rtol=1e-10)
    assert found.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey", "rgb"])
def test_a_level_is_the_number_of_cdf_steps_up_to_u(spec: ModelSpec) -> None:
    count = 400
    outputs = numbers_of(spec, count)
    levels = torch.randint(spec.levels, (count, spec.channels, 1, 1), dtype=torch.int32)
    u = torch.rand(count, spec.channels, 1, 1, dtype=torch.float64)
    given = conditionals(spec, outputs, levels)
    each = [given.log_probability(torch.full_like(levels, level)).exp() for level in range(spec.levels)]
    cdf = torch.stack(each).cumsum(0)
    expected = (cdf[:-1] <= u).sum(0, dtype=torch.int32)
    assert torch.equal(given.inverse_cdf(u), expected)
    assert len(expected.unique()) == spec.levels


def test_the_temperature_divides_log_weights_and_multiplies_scales() -> None:
    temperature, count = 0.6, 300
    outputs = numbers_of(GREY, count)
    changed = outputs.clone().view(count, -1, GREY.mixtures)
    changed[:, 0] /= temperature
    changed[:, 2] += math.log(temperature)
    levels = torch.zeros(count, 1, 1, 1, dtype=torch.int32)
    u = torch.rand(count, 1, 1, 1, dtype=torch.float64)
    found = conditionals(GREY, outputs, levels).inverse_cdf(u, temperature)
    expected = conditionals(GREY, changed.view_as(outputs), levels).inverse_cdf(u)
    assert torch.equal(found, expected)
    assert not torch.equal(found, conditionals(GREY, outputs, levels).inverse_cdf(u))


def test_a_mean_between_levels_and_a_scale_beyond_its_bounds_stay_finite() -> None:
    """Every level has a finite log-probability and gradient, in float32, whatever the head says."""
    spec = ModelSpec(height=1, width=1, levels=256, head="mixture", mixtures=1)
    levels = torch.arange(256, dtype=torch.int32).view(-1, 1, 1, 1)
    for mean, log_scale in itertools.product((-30.0, -1.0, 0.0, 0.003, 1.0, 30.0), (-90.0, -7.0, 0.0, 2.0, 90.0)):
        outputs = torch.tensor([0.0, mean, log_scale]).view(1, 3, 1, 1).requires_grad_()
        found = conditionals(spec, outputs.expand(256, -1, 1, 1), levels).log_probability(levels)
        found.sum().backward()
        assert outputs.grad is not None
        assert torch.isfinite(found).all()
        assert torch.isfinite(outputs.grad).all()
        assert found.double().exp().sum().item() == pytest.approx(1, abs=1e-4)
        bounded = torch.tensor([0.0, mean, min(max(log_scale, -7), 2)], dtype=torch.float64).view(1, 3, 1, 1)
        exact = conditionals(spec, bounded.expand(256, -1, 1, 1), levels).log_probability(levels)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)


def test_bounds_of_the_scale_follow_the_distance_of_levels() -> None:
    assert log_scale_bounds(256) == (-7, 2)
    low, high = log_scale_bounds(2)
    assert math.exp(low) == pytest.approx(255 * math.exp(-7))
    assert high - low == pytest.approx(9)


@pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey", "rgb"])
def test_noise_on_a_step_is_a_near_tie_and_noise_beside_it_is_none(spec: ModelSpec) -> None:
    """An engine that takes the level on the other side is excused where u is on the step, and nowhere else."""
    outputs = numbers_of(spec, 1, sharp=1.0).float()
    levels = torch.full((1, spec.channels, 1, 1), 2, dtype=torch.int32)
    given = conditionals(spec, outputs, levels)
    assert isinstance(given, LogisticMixture)
    below = [given.log_probability(torch.full_like(levels, level)).double().exp() for level in range(2)]
    step = torch.stack(below).sum(0)  # CDF of level 1: where level 2 begins
    free = torch.zeros_like(levels, dtype=torch.bool)
    for distance, excused in ((0.0, True), (2e-6, True), (-2e-6, True), (3e-4, False), (-3e-4, False)):
        u = (step + distance).float()
        drawn = given.inverse_cdf(u)
        other = torch.where(drawn == 2, 1, 2).int()
        found = first_divergences(conditionals(spec, outputs, levels), other, u, free)
        margins = given.margin(other, u)
        assert len(found) == 1
        assert bool((margins <= NEAR_TIE).all()) == excused, (distance, margins)


def test_a_steep_cdf_is_measured_in_what_the_head_says() -> None:
    """Of a narrow logistic, a rounding error of the mean moves the CDF by far more: that is a near-tie, too."""
    spec = ModelSpec(height=1, width=1, levels=256, head="mixture", mixtures=1)
    mean = -1e-6  # 0 is the edge between levels 127 and 128: the CDF there is almost a half
    outputs = torch.tensor([0.0, mean, -7.0]).view(1, 3, 1, 1)
    other = torch.tensor([0.0, mean + 2e-6, -7.0]).view(1, 3, 1, 1)
    levels, u = torch.zeros(1, 1, 1, 1, dtype=torch.int32), torch.full((1, 1, 1, 1), 0.5)
    ours, theirs = (conditionals(spec, x, levels).inverse_cdf(u) for x in (outputs, other))
    assert ours.item() != theirs.item()
    (found,) = first_divergences(conditionals(spec, outputs, levels), theirs, u, torch.zeros_like(u, dtype=torch.bool))
    assert found.worst <= NEAR_TIE
    beside = torch.tensor([0.0, mean + 2e-3, -7.0]).view(1, 3, 1, 1)
    wrong = conditionals(spec, beside, levels).inverse_cdf(u)
    assert wrong.item() == theirs.item()
    off = torch.full_like(u, 0.55)
    (found,) = first_divergences(conditionals(spec, beside, levels), ours, off, torch.zeros_like(u, dtype=torch.bool))
    assert found.worst > NEAR_TIE
