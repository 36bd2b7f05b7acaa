"""A small VQ-VAE of random weights, and its checkpoint."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
import torch
from small_plans import write_plan_of

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.metadata import decoder_path
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_export.onnx_engine import OnnxEngine, draft_engine
from gpcnn_runtime.engines.plan_file import read_plan_metadata
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


def save(path: Path, class_names: tuple[str, ...] = ("a", "b")) -> Path:
    """The checkpoint of `models()`."""
    model, pictures = models()
    header = Header(spec=PRIOR, class_names=class_names, data="my", quantization="codes", vqvae=SPEC)
    save_vqvae(path, model, pictures, header)
    return path
