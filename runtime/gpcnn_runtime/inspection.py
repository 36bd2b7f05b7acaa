"""What a file is, without running it: a model file, an ONNX engine, a plan (not deserialized), or a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.checkpoint_header import Header, read_header
from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.metadata import (
    CodesParity,
    EncoderParity,
    EngineMetadata,
    ParityReport,
    PictureParity,
    Precision,
    Role,
)
from gpcnn_deploy.model_file import SUFFIX, decode_model_file, read_model_bytes
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_runtime.engines.plan_file import (
    PlanMetadata,
    native_path,
    portable_path,
    read_decoder,
    read_plan_metadata,
)
from gpcnn_runtime.zoo.card import Card
from gpcnn_runtime.zoo.catalogue import PREFIX, read_card, resolve_engine

CHECKPOINT = "checkpoint.safetensors"
PLANS = (".plan", ".engine", ".trt")


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a plan alone; see `PlanMetadata`.

    Attributes:
        flavor, tensorrt_version, platform, compute_capabilities, max_batch, opt_batch: as there.
        digest_matches: the plan is the one that its metadata was written for; if not, no command loads it.
        decoder_matches: of a VQ-VAE's step, the decoder that it names is beside it; if not, no command loads it. None
            for other plans.
        portable: the model file or ONNX engine beside it, which runs where it cannot; None without one.
    """

    flavor: str
    tensorrt_version: str
    platform: str
    compute_capabilities: tuple[str, ...]
    max_batch: int
    opt_batch: int
    digest_matches: bool
    portable: str | None
    decoder_matches: bool | None = None


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a checkpoint alone.

    Attributes:
        data: name of the data set that it was trained on.
        quantization: how pixels became levels.
        step, epoch: how long it was trained.
        test_nll: negative log-likelihood of the test images, in nats an image; None if it was not measured.
        test_images: how many.
        autoencoder: it holds an encoder, too.
        psnr: of a VQ-VAE, that of pictures back from their codes, in dB; None if it was not measured.
        perplexity: of their codes.
    """

    data: str
    quantization: str
    step: int
    epoch: float
    test_nll: float | None
    test_images: int
    autoencoder: bool
    psnr: float | None = None
    perplexity: float | None = None


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is.

    Attributes:
        path: the file.
        kind: what sort of file.
        bytes: its size.
        digest: its SHA-256.
        spec, class_names, preparation: the model's.
        parameters: number of weights.
        multiply_adds: of one image, each row and column evaluated once: the arithmetic floor of a sampler; None for an
            encoder or decoder.
        role, precision, window, batch_window, batch_from, batch, checkpoint_digest, encoder_digest, decoder_digest,
            parity, encoder_parity: of an engine, as in `EngineMetadata`; None for a checkpoint.
        tools: package → version that wrote the file.
        plan: a plan's own facts; None for other files.
        checkpoint: a checkpoint's own facts; None for engines.
        card: of a model of the zoo; None for other files.
        vqvae: of a VQ-VAE, the dimensions of encoder, codebook and decoder, `spec` being its prior's; None for others.
        picture_parity, codes_parity: of a VQ-VAE's engines, as in `EngineMetadata`.
    """

    path: str
    kind: Literal["native", "onnx", "plan", "checkpoint"]
    bytes: int
    digest: str
    spec: ModelSpec
    class_names: tuple[str, ...]
    preparation: Preparation | None = None
    parameters: int
    multiply_adds: int | None
    role: Role | None = None
    precision: Precision | None = None
    window: int | None = None
    batch_window: int | None = None
    batch_from: int | None = None
    batch: int | None = None
    checkpoint_digest: str | None = None
    encoder_digest: str | None = None
    decoder_digest: str | None = None
    parity: ParityReport | None = None
    encoder_parity: EncoderParity | None = None
    tools: dict[str, str]
    plan: PlanFacts | None = None
    checkpoint: CheckpointFacts | None = None
    card: Card | None = None
    vqvae: VqvaeSpec | None = None
    picture_parity: PictureParity | None = None
    codes_parity: CodesParity | None = None


def inspect_engine(path: str | Path) -> Inspection:
    """Read what a file says about itself; its suffix decides what it is taken for.

    Args:
        path: a model file, an .onnx engine, `zoo:NAME`, a plan with its `.json` beside it, or a checkpoint or run
            folder, which is no engine but says as much.

    Raises:
        EngineError: missing, damaged, foreign or of a newer schema.
        CheckpointError: a checkpoint that is.
    """
    name, path = str(path), resolve_engine(path)
    if name.startswith(PREFIX):
        return msgspec.structs.replace(_model_file(path), path=name, card=read_card(name[len(PREFIX) :]))
    if path.is_dir() and (path / CHECKPOINT).is_file():
        path = path / CHECKPOINT
    suffix = path.suffix.lower()
    if suffix == SUFFIX:
        return _model_file(path)
    if suffix == ".onnx":
        return _onnx(path)
    if suffix in PLANS:
        return _plan(path)
    if suffix == ".safetensors":
        return _checkpoint(path)
    if not path.exists():
        raise EngineError(f"{path}: no such file or folder; name an engine, a checkpoint or zoo:NAME")
    raise EngineError(
        f"{path}: expected an engine whose name ends in {SUFFIX}, .onnx or .plan, or a checkpoint that ends in "
        ".safetensors"
    )


def engine_metadata(path: Path) -> EngineMetadata:
    """Metadata of a model file, of an .onnx engine or of a plan; only the file beside a plan is read.

    Raises:
        EngineError: missing, damaged, foreign or of a newer schema.
    """
    path = resolve_engine(path)
    if path.suffix.lower() in PLANS:
        return read_plan_metadata(path).engine
    if path.suffix.lower() == SUFFIX:
        return decode_model_file(read_model_bytes(path), str(path))[0]
    from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata, read_onnx

    return onnx_metadata(path, read_onnx(path))


def _model_file(path: Path) -> Inspection:
    content = read_model_bytes(path)
    metadata, _ = decode_model_file(content, str(path))
    return _engine(path, "native", len(content), hashlib.sha256(content).hexdigest(), metadata)


def _onnx(path: Path) -> Inspection:
    from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata, read_onnx

    content = read_onnx(path)
    digest = hashlib.sha256(content).hexdigest()
    return _engine(path, "onnx", len(content), digest, onnx_metadata(path, content))


def _plan(path: Path) -> Inspection:
    metadata = read_plan_metadata(path)
    try:
        size, digest = path.stat().st_size, sha256(path)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _engine(path, "plan", size, digest, metadata.engine, metadata)


def _engine(
    path: Path,
    kind: Literal["native", "onnx", "plan"],
    size: int,
    digest: str,
    metadata: EngineMetadata,
    plan: PlanMetadata | None = None,
) -> Inspection:
    facts = None
    if plan is not None:
        beside = [one for one in (native_path(path), portable_path(path)) if one.is_file()]
        facts = PlanFacts(
            flavor=plan.flavor,
            tensorrt_version=plan.tensorrt_version,
            platform=plan.platform,
            compute_capabilities=plan.compute_capabilities,
            max_batch=plan.max_batch,
            opt_batch=plan.opt_batch,
            digest_matches=digest == plan.digest,
            portable=str(beside[0]) if beside else None,
            decoder_matches=_has_decoder(path, plan),
        )
    return Inspection(
        path=str(path),
        kind=kind,
        bytes=size,
        digest=digest,
        spec=metadata.spec,
        class_names=metadata.class_names,
        preparation=metadata.preparation,
        parameters=metadata.parameters,
        multiply_adds=None if metadata.role in ("encoder", "decoder") else metadata.spec.multiply_adds(),
        role=metadata.role,
        precision=metadata.precision,
        window=metadata.window,
        batch_window=metadata.batch_window,
        batch_from=metadata.batch_from,
        batch=metadata.batch,
        checkpoint_digest=metadata.checkpoint_digest,
        encoder_digest=metadata.encoder_digest,
        decoder_digest=metadata.decoder_digest,
        parity=metadata.parity,
        encoder_parity=metadata.encoder_parity,
        tools=metadata.tools,
        plan=facts,
        vqvae=metadata.vqvae,
        picture_parity=metadata.picture_parity,
        codes_parity=metadata.codes_parity,
    )


def _has_decoder(path: Path, plan: PlanMetadata) -> bool | None:
    try:
        return None if read_decoder(path, plan) is None else True
    except EngineError:
        return False


def _checkpoint(path: Path) -> Inspection:
    header, parameters = read_header(path, Header)
    return Inspection(
        path=str(path),
        kind="checkpoint",
        bytes=path.stat().st_size,
        digest=sha256(path),
        spec=header.spec,
        class_names=header.class_names,
        preparation=header.preparation,
        parameters=parameters,
        multiply_adds=header.spec.multiply_adds(),
        tools=header.versions,
        checkpoint=CheckpointFacts(
            data=header.data,
            quantization=header.quantization,
            step=header.step,
            epoch=header.epoch,
            test_nll=header.test_nll,
            test_images=header.test_images,
            autoencoder=header.encoder is not None,
            psnr=header.psnr,
            perplexity=header.perplexity,
        ),
        vqvae=header.vqvae,
    )
