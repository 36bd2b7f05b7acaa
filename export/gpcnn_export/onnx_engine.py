"""An ONNX engine in memory: a graph of a model with its metadata, not yet proven or written."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import onnx

import gpcnn_deploy
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, Role, encode_metadata
from gpcnn_deploy.schedule import Schedule, window_fields
from gpcnn_export.graphs.encoder import encoder_graph
from gpcnn_export.graphs.pictures import picture_decoder_graph, picture_encoder_graph
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.onnxruntime.decoder import Decoder
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.engines.onnxruntime.load import onnx_engine
from gpcnn_training.architectures import gated
from gpcnn_training.model import parameter_count
from gpcnn_training.network import Network
from gpcnn_training.vqvae_network import Vqvae


@dataclass(frozen=True)
class OnnxEngine:
    """An engine file's bytes and what they say about themselves.

    Attributes:
        content: the file.
        metadata: what is in it.
        encoder: of an autoencoder's sampler or step, the encoder engine that belongs beside it.
        decoder: of a VQ-VAE's step, the decoder engine that belongs beside it.
    """

    content: bytes
    metadata: EngineMetadata
    encoder: OnnxEngine | None = None
    decoder: OnnxEngine | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def load(self) -> Engine:
        """The engine that users of the file run, on the CPU.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        decoder = None if self.decoder is None else self.decoder.content
        return onnx_engine(Path("model.onnx"), self.content, decoder=decoder)

    def load_encoder(self) -> Encoder:
        """The same of an encoder's file.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        return Encoder(Path("model.encoder.onnx"), self.content)

    def load_decoder(self) -> Decoder:
        """The same of a decoder's file.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        return Decoder(Path("model.decoder.onnx"), self.content)

    def with_metadata(self, metadata: EngineMetadata) -> OnnxEngine:
        """The same graph, saying something else about itself."""
        return pack(onnx.load_model_from_string(self.content), metadata, self.encoder, self.decoder)


def pack(
    graph: onnx.ModelProto,
    metadata: EngineMetadata,
    encoder: OnnxEngine | None = None,
    decoder: OnnxEngine | None = None,
) -> OnnxEngine:
    """A graph with its metadata inside; in place."""
    del graph.metadata_props[:]
    graph.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=encode_metadata(metadata)))
    return OnnxEngine(graph.SerializeToString(deterministic=True), metadata, encoder, decoder)


def draft_engine(
    model: Network,
    role: Role,
    schedule: Schedule | int | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    checkpoint_digest: str = "",
    encoder: OnnxEngine | None = None,
    batch: int | None = None,
    many: bool = False,
    pictures: Vqvae | None = None,
    decoder: OnnxEngine | None = None,
) -> OnnxEngine:
    """An engine of a model, unproven: to be timed or proven, and what benchmarks and tests of untrained models run.

    Args:
        model: in evaluation mode, on the CPU.
        role: `sampler`, `step`, an autoencoder's `encoder`, or a VQ-VAE's `encoder` or `decoder`.
        schedule: of a sampler; None draws the whole row at a time.
        class_names: of a model with labels; None numbers them.
        checkpoint_digest: of the checkpoint that the model is from.
        encoder: that belongs beside it.
        batch: images in every call of a sampler, step or decoder whose shapes are all fixed; None for any number.
        many: of a sampler of one window: as it would be the window for larger batches, to be timed.
        pictures: of a VQ-VAE, whose prior the model is, what its sampler decodes with, or its encoder encodes with.
        decoder: of a VQ-VAE's step, what belongs beside it; none is made here.
    """
    spec = model.spec
    if role == "sampler":
        schedule = schedule or spec.width
        graph = sampler_graph(gated(model), schedule, batch, many, pictures)
    elif role == "step":
        graph, schedule = step_graph(model, batch), None
    elif role == "decoder":
        assert pictures is not None
        graph, schedule = picture_decoder_graph(pictures, spec, batch), None
    elif pictures is not None:
        graph, schedule = picture_encoder_graph(pictures, spec), None
    else:
        assert model.encoder is not None
        graph, schedule = encoder_graph(model.encoder, spec), None
    if class_names is None:
        class_names = tuple(map(str, range(spec.conditioning_size))) if spec.conditioning == "label" else ()
    onnx.checker.check_model(graph, full_check=True)
    metadata = EngineMetadata(
        role=role,
        spec=spec,
        class_names=class_names,
        **window_fields(schedule),
        batch=None if role == "encoder" else batch,
        parameters=_parameters(model, role, pictures),
        checkpoint_digest=checkpoint_digest,
        encoder_digest=None if encoder is None else encoder.digest,
        decoder_digest=None if decoder is None else decoder.digest,
        tools=_tools(),
        vqvae=None if pictures is None else pictures.spec,
    )
    return pack(graph, metadata, encoder, decoder)


def _parameters(model: Network, role: Role, pictures: Vqvae | None) -> int:
    """Weights in a graph of a role."""
    encoders = 0 if model.encoder is None else parameter_count(model.encoder)
    prior = parameter_count(model) - encoders
    if pictures is None or role == "step":
        return encoders if role == "encoder" else prior
    coders = {"encoder": pictures.encoder, "decoder": pictures.decoder, "sampler": pictures.decoder}
    codebooks = sum(codebook.numel() for codebook in pictures.codebooks.values())
    if role == "encoder" and pictures.decoder.top_up is not None:  # it knows of the top codes, too
        codebooks += parameter_count(pictures.decoder.top_up)
    return codebooks + parameter_count(coders[role]) + (prior if role == "sampler" else 0)


def _tools() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript", "numpy")}
    try:
        import onnxruntime
    except ImportError:  # an unproven engine is made without it
        return {"gpcnn-deploy": gpcnn_deploy.__version__, **versions}
    return {"gpcnn-deploy": gpcnn_deploy.__version__, **versions, "onnxruntime": onnxruntime.__version__}
