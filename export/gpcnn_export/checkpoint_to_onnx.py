"""Checkpoint → ONNX engine: graph, metadata, proof of parity, and only then a file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

import gpcnn_deploy
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.files import atomic_path
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, Role, encode_metadata, encoder_path
from gpcnn_deploy.schedule import LARGEST_FROM, Schedule, window_fields
from gpcnn_export.graphs.encoder import encoder_graph, onnx_embed, prove_encoder
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_export.proof.parity import onnx_draw, prove
from gpcnn_export.tuning import tune_schedule, tune_window
from gpcnn_training.checkpoint import Header, checkpoint_digest, load_checkpoint
from gpcnn_training.model import GatedPixelCNN, parameter_count

PROOF_IMAGES = 8
"""Images of each kind of input that a proof compares, at least, per window."""

Tell = Callable[[str], None]
"""Shown one line about what is going on."""


@dataclass(frozen=True)
class OnnxEngine:
    """A finished engine: the file's bytes and what they say about themselves.

    Attributes:
        content: the file.
        metadata: what is in it.
        encoder: of an autoencoder's sampler or step, the encoder engine that belongs beside it.
    """

    content: bytes
    metadata: EngineMetadata
    encoder: OnnxEngine | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


def make_engine(
    checkpoint: Path,
    role: Role,
    *,
    window: int | Schedule | Literal["auto"] = "auto",
    tune_batch: int | None = None,
    encoder: OnnxEngine | None = None,
    tell: Tell = lambda line: None,
) -> OnnxEngine:
    """Export a checkpoint and prove the engine equal to eager PyTorch; nothing is written.

    Of an autoencoder, the encoder is exported and proven too.

    Args:
        checkpoint: a checkpoint file, or a run folder that holds one.
        role: `sampler` (the whole image in one call), `step` (one Jacobi step), or an autoencoder's `encoder`.
        window: columns that a sampler draws at a time, 1 to W, or a schedule of two windows; `auto` measures on this
            machine.
        tune_batch: batch size that `auto` measures with; None makes an engine that is fast with few images and many.
        encoder: the encoder that was exported of this checkpoint with another engine, so that both share it.
        tell: progress, one line at a time.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, foreign or newer.
        UsageError: the window does not fit the image, tune_batch is not positive, or there is no encoder to export.
        ParityError: the engine does not draw, or encode, what eager PyTorch does.
        MissingExtraError: ONNX Runtime, which runs the check, is not installed.
    """
    model, header = load_checkpoint(checkpoint)
    spec = model.spec
    schedule = Schedule(window) if isinstance(window, int) else window
    if schedule != "auto" and not schedule.fits(spec.width):
        two = f", or two windows such as {spec.width},1@16, the second from 2 to {LARGEST_FROM} images on"
        raise UsageError(
            f"--window is {schedule.text}: expected 1 to {spec.width} (the image's width), auto{two * (spec.width > 1)}"
        )
    if tune_batch is not None and tune_batch < 1:
        raise UsageError(f"--tune-batch is {tune_batch}: expected 1 or more")
    digest = checkpoint_digest(checkpoint)
    batches: tuple[int, ...]
    if role == "encoder":
        return _encoder(model, header, digest)
    if model.encoder is not None and encoder is None:
        tell("exporting the encoder")
        encoder = _encoder(model, header, digest)
    if role == "step":
        tell("exporting the single-step network")
        graph, chosen, batches = step_graph(model), None, (PROOF_IMAGES,)
    else:
        tell("building the sampler graph")
        if schedule == "auto":
            if tune_batch is None:
                schedule = tune_schedule(model, tell)
            else:
                schedule = Schedule(tune_window(model, tune_batch, tell))
        graph, chosen, batches = sampler_graph(model, schedule), schedule, proof_batches(schedule)
    onnx.checker.check_model(graph, full_check=True)
    tell("checking images against eager PyTorch")
    metadata = EngineMetadata(
        role=role,
        spec=spec,
        class_names=header.class_names,
        **window_fields(chosen),
        parameters=decoder_parameters(model),
        checkpoint_digest=digest,
        encoder_digest=None if encoder is None else encoder.digest,
        tools=_tools(),
        parity=prove(model, onnx_draw(graph.SerializeToString(), role), batches),
    )
    return OnnxEngine(_with_metadata(graph, metadata), metadata, encoder)


def proof_batches(schedule: Schedule) -> tuple[int, ...]:
    """Batch sizes that make every window of a schedule draw PROOF_IMAGES or more."""
    if schedule.batch_from is None:
        return (PROOF_IMAGES,)
    few = min(PROOF_IMAGES, schedule.batch_from - 1)
    return *[few] * -(-PROOF_IMAGES // few), max(PROOF_IMAGES, schedule.batch_from)


def _encoder(model: GatedPixelCNN, header: Header, digest: str) -> OnnxEngine:
    if model.encoder is None:
        raise UsageError("this model has no encoder: gpcnn-train --model autoencoder trains one that has")
    graph = encoder_graph(model.encoder, model.spec)
    onnx.checker.check_model(graph, full_check=True)
    metadata = EngineMetadata(
        role="encoder",
        spec=model.spec,
        class_names=header.class_names,
        parameters=parameter_count(model.encoder),
        checkpoint_digest=digest,
        tools=_tools(),
        encoder_parity=prove_encoder(model, onnx_embed(graph.SerializeToString())),
    )
    return OnnxEngine(_with_metadata(graph, metadata), metadata)


def write_engine(path: Path, engine: OnnxEngine) -> None:
    """Write an engine, and its encoder beside it; both appear, or none.

    Raises:
        OutputError: a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        # Left in reverse: the engine comes last, and names the encoder by its digest.
        stack.enter_context(atomic_path(path)).write_bytes(engine.content)
        if engine.encoder is not None:
            stack.enter_context(atomic_path(encoder_path(path))).write_bytes(engine.encoder.content)


def decoder_parameters(model: GatedPixelCNN) -> int:
    """Number of trained weights of a sampler or step, an autoencoder's encoder left out."""
    return parameter_count(model) - (0 if model.encoder is None else parameter_count(model.encoder))


def _with_metadata(graph: onnx.ModelProto, metadata: EngineMetadata) -> bytes:
    graph.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=encode_metadata(metadata)))
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _tools() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxscript", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    try:
        import onnxruntime
    except ImportError:  # an unproven engine is made without it
        return {"gpcnn-deploy": gpcnn_deploy.__version__, **versions}
    return {"gpcnn-deploy": gpcnn_deploy.__version__, **versions, "onnxruntime": onnxruntime.__version__}


def random_engine(model: GatedPixelCNN, role: Role, window: int | None = None) -> OnnxEngine:
    """An engine of a model that was never saved, unproven: for benchmarks and tests of size, not for deployment."""
    graph = step_graph(model) if role == "step" else sampler_graph(model, window or model.spec.width)
    spec = model.spec
    names = tuple(map(str, range(spec.conditioning_size))) if spec.conditioning == "label" else ()
    metadata = EngineMetadata(
        role=role,
        spec=spec,
        class_names=names,
        **window_fields(None if role == "step" else window or spec.width),
        parameters=decoder_parameters(model),
        checkpoint_digest="",
        tools=_tools(),
    )
    return OnnxEngine(_with_metadata(graph, metadata), metadata)
