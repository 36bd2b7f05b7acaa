"""ONNX engine → TensorRT plan. Needs no torch and no training code: a plan can be built on the device that runs it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import EngineError, GpcnnError, MissingExtraError, NotHereError, OutputError, UsageError
from gpcnn_deploy.metadata import MAX_BATCH, EngineMetadata, Precision, decoder_path, encoder_path
from gpcnn_deploy.system.files import atomic_path
from gpcnn_deploy.text import counted, spanned
from gpcnn_runtime.engines.base import EXPORT_ANEW
from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata, read_onnx
from gpcnn_runtime.engines.plan_file import (
    Flavor,
    PlanMetadata,
    check_tensors,
    encode_plan_metadata,
    metadata_path,
    native_path,
    portable_path,
)
from gpcnn_runtime.engines.tensorrt.gpu import Gpu, find_gpu
from gpcnn_runtime.engines.tensorrt.library import Progress, TensorRT, is_installed, load

if TYPE_CHECKING:
    import onnx

FlavorChoice = Literal["auto", "tensorrt", "tensorrt-rtx"]
OPT_BATCH = 8


@dataclass(frozen=True)
class PlanReport:
    """What a build made.

    Attributes:
        plan: the plan file.
        portable: the ONNX engine beside it.
        native: the model file beside it, if one was written.
        encoder: the encoder engine beside it; None if the model has none, or it was not beside the ONNX engine.
        decoder: of a VQ-VAE's step, the plan of the decoder beside it; None for other models.
        metadata: what was written into `model.plan.json`.
        plan_bytes: size of the plan.
        seconds: build time of all plans, in seconds.
        gpu: this machine's GPU; None without one.
    """

    plan: Path
    portable: Path
    native: Path | None
    encoder: Path | None
    decoder: Path | None
    metadata: PlanMetadata
    plan_bytes: int
    seconds: float
    gpu: Gpu | None

    def __str__(self) -> str:
        """One line for people: flavour, version, GPUs, size and time."""
        m = self.metadata
        if self.gpu is None:
            here = "this machine has none, so the plan was not run"
        elif self.gpu.compute_capability in m.compute_capabilities:
            here = f"this machine's {self.gpu.name} is one of them"
        else:
            here = f"this machine's {self.gpu.name} ({self.gpu.compute_capability}) is none of them"
        return (
            f"{self.plan}: {m.engine.role_words}, {m.engine.precision}, batch {spanned(1, m.max_batch)}, built by "
            f"{m.flavor} "
            f"{m.tensorrt_version} in {self.seconds:.1f} s, {self.plan_bytes / 1e6:.1f} MB; runs on GPUs of compute "
            f"capability {', '.join(m.compute_capabilities)} ({here})"
        )


def build_plan(
    onnx_path: Path,
    out: Path,
    *,
    portable: Path | None = None,
    native: bytes | None = None,
    flavor: FlavorChoice = "auto",
    precision: Precision = "fp32",
    max_batch: int = 64,
    opt_batch: int | None = None,
    progress: Progress | None = None,
) -> PlanReport:
    """Build a plan and write it, its metadata and the portable engine beside it; all of them appear, or none.

    An autoencoder's encoder is copied along from beside `onnx_path`; ONNX Runtime runs it on the CPU. The decoder of a
    VQ-VAE's step, which must be beside `onnx_path`, becomes a plan of its own, in fp32 always.

    Args:
        onnx_path: an ONNX engine of this project, role step or sampler; the plan gets its role, and of a sampler with
            two windows the one for few images.
        out: the plan, such as `model.plan`; `model.plan.json` and `model.onnx` are written beside it.
        portable: the ONNX engine to write as `model.onnx`; None takes `onnx_path`, unless a `model.onnx` of the same
            checkpoint is already there, which is kept.
        native: a model file of the same checkpoint to write as `model.gpcnn`.
        flavor: `auto` takes tensorrt where it is installed and a GPU answers, else tensorrt-rtx.
        precision: fp16 computes the network in half precision; head and sampling stay fp32. Images are then close to
            the fp32 engine's, not equal to them.
        max_batch: most images in one call.
        opt_batch: batch size to tune for; default 8, or max_batch where that is less.
        progress: called with (phase, steps done, steps in all), from any thread; False stops the build.

    Raises:
        UsageError: the batch sizes contradict each other, or the names of the files do.
        EngineError: not an engine of this project, or TensorRT refuses it; the message names the cause.
        MissingExtraError: no TensorRT, or not the one asked for, is installed.
        OutputError: a file cannot be written.
    """
    opt_batch = check_request(out, flavor, max_batch, opt_batch)
    content = read_onnx(onnx_path)
    metadata, model = onnx_metadata(onnx_path, content), _graph(content, onnx_path)
    if metadata.spec.architecture == "pixelcnn":
        raise EngineError(
            f"{onnx_path} is of a PixelCNN of 2016, of which there is no plan: ONNX Runtime runs it as it is"
        )
    if metadata.role == "encoder":
        raise EngineError(f"{onnx_path} is an encoder, which ONNX Runtime runs as it is: name the engine beside it")
    if metadata.role == "decoder":
        raise EngineError(
            f"{onnx_path} is a decoder, whose plan is built with that of its step: name the step beside it"
        )
    if metadata.batch is not None:
        raise EngineError(
            f"{onnx_path} takes {counted(metadata.batch, 'image')} in every call: plans are built from engines of any "
            "batch; export it without --static"
        )
    library, gpu = choose(flavor)
    encoder, decoder_onnx = _encoder(onnx_path, metadata), _decoder(onnx_path, metadata)
    portable_bytes = _portable(portable, portable_path(out), onnx_path, content, metadata)
    if metadata.precision != "fp32":
        raise EngineError(f"{onnx_path}: is {metadata.precision} already; plans are built from fp32 engines")
    network = content
    if metadata.batch_window is not None:
        from gpcnn_export.graphs.one_window import first_schedule

        model = first_schedule(model, str(onnx_path))
        network = model.SerializeToString()
        metadata = msgspec.structs.replace(metadata, batch_window=None, batch_from=None)
    if precision == "fp16":
        from gpcnn_export.graphs.half import half_precision

        network = half_precision(model)[0].SerializeToString()
        metadata = msgspec.structs.replace(metadata, precision=precision, parity=None)

    def build(path: Path, content: bytes, engine: EngineMetadata) -> tuple[bytes, PlanMetadata]:
        plan, tensors = library.build(content, str(path), opt_batch, max_batch, progress)
        check_tensors(engine, tensors, str(path))
        return plan, PlanMetadata(
            engine=engine,
            digest=hashlib.sha256(plan).hexdigest(),
            flavor=library.flavor,
            tensorrt_version=library.version,
            platform=f"{sys.platform}-{platform.machine()}",
            compute_capabilities=library.portable_capabilities() or ((gpu.compute_capability,) if gpu else ()),
            max_batch=max_batch,
            opt_batch=opt_batch,
            tensors=tensors,
        )

    beside = {native_path(out): native, encoder_path(out): encoder, portable_path(out): portable_bytes}
    begin = time.perf_counter()
    if decoder_onnx is not None:
        decoder, decoder_metadata = build(decoder_path(onnx_path), *decoder_onnx)
        metadata = msgspec.structs.replace(metadata, decoder_digest=decoder_metadata.digest)
        beside[decoder_path(out)] = decoder
        beside[metadata_path(decoder_path(out))] = encode_plan_metadata(decoder_metadata)
        if portable_bytes is not None and onnx_metadata(onnx_path, portable_bytes).decoder_digest is not None:
            beside[decoder_path(portable_path(out))] = decoder_onnx[0]
    plan, plan_metadata = build(onnx_path, network, metadata)
    seconds = time.perf_counter() - begin
    _write(out, plan, encode_plan_metadata(plan_metadata), beside)
    return PlanReport(
        plan=out,
        portable=portable_path(out),
        native=None if native is None else native_path(out),
        encoder=None if encoder is None else encoder_path(out),
        decoder=None if decoder_onnx is None else decoder_path(out),
        metadata=plan_metadata,
        plan_bytes=len(plan),
        seconds=seconds,
        gpu=gpu,
    )


def check_request(out: Path, flavor: FlavorChoice, max_batch: int, opt_batch: int | None) -> int:
    """Refuse what cannot be built before anything is exported for it; returns the batch size to tune for.

    Raises:
        UsageError: the batch sizes contradict each other, or `out` is no plan's name.
        OutputError: `out` is a folder.
        MissingExtraError, NotHereError: as `choose`.
    """
    opt_batch = min(OPT_BATCH, max_batch) if opt_batch is None else opt_batch
    if not 1 <= opt_batch <= max_batch <= MAX_BATCH:
        raise UsageError(
            f"batch sizes: opt-batch is {opt_batch}, max-batch {max_batch}; expected 1 <= opt-batch <= max-batch "
            f"<= {MAX_BATCH}"
        )
    if out.is_dir():
        raise OutputError(f"cannot write {out}: it is a folder; name a file with -o")
    if out.suffix == ".onnx":
        raise UsageError(f"{out}: expected a plan's name, such as {out.with_suffix('.plan')}")
    choose(flavor)
    return opt_batch


def choose(flavor: FlavorChoice) -> tuple[TensorRT, Gpu | None]:
    """The TensorRT that builds, and this machine's GPU if it has one.

    Raises:
        MissingExtraError: it is not installed.
        NotHereError: it needs a GPU and none answers.
    """
    gpu, reason = None, "no NVIDIA GPU answers"
    try:
        gpu = find_gpu()
    except (NotHereError, MissingExtraError) as error:
        reason = str(error)
    taken: Flavor
    if flavor == "auto":
        taken = "tensorrt" if gpu is not None and is_installed("tensorrt") else "tensorrt-rtx"
    else:
        taken = flavor
    if taken == "tensorrt" and is_installed(taken) and gpu is None:
        raise NotHereError(f"tensorrt builds plans only on the GPU that runs them: {reason}; use --flavor tensorrt-rtx")
    return load(taken), gpu


def _graph(content: bytes, path: Path) -> onnx.ModelProto:
    require("building a TensorRT plan", "plan", "onnx")
    import onnx

    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError
        raise EngineError(f"{path} is no ONNX file, or damaged: {EXPORT_ANEW}") from error


def _encoder(onnx_path: Path, metadata: EngineMetadata) -> bytes | None:
    """The encoder engine beside an ONNX engine; None where none is needed, or it is not there.

    Raises:
        EngineError: another file is in its place.
    """
    path = encoder_path(onnx_path)
    if metadata.encoder_digest is None or not path.exists():
        return None
    content = read_onnx(path)
    if hashlib.sha256(content).hexdigest() != metadata.encoder_digest:
        raise EngineError(f"{path} is not the encoder that {onnx_path} was exported with: export both anew")
    return content


def _decoder(onnx_path: Path, metadata: EngineMetadata) -> tuple[bytes, EngineMetadata] | None:
    """The decoder engine beside a VQ-VAE's step, and its metadata; None of other engines.

    Raises:
        EngineError: it is not there, or another file is in its place.
    """
    path = decoder_path(onnx_path)
    if metadata.decoder_digest is None:
        return None
    if not path.exists():
        raise EngineError(f"{path}: no such file, and {onnx_path.name} belongs with it: copy it there, too")
    content = read_onnx(path)
    if hashlib.sha256(content).hexdigest() != metadata.decoder_digest:
        raise EngineError(f"{path} is not the decoder that {onnx_path} was exported with: export both anew")
    return content, onnx_metadata(path, content)


def _portable(
    portable: Path | None, target: Path, onnx_path: Path, content: bytes, metadata: EngineMetadata
) -> bytes | None:
    """What to write as `model.onnx`; None keeps the file that is there."""
    if portable is None:
        if target.exists():
            with contextlib.suppress(GpcnnError):
                there = onnx_metadata(target, read_onnx(target))
                if there.role not in ("encoder", "decoder") and _origin(there) == _origin(metadata):
                    return None
        return content
    chosen = read_onnx(portable)
    if onnx_metadata(portable, chosen).checkpoint_digest != metadata.checkpoint_digest:
        raise EngineError(f"{portable} and {onnx_path} were made from different checkpoints: export both anew")
    return chosen


def _origin(metadata: EngineMetadata) -> tuple[str, str | None]:
    return metadata.checkpoint_digest, metadata.encoder_digest


def _write(out: Path, plan: bytes, metadata: bytes, beside: Mapping[Path, bytes | None]) -> None:
    with contextlib.ExitStack() as stack:
        # Left in reverse: the metadata comes last, so that no reader finds it beside an older plan's missing engine.
        # Each is written while its own context is the innermost, which names it where it cannot be.
        stack.enter_context(atomic_path(metadata_path(out))).write_bytes(metadata)
        stack.enter_context(atomic_path(out)).write_bytes(plan)
        for path, content in beside.items():
            if content is not None:
                stack.enter_context(atomic_path(path)).write_bytes(content)
