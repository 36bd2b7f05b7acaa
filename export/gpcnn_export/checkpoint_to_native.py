"""Checkpoint → model file for the native engine: weights, metadata, proof of parity, and only then a file."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import gpcnn_deploy
from gpcnn_deploy.commands.extras import required
from gpcnn_deploy.metadata import EngineMetadata, encoder_path
from gpcnn_deploy.model_file import PICTURES, decode_model_file, encode_model_file, tensor_shapes
from gpcnn_deploy.system.files import write_together
from gpcnn_export.proof.parity import draw_on, prove
from gpcnn_export.proof.pictures import prove_codes, prove_pictures
from gpcnn_export.source import Source, read_source
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.native.load import native_engine
from gpcnn_runtime.engines.native.picture_encoder import PictureEncoder
from gpcnn_training.architectures import Prior, gated
from gpcnn_training.vqvae_network import Vqvae

if TYPE_CHECKING:
    from gpcnn_export.onnx_engine import OnnxEngine

PROOF_BATCHES = (1, 2, 5, 8)
"""Images of each call of a proof: the native engine has a schedule of its own for few and for many."""


@dataclass(frozen=True)
class ModelFile:
    """A model file's bytes and what they say about themselves.

    Attributes:
        content: the file.
        metadata: what is in it, of role `weights`.
        encoder: of an autoencoder, the encoder engine that belongs beside it.
    """

    content: bytes
    metadata: EngineMetadata
    encoder: bytes | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def load(self) -> Engine:
        """The engine that users of the file run."""
        return native_engine(Path("model.gpcnn"), self.content)


def make_model_file(
    checkpoint: Path, *, encoder: OnnxEngine | None = None, tell: Callable[[str], None] = lambda line: None
) -> ModelFile:
    """Export a checkpoint for the native engine and prove it equal to eager PyTorch; nothing is written.

    Args:
        checkpoint: a checkpoint file, a run folder that holds one, or a model file.
        encoder: of an autoencoder, the encoder that was exported of this checkpoint with another engine; None exports
            it, which needs the package onnx.
        tell: progress, one line at a time.

    Raises:
        CheckpointError, EngineError: the checkpoint or the model file is missing, damaged, foreign or newer.
        ParityError: the native engine does not draw what eager PyTorch does.
        MissingExtraError: onnx or ONNX Runtime, which an autoencoder's encoder needs, is not installed.
    """
    source = read_source(checkpoint)
    model, pictures = gated(source.model), source.pictures
    content = _encoder(source, encoder, tell)
    draft = draft_model_file(model, source.class_names, source.checkpoint_digest, content, pictures)
    tell("checking images against eager PyTorch")
    shown, codes = None, None
    with draft.load() as engine:
        parity = prove(model, draw_on(engine), PROOF_BATCHES)
        if pictures is not None:
            shown = prove_pictures(model, pictures, engine)
            codes = prove_codes(pictures, PictureEncoder(*decode_model_file(draft.content, "model.gpcnn")).encode)
    metadata = msgspec.structs.replace(
        draft.metadata, parity=parity, preparation=source.preparation, picture_parity=shown, codes_parity=codes
    )
    return ModelFile(encode_model_file(metadata, _weights(model, pictures)), metadata, content)


def draft_model_file(
    model: Prior,
    class_names: tuple[str, ...] | None = None,
    checkpoint_digest: str = "",
    encoder: bytes | None = None,
    pictures: Vqvae | None = None,
) -> ModelFile:
    """A model file of a model, unproven: to be proven, and what benchmarks and tests of untrained models run.

    Args:
        model: in evaluation mode, on the CPU.
        class_names: of a model with labels; None numbers them.
        checkpoint_digest: of the checkpoint that the model is from.
        encoder: the encoder engine that belongs beside it.
        pictures: of a VQ-VAE, whose prior the model is, encoder, codebook and decoder.
    """
    spec = model.spec
    if class_names is None:
        class_names = tuple(map(str, range(spec.conditioning_size))) if spec.conditioning == "label" else ()
    weights = _weights(model, pictures)
    metadata = EngineMetadata(
        role="weights",
        spec=spec,
        class_names=class_names,
        parameters=sum(array.size for array in weights.values()),
        checkpoint_digest=checkpoint_digest,
        encoder_digest=None if encoder is None else hashlib.sha256(encoder).hexdigest(),
        tools={
            "gpcnn-deploy": gpcnn_deploy.__version__,
            **{name: importlib.metadata.version(name) for name in ("torch", "numpy")},
        },
        vqvae=None if pictures is None else pictures.spec,
    )
    return ModelFile(encode_model_file(metadata, weights), metadata, encoder)


def write_model_file(path: Path, file: ModelFile) -> None:
    """Write a model file, and its encoder beside it; both appear, or none.

    Raises:
        OutputError: a file cannot be written.
    """
    write_together(path, file.content, (encoder_path(path), file.encoder))


def _weights(model: Prior, pictures: Vqvae | None = None) -> dict[str, Any]:
    state = model.state_dict()
    if pictures is not None:
        state = state | {PICTURES + name: tensor.contiguous() for name, tensor in pictures.state_dict().items()}
    return {name: state[name].numpy() for name in tensor_shapes(model.spec, pictures.spec if pictures else None)}


def _encoder(source: Source, given: OnnxEngine | None, tell: Callable[[str], None]) -> bytes | None:
    """The encoder engine of an autoencoder. That of a VQ-VAE is in the model file itself."""
    if source.pictures is not None:
        return None
    if given is not None:
        return given.content
    if source.model.encoder is None:
        return source.encoder
    with required("exporting an autoencoder's encoder", "export"):
        from gpcnn_export.checkpoint_to_onnx import make_encoder
    tell("exporting the encoder")
    return make_encoder(source).content
