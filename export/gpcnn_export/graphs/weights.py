"""The model's weights as matrices, in the order that the sampler graph's im2col gives its columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Array
from gpcnn_training.model import GatedLayer, GatedPixelCNN, MixtureHead


@dataclass(frozen=True)
class LayerWeights:
    """One layer as matrices [inputs, outputs]; F features, C channels, k kernel size; halves are (tanh, sigmoid).

    Attributes:
        vertical: [k · k//2 · C, 2F] in layer 1, ordered (column, row, channel); [(k//2 + 1) · k · F, 2F] in the
            others, ordered (row, column, feature); rows from the farthest above to the nearest, or to this one.
        vertical_bias: [2F].
        link: halves [2F, F].
        horizontal: halves [k//2 · C, F] in layer 1, [(k//2 + 1) · F, F] in the others.
        horizontal_bias: halves [F].
        out: [F, F]; None in the last layer.
    """

    vertical: Array
    vertical_bias: Array
    link: tuple[Array, Array]
    horizontal: tuple[Array, Array]
    horizontal_bias: tuple[Array, Array]
    out: Array | None


@dataclass(frozen=True)
class HeadWeights:
    """The skip sum and the head; S head features, K levels, P numbers of a mixture.

    Attributes:
        skip: [L · F, F], all layers' skip convolutions one above the other: their sum is one product.
        skip_bias: [F], the sum of theirs.
        hidden: per channel [F, S].
        hidden_bias: per channel [S].
        earlier: per channel c [c · D, S]: the channels of the same pixel before it.
        logits: per channel [S, K], or for two values [S, 1], which gives logit(0) - logit(1).
        logits_bias: per channel [K], or [1].

    Of a mixture there is one `hidden` [F, C · S], no `earlier`, and one `logits` [C · S, P].
    """

    skip: Array
    skip_bias: Array
    hidden: list[Array]
    hidden_bias: list[Array]
    earlier: list[Array]
    logits: list[Array]
    logits_bias: list[Array]


def layer_weights(model: GatedPixelCNN) -> list[LayerWeights]:
    """All layers, first to last."""
    return [_layer(layer, model.spec) for layer in model.layers if isinstance(layer, GatedLayer)]


def _layer(layer: GatedLayer, spec: ModelSpec) -> LayerWeights:
    f = spec.features

    def halves(matrix: Array) -> tuple[Array, Array]:
        return np.ascontiguousarray(matrix[..., :f]), np.ascontiguousarray(matrix[..., f:])

    vertical = array(layer.vertical.weight)  # [2F, inputs, rows, columns]
    order = (2, 3, 1, 0) if layer.this else (3, 2, 1, 0)
    return LayerWeights(
        vertical=np.ascontiguousarray(vertical.transpose(order).reshape(-1, 2 * f)),
        vertical_bias=array(layer.vertical.bias),
        link=halves(array(layer.link.weight)[:, :, 0, 0].T),
        horizontal=halves(array(layer.horizontal.weight)[:, :, 0].transpose(2, 1, 0).reshape(-1, 2 * f)),
        horizontal_bias=halves(array(layer.horizontal.bias)),
        out=None if layer.out is None else array(layer.out.weight)[:, :, 0, 0].T,
    )


def head_weights(model: GatedPixelCNN) -> HeadWeights:
    """The head of each channel apart, since a channel is drawn before the next one is evaluated."""
    spec, head = model.spec, model.head
    c, s, k = spec.channels, spec.head_features, spec.levels
    layers = [layer for layer in model.layers if isinstance(layer, GatedLayer)]
    skip = np.concatenate([array(layer.skip.weight)[:, :, 0, 0].T for layer in layers])
    skip_bias = np.asarray(sum(array(layer.skip.bias) for layer in layers))
    if isinstance(head, MixtureHead):
        return HeadWeights(
            skip=skip,
            skip_bias=skip_bias,
            hidden=[array(head.hidden.weight)[:, :, 0, 0].T],
            hidden_bias=[array(head.hidden.bias)],
            earlier=[],
            logits=[array(head.mixture.weight)[:, :, 0, 0].T],
            logits_bias=[array(head.mixture.bias)],
        )
    hidden = array(head.hidden.weight)[:, :, 0, 0].reshape(c, s, -1)
    hidden_bias = array(head.hidden.bias).reshape(c, s)
    earlier = np.zeros((c, s, c), np.float32) if head.earlier is None else array(head.earlier.weight).reshape(c, s, -1)
    logits = array(head.logits.weight)[:, :, 0, 0].reshape(c, k, s)
    logits_bias = array(head.logits.bias).reshape(c, k)
    if is_binary(spec):
        logits, logits_bias = logits[:, :1] - logits[:, 1:], logits_bias[:, :1] - logits_bias[:, 1:]
    return HeadWeights(
        skip=skip,
        skip_bias=skip_bias,
        hidden=[hidden[i].T for i in range(c)],
        hidden_bias=list(hidden_bias),
        earlier=[earlier[i, :, : i * (spec.inputs // c)].T for i in range(c)],
        logits=[logits[i].T for i in range(c)],
        logits_bias=list(logits_bias),
    )


def is_binary(spec: ModelSpec) -> bool:
    """Whether graphs take two levels for ±1, and draw by one comparison."""
    return spec.levels == 2 and spec.input == "values" and spec.head == "categorical"


def level_values(model: GatedPixelCNN) -> Array:
    """What the network reads of each level, float32 [K, D]; D is 1 for values."""
    levels = torch.arange(model.spec.levels).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        return array(model.values(levels)).reshape(model.spec.levels, -1)


def condition_weights(model: GatedPixelCNN) -> Array | None:
    """V of V^T y for every gate: [classes, E or G, L · 4F], per layer (vertical, horizontal); else None."""
    projection = model.condition_projection
    if projection is None:
        return None
    weight = array(projection.get_parameter("weight"))
    return weight if model.spec.conditioning == "label" else np.ascontiguousarray(weight.reshape(len(weight), -1).T)


def gate_biases(layers: list[LayerWeights]) -> Array:
    """All gates' biases [L · 4F], in the order of `condition_weights`."""
    return np.concatenate([np.concatenate([layer.vertical_bias, *layer.horizontal_bias]) for layer in layers])


def array(tensor: torch.Tensor | None) -> Array:
    """A weight as a C-contiguous NumPy array."""
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().numpy())
