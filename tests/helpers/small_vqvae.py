"""A small VQ-VAE of random weights, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_training.checkpoint import save_vqvae
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.vqvae_network import Vqvae

SPEC = VqvaeSpec(height=12, width=8, channels=3, codes=9, downsample=4, code_size=5, features=6, blocks=1)
PRIOR = ModelSpec(height=3, width=2, levels=9, layers=2, features=5, head_features=6, first_kernel_size=3,
                  conditioning="label", conditioning_size=2, input="categorical", input_size=4)  # fmt: skip


def models(spec: VqvaeSpec = SPEC, prior: ModelSpec = PRIOR) -> tuple[GatedPixelCNN, Vqvae]:
    torch.manual_seed(8)
    model, pictures = GatedPixelCNN(prior).eval(), Vqvae(spec).eval()
    with torch.no_grad():  # pictures that fill the range of pixels, and go beyond it; codes of all sorts
        for weight in [pictures.decoder.up[-1].weight, *pictures.encoder.out.parameters()]:
            weight.mul_(200)
    return model, pictures


def save(path: Path, class_names: tuple[str, ...] = ("a", "b")) -> Path:
    """The checkpoint of `models()`."""
    model, pictures = models()
    header = Header(spec=PRIOR, class_names=class_names, data="my", quantization="codes", vqvae=SPEC)
    save_vqvae(path, model, pictures, header)
    return path
