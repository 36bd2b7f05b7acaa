"""Where an image that an engine drew parts from what eager PyTorch draws of the same noise.

The sample is the unique fixed point of one Jacobi step (every conditional depends on earlier sub-pixels alone), so one
evaluation of the eager network at an image proves it: where the step gives back the image, the image is what the naive
raster loop draws, sub-pixel by sub-pixel. Where it does not, two float implementations disagree, and a rounding error
explains that only if the noise lies within it of a step of the CDF there: a near-tie, shown with its numbers.

The CDF of a narrow logistic is steep: it moves by far more than the numbers of the head that it is made of. There the
distance is counted in those numbers, see `gpcnn_training.conditionals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpcnn_training.conditionals import Categorical, Conditionals

NEAR_TIE = 1e-5
"""Largest distance of the noise from a CDF step that counts as a tie; float32 rounding moves a CDF by about 1e-6."""


@dataclass(frozen=True)
class Divergence:
    """The first sub-pixel, in raster and channel order, where an image and eager PyTorch part.

    Attributes:
        image: index in the batch.
        row, column, channel: the sub-pixel.
        engine, eager: the levels drawn.
        noise: u there.
        margin: distance of u from the CDF interval of the engine's level, under the eager model, as
            `Conditionals.margin` has it; 0 would be no divergence at all.
        worst: the largest such distance in the whole image, each sub-pixel given the engine's own ones before it.
    """

    image: int
    row: int
    column: int
    channel: int
    engine: int
    eager: int
    noise: float
    margin: float
    worst: float

    def __str__(self) -> str:
        return (
            f"image {self.image}, row {self.row}, column {self.column}, channel {self.channel}: engine drew "
            f"{self.engine}, eager PyTorch {self.eager}, u = {self.noise:.9f}, {self.margin:.2e} from the CDF step "
            f"(at worst {self.worst:.2e} in this image)"
        )


@torch.no_grad()
def first_divergences(
    given: Conditionals | Tensor, levels: Tensor, noise: Tensor, mask: Tensor, temperature: Tensor | float = 1.0
) -> tuple[Divergence, ...]:
    """The first divergence of each image that has one.

    Args:
        given: what the eager model says at `levels`; a tensor is the logits [N, K, C, H, W] of a softmax.
        levels: the images, int32 [N, C, H, W].
        noise: float32 [N, C, H, W] in [0, 1).
        mask: bool [N, C, H, W], true where a sub-pixel was known and not drawn.
        temperature: of the drawing.
    """
    if isinstance(given, Tensor):
        given = Categorical(given)
    eager = torch.where(mask, levels, given.inverse_cdf(noise, temperature))
    margins = given.margin(levels, noise, temperature)
    worst = torch.where(eager != levels, margins, 0).flatten(1).amax(1)
    divergences = []
    for k in torch.nonzero((eager != levels).flatten(1).any(1)).flatten().tolist():
        row, column, channel = torch.nonzero((eager[k] != levels[k]).permute(1, 2, 0))[0].tolist()
        place = (k, channel, row, column)
        divergences.append(
            Divergence(
                k,
                row,
                column,
                channel,
                int(levels[place]),
                int(eager[place]),
                float(noise[place]),
                float(margins[place]),
                float(worst[k]),
            )
        )
    return tuple(divergences)
