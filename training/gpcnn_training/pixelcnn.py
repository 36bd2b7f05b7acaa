"""PixelCNN (van den Oord, Kalchbrenner and Kavukcuoglu 2016, arXiv 1601.06759, sections 3.2 to 3.5), for comparison.

Shape legend: N images, C channels, H rows, W columns, K levels, F features, L layers, S features of the head a channel,
I numbers of a pixel that the network reads; a suffix names the axes.

One stack (figure 5, left, and table 1):

    x = conv_A(values)                                              N 2F H W
    x = x + up(relu(conv_B(relu(down(relu(x))))))    L - 1 times    down: 2F → F, conv_B: F → F, up: F → 2F
    logits = logits(relu(hidden(relu(x))))                          N C·S H W, then N C·K H W

Each convolution is masked. It reads the rows above, pixels to the left, and of the pixel itself what its mask lets
through: features are shared out among the channels R, G, B, and those of a channel read the channels before it (A), or
its own as well (B). A convolution of mask A comes first, all others have mask B.

One stack of such convolutions has a blind spot: a pixel above and far to the right is never read, however many layers
there are. A class adds a bias to each k×k convolution, as in the Gated PixelCNN.

`forward` evaluates a whole image; `pixel` evaluates one pixel on the same weights, from caches. They are equal by test.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import ModelSpec, channel_of
from gpcnn_training.network import Network


class MaskedConv2d(nn.Conv2d):
    """A convolution over the k//2 rows above and, as its mask says, this row: [N, I, H, W] → [N, F, H, W].

    Weights of the rows below, which a mask would take away, are not there; those to the right are 0.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, channels: int, sees_itself: bool = True) -> None:
        """With mask B; with mask A unless `sees_itself`."""
        super().__init__(inputs, outputs, (size // 2 + 1, size))
        self.reach = size // 2
        mask = torch.ones(outputs, inputs, size // 2 + 1, size)
        mask[:, :, -1, self.reach :] = 0
        of_outputs, of_inputs = (
            torch.tensor([channel_of(i, n, channels) for i in range(n)], device="cpu") for n in (outputs, inputs)
        )
        before = of_inputs[None, :] < of_outputs[:, None] + sees_itself
        mask[:, :, -1, self.reach] = before.to(mask)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x_NIHW: Tensor) -> Tensor:
        """All pixels of an image; zero outside it."""
        return self.inside(functional.pad(x_NIHW, (self.reach, self.reach, self.reach, 0)))

    def inside(self, x_NIHW: Tensor) -> Tensor:
        """The pixels whose whole neighbourhood is in `x_NIHW`: k//2 fewer on top, and k//2 fewer on either side."""
        return functional.conv2d(x_NIHW, self.weight * self.mask, self.bias)


class ResidualBlock(nn.Module):
    """down: 1×1, conv: k×k, up: 1×1 (figure 5, left)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        f, c = spec.features, spec.channels
        self.down = MaskedConv2d(2 * f, f, 1, c)
        self.conv = MaskedConv2d(f, f, spec.kernel_size, c)
        self.up = MaskedConv2d(f, 2 * f, 1, c)


class MaskedHead(nn.Module):
    """Features [N, 2F, H, W] → logits [N, K, C, H, W]: two 1×1 convolutions of mask B."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        c, s = spec.channels, spec.head_features
        self.channels, self.levels = c, spec.levels
        self.hidden = MaskedConv2d(2 * spec.features, c * s, 1, c)
        self.logits = MaskedConv2d(c * s, c * spec.levels, 1, c)

    def forward(self, x_NFHW: Tensor) -> Tensor:
        """Logits float [N, K, C, H, W]."""
        logits: Tensor = self.logits(torch.relu(self.hidden(torch.relu(x_NFHW))))
        n, _, h, w = logits.shape
        return logits.view(n, self.channels, self.levels, h, w).transpose(1, 2)


class PixelCNN(Network):
    """The network: levels of an image → logits of every sub-pixel's conditional distribution."""

    head: MaskedHead

    def __init__(self, spec: ModelSpec) -> None:
        """A network with fresh weights."""
        super().__init__(spec)
        f = spec.features
        self.first = MaskedConv2d(spec.inputs, 2 * f, spec.first_kernel_size, spec.channels, sees_itself=False)
        self.blocks = nn.ModuleList(ResidualBlock(spec) for _ in range(spec.layers - 1))
        self.head = MaskedHead(spec)
        self.condition_projection: nn.Embedding | None = None
        if spec.conditioning == "label":
            self.condition_projection = nn.Embedding(spec.conditioning_size, (spec.layers + 1) * f)
            nn.init.normal_(self.condition_projection.weight, std=0.05)
        self.input_embedding = None
        if spec.input == "categorical":
            self.input_embedding = nn.Embedding(spec.levels, spec.input_size)
        self.encoder = None

    def condition(self, label_N: Tensor | None) -> list[Tensor | None]:
        """What a class adds to each k×k convolution, of mask A first: [N, 2F, 1, 1], then [N, F, 1, 1] each.

        Raises:
            UsageError: a label is missing, or given to an unconditional model.
        """
        if self.condition_projection is None:
            if label_N is not None:
                raise UsageError("this model is unconditional: it takes no condition")
            return [None] * self.spec.layers
        if label_N is None:
            raise UsageError("this model is conditioned on a label: pass one per image")
        bias: Tensor = self.condition_projection(label_N)
        f = self.spec.features
        return list(torch.split(bias[:, :, None, None], [2 * f, *[f] * (self.spec.layers - 1)], dim=1))

    def forward(self, levels_NCHW: Tensor, condition: Tensor | None = None) -> Tensor:
        """The conditionals of every sub-pixel given all that come before it in raster and channel order.

        Args:
            levels_NCHW: int [N, C, H, W], each in [0, K).
            condition: label int [N], or None.

        Returns:
            float [N, K, C, H, W], unnormalized log-probabilities.
        """
        first, *biases = self.condition(condition)
        x = _plus(self.first(self.values(levels_NCHW)), first)
        for block, bias in zip(self.blocks, biases, strict=True):
            assert isinstance(block, ResidualBlock)
            inner = torch.relu(block.down(torch.relu(x)))
            x = x + self._rest(block, _plus(block.conv(inner), bias))
        logits: Tensor = self.head(x)
        return logits

    def pixel(self, values_NI: Tensor, column: int, caches: list[Tensor], biases: list[Tensor | None]) -> Tensor:
        """The logits of one pixel, [N, K, C, 1, 1].

        Args:
            values_NI: values [N, I] of the pixel itself, or a guess of them: channel c reads channels before it.
            column: where it is.
            caches: of `caches`; what each k×k convolution reads of the pixel is written into them.
            biases: what `condition` returned.
        """
        x = self._at(self.first, values_NI, column, caches[0], biases[0])
        for block, cache, bias in zip(self.blocks, caches[1:], biases[1:], strict=True):
            assert isinstance(block, ResidualBlock)
            inner = torch.relu(block.down(torch.relu(x)))
            x = x + self._rest(block, self._at(block.conv, inner[:, :, 0, 0], column, cache, bias))
        logits: Tensor = self.head(x)
        return logits

    def caches(self, like: Tensor) -> list[Tensor]:
        """What each k×k convolution reads before the first row: zeros [N, I, k//2 + 1, W + k - 1], margins included."""
        n, width = like.shape[0], self.spec.width
        convolutions = self.convolutions()
        return [like.new_zeros(n, c.in_channels, c.reach + 1, width + 2 * c.reach) for c in convolutions]

    def convolutions(self) -> list[MaskedConv2d]:
        """The k×k convolutions, that of mask A first."""
        return [self.first, *(block.conv for block in self.blocks if isinstance(block, ResidualBlock))]

    def drawn(self, values_NI: Tensor, column: int, caches: list[Tensor]) -> None:
        """Write what a pixel has become into the caches; no feature of the pixel depends on its last channel."""
        caches[0][:, :, -1, column + self.first.reach] = values_NI

    @staticmethod
    def next_row(caches: list[Tensor]) -> list[Tensor]:
        """The caches after a row: it lies above now, and nothing is known of the one that comes."""
        return [torch.cat([cache[:, :, 1:], torch.zeros_like(cache[:, :, :1])], dim=2) for cache in caches]

    @staticmethod
    def _at(conv: MaskedConv2d, features: Tensor, column: int, cache: Tensor, bias: Tensor | None) -> Tensor:
        cache[:, :, -1, column + conv.reach] = features
        return _plus(conv.inside(cache[..., column : column + 2 * conv.reach + 1]), bias)

    def _rest(self, block: ResidualBlock, inner: Tensor) -> Tensor:
        inner = torch.relu(inner)
        if self.dropout and self.training:
            inner = functional.dropout(inner, self.dropout)
        result: Tensor = block.up(inner)
        return result


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias
