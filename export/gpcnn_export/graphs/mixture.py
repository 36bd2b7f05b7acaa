"""The head that is a mixture of logistics, inside the sampler graph: a level for each channel of each pixel.

Names and formulas are those of `gpcnn_training.conditionals.LogisticMixture`; rows are pixels, and J logistics of a
mixture stand side by side: [M, J].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Array, Graph
from gpcnn_training.conditionals import log_scale_bounds


@dataclass(frozen=True)
class MixtureConstants:
    """What the levels of a model look like to a logistic.

    Attributes:
        spec: the model.
        values: [K, 1], network inputs of the levels.
        below, above: [K, 1], edges of each level's interval; those of the outermost lie at -1 - 1/(K-1) and
            1 + 1/(K-1), and are not used.
        floor, ceiling, inside: [K, 1], 1 where the interval has a lower edge, an upper one, or both; else 0.
    """

    spec: ModelSpec
    values: Array
    below: Array
    above: Array
    floor: Array
    ceiling: Array
    inside: Array


@dataclass(frozen=True)
class PixelDraw:
    """Per channel: values float32 [M, 1], levels int32 [M, 1], log-probabilities float32 [M, 1] at temperature 1."""

    values: list[str]
    levels: list[str]
    log_prob: list[str]


def mixture_constants(g: Graph, spec: ModelSpec) -> MixtureConstants | None:
    """The tables of a mixture head's levels; None for another head."""
    if spec.head != "mixture":
        return None
    k, top = spec.levels, spec.levels - 1
    levels, scale = np.arange(k, dtype=np.int32)[:, None], np.float32(1 / top)

    def table(values: Array) -> Array:
        return values.astype(np.float32) * scale

    return MixtureConstants(
        spec=spec,
        values=table(2 * levels - top),
        below=table(2 * levels - k),
        above=table(2 * levels - (k - 2)),
        floor=(levels > 0).astype(np.float32),
        ceiling=(levels < top).astype(np.float32),
        inside=((levels > 0) & (levels < top)).astype(np.float32),
    )


def draw_mixture(
    b: Graph, constants: MixtureConstants, numbers: str, inverse_temperature: str, channels: list[list[str]]
) -> PixelDraw:
    """Draw the channels of each pixel one after another.

    Args:
        b: the graph or body that gets the nodes.
        constants: of `mixture_constants`.
        numbers: [M, P], what the head says of each pixel.
        inverse_temperature: float32 scalar.
        channels: per channel noise float32, known int32 and free bool, [M, 1] each.
    """
    spec = constants.spec
    c, k = spec.channels, spec.levels
    kinds = b.ops(
        "Split",
        spec.head_outputs // spec.mixtures,
        numbers,
        b.int64(*[spec.mixtures] * (spec.head_outputs // spec.mixtures)),
        axis=1,
    )
    low, high = log_scale_bounds(k)
    drawn = PixelDraw([], [], [])
    log_weights = b.op("LogSoftmax", kinds[0], axis=1)
    for channel, (noise, known, free) in enumerate(channels):
        mean = kinds[1 + channel]
        for earlier in range(channel):
            coefficient = b.op("Tanh", kinds[1 + 2 * c + (channel - 1) + earlier])
            mean = b.op("Add", mean, b.op("Mul", coefficient, drawn.values[earlier]))
        bounded = b.op("Clip", kinds[1 + c + channel], np.array(low, np.float32), np.array(high, np.float32))
        steep = b.op("Exp", b.op("Neg", bounded))
        weights = b.op("Softmax", b.op("Mul", log_weights, inverse_temperature), axis=1)
        level = _inverse_cdf(b, spec, weights, mean, b.op("Mul", steep, inverse_temperature), noise)
        level = b.op("Where", free, level, known)
        drawn.levels.append(level)
        drawn.values.append(_look_up(b, constants.values, level))
        joint = b.op("Add", log_weights, _log_bins(b, constants, level, mean, steep))
        total = b.op("ReduceLogSumExp", joint, np.array([1]), keepdims=1)
        drawn.log_prob.append(b.op("Min", total, np.array(0, np.float32)))  # above it by rounding alone
        log_weights = b.op("Sub", joint, total)
    return drawn


def _inverse_cdf(b: Graph, spec: ModelSpec, weights: str, mean: str, steep: str, noise: str) -> str:
    """The level #{k < K-1 : CDF(k) <= u}, int32 [M, 1], by bisection: a few nodes a step, log2 K steps for K levels."""
    k = spec.levels
    scale = np.float32(1 / (k - 1))
    drawn = ""
    step = 1 << ((k - 1).bit_length() - 1)
    while step:
        if drawn:
            more = b.op("Add", drawn, np.array(step, np.float32))
            edge = b.op("Mul", b.op("Sub", b.op("Add", more, more), np.array(k, np.float32)), np.array(scale))
        else:
            edge = b.constant(np.array(np.float32(2 * step - k) * scale))
        z = b.op("Mul", b.op("Sub", edge, mean), steep)
        cdf = b.op("ReduceSum", b.op("Mul", weights, b.op("Sigmoid", z)), np.array([1]), keepdims=1)
        below = b.op("LessOrEqual", cdf, noise)
        if drawn and k & (k - 1):  # K is no power of two: not beyond the last level
            below = b.op("And", below, b.op("Less", more, np.array(k, np.float32)))
        taken = b.op("Mul", b.op("Cast", below, to=onnx.TensorProto.FLOAT), np.array(step, np.float32))
        drawn = b.op("Add", drawn, taken) if drawn else taken
        step //= 2
    return b.op("Cast", drawn, to=onnx.TensorProto.INT32)


def _log_bins(b: Graph, constants: MixtureConstants, level: str, mean: str, steep: str) -> str:
    """log P(level) of each logistic at temperature 1, [M, J]."""
    width = b.op("Mul", steep, np.array(2 / (constants.spec.levels - 1), np.float32))
    above = b.op("Mul", b.op("Sub", mean, _look_up(b, constants.above, level)), steep)
    below = b.op("Mul", b.op("Sub", _look_up(b, constants.below, level), mean), steep)
    inside = b.op("Log", b.op("Tanh", b.op("Mul", width, np.array(0.5, np.float32))))
    inside = b.op("Add", inside, b.op("Softplus", b.op("Neg", width)))
    inside = b.op("Mul", inside, _look_up(b, constants.inside, level))
    for end, has in ((above, constants.ceiling), (below, constants.floor)):
        inside = b.op("Sub", inside, b.op("Mul", b.op("Softplus", end), _look_up(b, has, level)))
    return inside


def _look_up(b: Graph, table: Array, level: str) -> str:
    """Of each level, its number in a table [K, 1]: [M, 1]."""
    return b.op("Gather", table[:, 0], level, axis=0)
