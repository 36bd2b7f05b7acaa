"""The autoencoder's encoder: a picture becomes the vector h that its Gated PixelCNN is conditioned on (section 2.3).

The layers are those of the reference implementation: 5×5 × 100, pool, 5×5 × 150, pool, 3×3 × 200, linear.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpcnn_deploy.spec import EncoderSpec, ModelSpec


class Encoder(nn.Module):
    """Values of an image, float [N, C, H, W] in [-1, 1] → its code h, float [N, E], E the spec's conditioning_size."""

    def __init__(self, encoder: EncoderSpec, spec: ModelSpec) -> None:
        super().__init__()
        f1, f2, f3 = encoder.features
        self.spec = encoder
        self.conv1 = nn.Conv2d(spec.channels, f1, 5, padding=2)
        self.conv2 = nn.Conv2d(f1, f2, 5, padding=2)
        self.conv3 = nn.Conv2d(f2, f3, 3, padding=1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        height, width = (-(-side // 4) for side in (spec.height, spec.width))
        self.code = nn.Linear(f3 * height * width, spec.conditioning_size)

    def forward(self, values_NCHW: Tensor) -> Tensor:
        """Code [N, E] of values [N, C, H, W]."""
        x = self.pool(torch.relu(self.conv1(values_NCHW)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x))
        code: Tensor = self.code(x.flatten(1))
        return code
