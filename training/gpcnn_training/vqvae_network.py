"""Encoder, codebook and decoder of a VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937).

Shape legend: N pictures, C channels, H rows, W columns; h × w the grid of codes, smaller by `downsample`; K codes,
D numbers of a code, F features.

    z = encoder(x)                    strided convolutions, then residual blocks     N D h w
    k = argmin_k |z - e_k|²           the code: the nearest vector of the codebook   N h w
    x' = decoder(e_k)                 residual blocks, then transposed convolutions  N C H W

The gradient of the reconstruction passes through the choice as if it were not there (section 3.2). The codebook moves
by exponential averages of what is assigned to it (appendix A.1), not by gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpcnn_deploy.spec import VqvaeSpec


class ResidualBlock(nn.Module):
    """x + conv1×1(relu(conv3×3(relu(x)))), F features throughout."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(features, features, 3, padding=1)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, x_NFhw: Tensor) -> Tensor:
        """[N, F, h, w] → [N, F, h, w]."""
        added: Tensor = self.out(torch.relu(self.wide(torch.relu(x_NFhw))))
        return x_NFhw + added


class PictureEncoder(nn.Module):
    """Pictures in [-1, 1], [N, C, H, W] → vectors [N, D, h, w]: a 4×4 convolution of stride 2 for each halving."""

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        f = spec.features
        inputs = [spec.channels] + [f] * (spec.halvings - 1)
        self.down = nn.ModuleList(nn.Conv2d(size, f, 4, stride=2, padding=1) for size in inputs)
        self.first = nn.Conv2d(f, f, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(f) for _ in range(spec.blocks))
        self.out = nn.Conv2d(f, spec.code_size, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] → [N, D, h, w]."""
        x = x_NCHW
        for conv in self.down:
            x = torch.relu(conv(x))
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        z: Tensor = self.out(torch.relu(x))
        return z


class PictureDecoder(nn.Module):
    """Vectors [N, D, h, w] → pictures [N, C, H, W], in [-1, 1] but for errors: a 4×4 transposed convolution of stride 2
    for each doubling.
    """

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        f = spec.features
        outputs = [f] * (spec.halvings - 1) + [spec.channels]
        self.first = nn.Conv2d(spec.code_size, f, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(f) for _ in range(spec.blocks))
        self.up = nn.ModuleList(nn.ConvTranspose2d(f, size, 4, stride=2, padding=1) for size in outputs)

    def forward(self, e_NDhw: Tensor) -> Tensor:
        """[N, D, h, w] → [N, C, H, W]."""
        x = self.first(e_NDhw)
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = conv(torch.relu(x))
        pictures: Tensor = x
        return pictures


class Coded(NamedTuple):
    """What the network makes of pictures.

    Attributes:
        pictures: reconstructions float [N, C, H, W].
        vectors: what the encoder said, float [N, D, h, w].
        codes: int64 [N, h, w].
        commitment: mean squared distance of the vectors from their codes.
    """

    pictures: Tensor
    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class Vqvae(nn.Module):
    """Pictures ↔ codes."""

    codebook: Tensor

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = PictureEncoder(spec)
        self.decoder = PictureDecoder(spec)
        self.register_buffer("codebook", torch.randn(spec.codes, spec.code_size))

    def nearest(self, vectors_NDhw: Tensor) -> Tensor:
        """Codes int64 [N, h, w] of vectors [N, D, h, w]: nearest in the codebook, the first of equally near ones."""
        n, d, h, w = vectors_NDhw.shape
        flat = vectors_NDhw.permute(0, 2, 3, 1).reshape(-1, d)
        with torch.autocast(flat.device.type, enabled=False):
            # |z - e|² without |z|², which all codes share.
            distances = (self.codebook * self.codebook).sum(1) - 2 * flat @ self.codebook.T
        return distances.argmin(1).view(n, h, w)

    def encode(self, pictures_NCHW: Tensor) -> Tensor:
        """Codes int64 [N, h, w] of pictures float [N, C, H, W] in [-1, 1]."""
        return self.nearest(self.encoder(pictures_NCHW))

    def decode(self, codes_Nhw: Tensor) -> Tensor:
        """Pictures float [N, C, H, W] of codes int [N, h, w]; in [-1, 1] but for errors."""
        pictures: Tensor = self.decoder(functional.embedding(codes_Nhw, self.codebook).permute(0, 3, 1, 2))
        return pictures

    def forward(self, pictures_NCHW: Tensor) -> Coded:
        """Reconstruct pictures float [N, C, H, W] in [-1, 1], with a gradient for the encoder (straight through)."""
        # Whatever the precision of the convolutions: which vector is nearest is decided in float32.
        vectors = self.encoder(pictures_NCHW).float()
        codes = self.nearest(vectors.detach())
        chosen = functional.embedding(codes, self.codebook).permute(0, 3, 1, 2)
        passed = vectors + (chosen - vectors).detach()
        return Coded(self.decoder(passed), vectors, codes, functional.mse_loss(vectors, chosen))
