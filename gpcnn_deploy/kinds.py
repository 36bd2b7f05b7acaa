"""What kind of model a spec is of, in words: models of two kinds cannot be compared, whatever their dimensions."""

from __future__ import annotations

from gpcnn_deploy.spec import ModelSpec, VqvaeSpec


def kind_in_words(spec: ModelSpec, vqvae: VqvaeSpec | None = None) -> str:
    """`a model with labels`, `a VQ-VAE without conditioning`, `a model that enlarges pictures`.

    Args:
        spec: the model's; of a VQ-VAE its prior's.
        vqvae: of a VQ-VAE or VQ-VAE-2, the dimensions of encoder, codebooks and decoder.
    """
    if spec.map_kind == "picture":
        return "a model that enlarges pictures"
    model = "a model" if vqvae is None else "a VQ-VAE" if vqvae.code_levels == 1 else "a VQ-VAE-2"
    if spec.architecture == "pixelcnn":
        model = "a PixelCNN of 2016"
    condition = {
        "none": "without conditioning",
        "label": "with labels",
        "embedding": "with embeddings",
        "map": f"with maps of {spec.map_kind}",
    }
    return f"{model} {condition[spec.conditioning]}"
