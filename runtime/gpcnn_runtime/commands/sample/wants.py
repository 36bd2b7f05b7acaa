"""What a model draws from, and the option of `gpcnn-sample` that names it: for messages about another option."""

from __future__ import annotations

from typing import Final

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.text import counted
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.zoo.catalogue import engine_name

MODELS: Final = {
    "--like": "autoencoders and VQ-VAEs",
    "--embedding": "models with embeddings",
    "--map": "models with maps",
    "--upscale": "models that enlarge pictures (gpcnn-train --model upscale)",
    "--interpolate": "models with labels, embeddings or codes",
}
"""Options, and the models that they are for."""


def what_it_wants(metadata: EngineMetadata) -> tuple[str, str]:
    """What a model does, and how to ask for it: `draws from a map of 2×2`, `name one with --map FILE`."""
    spec = metadata.spec
    if spec.conditioning == "none":
        return "draws without being asked for anything", ""
    if spec.conditioning == "label":
        return "draws what a label says", "name one with --label"
    if spec.conditioning == "embedding":
        if metadata.encoder_digest is not None:
            return "draws from the code of a picture", "name one with --like PICTURE"
        numbers = counted(spec.conditioning_size, "number")
        return f"draws from an embedding of {numbers}", "name a file of them with --embedding FILE.npy"
    size = f"{spec.map_height}×{spec.map_width}"
    if spec.map_kind == "picture":
        return f"enlarges a picture of {size} pixels", "name one with --upscale SMALL.png"
    return f"draws from a map of {size}", "name one with --map FILE"


def nothing_given(sampler: Sampler) -> UsageError:
    """No option says what to draw from, and the model has to be told."""
    does, mend = what_it_wants(sampler.metadata)
    return UsageError(f"{engine_name(sampler.engine.info.path)} {does}: {mend}")


def not_for_it(sampler: Sampler, option: str) -> UsageError:
    """The option says what another kind of model draws from."""
    does, mend = what_it_wants(sampler.metadata)
    way = f"{mend} in place of {option}" if mend else f"leave {option} out"
    return UsageError(f"{option} is for {MODELS[option]}, and {engine_name(sampler.engine.info.path)} {does}: {way}")
