"""`gpcnn-inspect` of the first stage of a VQ-VAE, which has no prior yet and so draws nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.checkpoint_header import CODES_KEY, CodesHeader, read_header
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_deploy.text import counted
from gpcnn_runtime.inspection import CHECKPOINT

CODES = "codes.safetensors"


class CodesInspection(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of encoder, codebook and decoder is.

    Attributes:
        path: the file.
        kind: what sort of file.
        bytes: its size.
        digest: its SHA-256.
        vqvae: the dimensions.
        preparation: how pictures of other sizes and modes were made fit; None if they were taken as they are.
        parameters: number of weights.
        tools: package → version that wrote the file.
        data: name of the data set that it was trained on.
        step, epoch: how long it was trained.
        psnr: of pictures back from their codes, held out from training, in dB; None if it was not measured.
        perplexity: of their codes.
    """

    path: str
    kind: Literal["codes"] = "codes"
    bytes: int
    digest: str
    vqvae: VqvaeSpec
    preparation: Preparation | None = None
    parameters: int
    tools: dict[str, str]
    data: str
    step: int
    epoch: float
    psnr: float | None = None
    perplexity: float | None = None


def inspect_codes(path: Path) -> CodesInspection | None:
    """Read what the first stage of a VQ-VAE says about itself; None of a file or folder that is something else.

    Args:
        path: the file, or a run folder that has it and no checkpoint yet.
    """
    if path.is_dir() and not (path / CHECKPOINT).exists():
        path = path / CODES
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return None
    try:
        header, parameters = read_header(path, CodesHeader, CODES_KEY)
    except CheckpointError:
        return None
    return CodesInspection(
        path=str(path),
        bytes=path.stat().st_size,
        digest=sha256(path),
        vqvae=header.vqvae,
        preparation=header.preparation,
        parameters=parameters,
        tools=header.versions,
        data=header.data,
        step=header.step,
        epoch=header.epoch,
        psnr=header.psnr,
        perplexity=header.perplexity,
    )


def codes_facts(found: CodesInspection) -> Iterator[tuple[str, str]]:
    """What people want to know, line by line."""
    coder = found.vqvae
    h, w = coder.grid
    yield "kind", "first stage of a VQ-VAE: it makes pictures codes and back, and draws nothing yet"
    yield "next", f"gpcnn-train --resume {shlex.quote(str(Path(found.path).parent))} trains its prior, which draws"
    yield "pictures", f"{coder.height}×{coder.width} {'grey' if coder.channels == 1 else 'RGB'}, of {h}×{w} codes"
    yield "codes", f"{counted(coder.codes, 'vector')} of {counted(coder.code_size, 'number')}"
    blocks = counted(coder.blocks, "residual block")
    yield "decoder", f"{counted(coder.features, 'feature')}, {blocks}; the encoder has as many"
    if found.preparation is not None:
        yield "pictures", f"that do not fit are {found.preparation}, as in training"
    yield "parameters", f"{found.parameters:,}"
    yield "file", f"{found.bytes / 1e6:,.2f} MB, SHA-256 {found.digest}"
    yield "trained", f"on {found.data}: {found.epoch:.2f} epochs, {counted(found.step, 'step')}"
    if found.psnr is not None:
        perplexity = "" if found.perplexity is None else f"; perplexity {found.perplexity:.0f} of {coder.codes:,} codes"
        yield "PSNR", f"{found.psnr:.2f} dB of pictures held out from training, back from their codes{perplexity}"
    if found.tools:
        yield "made by", ", ".join(f"{name} {version}" for name, version in sorted(found.tools.items()))
