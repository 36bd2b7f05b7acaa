"""Encoder, codebook and decoder of a VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937), and of a VQ-VAE-2.

Shape legend: N pictures, C channels, H rows, W columns; h × w the grid of codes, smaller by `downsample`; K codes,
D numbers of a code, F features.

    z = encoder(x)                    strided convolutions, then residual blocks     N D h w
    k = argmin_k |z - e_k|²           the code: the nearest vector of the codebook   N h w
    x' = decoder(e_k)                 residual blocks, then transposed convolutions  N C H W

The gradient of the reconstruction passes through the choice as if it were not there (section 3.2). The codebook moves
by exponential averages of what is assigned to it (appendix A.1), not by gradients.

A VQ-VAE-2 (Razavi et al. 2019, arXiv 1906.00446, section 3.1) has a second, top level of codes, for the outline:

    f = encoder's features of x                                                      N F h w
    t = the nearest of top(f)       half as many rows and columns                    N h/2 w/2
    u = top_up(e_t)                 what both coders know of the top codes           N D h w
    k = the nearest of out([f, u])  the bottom codes                                 N h w
    x' = decoder([u, e_k])

Codes of both levels are one sheet, as `gpcnn_deploy.code_sheet` has it.
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


class TopEncoder(nn.Module):
    """Features [N, F, h, w] → vectors of the top level, [N, D, h / 2, w / 2]."""

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        f = spec.features
        self.down = nn.Conv2d(f, f, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(f) for _ in range(spec.blocks))
        self.out = nn.Conv2d(f, spec.code_size, 1)

    def forward(self, x_NFhw: Tensor) -> Tensor:
        """[N, F, h, w] → [N, D, h / 2, w / 2]."""
        x = self.down(x_NFhw)
        for block in self.blocks:
            x = block(x)
        z: Tensor = self.out(torch.relu(x))
        return z


class PictureEncoder(nn.Module):
    """Pictures in [-1, 1], [N, C, H, W] → features, then vectors: a 4×4 convolution of stride 2 for each halving."""

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        f = spec.features
        inputs = [spec.channels] + [f] * (spec.halvings - 1)
        self.down = nn.ModuleList(nn.Conv2d(size, f, 4, stride=2, padding=1) for size in inputs)
        self.first = nn.Conv2d(f, f, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(f) for _ in range(spec.blocks))
        known = spec.code_size if spec.code_levels == 2 else 0
        self.out = nn.Conv2d(f + known, spec.code_size, 1)
        self.top = TopEncoder(spec) if spec.code_levels == 2 else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features: [N, C, H, W] → [N, F, h, w]."""
        x = x_NCHW
        for conv in self.down:
            x = torch.relu(conv(x))
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return torch.relu(x)


class PictureDecoder(nn.Module):
    """Vectors [N, D, h, w], of two levels [N, 2 D, h, w], → pictures [N, C, H, W], in [-1, 1] but for errors.

    There is a 4×4 transposed convolution of stride 2 for each doubling.
    """

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        f = spec.features
        outputs = [f] * (spec.halvings - 1) + [spec.channels]
        d = spec.code_size
        self.top_up = nn.ConvTranspose2d(d, d, 4, stride=2, padding=1) if spec.code_levels == 2 else None
        self.first = nn.Conv2d(d * spec.code_levels, f, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(f) for _ in range(spec.blocks))
        self.up = nn.ModuleList(nn.ConvTranspose2d(f, size, 4, stride=2, padding=1) for size in outputs)

    def forward(self, e_NDhw: Tensor) -> Tensor:
        """[N, D or 2 D, h, w] → [N, C, H, W]."""
        x = self.first(e_NDhw)
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = conv(torch.relu(x))
        pictures: Tensor = x
        return pictures


class Coded(NamedTuple):
    """What the network makes of pictures; a tuple has an item for each level of codes, in the order of `codebooks`.

    Attributes:
        pictures: reconstructions float [N, C, H, W].
        vectors: what the encoder said, float [N, D, h, w].
        codes: int64 [N, h, w].
        commitment: mean squared distance of the vectors from their codes; of two levels, the sum of both.
    """

    pictures: Tensor
    vectors: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    commitment: Tensor


class Vqvae(nn.Module):
    """Pictures ↔ codes."""

    codebook: Tensor
    top_codebook: Tensor

    def __init__(self, spec: VqvaeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = PictureEncoder(spec)
        self.decoder = PictureDecoder(spec)
        self.register_buffer("codebook", torch.randn(spec.codes, spec.code_size))
        if spec.code_levels == 2:
            self.register_buffer("top_codebook", torch.randn(spec.codes, spec.code_size))

    @property
    def codebooks(self) -> dict[str, Tensor]:
        """The codebook [K, D] of each level by its name, in the order in which the encoder chooses: top first."""
        names = ("codebook",) if self.spec.code_levels == 1 else ("top_codebook", "codebook")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def nearest(vectors_NDhw: Tensor, codebook_KD: Tensor) -> Tensor:
        """Codes int64 [N, h, w] of vectors [N, D, h, w]: nearest in the codebook, the first of equally near ones."""
        n, d, h, w = vectors_NDhw.shape
        flat = vectors_NDhw.permute(0, 2, 3, 1).reshape(-1, d)
        with torch.autocast(flat.device.type, enabled=False):
            # |z - e|² without |z|², which all codes share.
            distances = (codebook_KD * codebook_KD).sum(1) - 2 * flat @ codebook_KD.T
        return distances.argmin(1).view(n, h, w)

    def vectors(self, features_NFhw: Tensor, from_top_NDhw: Tensor | None = None) -> Tensor:
        """What the encoder says of the (bottom) codes, float32 [N, D, h, w]; of two levels, knowing u of the top."""
        if from_top_NDhw is not None:
            features_NFhw = torch.cat([features_NFhw, from_top_NDhw], 1)
        # Whatever the precision of the convolutions: which vector is nearest is decided in float32.
        said: Tensor = self.encoder.out(features_NFhw)
        return said.float()

    def top_vectors(self, features_NFhw: Tensor) -> Tensor:
        """What the encoder says of the top codes, float32 [N, D, h / 2, w / 2]."""
        assert self.encoder.top is not None
        said: Tensor = self.encoder.top(features_NFhw)
        return said.float()

    def from_top(self, e_NDhw: Tensor) -> Tensor:
        """u, float [N, D, h, w], of vectors of top codes [N, D, h / 2, w / 2]."""
        assert self.decoder.top_up is not None
        u: Tensor = self.decoder.top_up(e_NDhw)
        return u

    def encode(self, pictures_NCHW: Tensor) -> Tensor:
        """Codes int64 [N, h, w] of pictures float [N, C, H, W] in [-1, 1]; of two levels, their sheet."""
        features = self.encoder(pictures_NCHW)
        if self.spec.code_levels == 1:
            return self.nearest(self.vectors(features), self.codebook)
        top = self.nearest(self.top_vectors(features), self.top_codebook)
        bottom = self.nearest(self.vectors(features, self.from_top(vectors_of(top, self.top_codebook))), self.codebook)
        return torch.cat([top.view(len(top), -1, bottom.shape[2]), bottom], 1)

    def decode(self, codes_Nhw: Tensor) -> Tensor:
        """Pictures float [N, C, H, W] of codes int [N, h, w], of two levels a sheet; in [-1, 1] but for errors."""
        rows, columns = self.spec.bottom
        above = codes_Nhw.shape[1] - rows
        vectors = vectors_of(codes_Nhw[:, above:], self.codebook)
        if self.spec.code_levels == 2:
            top = codes_Nhw[:, :above].reshape(len(codes_Nhw), rows // 2, columns // 2)
            vectors = torch.cat([self.from_top(vectors_of(top, self.top_codebook)), vectors], 1)
        pictures: Tensor = self.decoder(vectors)
        return pictures

    def forward(self, pictures_NCHW: Tensor, with_bottom_N: Tensor | None = None) -> Coded:
        """Reconstruct pictures float [N, C, H, W] in [-1, 1], with a gradient for the encoder (straight through).

        Of two levels, where `with_bottom_N` is 0 and not 1 the decoder is not told the picture's bottom codes.
        """
        features = self.encoder(pictures_NCHW)
        if self.spec.code_levels == 1:
            vectors = self.vectors(features)
            codes, passed, distance = self._choose(vectors, self.codebook)
            return Coded(self.decoder(passed), (vectors,), (codes,), distance)
        top_vectors = self.top_vectors(features)
        top, passed, top_distance = self._choose(top_vectors, self.top_codebook)
        u = self.from_top(passed)
        vectors = self.vectors(features, u)
        codes, passed, distance = self._choose(vectors, self.codebook)
        if with_bottom_N is not None:
            passed = passed * with_bottom_N[:, None, None, None]
        pictures = self.decoder(torch.cat([u, passed], 1))
        return Coded(pictures, (top_vectors, vectors), (top, codes), top_distance + distance)

    def _choose(self, vectors: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(codes, their vectors with the gradient of `vectors`, mean squared distance) of vectors [N, D, h, w]."""
        codes = self.nearest(vectors.detach(), codebook)
        chosen = vectors_of(codes, codebook)
        return codes, vectors + (chosen - vectors).detach(), functional.mse_loss(vectors, chosen)


def vectors_of(codes_Nhw: Tensor, codebook_KD: Tensor) -> Tensor:
    """Vectors [N, D, h, w] of codes int [N, h, w]."""
    return functional.embedding(codes_Nhw, codebook_KD).permute(0, 3, 1, 2)
