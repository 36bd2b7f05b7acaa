"""Inputs and outputs of every role, said once: graphs declare them, and each runtime checks its file against them.

Shape legend: N images, C channels, H rows, W columns, E length of an embedding. A length is a number, or "N": the
batch, which the engine leaves open unless it was made for a fixed one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from gpcnn_deploy.metadata import Role
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec

Dtype = Literal["float32", "int32", "uint8", "bool"]


class Port(NamedTuple):
    """One input or output.

    Attributes:
        dtype: NumPy's name.
        shape: its lengths; empty for a scalar.
        optional: an ONNX engine that was made before there was such an output lacks it.
    """

    dtype: Dtype
    shape: tuple[int | Literal["N"], ...]
    optional: bool = False


Ports = dict[str, Port]


def inputs(role: Role, spec: ModelSpec, batch: int | None = None, vqvae: VqvaeSpec | None = None) -> Ports:
    """Inputs of an engine by name; `batch` is its fixed number of images, None for any number.

    `image` (levels: the guess of a step, the picture of an encoder; of a VQ-VAE's encoder `picture`, 8-bit), `noise`
    (uniforms in [0, 1)), `known` (levels where `mask` is true), `temperature` (divides the logits before drawing), and
    the condition; of a decoder `codes` alone.
    """
    n: int | Literal["N"] = batch or "N"
    image = Port("int32", (n, *spec.image_shape))
    if role == "decoder":
        return {"codes": image}
    if role == "encoder":
        return {"image": image} if vqvae is None else {"picture": Port("uint8", (n, *vqvae.image_shape))}
    ports: Ports = {"image": image} if role == "step" else {}
    ports["noise"] = Port("float32", image.shape)
    if spec.conditioning == "label":
        ports["label"] = Port("int32", (n,))
    elif spec.conditioning == "embedding":
        ports["embedding"] = Port("float32", (n, spec.conditioning_size))
    elif spec.conditioning == "map":
        ports["map"] = Port("int32" if spec.map_categories else "float32", (n, *spec.map_shape))
    ports["known"] = image
    ports["mask"] = Port("bool", image.shape)
    ports["temperature"] = Port("float32", ())
    return ports


def outputs(role: Role, spec: ModelSpec, batch: int | None = None, vqvae: VqvaeSpec | None = None) -> Ports:
    """Outputs of an engine by name; `batch` as of `inputs`.

    `image` or `image_next` (levels), `log_prob` (nats of each sub-pixel at temperature 1, of the image that comes out
    of a sampler or goes into a step), `changed` (sub-pixels of each image that the step changed), `evaluations` (of the
    sampler's windows), `embedding` (of an encoder). Of a VQ-VAE, whose `image` is of codes, a sampler and a decoder
    have `picture`, 8-bit, and its encoder gives `codes`.
    """
    n: int | Literal["N"] = batch or "N"
    if role == "decoder" and vqvae is not None:
        return {"picture": Port("uint8", (n, *vqvae.image_shape))}
    if role == "encoder" and vqvae is not None:
        return {"codes": Port("int32", (n, *spec.image_shape))}
    if role == "encoder":
        return {"embedding": Port("float32", (n, spec.conditioning_size))}
    image = Port("int32", (n, *spec.image_shape))
    log_prob = Port("float32", image.shape)
    if role == "step":
        return {"image_next": image, "log_prob": log_prob, "changed": Port("int32", (n,))}
    ports = {"image": image, "log_prob": log_prob, "evaluations": Port("int32", (), optional=True)}
    return ports if vqvae is None else {**ports, "picture": Port("uint8", (n, *vqvae.image_shape))}
