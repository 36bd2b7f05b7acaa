"""The header of a checkpoint, said once: what training writes, and how anybody reads it without PyTorch.

A checkpoint is a safetensors file. It begins with the length of a JSON text as 8 bytes, little-endian, and that text.
Its `__metadata__` has one entry of ours, `gpcnn`: the `Header` as JSON.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.schema import decode_versioned
from gpcnn_deploy.spec import EncoderSpec, ModelSpec, Quantization, VqvaeSpec
from gpcnn_deploy.text import counted

SCHEMA = 1
METADATA_KEY = "gpcnn"
CODES_KEY = "gpcnn-codes"
MAX_HEADER_BYTES = 1 << 24
MAX_METADATA_BYTES = 1 << 20
MAX_DIMENSIONS = 8
MAX_WEIGHTS = 1 << 48


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says about itself.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        spec: the model's dimensions.
        encoder: the autoencoder's encoder; None for other models.
        class_names: one name per label; empty without labels.
        data: name of the data set.
        quantization: how pixels became levels.
        preparation: how pictures of other sizes and modes were made fit; None if they were taken as they are.
        step: optimizer steps taken.
        epoch: passes over the training images, a fraction included.
        seed: seed of the weights, of the order of the images and of their binarization.
        ema: decay of the moving average that the weights are; 0 for the optimizer's own weights.
        validation_nll: negative log-likelihood of the images held out from training, in nats an image; None until
            measured.
        test_nll: negative log-likelihood of the test images in nats an image; None until measured.
        test_images: how many test images `test_nll` was measured on; 0 until measured.
        versions: package name → version used in training.
        vqvae: of a VQ-VAE, the dimensions of encoder, codebook and decoder; `spec` is then its prior's, over grids of
            codes. None for other models.
        psnr: of a VQ-VAE's reconstructions of the test pictures, or until they are measured, of the pictures held out
            from training; in dB.
        perplexity: of the codes of these pictures.
    """

    schema: int = SCHEMA
    spec: ModelSpec
    encoder: EncoderSpec | None = None
    class_names: tuple[str, ...] = ()
    data: str
    quantization: Quantization
    preparation: Preparation | None = None
    step: int = 0
    epoch: float = 0.0
    seed: int = 0
    ema: float = 0.0
    validation_nll: float | None = None
    test_nll: float | None = None
    test_images: int = 0
    versions: dict[str, str] = {}
    vqvae: VqvaeSpec | None = None
    psnr: float | None = None
    perplexity: float | None = None

    @property
    def pictures(self) -> ModelSpec | VqvaeSpec:
        """The dimensions of its pictures: `vqvae` if there is one, else `spec`."""
        return self.vqvae or self.spec


class CodesHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the first stage of a VQ-VAE says about itself: a file of encoder, codebook and decoder, without a prior.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        vqvae: its dimensions.
        data: name of the data set.
        preparation: how pictures of other sizes and modes were made fit; None if they were taken as they are.
        step: optimizer steps taken.
        epoch: passes over the training pictures, a fraction included.
        seed: seed of the weights and of the order of the pictures.
        psnr: of reconstructed pictures that were held out from training, in dB; None until measured.
        perplexity: of their codes; None until measured.
        versions: package name → version used in training.
    """

    schema: int = SCHEMA
    vqvae: VqvaeSpec
    data: str
    preparation: Preparation | None = None
    step: int = 0
    epoch: float = 0.0
    seed: int = 0
    psnr: float | None = None
    perplexity: float | None = None
    versions: dict[str, str] = {}


HeaderType = TypeVar("HeaderType", bound=msgspec.Struct)


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int] = (0, 0)


def read_header(path: Path, layout: type[HeaderType], key: str = METADATA_KEY) -> tuple[HeaderType, int]:
    """The header of a checkpoint, or of another safetensors file of training, and the number of its weights.

    None of the weights is read.

    Args:
        path: the file.
        layout: what the header is: `Header`, or that of a training state.
        key: under which it is: `CODES_KEY` for the first stage of a VQ-VAE.

    Raises:
        CheckpointError: missing, truncated, foreign or of a newer schema.
    """
    if path.exists() and not path.is_file():
        raise damaged(path, "no regular file")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise damaged(path, f"a header of {counted(length, 'byte')}")
            text = stream.read(length)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: train one with gpcnn-train, or name another") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(entries.pop("__metadata__", b"{}"), type=dict[str, str])
        tensors = [msgspec.json.decode(entry, type=_Tensor) for entry in entries.values()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, error) from error
    shapes = [tensor.shape for tensor in tensors]
    if any(
        len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) > MAX_WEIGHTS for shape in shapes
    ):
        raise damaged(path, "a tensor of no possible shape")
    if (wanted := 8 + length + max((tensor.data_offsets[1] for tensor in tensors), default=0)) != size:
        raise damaged(path, f"{counted(size, 'byte')}, expected {wanted}")
    if key not in metadata:
        if CODES_KEY in metadata:
            raise CheckpointError(
                f"{path}: the first stage of a VQ-VAE, which draws nothing yet: train its prior with gpcnn-train "
                f"--resume {path.parent}"
            )
        raise CheckpointError(f"{path}: a safetensors file, but not of gpcnn-train (no '{key}' entry)")
    if len(metadata[key]) > MAX_METADATA_BYTES:
        size = len(metadata[key])
        raise damaged(path, f"metadata of {counted(size, 'byte')}, expected at most {MAX_METADATA_BYTES}")
    written = f"{path}: written with checkpoint"
    header = decode_versioned(
        metadata[key], layout, SCHEMA, written, CheckpointError, lambda error: damaged(path, error)
    )
    return header, sum(math.prod(shape) for shape in shapes)


def damaged(path: Path, error: object) -> CheckpointError:
    """The error of a file that is no checkpoint, or not one any more."""
    return CheckpointError(f"{path}: not a checkpoint, or a damaged one ({error}): take another, or train it anew")
