"""A small convolutional classifier, trained on real images, that judges whether samples look like their label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gpcnn_deploy.spec import ModelSpec, Quantization
from gpcnn_training.data.dataset import Labels, Pixels
from gpcnn_training.data.quantize import stream, to_levels

IMAGES_SEEN = 180_000  # three epochs of MNIST, about a minute on two CPU cores; smaller data sets are seen more often
_BATCH = 128
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 0.02
_LARGEST_SIDE = 32
_IMAGES_AT_ONCE = 512


class Classifier(nn.Module):
    """Levels of an image → logits of its class: three convolutions, a linear layer; images above 32×32 are shrunk."""

    def __init__(self, spec: ModelSpec, classes: int) -> None:
        super().__init__()
        side = max(spec.height, spec.width)
        self.top = spec.levels - 1
        self.shrink = -(-side // _LARGEST_SIDE)
        stride = 2 if side > 16 else 1
        self.convolutions = nn.Sequential(
            nn.Conv2d(spec.channels, 16, 5, stride=stride, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        height, width = (-(-size // self.shrink) for size in (spec.height, spec.width))
        for divisor in (stride, 2, 2):
            height, width = -(-height // divisor), -(-width // divisor)
        self.linear = nn.Linear(64 * height * width, classes)

    def forward(self, levels_NCHW: Tensor) -> Tensor:
        """Logits float [N, classes] of levels int [N, C, H, W]."""
        values = levels_NCHW.float() * (2 / self.top) - 1
        if self.shrink > 1:
            values = functional.avg_pool2d(values, self.shrink, ceil_mode=True)
        logits: Tensor = self.linear(self.convolutions(values).flatten(1))
        return logits


def train_classifier(
    spec: ModelSpec,
    pixels: Pixels,
    labels: Labels,
    classes: int,
    quantization: Quantization,
    seed: int = 0,
    device: torch.device | None = None,
    images_seen: int = IMAGES_SEEN,
    on_progress: Callable[[float], None] | None = None,
) -> Classifier:
    """Train a classifier on images that are quantized as those of the model that it is to judge.

    The same seed gives the same weights on the same machine with as many threads on a CPU; PyTorch's own random numbers
    are left as they were.

    Args:
        spec: of the model that is judged: the size of the images and their levels.
        pixels: uint8 [N, C, H, W] of the training images.
        labels: int64 [N].
        classes: number of classes.
        quantization: how pixels become levels; binarized at random, they are so anew each time they are seen.
        seed: of the weights, of the order of the images and of their binarization.
        device: to train on; None takes the CPU.
        images_seen: length of the training.
        on_progress: called with the share that is done.
    """
    device = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(spec, classes).to(device).train()
    steps = max(1, images_seen // _BATCH)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    random = stream(seed)
    order = np.empty(0, np.int64)
    for step in range(steps):
        while len(order) < _BATCH:
            order = np.concatenate([order, random.permutation(len(pixels))])
        chosen, order = order[:_BATCH], order[_BATCH:]
        levels = to_levels(pixels[chosen], spec.levels, quantization, random)
        logits = classifier(torch.from_numpy(levels).to(device))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels[chosen]).to(device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if on_progress is not None:
            on_progress((step + 1) / steps)
    return classifier.eval()


@torch.no_grad()
def classify(classifier: Classifier, levels_NCHW: npt.NDArray[np.int64]) -> Labels:
    """The most likely class of each image: levels int64 [N, C, H, W] → int64 [N]."""
    device = classifier.linear.weight.device
    parts = np.split(levels_NCHW, range(_IMAGES_AT_ONCE, len(levels_NCHW), _IMAGES_AT_ONCE))
    found = [classifier(torch.from_numpy(part).to(device)).argmax(1).cpu().numpy() for part in parts]
    return np.concatenate(found)
