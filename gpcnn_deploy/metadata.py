"""Engine metadata: what an engine file is, readable before anything in it runs.

An ONNX engine carries this as JSON under the key `gpcnn` of its `metadata_props`; a TensorRT plan has it beside it in
`model.plan.json` (`PlanMetadata`), because it must be read before the plan is deserialized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.class_names import are_numbers, label_in_words, normalized
from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.schedule import LARGEST_FROM, Schedule
from gpcnn_deploy.schema import decode_versioned, written
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_deploy.text import counted, spanned

SCHEMA = 1
METADATA_KEY = "gpcnn"
MAX_METADATA_BYTES = 1 << 20
MAX_BATCH = 65536
"""Most images in one call of an engine that is made for a number of them."""

Role = Literal["sampler", "step", "encoder", "decoder", "weights"]
Precision = Literal["fp32", "fp16"]


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the export's check against eager PyTorch found.

    Attributes:
        images: images compared, noise equal on both sides.
        identical: images equal in every sub-pixel.
        near_ties: images that differ, each explained by a proven near-tie at its first differing sub-pixel.
        log_prob_error: largest absolute difference of log-probabilities, in nats per sub-pixel.
        log_prob_tolerance: the limit that `log_prob_error` was held to, in nats per sub-pixel.
    """

    images: int
    identical: int
    near_ties: int
    log_prob_error: float
    log_prob_tolerance: float


class EncoderParity(msgspec.Struct, frozen=True, kw_only=True):
    """What the export's check of an encoder against eager PyTorch found.

    Attributes:
        images: images compared.
        embedding_error: largest difference of a number of their embeddings, relative to the largest of its embedding if
            that exceeds 1.
        embedding_tolerance: the limit that `embedding_error` was held to.
    """

    images: int
    embedding_error: float
    embedding_tolerance: float


class PictureParity(msgspec.Struct, frozen=True, kw_only=True):
    """What the export's check of a VQ-VAE's decoder against eager PyTorch found.

    Attributes:
        images: pictures compared, of the same codes.
        differing_share: share of sub-pixels that differ.
        pixel_error: largest difference, of 255.
        pixel_tolerance: the limit that `pixel_error` was held to.
    """

    images: int
    differing_share: float
    pixel_error: int
    pixel_tolerance: int


class CodesParity(msgspec.Struct, frozen=True, kw_only=True):
    """What the export's check of a VQ-VAE's encoder against eager PyTorch found.

    Attributes:
        images: pictures encoded.
        codes: codes compared.
        near_ties: codes that differ, whose vectors are as near as the limit says.
        distance_error: how much further than the nearest vector one was that was taken, relative to the distance.
        distance_tolerance: the limit that `distance_error` was held to.
    """

    images: int
    codes: int
    near_ties: int
    distance_error: float
    distance_tolerance: float


class EngineMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a runtime needs to know about an engine.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        role: `sampler` (the whole image in one call), `step` (one Jacobi step over the whole image), `weights` (no
            graph but the weights themselves, which the native engine draws), `encoder` (a picture → the embedding
            that the engine beside it is conditioned on, or its codes), or `decoder` (codes that a VQ-VAE's step beside
            it drew → pictures).
        spec: the model's dimensions; of an encoder or decoder, those of the model beside it.
        class_names: one name per label; empty without labels.
        preparation: how training made pictures of other sizes and modes fit; None if it took them as they are.
        precision: arithmetic of the network; the head and the sampling are fp32 always.
        window: columns sampled at a time by a `sampler`; None for others.
        batch_window, batch_from: of a sampler that has another window for larger batches, as in `Schedule`.
        batch: images in every call of an engine whose shapes are all fixed; None for any number.
        parameters: number of trained weights in the engine.
        checkpoint_digest: SHA-256 of the checkpoint that the engine was made from.
        encoder_digest: SHA-256 of the encoder engine that was written beside a sampler or step; None without one.
        decoder_digest: SHA-256 of the decoder that was written beside a VQ-VAE's step, a plan where this is one; None
            for other engines, a VQ-VAE's sampler among them, whose graph decodes by itself.
        tools: package name → version used by the export.
        parity: the export's proof for a sampler or step; None only while the export has not finished.
        encoder_parity: the same for an encoder.
        vqvae: of a VQ-VAE, the dimensions of encoder, codebook and decoder; `spec` is then its prior's, over grids of
            codes, and the engine gives pictures beside them. None for other models.
        picture_parity: of a VQ-VAE's sampler, step, decoder or model file, the proof of its pictures.
        codes_parity: of a VQ-VAE's encoder, the proof of its codes.
    """

    schema: int = SCHEMA
    role: Role
    spec: ModelSpec
    class_names: tuple[str, ...] = ()
    preparation: Preparation | None = None
    precision: Precision = "fp32"
    window: int | None = None
    batch_window: int | None = None
    batch_from: int | None = None
    batch: int | None = None
    parameters: int
    checkpoint_digest: str
    encoder_digest: str | None = None
    decoder_digest: str | None = None
    tools: dict[str, str]
    parity: ParityReport | None = None
    encoder_parity: EncoderParity | None = None
    vqvae: VqvaeSpec | None = None
    picture_parity: PictureParity | None = None
    codes_parity: CodesParity | None = None

    @property
    def pictures(self) -> ModelSpec | VqvaeSpec:
        """The dimensions of its pictures: `vqvae` if there is one, else `spec`."""
        return self.vqvae or self.spec

    @property
    def schedule(self) -> Schedule | None:
        """The windows of a `sampler`; None for others."""
        return None if self.window is None else Schedule(self.window, self.batch_window, self.batch_from)

    @property
    def role_words(self) -> str:
        """`step`, `model file`, or `sampler, window 28`; of a fixed batch with `, batch 4`."""
        if self.role == "weights":
            return "model file"
        words = self.role if self.schedule is None else f"{self.role}, {self.schedule}"
        return words if self.batch is None else f"{words}, batch {self.batch}"

    def label_number(self, text: str) -> int:
        """Number of a label given as a class name, or as a number where classes are not named by numbers themselves.

        Raises:
            UsageError: the model has no labels, or not this one; the message lists those it has.
        """
        if self.spec.conditioning == "embedding":
            what = "an embedding" if self.encoder_digest is None else "the code of a picture"
            raise UsageError(f"this model is conditioned on {what}, not on labels: leave --label out")
        if self.spec.conditioning == "map":
            raise UsageError("this model is conditioned on a map, not on labels: leave --label out")
        if self.spec.conditioning != "label":
            raise UsageError("this model is unconditional: it takes no label; leave --label out")
        names = [normalized(name) for name in self.class_names]
        if normalized(text) in names:
            return names.index(normalized(text))
        numbers = [] if are_numbers(names) else [str(k) for k in range(self.spec.conditioning_size)]
        if text in numbers:
            return numbers.index(text)
        known = ", ".join(self.label_words(k) for k in range(len(names)))
        raise UsageError(f"unknown label '{text}': expected one of {known}")

    def label_words(self, number: int) -> str:
        """A label as people are shown it: `3` where classes are named by numbers, else `3 cat`."""
        return label_in_words(number, self.class_names)


def encoder_path(engine: Path) -> Path:
    """`model.onnx` or `model.plan` → `model.encoder.onnx`, in the same folder."""
    return engine.with_name(engine.stem + ".encoder.onnx")


def decoder_path(engine: Path) -> Path:
    """`model.onnx` → `model.decoder.onnx`, and `model.plan` → `model.decoder.plan`, in the same folder."""
    return engine.with_name(f"{engine.stem}.decoder{engine.suffix}")


def encode_metadata(metadata: EngineMetadata) -> str:
    """JSON of the metadata, stable from run to run."""
    return msgspec.json.encode(written(metadata)).decode()


def decode_metadata(text: str | bytes, source: str) -> EngineMetadata:
    """Read metadata that was found in `source` (a path, for messages).

    Raises:
        EngineError: not JSON of this layout, inconsistent, or of a newer schema.
    """
    if len(text) > MAX_METADATA_BYTES:
        raise EngineError(f"{source}: metadata of {counted(len(text), 'byte')}; expected at most {MAX_METADATA_BYTES}")

    def damaged(error: Exception) -> EngineError:
        return EngineError(f"{source}: metadata is damaged ({error}): export the engine anew")

    metadata = decode_versioned(text, EngineMetadata, SCHEMA, f"{source}: written with metadata", EngineError, damaged)
    check_metadata(metadata, source)
    return metadata


def check_metadata(metadata: EngineMetadata, source: str) -> None:
    """Refuse metadata whose parts contradict each other.

    Raises:
        EngineError: names the contradiction.
    """
    spec = metadata.spec
    classes = spec.conditioning_size if spec.conditioning == "label" else 0
    if len(metadata.class_names) != classes:
        raise EngineError(
            f"{source}: {len(metadata.class_names)} class names for {counted(classes, 'class', 'classes')}: export it "
            "anew"
        )
    if metadata.preparation is not None and not metadata.preparation.fits(metadata.pictures):
        raise EngineError(f"{source}: pictures {metadata.preparation} are not those of the model: export it anew")
    if metadata.schema < 1 or metadata.parameters < 1:
        raise EngineError(f"{source}: schema {metadata.schema}, {metadata.parameters} parameters: export it anew")
    if metadata.role != "sampler" and (metadata.window, metadata.batch_window, metadata.batch_from) != (None,) * 3:
        window = metadata.window or metadata.batch_window or metadata.batch_from
        raise EngineError(f"{source}: role {metadata.role} with a window of {window}: export it anew")
    if metadata.vqvae is not None and (reason := metadata.vqvae.refuse(spec)):
        raise EngineError(f"{source}: {reason}: export it anew")
    if (metadata.decoder_digest is not None) != (metadata.vqvae is not None and metadata.role == "step"):
        names = "no decoder, which a step of a VQ-VAE has" if metadata.decoder_digest is None else "a decoder too many"
        raise EngineError(f"{source}: names {names}: export it anew")
    if metadata.vqvae is None and metadata.role == "decoder":
        raise EngineError(f"{source}: a decoder of a model that is no VQ-VAE: export it anew")
    if metadata.vqvae is None and metadata.role == "encoder" and spec.conditioning != "embedding":
        raise EngineError(f"{source}: an encoder of a model conditioned on: {spec.conditioning}: export it anew")
    encodes = metadata.vqvae is not None or spec.conditioning == "embedding"
    if metadata.encoder_digest is not None and (metadata.role in ("encoder", "decoder") or not encodes):
        raise EngineError(f"{source}: an encoder for a model that takes no embeddings: export it anew")
    if metadata.role == "sampler" and not 1 <= (metadata.window or 0) <= spec.width:
        raise EngineError(f"{source}: window is {metadata.window}; expected {spanned(1, spec.width)}: export it anew")
    if metadata.batch is not None:
        if metadata.role not in ("sampler", "step", "decoder") or metadata.batch_window is not None:
            raise EngineError(f"{source}: role {metadata.role_words}, of a fixed batch: export it anew")
        if not 1 <= metadata.batch <= MAX_BATCH:
            raise EngineError(f"{source}: batch is {metadata.batch}; expected 1 to {MAX_BATCH}: export it anew")
    if metadata.schedule is not None and not metadata.schedule.fits(spec.width):
        raise EngineError(
            f"{source}: window of batches is {metadata.batch_window}, from {metadata.batch_from} images on; expected 1 "
            f"to {spec.width}, from 2 to {LARGEST_FROM}: export it anew"
        )
