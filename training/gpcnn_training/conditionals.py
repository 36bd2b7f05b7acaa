"""What a model's head says: the distribution of each sub-pixel given those before it, and how u chooses a level of it.

Shape legend: N images, C channels, H rows, W columns, K levels, M logistics of a mixture. Levels are int [N, C, H, W],
noise u is float [N, C, H, W] in [0, 1).

A level is drawn as #{k < K-1 : CDF(k) <= u}, whatever the head. A temperature T acts on each conditional by itself:

    softmax    logits / T
    mixture    log-weights / T, and scales · T
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gpcnn_deploy.spec import ModelSpec

NARROWEST, WIDEST = -7.0, 2.0
"""Bounds of a logistic's log-scale at 256 levels, where [-1, 1] is the range of pixels; -7 is that of PixelCNN++."""


class Conditionals(Protocol):
    """The conditional distribution of every sub-pixel of some images, or of a part of them."""

    def inverse_cdf(self, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """The level that each u draws, int32 [N, C, H, W]."""

    def log_probability(self, levels: Tensor) -> Tensor:
        """log p(level) in nats under the model itself (temperature 1), float [N, C, H, W]."""

    def margin(self, levels: Tensor, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """How far u is from the CDF interval that draws the level, float64 [N, C, H, W]; 0 inside it.

        The unit is a change of the head's numbers: where the CDF moves by more than they do, the distance is divided
        by how much more.
        """

    def log_prob_error(self, levels: Tensor, log_prob: Tensor) -> Tensor:
        """How far log-probabilities of the levels are from ours, float [N, C, H, W], in the unit of `margin`."""


def conditionals(spec: ModelSpec, outputs: Tensor, levels_NCHW: Tensor) -> Conditionals:
    """The distributions that a head's outputs stand for.

    Args:
        spec: the model's.
        outputs: what the model returned, or a part of its rows and columns.
        levels_NCHW: the images, or the same part of them: channels of a pixel depend on those before them.
    """
    return Categorical(outputs) if spec.head == "categorical" else LogisticMixture(spec, outputs, levels_NCHW)


def inverse_cdf(logits_NK: Tensor, noise_N: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Level #{k < K-1 : CDF(k) <= u} of the softmax at a temperature: logits [N, K, …], noise [N, …] → int32 [N, …]."""
    cdf = torch.softmax(logits_NK / temperature, dim=1).cumsum(dim=1)
    return (cdf[:, :-1] <= noise_N.unsqueeze(1)).sum(dim=1, dtype=torch.int32)


def log_probability(logits_NK: Tensor, levels_N: Tensor) -> Tensor:
    """log p(level) in nats under the model itself (temperature 1): logits [N, K, …], levels [N, …] → float [N, …]."""
    chosen = levels_N.long().unsqueeze(1)
    return torch.log_softmax(logits_NK, dim=1).gather(1, chosen).squeeze(1)


class Categorical:
    """A softmax over the K levels: logits [N, K, C, H, W]."""

    def __init__(self, logits_NKCHW: Tensor) -> None:
        self.logits = logits_NKCHW

    def inverse_cdf(self, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """As `Conditionals` says."""
        return inverse_cdf(self.logits, noise, temperature)

    def log_probability(self, levels: Tensor) -> Tensor:
        """As `Conditionals` says."""
        return log_probability(self.logits, levels)

    def margin(self, levels: Tensor, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """As `Conditionals` says; the CDF of a softmax moves by less than its logits do."""
        cdf = torch.softmax((self.logits / temperature).double(), 1).cumsum(1)
        cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], 1)
        index = levels.long().unsqueeze(1)
        low, high = cdf.gather(1, index).squeeze(1), cdf.gather(1, index + 1).squeeze(1)
        return torch.maximum(low - noise, noise - high).clamp(min=0)

    def log_prob_error(self, levels: Tensor, log_prob: Tensor) -> Tensor:
        """As `Conditionals` says: in nats."""
        return (self.log_probability(levels) - log_prob).abs()


class LogisticMixture:
    """A discretized mixture of logistics (Salimans et al. 2017, arXiv 1701.05517, equations 1 to 3).

    A pixel's levels, as values x in [-1, 1], are drawn of one of M components; in each, channel c is a logistic around
    a mean that is linear in the channels before it. So the conditional of a channel is a mixture of the same logistics,
    whose weights are the components' probabilities given the channels before it. A level has the mass of the interval
    of 2/(K-1) around it; those of the first and last level are open to the outside.

    The head's numbers [N, P, H, W] are, M of each: log-weights; C means; C log-scales, kept between `NARROWEST` and
    `WIDEST`; and before a tanh, the coefficients G←R, B←R, B←G. For K levels both bounds move by log(255 / (K-1)).
    """

    def __init__(self, spec: ModelSpec, outputs_NPHW: Tensor, levels_NCHW: Tensor) -> None:
        self.spec, self.outputs, self.levels = spec, outputs_NPHW, levels_NCHW
        c, top = spec.channels, spec.levels - 1
        n, _, h, w = outputs_NPHW.shape
        kinds = outputs_NPHW.view(n, -1, spec.mixtures, h, w)
        values = ((2 * levels_NCHW - top).to(outputs_NPHW.dtype) * (1 / top)).unsqueeze(2)
        coefficients = torch.tanh(kinds[:, 1 + 2 * c :])
        means = [kinds[:, 1]]
        for channel, first in ((1, 0), (2, 1))[: c - 1]:  # channel c has the coefficients first, first + 1, …
            mean = kinds[:, 1 + channel]
            for earlier in range(channel):
                mean = mean + coefficients[:, first + earlier] * values[:, earlier]
            means.append(mean)
        self.means = torch.stack(means, 1)
        low, high = log_scale_bounds(spec.levels)
        self.inverse_scales = torch.exp(-kinds[:, 1 + c : 1 + 2 * c].clamp(low, high))
        self.log_bins = self._log_bins(levels_NCHW)
        log_weights = [kinds[:, 0]]
        for channel in range(c - 1):
            log_weights.append(log_weights[-1] + self.log_bins[:, channel])
        self.log_weights = torch.log_softmax(torch.stack(log_weights, 1), 2)

    def _log_bins(self, levels_NCHW: Tensor) -> Tensor:
        """log P(level) of each component, [N, C, M, H, W].

        σ(b) - σ(a) = σ(b) · σ(-a) · (1 - exp(a - b)), where b and a are the interval's ends in units of the scale:
        every factor is exact however thin the interval's mass is.
        """
        k, top = self.spec.levels, self.spec.levels - 1
        levels = levels_NCHW.unsqueeze(2)
        dtype, width = self.means.dtype, self.inverse_scales * (2 / top)
        above = ((2 * levels - (k - 2)).to(dtype) * (1 / top) - self.means) * self.inverse_scales
        below = ((2 * levels - k).to(dtype) * (1 / top) - self.means) * self.inverse_scales
        inside = torch.log(torch.tanh(width * 0.5)) + functional.softplus(-width)
        zero = torch.zeros((), dtype=dtype, device=width.device)
        result = torch.where(levels < top, -functional.softplus(-above), zero)
        result = result - torch.where(levels > 0, functional.softplus(below), zero)
        return result + torch.where((levels > 0) & (levels < top), inside, zero)

    def _cdf(self, number: Tensor, weights: Tensor, inverse_scales: Tensor) -> Tensor:
        """CDF of the `number` lowest levels, int [N, C, H, W] from 1 to K-1."""
        k = self.spec.levels
        edge = (2 * number - k).to(weights.dtype) * (1 / (k - 1))
        return (weights * torch.sigmoid((edge.unsqueeze(2) - self.means) * inverse_scales)).sum(2)

    def inverse_cdf(self, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """As `Conditionals` says; by bisection, since the CDF does not fall."""
        weights = torch.softmax(self.log_weights / temperature, 2)
        inverse_scales = self.inverse_scales / temperature
        drawn = torch.zeros_like(noise, dtype=torch.int32)
        step = 1 << ((self.spec.levels - 1).bit_length() - 1)
        while step:
            more = drawn + step
            below = (more < self.spec.levels) & (self._cdf(more, weights, inverse_scales) <= noise)
            drawn = torch.where(below, more, drawn)
            step //= 2
        return drawn

    def log_probability(self, levels: Tensor) -> Tensor:
        """As `Conditionals` says."""
        log_bins = self.log_bins if levels is self.levels else self._log_bins(levels)
        return torch.logsumexp(self.log_weights + log_bins, 2).clamp(max=0)  # above it by rounding alone

    def margin(self, levels: Tensor, noise: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
        """As `Conditionals` says; the CDF at a step moves 1/scale times as fast as a mean, and a quarter of that."""
        with torch.enable_grad():
            exact = self._exact()
            if isinstance(temperature, Tensor):
                temperature = temperature.double()
            weights = torch.softmax(exact.log_weights / temperature, 2)
            inverse_scales = exact.inverse_scales / temperature
            low = torch.where(levels > 0, exact._cdf(levels, weights, inverse_scales), 0.0)
            high = torch.where(levels < self.spec.levels - 1, exact._cdf(levels + 1, weights, inverse_scales), 1.0)
            nearest = torch.where(low - noise > noise - high, low, high)
            sensitivity = exact._sensitivity(nearest)
        return (torch.maximum(low - noise, noise - high).clamp(min=0) / sensitivity).detach()

    def log_prob_error(self, levels: Tensor, log_prob: Tensor) -> Tensor:
        """As `Conditionals` says: in nats, where a logistic's scale is 1 or more."""
        with torch.enable_grad():
            exact = self._exact()
            found = exact.log_probability(levels)
            sensitivity = exact._sensitivity(found)
        return ((self.log_probability(levels) - log_prob).abs() / sensitivity).detach()

    def _exact(self) -> LogisticMixture:
        """The same in float64, whose outputs can be differentiated by."""
        return LogisticMixture(self.spec, self.outputs.detach().double().requires_grad_(), self.levels)

    def _sensitivity(self, of: Tensor) -> Tensor:
        """By how much a number of each sub-pixel moves where all of the head's move by 1, [N, C, H, W]; 1 at least."""
        slopes = [
            torch.autograd.grad(of[:, channel].sum(), self.outputs, retain_graph=True)[0].abs().sum(1)
            for channel in range(self.spec.channels)
        ]
        return torch.stack(slopes, 1).clamp(min=1).detach()


def log_scale_bounds(levels: int) -> tuple[float, float]:
    """Least and largest log-scale of a logistic."""
    shift = math.log(255 / (levels - 1))
    return NARROWEST + shift, WIDEST + shift
