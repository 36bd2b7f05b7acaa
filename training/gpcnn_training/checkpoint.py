"""Checkpoints: a model's weights and, in the same file, everything needed to use them.

`checkpoint.safetensors` is a plain safetensors file. Its metadata holds one entry, `gpcnn`: the `Header` as JSON. No
part of it is code, so a checkpoint from an unknown sender is safe to open.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import gpcnn_deploy
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.files import sha256, write_atomic
from gpcnn_deploy.schema import decode_versioned
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import exact_json
from gpcnn_training.data.quantize import Quantization
from gpcnn_training.encoder import EncoderSpec
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.runs import checkpoint_path

SCHEMA = 1
METADATA_KEY = "gpcnn"
MAX_HEADER_BYTES = 1 << 20


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says about itself.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        spec: the model's dimensions.
        encoder: the autoencoder's encoder; None for other models.
        class_names: one name per label; empty without labels.
        data: name of the data set.
        quantization: how pixels became levels.
        step: optimizer steps taken.
        epoch: passes over the training images, a fraction included.
        seed: seed of the weights, of the order of the images and of their binarization.
        ema: decay of the moving average that the weights are; 0 for the optimizer's own weights.
        validation_nll: negative log-likelihood of the images held out from training, in nats an image; None until
            measured.
        test_nll: negative log-likelihood of the test images in nats an image; None until measured.
        test_images: how many test images `test_nll` was measured on; 0 until measured.
        versions: package name → version used in training.
    """

    schema: int = SCHEMA
    spec: ModelSpec
    encoder: EncoderSpec | None = None
    class_names: tuple[str, ...] = ()
    data: str
    quantization: Quantization
    step: int = 0
    epoch: float = 0.0
    seed: int = 0
    ema: float = 0.0
    validation_nll: float | None = None
    test_nll: float | None = None
    test_images: int = 0
    versions: dict[str, str] = {}


HeaderType = TypeVar("HeaderType", bound=msgspec.Struct)


def tool_versions() -> dict[str, str]:
    """Versions that a checkpoint records."""
    return {
        "gpcnn-deploy": gpcnn_deploy.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def save_checkpoint(path: Path, model: GatedPixelCNN, header: Header) -> None:
    """Write weights and header to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_tensors(path, model.state_dict(), header)


def load_checkpoint(path: Path) -> tuple[GatedPixelCNN, Header]:
    """The model (on the CPU, in evaluation mode) and the header of a checkpoint file or of a run folder that holds one.

    Raises:
        CheckpointError: missing, truncated, foreign, of a newer schema, or with weights that do not fit the spec.
    """
    path = checkpoint_path(path)
    header, tensors = read_tensors(path, Header)
    _check(path, header)
    return build_model(path, header.spec, header.encoder, tensors).eval(), header


def checkpoint_header(path: Path) -> Header:
    """The header alone of a checkpoint file or of a run folder that holds one.

    Raises:
        CheckpointError: as `load_checkpoint`, as far as the header shows it.
    """
    path = checkpoint_path(path)
    header = read_header(path, Header)
    _check(path, header)
    return header


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of a checkpoint file (or of the one in a run folder): what an engine names as its origin.

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
    """
    path = checkpoint_path(path)
    try:
        return sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], header: msgspec.Struct) -> None:
    """Write tensors with a header as a safetensors file, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = exact_json(header)
    write_atomic(path, safetensors.torch.save(plain, {METADATA_KEY: text}))


def read_tensors(path: Path, header_type: type[HeaderType]) -> tuple[HeaderType, dict[str, Tensor]]:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: missing, truncated, foreign, of a newer schema, or a weight that is not finite.
    """
    header = read_header(path, header_type)
    try:
        with _plain_name(path) as name:
            tensors = safetensors.torch.load_file(name)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error
    for name, tensor in tensors.items():
        if tensor.dtype is not torch.float32 or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} ({tensor.dtype}) is not finite float32: take another checkpoint")
    return header, tensors


def build_model(path: Path, spec: ModelSpec, encoder: EncoderSpec | None, tensors: dict[str, Tensor]) -> GatedPixelCNN:
    """The model of a spec with these weights; nothing is allocated before their shapes are known to fit.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape; `path` is named.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in GatedPixelCNN(spec, encoder).state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        wanted = list(expected[name]) if name in expected else "no such weight"
        found = list(tensors[name].shape) if name in tensors else "none"
        if wanted != found:
            raise CheckpointError(
                f"{path}: weights do not fit the spec: {name} is {found}, expected {wanted}: take another checkpoint"
            )
    with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, must not move the caller's generator
        model = GatedPixelCNN(spec, encoder)
    model.load_state_dict(tensors)
    return model


def read_header(path: Path, header_type: type[HeaderType]) -> HeaderType:
    """Read the header of what `write_tensors` wrote.

    Raises:
        CheckpointError: missing, truncated, foreign or of a newer schema.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: train one with gpcnn-train, or name another")
    try:
        with _plain_name(path) as name, safetensors.safe_open(name, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but not of gpcnn-train (no '{METADATA_KEY}' entry)")
    if len(text) > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: header of {len(text)} bytes: expected at most {MAX_HEADER_BYTES}")
    written = f"{path}: written with checkpoint"
    return decode_versioned(text, header_type, SCHEMA, written, CheckpointError, lambda error: _damaged(path, error))


@contextlib.contextmanager
def _plain_name(path: Path) -> Iterator[str | Path]:
    """A name of the file that is UTF-8, which is all that safetensors opens."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            yield f"/dev/fd/{stream.fileno()}"
    else:
        yield path


def _check(path: Path, header: Header) -> None:
    classes = header.spec.conditioning_size if header.spec.conditioning == "label" else 0
    if len(header.class_names) != classes:
        raise CheckpointError(f"{path}: {len(header.class_names)} class names for {classes} classes: take another one")
    if header.encoder is not None and header.spec.conditioning != "embedding":
        raise CheckpointError(f"{path}: an encoder, but conditioning is {header.spec.conditioning}: take another one")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: not a checkpoint, or a damaged one ({error}): take another, or train it anew")
