"""The prior of a VQ-VAE-2: two Gated PixelCNNs as one network over the sheet of all codes (arXiv 1906.00446).

    p(top, bottom | y) = p(top | y) · p(bottom | top)

The bottom one is conditioned on the top codes as on a spatial map. The sheet (`gpcnn_deploy.code_sheet`) has the top
codes first, so the network is causal in raster order as one Gated PixelCNN is, and whatever trains, scores, draws or
proves one of those does so with this.

Shape legend: N images, K codes, H × W the sheet, h × w the bottom codes, h / 2 × w / 2 the top codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.network import Network


class CodePyramid(Network):
    """Codes of both levels → logits of each, given all that come before it."""

    encoder = None
    input_embedding = None

    def __init__(self, spec: ModelSpec) -> None:
        """Two networks with fresh weights: the top one first."""
        super().__init__(spec)
        top, bottom = spec.priors
        self.top, self.bottom = GatedPixelCNN(top), GatedPixelCNN(bottom)

    def forward(self, levels_NCHW: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits float [N, K, 1, H, W] of the sheet int [N, 1, H, W]; `condition` is the top network's."""
        top, bottom = self.split(levels_NCHW)
        return self.join(self.top(top, condition), self.bottom(bottom, top))

    def split(self, sheet: Tensor) -> tuple[Tensor, Tensor]:
        """[…, H, W] → top […, h / 2, w / 2], bottom […, h, w]."""
        top, bottom = self.spec.code_grids
        rows = self.spec.height - bottom[0]
        return sheet[..., :rows, :].reshape(*sheet.shape[:-2], *top), sheet[..., rows:, :]

    def join(self, top: Tensor, bottom: Tensor) -> Tensor:
        """What `split` splits."""
        return torch.cat([top.reshape(*top.shape[:-2], -1, self.spec.width), bottom], dim=-2)
