"""The header of a checkpoint, read without PyTorch and without safetensors: what it says, and how many weights it has.

A safetensors file begins with the length of a JSON text as 8 bytes, little-endian, and that text.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.schema import decode_versioned
from gpcnn_deploy.spec import ModelSpec

SCHEMA = 1
METADATA_KEY = "gpcnn"
MAX_HEADER_BYTES = 1 << 24
MAX_DIMENSIONS = 8


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a checkpoint alone.

    Attributes:
        data: name of the data set that it was trained on.
        quantization: how pixels became levels.
        step, epoch: how long it was trained.
        test_nll: negative log-likelihood of the test images, in nats an image; None if it was not measured.
        test_images: how many.
        autoencoder: it holds an encoder, too.
    """

    data: str
    quantization: str
    step: int
    epoch: float
    test_nll: float | None
    test_images: int
    autoencoder: bool


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint, read as far as its weights.

    Attributes:
        spec, class_names: the model's.
        parameters: number of weights.
        tools: package → version used in training.
        facts: the rest.
    """

    spec: ModelSpec
    class_names: tuple[str, ...]
    parameters: int
    tools: dict[str, str]
    facts: CheckpointFacts


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]


class _Header(msgspec.Struct, kw_only=True):
    """What of `gpcnn_training.checkpoint.Header` is shown here."""

    schema: int
    spec: ModelSpec
    class_names: tuple[str, ...] = ()
    data: str
    quantization: str
    step: int = 0
    epoch: float = 0.0
    test_nll: float | None = None
    test_images: int = 0
    encoder: dict[str, Any] | None = None
    versions: dict[str, str] = {}


def read_checkpoint(path: Path) -> CheckpointHeader:
    """Read the header of a checkpoint; none of its weights.

    Raises:
        CheckpointError: missing, truncated, foreign or of a newer schema.
    """

    def damaged(error: object) -> CheckpointError:
        return CheckpointError(f"{path}: not a checkpoint, or a damaged one ({error}): take another, or train it anew")

    if path.exists() and not path.is_file():
        raise damaged("no regular file")
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise damaged(f"a header of {length} bytes")
            text = stream.read(length)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: train one with gpcnn-train, or name another") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(entries.pop("__metadata__", b"{}"), type=dict[str, str])
        shapes = [msgspec.json.decode(entry, type=_Tensor).shape for entry in entries.values()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(error) from error
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not of gpcnn-train (no '{METADATA_KEY}' entry)")
    if any(len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 for shape in shapes):
        raise damaged("a tensor of no possible shape")
    written = f"{path}: written with checkpoint"
    header = decode_versioned(metadata[METADATA_KEY], _Header, SCHEMA, written, CheckpointError, damaged)
    return CheckpointHeader(
        spec=header.spec,
        class_names=header.class_names,
        parameters=sum(math.prod(shape) for shape in shapes),
        tools=header.versions,
        facts=CheckpointFacts(
            data=header.data,
            quantization=header.quantization,
            step=header.step,
            epoch=header.epoch,
            test_nll=header.test_nll,
            test_images=header.test_images,
            autoencoder=header.encoder is not None,
        ),
    )
