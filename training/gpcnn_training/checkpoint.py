"""Checkpoints: a model's weights and, in the same file, everything needed to use them.

`checkpoint.safetensors` is a plain safetensors file. Its metadata holds one entry, `gpcnn`: the `Header` as JSON. No
part of it is code, so a checkpoint from an unknown sender is safe to open.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import gpcnn_deploy
from gpcnn_deploy.checkpoint_header import CODES_KEY, METADATA_KEY, CodesHeader, Header, damaged, read_header
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.model_file import PICTURES
from gpcnn_deploy.schema import written
from gpcnn_deploy.spec import EncoderSpec, ModelSpec, VqvaeSpec
from gpcnn_deploy.system.files import sha256, write_atomic
from gpcnn_deploy.text import counted, exact_json
from gpcnn_training.architectures import Prior, gated, make_network
from gpcnn_training.network import Network
from gpcnn_training.runs import checkpoint_path
from gpcnn_training.vqvae_network import Vqvae

HeaderType = TypeVar("HeaderType", bound=msgspec.Struct)


def tool_versions() -> dict[str, str]:
    """Versions that a checkpoint records."""
    return {
        "gpcnn-deploy": gpcnn_deploy.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def save_checkpoint(path: Path, model: Network, header: Header) -> None:
    """Write weights and header to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_tensors(path, model.state_dict(), header)


def load_checkpoint(path: Path) -> tuple[Network, Header]:
    """The model (on the CPU, in evaluation mode) and the header of a checkpoint file or of a run folder that holds one.

    Raises:
        CheckpointError: missing, truncated, foreign, of a newer schema, with weights that do not fit the spec, or of a
            VQ-VAE, which is more than its prior.
    """
    path = checkpoint_path(path)
    header, tensors = read_tensors(path, Header)
    _check(path, header)
    if header.vqvae is not None:
        raise CheckpointError(
            f"{path}: of a VQ-VAE, which this command cannot use yet: take a checkpoint of another kind"
        )
    return build_model(path, header.spec, header.encoder, tensors).eval(), header


def save_vqvae(path: Path, prior: Network, pictures: Vqvae, header: Header) -> None:
    """Write a VQ-VAE: prior, encoder, codebook, decoder and header, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    theirs = {PICTURES + name: tensor for name, tensor in pictures.state_dict().items()}
    write_tensors(path, prior.state_dict() | theirs, header)


def load_vqvae(path: Path) -> tuple[Prior, Vqvae, Header]:
    """A VQ-VAE's prior and its encoder, codebook and decoder (on the CPU, in evaluation mode), and its header.

    Raises:
        CheckpointError: as `load_checkpoint`, or of a model that is no VQ-VAE.
    """
    path = checkpoint_path(path)
    header, tensors = read_tensors(path, Header)
    _check(path, header)
    if header.vqvae is None:
        raise CheckpointError(f"{path}: is not of a VQ-VAE: name one that gpcnn-train --model vqvae trained")
    theirs = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PICTURES)}
    plain = {name.removeprefix(PICTURES): tensor for name, tensor in theirs.items()}
    prior = gated(build_model(path, header.spec, header.encoder, tensors))
    return prior.eval(), build_vqvae(path, header.vqvae, plain).eval(), header


def save_codes(path: Path, pictures: Vqvae, header: CodesHeader) -> None:
    """Write the first stage of a VQ-VAE, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_tensors(path, pictures.state_dict(), header, CODES_KEY)


def load_codes(path: Path) -> tuple[Vqvae, CodesHeader]:
    """The first stage of a VQ-VAE (on the CPU, in evaluation mode) and its header.

    Raises:
        CheckpointError: missing, truncated, foreign, of a newer schema, or with weights that do not fit its dimensions.
    """
    header, tensors = read_tensors(path, CodesHeader, CODES_KEY)
    return build_vqvae(path, header.vqvae, tensors).eval(), header


def checkpoint_header(path: Path) -> Header:
    """The header alone of a checkpoint file or of a run folder that holds one.

    Raises:
        CheckpointError: as `load_checkpoint`, as far as the header shows it.
    """
    path = checkpoint_path(path)
    header, _ = read_header(path, Header)
    _check(path, header)
    return header


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of a checkpoint file (or of the one in a run folder): what an engine names as its origin.

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
    """
    path = checkpoint_path(path)
    try:
        return sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], header: msgspec.Struct, key: str = METADATA_KEY) -> None:
    """Write tensors with a header, under a key, as a safetensors file, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = exact_json(written(header))
    write_atomic(path, safetensors.torch.save(plain, {key: text}))


def read_tensors(
    path: Path, header_type: type[HeaderType], key: str = METADATA_KEY
) -> tuple[HeaderType, dict[str, Tensor]]:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: missing, truncated, foreign, of a newer schema, or a weight that is not finite.
    """
    header, _ = read_header(path, header_type, key)
    try:
        with _plain_name(path) as name:
            tensors = safetensors.torch.load_file(name)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise damaged(path, error) from error
    for name, tensor in tensors.items():
        if tensor.dtype is not torch.float32 or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} ({tensor.dtype}) is not finite float32: take another checkpoint")
    return header, tensors


def build_model(path: Path, spec: ModelSpec, encoder: EncoderSpec | None, tensors: dict[str, Tensor]) -> Network:
    """The model of a spec with these weights; nothing is allocated before their shapes are known to fit.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape; `path` is named.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in make_network(spec, encoder).state_dict().items()}
    _check_shapes(path, expected, tensors)
    with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, must not move the caller's generator
        model = make_network(spec, encoder)
    model.load_state_dict(tensors)
    return model


def build_vqvae(path: Path, spec: VqvaeSpec, tensors: dict[str, Tensor]) -> Vqvae:
    """The encoder, codebook and decoder of a spec with these weights, as `build_model`.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape; `path` is named.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in Vqvae(spec).state_dict().items()}
    _check_shapes(path, expected, tensors)
    with torch.random.fork_rng(devices=[]):
        model = Vqvae(spec)
    model.load_state_dict(tensors)
    return model


def _check_shapes(path: Path, expected: dict[str, torch.Size], tensors: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        wanted = list(expected[name]) if name in expected else "no such weight"
        found = list(tensors[name].shape) if name in tensors else "none"
        if wanted != found:
            raise CheckpointError(
                f"{path}: weights do not fit the spec: {name} is {found}, expected {wanted}: take another checkpoint"
            )


@contextlib.contextmanager
def _plain_name(path: Path) -> Iterator[str | Path]:
    """A name of the file that is UTF-8, which is all that safetensors opens."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            yield f"/dev/fd/{stream.fileno()}"
    else:
        yield path


def _check(path: Path, header: Header) -> None:
    classes = header.spec.conditioning_size if header.spec.conditioning == "label" else 0
    if len(header.class_names) != classes:
        raise CheckpointError(
            f"{path}: {counted(len(header.class_names), 'class name')} for {counted(classes, 'class', 'classes')}: "
            "take another one"
        )
    if header.encoder is not None and header.spec.conditioning != "embedding":
        raise CheckpointError(f"{path}: an encoder, but conditioning is {header.spec.conditioning}: take another one")
    if header.preparation is not None and not header.preparation.fits(header.pictures):
        raise CheckpointError(f"{path}: pictures {header.preparation} are not those of the model: take another one")
    if header.vqvae is not None and (reason := header.vqvae.refuse(header.spec)):
        raise CheckpointError(f"{path}: {reason}: take another one")
