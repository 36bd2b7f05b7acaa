"""What an export starts from: a checkpoint, or a model file with the very weights of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import encoder_path
from gpcnn_deploy.model_file import PICTURES, SUFFIX, decode_model_file, read_model_bytes
from gpcnn_deploy.preparation import Preparation
from gpcnn_runtime.zoo.catalogue import resolve_engine
from gpcnn_training.checkpoint import (
    build_model,
    build_vqvae,
    checkpoint_digest,
    checkpoint_header,
    load_checkpoint,
    load_vqvae,
)
from gpcnn_training.network import Network
from gpcnn_training.vqvae_network import Vqvae


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        model: on the CPU, in evaluation mode; an autoencoder that comes from a model file has no encoder in it.
        class_names: one name per label; empty without labels.
        preparation: how training made pictures fit; None if it took them as they are.
        checkpoint_digest: SHA-256 of the checkpoint that the weights are from: what an engine names as its origin.
        pictures: of a VQ-VAE, whose prior the model is, encoder, codebook and decoder.
        encoder: of a model file whose model is an autoencoder, the encoder engine beside it.
    """

    model: Network
    class_names: tuple[str, ...]
    preparation: Preparation | None
    checkpoint_digest: str
    encoder: bytes | None = None
    pictures: Vqvae | None = None


def read_source(path: Path) -> Source:
    """Read a checkpoint, the run folder that holds one, a model file, or `zoo:NAME`.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged, foreign or newer.
        EngineError: a model file that is; or its encoder is missing, or another one.
        UsageError: no such model in the zoo.
    """
    path = resolve_engine(path)
    if path.suffix != SUFFIX:
        if checkpoint_header(path).vqvae is not None:
            prior, pictures, header = load_vqvae(path)
            digest = checkpoint_digest(path)
            return Source(prior, header.class_names, header.preparation, digest, pictures=pictures)
        model, header = load_checkpoint(path)
        return Source(model, header.class_names, header.preparation, checkpoint_digest(path))
    metadata, weights = decode_model_file(read_model_bytes(path), str(path))
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    decodes: Vqvae | None = None
    if metadata.vqvae is not None:
        theirs = {name.removeprefix(PICTURES): tensors.pop(name) for name in list(tensors) if name.startswith(PICTURES)}
        decodes = build_vqvae(path, metadata.vqvae, theirs).eval()
    model = build_model(path, metadata.spec, None, tensors).eval()
    encoder = None if metadata.encoder_digest is None else _encoder(path, metadata.encoder_digest)
    return Source(model, metadata.class_names, metadata.preparation, metadata.checkpoint_digest, encoder, decodes)


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
