"""Checkpoint → ONNX engine: graph, metadata, proof of parity, and only then a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import MAX_BATCH, Role, decoder_path, encoder_path
from gpcnn_deploy.schedule import LARGEST_FROM, Schedule
from gpcnn_deploy.system.files import write_together
from gpcnn_deploy.text import spanned
from gpcnn_export.onnx_engine import OnnxEngine, draft_engine
from gpcnn_export.proof.encoder import prove_encoder
from gpcnn_export.proof.parity import draw_on, prove
from gpcnn_export.proof.pictures import prove_codes, prove_decoder, prove_pictures
from gpcnn_export.source import Source, read_source, refuse_encoder
from gpcnn_export.tuning import tune_schedule, tune_window
from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata
from gpcnn_training.architectures import gated
from gpcnn_training.vqvae_network import Vqvae

PROOF_IMAGES = 8
"""Images of each kind of input that a proof compares, at least, per window."""

Tell = Callable[[str], None]
"""Shown one line about what is going on."""


def make_engine(
    checkpoint: Path,
    role: Role,
    *,
    window: int | Schedule | Literal["auto"] = "auto",
    tune_batch: int | None = None,
    batch: int | None = None,
    encoder: OnnxEngine | None = None,
    tell: Tell = lambda line: None,
) -> OnnxEngine:
    """Export a checkpoint and prove the engine equal to eager PyTorch; nothing is written.

    Of an autoencoder, the encoder is exported and proven too; of a VQ-VAE's step, the decoder as well.

    Args:
        checkpoint: a checkpoint file, a run folder that holds one, or a model file.
        role: `sampler` (the whole image in one call), `step` (one Jacobi step), an autoencoder's `encoder`, or a
            VQ-VAE's `encoder` or `decoder`.
        window: columns that a sampler draws at a time, 1 to W, or a schedule of two windows; `auto` measures on this
            machine.
        tune_batch: batch size that `auto` measures with; None makes an engine that is fast with few images and many.
        batch: images in every call, for an engine of fixed shapes and one window; None for any number. An encoder
            takes any number always, a decoder as many as its step.
        encoder: the encoder that was exported of this checkpoint with another engine, so that both share it.
        tell: progress, one line at a time.

    Raises:
        CheckpointError, EngineError: the checkpoint or the model file is missing, damaged, foreign or newer.
        UsageError: the window does not fit the image, tune_batch or batch is not positive, or there is no encoder or
            decoder to export.
        ParityError: the engine does not draw, or encode, what eager PyTorch does.
        MissingExtraError: ONNX Runtime, which runs the check, is not installed.
    """
    source = read_source(checkpoint)
    model, spec = source.model, source.model.spec
    if role == "sampler":
        gated(model)  # before anything is measured
    schedule = Schedule(window) if isinstance(window, int) else window
    if schedule != "auto" and not schedule.fits(spec.width):
        two = f", or two windows such as {spec.width},1@16, the second from 2 to {LARGEST_FROM} images on"
        raise UsageError(
            f"--window is {schedule.text}: expected {spanned(1, spec.width)} (the image's width), "
            f"auto{two * (spec.width > 1)}"
        )
    if tune_batch is not None and tune_batch < 1:
        raise UsageError(f"--tune-batch is {tune_batch}: expected 1 or more")
    if batch is not None and not 1 <= batch <= MAX_BATCH:
        raise UsageError(f"--batch is {batch}: expected 1 to {MAX_BATCH} images")
    if batch is not None and isinstance(schedule, Schedule) and schedule.batch_window is not None:
        raise UsageError(f"--window is {schedule.text}: expected one window, as {schedule.window}, with --static")
    if role == "encoder":
        return make_encoder(source)
    if role == "decoder":
        return make_decoder(source, batch)
    if encoder is None and source.encoder is not None:
        encoder = OnnxEngine(source.encoder, onnx_metadata(encoder_path(checkpoint), source.encoder))
    elif encoder is None and (model.encoder is not None or source.pictures is not None):
        tell("exporting the encoder")
        encoder = make_encoder(source)
    decoder = None
    if role == "step" and source.pictures is not None:
        tell("exporting the decoder")
        decoder = make_decoder(source, batch)
    chosen: Schedule | None = None
    if role == "step":
        tell("exporting the single-step network")
    elif schedule != "auto":
        chosen = schedule
    elif batch is not None:
        chosen = Schedule(tune_window(gated(model), batch, tell))
    else:
        chosen = (
            tune_schedule(gated(model), tell)
            if tune_batch is None
            else Schedule(tune_window(gated(model), tune_batch, tell))
        )
    if chosen is not None:
        tell("building the sampler graph")
    draft = draft_engine(
        model,
        role,
        chosen,
        class_names=source.class_names,
        checkpoint_digest=source.checkpoint_digest,
        encoder=encoder,
        batch=batch,
        pictures=source.pictures,
        decoder=decoder,
    )
    tell("checking images against eager PyTorch")
    shown = None
    with draft.load() as engine:
        parity = prove(model, draw_on(engine), (PROOF_IMAGES,) if chosen is None else proof_batches(chosen))
        if source.pictures is not None:
            shown = prove_pictures(gated(model), source.pictures, engine)
    proven = {"parity": parity, "picture_parity": shown, "preparation": source.preparation}
    return draft.with_metadata(msgspec.structs.replace(draft.metadata, **proven))


def proof_batches(schedule: Schedule) -> tuple[int, ...]:
    """Batch sizes that make every window of a schedule draw PROOF_IMAGES or more."""
    if schedule.batch_from is None:
        return (PROOF_IMAGES,)
    few = min(PROOF_IMAGES, schedule.batch_from - 1)
    return *[few] * -(-PROOF_IMAGES // few), max(PROOF_IMAGES, schedule.batch_from)


def make_encoder(source: Source) -> OnnxEngine:
    """Export an autoencoder's encoder and prove it.

    Raises:
        UsageError: there is none.
        ParityError: it does not encode as eager PyTorch does.
        MissingExtraError: ONNX Runtime, which runs the check, is not installed.
    """
    model = source.model
    if source.pictures is not None:
        return _make_picture_encoder(source, source.pictures)
    if model.encoder is None:
        raise refuse_encoder(source)
    draft = draft_engine(model, "encoder", class_names=source.class_names, checkpoint_digest=source.checkpoint_digest)
    with draft.load_encoder() as encoder:
        parity = prove_encoder(model, encoder.embed)
    metadata = msgspec.structs.replace(draft.metadata, encoder_parity=parity, preparation=source.preparation)
    return draft.with_metadata(metadata)


def _make_picture_encoder(source: Source, pictures: Vqvae) -> OnnxEngine:
    """The encoder of a VQ-VAE, proven."""
    names, digest = source.class_names, source.checkpoint_digest
    draft = draft_engine(source.model, "encoder", class_names=names, checkpoint_digest=digest, pictures=pictures)
    with draft.load_encoder() as encoder:
        parity = prove_codes(pictures, encoder.encode)
    metadata = msgspec.structs.replace(draft.metadata, codes_parity=parity, preparation=source.preparation)
    return draft.with_metadata(metadata)


def make_decoder(source: Source, batch: int | None = None) -> OnnxEngine:
    """Export the decoder of a VQ-VAE, for pictures in calls of `batch`, or of any number, and prove it.

    Raises:
        UsageError: there is none.
        ParityError: it does not decode as eager PyTorch does.
        MissingExtraError: ONNX Runtime, which runs the check, is not installed.
    """
    model, pictures = source.model, source.pictures
    if pictures is None:
        raise UsageError("this model has no decoder: gpcnn-train --model vqvae trains one that has")
    names, digest = source.class_names, source.checkpoint_digest
    draft = draft_engine(model, "decoder", class_names=names, checkpoint_digest=digest, batch=batch, pictures=pictures)
    with draft.load_decoder() as decoder:
        parity = prove_decoder(model.spec, pictures, decoder.decode)
    metadata = msgspec.structs.replace(draft.metadata, picture_parity=parity, preparation=source.preparation)
    return draft.with_metadata(metadata)


def write_engine(path: Path, engine: OnnxEngine) -> None:
    """Write an engine, and its encoder and decoder beside it; all appear, or none.

    Raises:
        OutputError: a file cannot be written.
    """
    beside = ((encoder_path(path), engine.encoder), (decoder_path(path), engine.decoder))
    write_together(path, engine.content, *((place, None if one is None else one.content) for place, one in beside))
