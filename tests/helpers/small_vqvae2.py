"""A small VQ-VAE-2 of random weights: two levels of codes, and the two networks that draw them."""

from __future__ import annotations

import torch

from gpcnn_deploy.spec import Conditioning, ModelSpec, VqvaeSpec
from gpcnn_training.architectures import Prior, gated, make_network
from gpcnn_training.vqvae_network import Vqvae

SPEC = VqvaeSpec(
    height=32, width=16, channels=3, codes=9, downsample=4, code_size=5, features=6, blocks=1, code_levels=2
)
"""8×4 bottom codes under 4×2 top codes."""


def prior_of(spec: VqvaeSpec, conditioning: Conditioning = "label") -> ModelSpec:
    """Dimensions of the prior over the codes; of two labels, where it has labels."""
    return ModelSpec(
        height=spec.grid[0],
        width=spec.grid[1],
        levels=spec.codes,
        layers=2,
        features=5,
        head_features=6,
        first_kernel_size=3,
        conditioning=conditioning,
        conditioning_size=2 if conditioning == "label" else 0,
        input="categorical",
        input_size=4,
        map_features=5,
        code_levels=2,
    )


def models_of_two(spec: VqvaeSpec = SPEC, conditioning: Conditioning = "label") -> tuple[Prior, Vqvae]:
    """Networks whose codes depend on all that they are drawn under, and pictures that go beyond the range of pixels."""
    torch.manual_seed(8)
    model, pictures = gated(make_network(prior_of(spec, conditioning)).eval()), Vqvae(spec).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
        pictures.decoder.up[-1].weight.mul_(200)
    return model, pictures
