"""Plan metadata: what a TensorRT plan is and where it runs, read from `model.plan.json` before anything else.

A plan is executable code. Its digest ties it to this file; the checks here say why a plan cannot run on a machine
without handing a byte of it to TensorRT.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.errors import EngineError, NotHereError
from gpcnn_deploy.metadata import MAX_METADATA_BYTES, EngineMetadata, check_metadata, decoder_path
from gpcnn_deploy.model_file import SUFFIX
from gpcnn_deploy.ports import Ports, inputs, outputs
from gpcnn_deploy.schema import decode_versioned, written

PLAN_SCHEMA = 1

Flavor = Literal["tensorrt", "tensorrt-rtx"]
Mode = Literal["input", "output"]


class PlanTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a plan.

    Attributes:
        name: as in the ONNX graph.
        mode: `input` or `output`.
        dtype: NumPy's name, such as `float32`, `int32`, `bool`.
        shape: as built; -1 is the batch.
        profile: (smallest, optimal, largest) shape of an input whose batch is dynamic; None otherwise.
    """

    name: str
    mode: Mode
    dtype: str
    shape: tuple[int, ...]
    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None


class PlanMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be known about a plan before it is deserialized.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        engine: the metadata of the ONNX engine that the plan was built from, with the plan's own precision, and of a
            VQ-VAE's step the digest of the decoder's plan.
        digest: SHA-256 of the plan file.
        flavor: the TensorRT that built it, and the only one that runs it.
        tensorrt_version: exact version of that TensorRT; plans do not move between versions.
        platform: operating system and machine of the build, such as `linux-x86_64`.
        compute_capabilities: GPUs that the plan runs on, such as ("8.6", "8.9").
        max_batch: most images in one call.
        opt_batch: batch size that the build was tuned for.
        tensors: inputs and outputs.
    """

    schema: int = PLAN_SCHEMA
    engine: EngineMetadata
    digest: str
    flavor: Flavor
    tensorrt_version: str
    platform: str
    compute_capabilities: tuple[str, ...]
    max_batch: int
    opt_batch: int
    tensors: tuple[PlanTensor, ...]


def metadata_path(plan: Path) -> Path:
    """`model.plan` → `model.plan.json`, in the same folder."""
    return plan.with_name(plan.name + ".json")


def portable_path(plan: Path) -> Path:
    """`model.plan` → `model.onnx`, the engine that runs where the plan cannot."""
    return plan.with_suffix(".onnx")


def native_path(plan: Path) -> Path:
    """`model.plan` → `model.gpcnn`, the model file that the native engine draws where the plan cannot run."""
    return plan.with_suffix(SUFFIX)


def encode_plan_metadata(metadata: PlanMetadata) -> bytes:
    """Indented JSON of the metadata, stable from run to run."""
    return msgspec.json.format(msgspec.json.encode(written(metadata)), indent=2) + b"\n"


def read_plan_metadata(plan: Path) -> PlanMetadata:
    """Read the metadata beside a plan; the plan itself is not opened.

    Raises:
        EngineError: the plan or its metadata is missing, damaged or of a newer schema.
    """
    source = metadata_path(plan)
    if not plan.is_file():
        raise EngineError(f"{plan}: no such file; gpcnn-export --format trt writes one")
    if source.exists() and not source.is_file():
        raise EngineError(f"{source}: cannot be read (no regular file): a plan needs the metadata written beside it")
    try:
        with source.open("rb") as stream:
            text = stream.read(MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise EngineError(
            f"{source}: cannot be read ({error.strerror}): a plan needs the metadata written beside it"
        ) from error
    if len(text) > MAX_METADATA_BYTES:
        raise EngineError(f"{source}: more than {MAX_METADATA_BYTES} bytes; this is not a plan's metadata")

    def damaged(error: Exception) -> EngineError:
        return EngineError(f"{source}: metadata is damaged ({error}): export the plan anew")

    metadata = decode_versioned(text, PlanMetadata, PLAN_SCHEMA, f"{source}: written with plan", EngineError, damaged)
    check_metadata(metadata.engine, str(source))
    if metadata.engine.role not in ("sampler", "step", "decoder"):
        raise EngineError(
            f"{source}: a plan of role {metadata.engine.role}; expected one of a sampler, step or decoder: export the "
            "plan anew"
        )
    if not 1 <= metadata.opt_batch <= metadata.max_batch:
        raise EngineError(
            f"{source}: opt_batch {metadata.opt_batch} contradicts max_batch {metadata.max_batch}: export the plan anew"
        )
    return metadata


def check_tensors(engine: EngineMetadata, tensors: tuple[PlanTensor, ...], source: str) -> None:
    """Refuse inputs and outputs that are not those of the engine's role.

    Raises:
        EngineError: names the tensor, what it is and what was expected.
    """
    sides: tuple[tuple[Mode, Ports], ...] = (
        ("input", inputs(engine.role, engine.spec, vqvae=engine.vqvae)),
        ("output", outputs(engine.role, engine.spec, vqvae=engine.vqvae)),
    )
    expected: dict[tuple[Mode, str], tuple[str, tuple[int, ...]]] = {
        (mode, name): (port.dtype, tuple(-1 if length == "N" else length for length in port.shape))
        for mode, ports in sides
        for name, port in ports.items()
    }
    found = {(tensor.mode, tensor.name): (tensor.dtype, tensor.shape) for tensor in tensors}
    for key in sorted(expected.keys() | found.keys()):
        wanted, is_there = expected.get(key), found.get(key)
        # The batch may be fixed; everything else is the model's.
        fits = (
            wanted is not None
            and is_there is not None
            and wanted[0] == is_there[0]
            and len(wanted[1]) == len(is_there[1])
            and all(a in (-1, b) for a, b in zip(wanted[1], is_there[1], strict=True))
        )
        if not fits:
            mode, name = key
            texts = ["none" if it is None else f"{it[0]} {list(it[1])}" for it in (is_there, wanted)]
            raise EngineError(f"{source}: {mode} '{name}' is {texts[0]}, expected {texts[1]}: export it anew")


def check_described(plan: Path, metadata: PlanMetadata, tensors: tuple[PlanTensor, ...]) -> None:
    """Refuse a plan whose inputs and outputs are not those that its metadata lists.

    Args:
        plan: the file, for messages.
        metadata: what was read beside it.
        tensors: what the deserialized plan says of itself.

    Raises:
        EngineError: names the first tensor that differs.
    """

    def described(tensors: tuple[PlanTensor, ...]) -> dict[tuple[Mode, str], PlanTensor]:
        if metadata.max_batch == 1:  # TensorRT may take a batch that is always 1 for a fixed one
            replace = msgspec.structs.replace
            tensors = tuple(replace(one, shape=tuple(map(abs, one.shape)), profile=None) for one in tensors)
        return {(tensor.mode, tensor.name): tensor for tensor in tensors}

    wanted, found = described(metadata.tensors), described(tensors)
    for mode, name in sorted(wanted.keys() | found.keys()):
        if wanted.get((mode, name)) != found.get((mode, name)):
            source = metadata_path(plan)
            raise EngineError(f"{source}: {mode} '{name}' is not as the plan itself has it: export the plan anew")


def most_images(tensors: tuple[PlanTensor, ...]) -> int:
    """Most images that one call of a plan takes, by the profiles of its inputs."""
    largest = [tensor.profile[2] if tensor.profile else tensor.shape for tensor in tensors if tensor.mode == "input"]
    return min(shape[0] for shape in largest if shape)


def read_plan(plan: Path, metadata: PlanMetadata) -> bytes:
    """The plan's bytes, which are those that were built.

    Raises:
        EngineError: it cannot be read, or its digest is another.
    """
    try:
        content = plan.read_bytes()
    except MemoryError:
        raise EngineError(f"{plan}: not enough memory to read it") from None
    except OSError as error:
        raise EngineError(f"{plan}: cannot be read ({error.strerror or error})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != metadata.digest:
        raise EngineError(
            f"{plan}: its digest {found[:12]}… is not the {metadata.digest[:12]}… of {metadata_path(plan).name}: "
            "it was changed or exchanged, and a plan is code; build it anew"
        )
    return content


def read_decoder(plan: Path, metadata: PlanMetadata) -> tuple[Path, PlanMetadata, bytes] | None:
    """The plan of the decoder that belongs beside the plan of a VQ-VAE's step, not deserialized; None without one.

    Args:
        plan: the step's plan.
        metadata: what was read beside it.

    Returns:
        its path, its metadata and its bytes.

    Raises:
        EngineError: it is missing, damaged, changed, or the decoder of another plan.
    """
    digest, path = metadata.engine.decoder_digest, decoder_path(plan)
    if digest is None:
        return None
    if not path.is_file():
        raise EngineError(
            f"{path}: no such file, but {plan.name} needs it to make pictures of codes: gpcnn-export wrote it beside "
            f"the plan, copy it and {metadata_path(path).name} there too"
        )
    theirs = read_plan_metadata(path)
    content = read_plan(path, theirs)
    if theirs.digest != digest:
        raise EngineError(
            f"{path}: its digest {theirs.digest[:12]}… is not the {digest[:12]}… that {plan.name} was built with: "
            "build both anew, or copy the one that belongs to it"
        )
    model, decodes = metadata.engine, theirs.engine
    if decodes.role != "decoder" or (decodes.spec, decodes.vqvae) != (model.spec, model.vqvae):
        raise EngineError(f"{path} is no decoder of the codes of {plan.name}: build both anew")
    return path, theirs, content


def check_here(plan: Path, metadata: PlanMetadata, compute_capability: str, version: str) -> None:
    """Refuse a plan that another GPU, platform or TensorRT was meant to run.

    Args:
        plan: the file, for messages.
        metadata: what was read beside it.
        compute_capability: of this machine's GPU.
        version: of the installed TensorRT of the plan's flavour.

    Raises:
        NotHereError: names what differs and how to build the plan anew.
    """
    if metadata.engine.role == "decoder":
        again = "build it and the plan beside it anew"
    elif metadata.engine.role == "sampler":
        again = f"build it here: gpcnn-export {portable_path(plan).name} --format trt"
    else:  # the model.onnx beside a step plan is a sampler as a rule
        again = (
            "build it here: gpcnn-export CHECKPOINT --format trt; or make step.onnx elsewhere (gpcnn-export CHECKPOINT "
            f"--graph step -o step.onnx), copy it here and gpcnn-export step.onnx --format trt -o {plan.name}"
        )
    if version != metadata.tensorrt_version:
        raise NotHereError(
            f"{plan} was built by {metadata.flavor} {metadata.tensorrt_version}, installed is {version}: {again}"
        )
    if compute_capability not in metadata.compute_capabilities:
        runs_on = ", ".join(metadata.compute_capabilities)
        raise NotHereError(
            f"{plan} runs on GPUs of compute capability {runs_on}; this one has {compute_capability}: {again}"
        )
    here = f"{sys.platform}-{platform.machine()}"
    if metadata.flavor == "tensorrt" and metadata.platform != here:  # TensorRT-RTX plans move between systems
        raise NotHereError(f"{plan} was built for {metadata.platform}, this is {here}: {again}")
