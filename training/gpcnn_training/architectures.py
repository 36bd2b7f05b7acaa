"""The network of a spec, whatever its architecture."""

from __future__ import annotations

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_training.code_pyramid import CodePyramid
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.network import Network
from gpcnn_training.pixelcnn import PixelCNN


def make_network(spec: ModelSpec, encoder: EncoderSpec | None = None) -> Network:
    """A network with fresh weights; with an `encoder`, an autoencoder, which is a Gated PixelCNN."""
    if spec.architecture == "pixelcnn":
        assert encoder is None
        return PixelCNN(spec)
    if spec.code_levels == 2:
        assert encoder is None
        return CodePyramid(spec)
    return GatedPixelCNN(spec, encoder)


Prior = GatedPixelCNN | CodePyramid
"""What draws an image by Gated PixelCNNs, in every engine."""


def gated(model: Network) -> Prior:
    """The model, where nothing else than Gated PixelCNNs will do.

    Raises:
        UsageError: it has another architecture.
    """
    if not isinstance(model, GatedPixelCNN | CodePyramid):
        raise UsageError(
            f"a model of --architecture {model.spec.architecture} draws in PyTorch and as a step engine alone: use "
            "gpcnn-export --format onnx --graph step, or train one of --architecture gated"
        )
    return model
