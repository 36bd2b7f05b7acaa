"""What an export starts from: a checkpoint, or a model file with the very weights of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import encoder_path
from gpcnn_deploy.model_file import SUFFIX, decode_model_file, read_model_bytes
from gpcnn_deploy.preparation import Preparation
from gpcnn_runtime.zoo.catalogue import resolve_engine
from gpcnn_training.checkpoint import build_model, checkpoint_digest, load_checkpoint
from gpcnn_training.model import GatedPixelCNN


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        model: on the CPU, in evaluation mode; an autoencoder that comes from a model file has no encoder in it.
        class_names: one name per label; empty without labels.
        preparation: how training made pictures fit; None if it took them as they are.
        checkpoint_digest: SHA-256 of the checkpoint that the weights are from: what an engine names as its origin.
        encoder: of a model file whose model is an autoencoder, the encoder engine beside it.
    """

    model: GatedPixelCNN
    class_names: tuple[str, ...]
    preparation: Preparation | None
    checkpoint_digest: str
    encoder: bytes | None = None


def read_source(path: Path) -> Source:
    """Read a checkpoint, the run folder that holds one, a model file, or `zoo:NAME`.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged, foreign or newer.
        EngineError: a model file that is; or its encoder is missing, or another one.
        UsageError: no such model in the zoo.
    """
    path = resolve_engine(path)
    if path.suffix != SUFFIX:
        model, header = load_checkpoint(path)
        return Source(model, header.class_names, header.preparation, checkpoint_digest(path))
    metadata, weights = decode_model_file(read_model_bytes(path), str(path))
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    model = build_model(path, metadata.spec, None, tensors).eval()
    encoder = None if metadata.encoder_digest is None else _encoder(path, metadata.encoder_digest)
    return Source(model, metadata.class_names, metadata.preparation, metadata.checkpoint_digest, encoder)


def _encoder(path: Path, digest: str) -> bytes:
    beside = encoder_path(path)
    try:
        content = beside.read_bytes()
    except OSError as error:
        raise EngineError(f"{beside}: cannot be read ({error.strerror}), and {path.name} belongs with it") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise EngineError(f"{beside} is not the encoder that {path.name} was exported with: export both anew")
    return content


def refuse_encoder(source: Source) -> UsageError:
    """Why there is no encoder to export."""
    if source.encoder is not None:
        return UsageError(
            "a model file has no encoder in it: export the checkpoint, or copy the .encoder.onnx beside it"
        )
    return UsageError("this model has no encoder: gpcnn-train --model autoencoder trains one that has")
