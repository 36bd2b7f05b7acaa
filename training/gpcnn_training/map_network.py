"""The network m that brings a spatial map to the size of the image: s = m(h) (section 2.3).

Nothing in it is masked: a pixel of the map may influence every pixel of the image.

Shape legend: N images, M planes of the map, h × w its size, G feature maps of m, H × W the size of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpcnn_deploy.spec import ModelSpec

SLOPE = 0.125
"""Of the leaky rectifiers below zero: a power of two, so that no engine rounds there."""


class MapNetwork(nn.Module):
    """A map [N, M, h, w] → s, float [N, G, H, W]: two 3×3 convolutions, then transposed ones up to the image's size.

    A transposed convolution has its factor for its stride and its kernel, so each of its pixels comes from one.
    """

    plane_starts: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        g = spec.map_features
        self.categories = spec.map_categories
        self.read = nn.Conv2d(spec.map_inputs, g, 1)  # of categories: a column for each, chosen by its number
        self.context = nn.ModuleList(nn.Conv2d(g, g, 3, padding=1) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(g, g, factor, stride=factor) for factor in spec.map_stages)
        starts = torch.arange(spec.conditioning_size, dtype=torch.int32)[:, None, None] * max(1, spec.map_categories)
        self.register_buffer("plane_starts", starts, persistent=False)

    def forward(self, map_NMhw: Tensor) -> Tensor:
        """s [N, G, H, W] of values float [N, M, h, w], or of categories int [N, M, h, w]."""
        if self.categories:
            table = self.read.weight[:, :, 0, 0].t()
            x = functional.embedding(map_NMhw + self.plane_starts, table).sum(1).permute(0, 3, 1, 2)
            assert self.read.bias is not None
            x = x + self.read.bias[:, None, None]
        else:
            x = self.read(map_NMhw)
        for layer in (*self.context, *self.up):
            x = functional.leaky_relu(layer(x), SLOPE)
        return x
