"""Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328) and its three cuts.

Shape legend: N images, C channels, H rows, W columns, K levels, F features, L layers, I numbers of a pixel that the
network reads (C values, or C vectors of categories one after another); a suffix names the axes.

Layer l of the paper (figure 2), with v the vertical and h the horizontal stack:

    p_v = conv_v(v)                     rows above (and, from layer 2 on, this row)      N 2F H W
    v'  = tanh(p_v,a) · sigmoid(p_v,b)  equation 2                                       N  F H W
    p_h = conv_h(h) + link(p_v)         pixels to the left, and all that is above        N 2F H W
    g   = tanh(p_h,a) · sigmoid(p_h,b)                                                   N  F H W
    h'  = h + out(g)                    residual; layer 1 has no h to add                N  F H W
    s   = s + skip(g)                   read by the head                                 N  F H W

A condition y enters as V^T y in every gate of both stacks (equation 4); of a spatial map it is V · s, s = m(y), with a
1×1 convolution V that is not masked. The head factorizes the channels of a pixel as
p(R|x<) p(G|x<,R) p(B|x<,R,G) (section 2.1); so does the mixture of logistics that can take its place.

`forward` evaluates a whole image; `vertical_row` and `horizontal_window` evaluate one row and one window of columns on
the same weights, from caches. They are equal by test.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_training.encoder import Encoder
from gpcnn_training.map_network import MapNetwork
from gpcnn_training.network import Network


def gate(preactivation: Tensor) -> Tensor:
    """tanh(a) · sigmoid(b) of the halves of axis 1: [N, 2F, …] → [N, F, …] (equation 2)."""
    a, b = preactivation.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of both stacks: the weights, and nothing that depends on an image's size."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        first, last = index == 0, index == spec.layers - 1
        inputs = spec.inputs if first else spec.features
        size = spec.first_kernel_size if first else spec.kernel_size
        f = spec.features
        self.above = size // 2
        self.left = size // 2
        self.this = 0 if first else 1  # from layer 2 on, features of this row and this column may be seen
        self.vertical = nn.Conv2d(inputs, 2 * f, (self.above + self.this, size))
        self.link = nn.Conv2d(2 * f, 2 * f, 1, bias=False)  # the horizontal gate's bias is in `horizontal`
        self.horizontal = nn.Conv2d(inputs, 2 * f, (1, self.left + self.this))
        self.out = None if last else nn.Conv2d(f, f, 1, bias=False)  # the next gate has a bias
        self.skip = nn.Conv2d(f, f, 1)


class Head(nn.Module):
    """Skip sum → logits of each channel, given the channels of the same pixel that come before it."""

    earlier_mask: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        c, s = spec.channels, spec.head_features
        self.channels, self.levels = c, spec.levels
        self.hidden = nn.Conv2d(spec.features, c * s, 1)
        self.earlier = nn.Conv2d(spec.inputs, c * s, 1, bias=False) if c > 1 else None
        self.logits = nn.Conv2d(c * s, c * spec.levels, 1, groups=c)
        mask = torch.ones(c, c).tril(-1).repeat_interleave(s, 0).repeat_interleave(spec.inputs // c, 1)
        self.register_buffer("earlier_mask", mask[:, :, None, None], persistent=False)

    def forward(self, skip_NFHW: Tensor, values_NIHW: Tensor) -> Tensor:
        """Logits float32 [N, K, C, H, W]; channel c reads channels 0..c-1 of `values_NIHW` at its own pixel."""
        hidden = self.hidden(torch.relu(skip_NFHW))
        if self.earlier is not None:
            hidden = hidden + functional.conv2d(values_NIHW, self.earlier.weight * self.earlier_mask)
        logits: Tensor = self.logits(torch.relu(hidden))
        n, _, h, w = logits.shape
        return logits.view(n, self.channels, self.levels, h, w).transpose(1, 2)


class MixtureHead(nn.Module):
    """Skip sum → the numbers of a pixel's mixture of logistics (Salimans et al. 2017, section 2.1 and 2.2).

    Channels of the pixel itself are not read here: the mixture says how they depend on each other, see
    `gpcnn_training.conditionals.LogisticMixture`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        c, m = spec.channels, spec.mixtures
        self.hidden = nn.Conv2d(spec.features, c * spec.head_features, 1)
        self.mixture = nn.Conv2d(c * spec.head_features, spec.head_outputs, 1)
        with torch.no_grad():  # the logistics begin side by side, each as wide as its share of [-1, 1]
            assert self.mixture.bias is not None
            kinds = self.mixture.bias.view(-1, m)
            kinds.zero_()
            kinds[1 : 1 + c] = (2 * torch.arange(m) + 1 - m) / m
            kinds[1 + c : 1 + 2 * c] = -math.log(m)

    def forward(self, skip_NFHW: Tensor, values_NCHW: Tensor) -> Tensor:
        """Numbers float32 [N, P, H, W], P = (1 + 2C + C(C-1)/2) · M, in the order that `LogisticMixture` has them."""
        outputs: Tensor = self.mixture(torch.relu(self.hidden(torch.relu(skip_NFHW))))
        return outputs


class GatedPixelCNN(Network):
    """The network: levels of an image → what its head says of every sub-pixel's conditional distribution."""

    head: Head | MixtureHead

    def __init__(self, spec: ModelSpec, encoder: EncoderSpec | None = None) -> None:
        """A network with fresh weights; with an `encoder`, an autoencoder, conditioned on the code of an image."""
        super().__init__(spec)
        self.layers = nn.ModuleList(GatedLayer(spec, index) for index in range(spec.layers))
        self.head = Head(spec) if spec.head == "categorical" else MixtureHead(spec)
        gates = spec.layers * 2 * 2 * spec.features
        self.condition_projection: nn.Module | None = None
        if spec.conditioning == "label":
            self.condition_projection = nn.Embedding(spec.conditioning_size, gates)
            nn.init.normal_(self.condition_projection.weight, std=0.05)
        elif spec.conditioning == "embedding":
            self.condition_projection = nn.Linear(spec.conditioning_size, gates, bias=False)
        elif spec.conditioning == "map":
            self.condition_projection = nn.Conv2d(spec.map_features, gates, 1, bias=False)
        self.input_embedding = None
        if spec.input == "categorical":
            self.input_embedding = nn.Embedding(spec.levels, spec.input_size)
        self.map_network = MapNetwork(spec) if spec.conditioning == "map" else None
        self.encoder = None if encoder is None else Encoder(encoder, spec)

    def condition(self, condition: Tensor | None) -> Tensor | None:
        """V^T y for every gate: label int [N] or embedding float [N, E] → [L, 2, N, 2F]; None without conditioning.

        Axis 1 is (vertical, horizontal). Of a map [N, M, h, w] it is s, float [N, G, H, W], of which `added` makes the
        rest gate by gate: all at once would take as much memory as the network.

        Raises:
            UsageError: a condition is missing, or given to an unconditional model.
        """
        if self.condition_projection is None:
            if condition is not None:
                raise UsageError("this model is unconditional: it takes no condition")
            return None
        if condition is None:
            kind = {"label": "a label", "embedding": "an embedding", "map": "a map"}[self.spec.conditioning]
            raise UsageError(f"this model is conditioned on {kind}: pass one per image")
        if self.map_network is not None:
            features: Tensor = self.map_network(condition)
            return features
        bias: Tensor = self.condition_projection(condition)
        n = bias.shape[0]
        return bias.view(n, self.spec.layers, 2, 2 * self.spec.features).permute(1, 2, 0, 3)

    def added(self, condition: Tensor, layer: int, stack: int) -> Tensor:
        """What `condition` gave, as a gate adds it: [N, 2F, 1, 1], or of a map's s [N, G, …] V · s, [N, 2F, …].

        Args:
            condition: what `condition` returned; of a map any of its rows.
            layer: from 0 on.
            stack: 0 for the vertical one, 1 for the horizontal one.
        """
        if self.map_network is None:
            return condition[layer, stack, :, :, None, None]
        assert isinstance(self.condition_projection, nn.Conv2d)
        gate = (2 * layer + stack) * 2 * self.spec.features
        return functional.conv2d(condition, self.condition_projection.weight[gate : gate + 2 * self.spec.features])

    def row_of(self, condition: Tensor | None, row: int) -> Tensor | None:
        """What `condition` gave, for one row of the image."""
        return condition if condition is None or self.map_network is None else condition[:, :, row : row + 1]

    def forward(self, levels_NCHW: Tensor, condition: Tensor | None = None) -> Tensor:
        """The conditionals of every sub-pixel given all that come before it in raster and channel order.

        Args:
            levels_NCHW: int [N, C, H, W], each in [0, K).
            condition: label int [N], embedding float [N, E], map float or int [N, M, h, w], or None; an autoencoder
                without one takes the images' own codes.

        Returns:
            float [N, K, C, H, W], unnormalized log-probabilities; of a mixture head, float [N, P, H, W], the numbers
            of each pixel's mixture. `gpcnn_training.conditionals` makes distributions of either.
        """
        values = self.values(levels_NCHW)
        if condition is None and self.encoder is not None:
            condition = self.embed(levels_NCHW)
        bias = self.condition(condition)
        height, width = values.shape[2:]
        v = h = values
        skip: Tensor | None = None
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, GatedLayer)
            above, left = layer.above, layer.left
            # `above` rows on top: row i of the result reads rows i-above .. i-1+this.
            p_v = layer.vertical(functional.pad(v, (left, left, above, 0)))[:, :, :height]
            p_h = layer.horizontal(functional.pad(h, (left, 0, 0, 0)))[:, :, :, :width]
            if bias is not None:
                p_v = p_v + self.added(bias, index, 0)
                p_h = p_h + self.added(bias, index, 1)
            p_h = p_h + layer.link(p_v)
            g = self._thinned(gate(p_h))
            skip = layer.skip(g) if skip is None else skip + layer.skip(g)
            if layer.out is not None:
                v = self._thinned(gate(p_v))
                h = layer.out(g) if index == 0 else h + layer.out(g)
        assert skip is not None
        logits: Tensor = self.head(skip, values)
        return logits

    def _thinned(self, features: Tensor) -> Tensor:
        return functional.dropout(features, self.dropout) if self.dropout and self.training else features

    def vertical_row(
        self, above_NIAW: Tensor, caches: list[Tensor], bias: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The vertical stack at one row.

        Args:
            above_NIAW: values [N, I, k1//2, W] of the rows above, zero outside the image.
            caches: per layer 2..L, v [N, F, k//2, W] of the rows above, zero outside the image.
            bias: what `condition` returned, of this row (`row_of`).

        Returns:
            (links, caches): per layer, what link adds to the horizontal gate, [N, 2F, 1, W], its condition included;
            and the caches for the next row.
        """
        links: list[Tensor] = []
        new_caches: list[Tensor] = []
        rows = above_NIAW
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, GatedLayer)
            p_v = layer.vertical(functional.pad(rows, (layer.left, layer.left, 0, 0)))
            if bias is not None:
                p_v = p_v + self.added(bias, index, 0)
            link = layer.link(p_v)
            links.append(link if bias is None else link + self.added(bias, index, 1))
            if layer.out is not None:
                rows = torch.cat([caches[index], gate(p_v)], dim=2)
                new_caches.append(rows[:, :, 1:])
        return links, new_caches

    def horizontal_window(
        self, values_NI1X: Tensor, caches: list[Tensor], links: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The horizontal stack and the head at one window of w columns of one row.

        Args:
            values_NI1X: values [N, I, 1, k1//2 + w]: the pixels left of the window (zero outside the image), then the
                window itself (a guess; column j of the result reads columns < j, and channels < c of column j).
            caches: per layer 2..L, h [N, F, 1, k//2] left of the window, zero outside the image.
            links: per layer, `vertical_row`'s links cut to the window, [N, 2F, 1, w].

        Returns:
            (logits [N, K, C, 1, w], or the numbers [N, P, 1, w] of a mixture head; features): features holds per layer
            2..L its input [N, F, 1, k//2 + w], whose last k//2 columns are the next window's cache once the guess has
            become the image.
        """
        width = links[0].shape[3]
        x = values_NI1X[:, :, :, :-1]  # layer 1 does not see the pixel itself
        skip: Tensor | None = None
        h: Tensor | None = None
        features: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, GatedLayer)
            g = gate(layer.horizontal(x) + links[index])
            skip = layer.skip(g) if skip is None else skip + layer.skip(g)
            if layer.out is not None:
                h = layer.out(g) if h is None else h + layer.out(g)
                x = torch.cat([caches[index], h], dim=3)
                features.append(x)
        assert skip is not None
        return self.head(skip, values_NI1X[:, :, :, -width:]), features


def parameter_count(model: nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in model.parameters())
