"""What the networks of all architectures have in common.

Shape legend: N images, C channels, H rows, W columns, K levels, I numbers of a pixel that the network reads.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.encoder import Encoder


class Network(nn.Module):
    """A network of some architecture: levels of an image → what its head says of every sub-pixel's distribution.

    A subclass makes its weights in an order of its own, which decides what a seed gives them.
    """

    encoder: Encoder | None
    head: nn.Module
    input_embedding: nn.Embedding | None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.dropout = 0.0  # share of a layer's features that a training step leaves out

    def leave_out(self, share: float) -> None:
        """Set `dropout`, here and in the networks that this one consists of."""
        for module in self.modules():
            if isinstance(module, Network):
                module.dropout = share

    @abstractmethod
    def forward(self, levels_NCHW: Tensor, condition: Tensor | None = None) -> Tensor:
        """The conditionals of every sub-pixel given all that come before it in raster and channel order."""

    def values(self, levels_NCHW: Tensor) -> Tensor:
        """Levels 0..K-1 → network inputs [N, I, H, W]: values in [-1, 1], or the vectors of categories."""
        if self.input_embedding is None:
            return self.brightness(levels_NCHW)
        vectors_NCHWD: Tensor = self.input_embedding(levels_NCHW)
        return vectors_NCHWD.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def brightness(self, levels_NCHW: Tensor) -> Tensor:
        """Levels 0..K-1 → [-1, 1]: 2x - (K-1) is exact, so one rounding everywhere."""
        top = self.spec.levels - 1
        assert isinstance(self.head.hidden, nn.Conv2d)
        return (2 * levels_NCHW - top).to(self.head.hidden.weight.dtype) * (1 / top)

    def embed(self, levels_NCHW: Tensor) -> Tensor:
        """Code float [N, E] of images, int [N, C, H, W]; for autoencoders alone."""
        assert self.encoder is not None
        code: Tensor = self.encoder(self.brightness(levels_NCHW))
        return code
