"""Starting from the weights of another model: `--init`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import nn

from gpcnn_deploy.errors import UsageError
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.model import GatedLayer, GatedPixelCNN
from gpcnn_training.network import Network
from gpcnn_training.pixelcnn import PixelCNN

_CONDITION = "condition_projection."


@torch.no_grad()
def initial_weights(model: Network, checkpoint: Path) -> None:
    """Give `model` the weights of a checkpoint of the same dimensions, whatever either is conditioned on.

    Where the conditioning differs, its weights stay fresh, and the mean that the checkpoint's classes add to each gate
    is added to the gate's (or the masked convolution's) bias: the model starts from an average over the classes.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        UsageError: its dimensions are others.
    """
    other, _ = load_checkpoint(checkpoint)
    for field in msgspec.structs.fields(model.spec):
        ours, theirs = getattr(model.spec, field.name), getattr(other.spec, field.name)
        if not field.name.startswith(("conditioning", "map_")) and ours != theirs:
            raise UsageError(
                f"--init {checkpoint}: its {field.name} is {theirs}, the new model's {ours}: make them equal"
            )
    same = model.spec == other.spec and (model.encoder is None) == (other.encoder is None)
    weights = {
        name: weight
        for name, weight in other.state_dict().items()
        if same or not name.startswith((_CONDITION, "encoder.", "map_network."))
    }
    model.load_state_dict(weights, strict=False)
    if same or not isinstance(other.condition_projection, nn.Embedding):
        return
    classes = other.condition_projection.weight
    if isinstance(model, PixelCNN):
        sizes = [conv.out_channels for conv in model.convolutions()]
        for conv, added in zip(model.convolutions(), torch.split(classes.mean(0), sizes), strict=True):
            assert conv.bias is not None
            conv.bias += added
        return
    assert isinstance(model, GatedPixelCNN)
    mean = classes.mean(0).view(model.spec.layers, 2, -1)
    for layer, (vertical, horizontal) in zip(model.layers, mean, strict=True):
        assert isinstance(layer, GatedLayer)
        assert layer.vertical.bias is not None
        assert layer.horizontal.bias is not None
        layer.vertical.bias += vertical
        layer.horizontal.bias += horizontal
