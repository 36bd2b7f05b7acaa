"""A small VQ-VAE, and a VQ-VAE-2, of random weights, and their checkpoints."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from small_plans import write_plan_of

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.metadata import decoder_path
from gpcnn_deploy.spec import Conditioning, ModelSpec, VqvaeSpec
from gpcnn_export.checkpoint_to_native import make_model_file, write_model_file
from gpcnn_export.checkpoint_to_onnx import make_engine, write_engine
from gpcnn_export.onnx_engine import OnnxEngine, draft_engine
from gpcnn_runtime.engines.plan_file import read_plan_metadata
from gpcnn_training.architectures import Prior, gated, make_network
from gpcnn_training.checkpoint import save_vqvae
from gpcnn_training.code_pyramid import CodePyramid
from gpcnn_training.vqvae_network import Vqvae

SPEC = VqvaeSpec(height=12, width=8, channels=3, codes=9, downsample=4, code_size=5, features=6, blocks=1)
PRIOR = ModelSpec(height=3, width=2, levels=9, layers=2, features=5, head_features=6, first_kernel_size=3,
                  conditioning="label", conditioning_size=2, input="categorical", input_size=4)  # fmt: skip

SPEC_2 = VqvaeSpec(height=16, width=8, channels=3, codes=9, downsample=2, code_size=5, features=6, blocks=1,
                   code_levels=2)  # fmt: skip
"""Of a VQ-VAE-2: 4×2 top codes, 8×4 bottom codes, a sheet of 10×4."""
PRIOR_2 = ModelSpec(height=10, width=4, levels=9, layers=3, features=5, head_features=6, first_kernel_size=5,
                    conditioning="label", conditioning_size=2, input="categorical", input_size=4, map_features=3,
                    code_levels=2)  # fmt: skip


def prior_of(spec: VqvaeSpec, conditioning: Conditioning = "label") -> ModelSpec:
    """PRIOR_2 over the codes of another VQ-VAE-2."""
    (height, width), labels = spec.grid, 2 if conditioning == "label" else 0
    sizes = {"height": height, "width": width, "levels": spec.codes}
    return msgspec.structs.replace(PRIOR_2, **sizes, conditioning=conditioning, conditioning_size=labels)


def models(spec: VqvaeSpec = SPEC, prior: ModelSpec = PRIOR) -> tuple[Prior, Vqvae]:
    torch.manual_seed(8)
    model, pictures = gated(make_network(prior)).eval(), Vqvae(spec).eval()
    with torch.no_grad():  # pictures that fill the range of pixels, and go beyond it; codes of all sorts
        for weight in [pictures.decoder.up[-1].weight, *pictures.encoder.out.parameters()]:
            weight.mul_(200)
        if isinstance(model, CodePyramid):  # top codes of all sorts, which decide the others and the pictures
            assert pictures.encoder.top is not None
            for weight in (pictures.encoder.top.down.weight, pictures.encoder.top.out.weight):
                weight.mul_(50)
            for weight in (*model.bottom.map_network.parameters(), *model.bottom.condition_projection.parameters()):
                weight.mul_(3)
    return model, pictures


def engines_in(folder: Path, pixels: npt.NDArray[np.uint8], spec: VqvaeSpec, prior: ModelSpec, window: int) -> Path:
    """A folder with my.safetensors, its model.gpcnn and model.onnx, and pictures 0.png, 1.png, …"""
    checkpoint = save(folder / "my.safetensors", spec=spec, prior=prior)
    write_model_file(folder / "model.gpcnn", make_model_file(checkpoint))
    write_engine(folder / "model.onnx", make_engine(checkpoint, "sampler", window=window))
    for number, picture in enumerate(pixels):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{number}.png")
    return folder


@functools.cache
def draft_step(batch: int | None = None) -> OnnxEngine:
    """The step of `models()`, unproven, with its decoder."""
    model, pictures = models()
    names, digest = ("a", "b"), "0" * 64
    decoder = draft_engine(
        model, "decoder", class_names=names, checkpoint_digest=digest, batch=batch, pictures=pictures
    )
    return draft_engine(
        model, "step", class_names=names, checkpoint_digest=digest, batch=batch, pictures=pictures, decoder=decoder
    )


def write_step_plan(folder: Path, flavor: str = "tensorrt", max_batch: int = 64, checkpoint: str = "0" * 64) -> Path:
    """Plans for the double of `draft_step()` and its decoder, their metadata, and both as ONNX engines.

    Args:
        folder: where.
        flavor, max_batch: of both plans.
        checkpoint: digest that the step's plan names.
    """
    step, plan = draft_step(), folder / "model.plan"
    assert step.decoder is not None
    onnx, beside = plan.with_suffix(".onnx"), decoder_path(plan)
    onnx.write_bytes(step.content)
    decoder_path(onnx).write_bytes(step.decoder.content)
    sizes = {"max_batch": max_batch, "opt_batch": min(8, max_batch)}
    write_plan_of(beside, step.decoder.content, step.decoder.metadata, flavor, **sizes)
    digest = read_plan_metadata(beside).digest
    engine = msgspec.structs.replace(step.metadata, decoder_digest=digest, checkpoint_digest=checkpoint)
    return write_plan_of(plan, step.content, engine, flavor, **sizes)


def save(
    path: Path, class_names: tuple[str, ...] = ("a", "b"), spec: VqvaeSpec = SPEC, prior: ModelSpec = PRIOR
) -> Path:
    """The checkpoint of `models()`."""
    model, pictures = models(spec, prior)
    header = Header(spec=prior, class_names=class_names, data="my", quantization="codes", vqvae=spec)
    save_vqvae(path, model, pictures, header)
    return path
