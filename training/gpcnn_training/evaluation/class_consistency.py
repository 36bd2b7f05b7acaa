"""Class consistency: how many conditional samples a classifier, trained on real images, takes for their class."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import Quantization
from gpcnn_training.data.dataset import DataSet, Labels
from gpcnn_training.evaluation.classifier import classify, train_classifier
from gpcnn_training.evaluation.likelihood import levels_of_draw
from gpcnn_training.network import Network
from gpcnn_training.sampling import sample_cached

CLASSIFIER_SEED = 0
_SUBPIXELS_AT_ONCE = 100_000

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class.

    Attributes:
        name: its name.
        samples: samples drawn with this label.
        accuracy: share of them that the classifier takes for this class.
        test_images: real test images of this class.
        classifier_accuracy: share of them that the classifier takes for this class; None without any.
        mistaken_for: the class that the other samples are taken for most often; None if there are no others.
    """

    name: str
    samples: int
    accuracy: float
    test_images: int
    classifier_accuracy: float | None
    mistaken_for: str | None


class ClassConsistency(msgspec.Struct, frozen=True, kw_only=True):
    """What the classifier makes of samples, and of real test images beside them.

    Attributes:
        samples: number of samples, equally many of each class.
        seed: of the samples.
        temperature: of the samples; 1 is the model itself.
        accuracy: share of the samples that are taken for the class they were drawn with.
        test_images: number of real test images, quantized as those that the model was trained on.
        classifier_accuracy: share of them that is taken for its class: what to measure `accuracy` by.
        classes: the same class by class.
    """

    samples: int
    seed: int
    temperature: float = 1.0
    accuracy: float
    test_images: int
    classifier_accuracy: float
    classes: tuple[ClassRow, ...]


def class_consistency(
    model: Network,
    data: DataSet,
    quantization: Quantization,
    samples: int,
    seed: int = 0,
    test_images: int | None = None,
    on_progress: Progress | None = None,
    temperature: float = 1.0,
) -> ClassConsistency:
    """Draw samples of every class, train a classifier on the training images, and compare.

    Args:
        model: conditional on labels, those of `data`; on the device to use.
        data: what the model was trained on.
        quantization: how its pixels became levels.
        samples: a multiple of the number of classes.
        seed: of the samples' noise.
        test_images: test the classifier on the first so many test images (None: on all).
        on_progress: see `Progress`.
        temperature: of the samples.
    """
    spec, classes = model.spec, len(data.class_names)
    tell = on_progress or (lambda task, share: None)
    drawn, labels = conditional_samples(model, samples, seed, lambda share: tell("drawing samples", share), temperature)
    classifier = train_classifier(
        spec,
        data.train_pixels,
        data.train_labels,
        classes,
        quantization,
        seed=CLASSIFIER_SEED,
        device=next(model.parameters()).device,
        on_progress=lambda share: tell("training the classifier", share),
    )
    pixels, test_labels = data.test_pixels[:test_images], data.test_labels[:test_images]
    found_test = classify(classifier, levels_of_draw(pixels, spec, quantization, range(len(pixels))))
    result = compare(data.class_names, seed, labels, classify(classifier, drawn), test_labels, found_test)
    return msgspec.structs.replace(result, temperature=temperature)


def conditional_samples(
    model: Network,
    samples: int,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
    temperature: float = 1.0,
) -> tuple[npt.NDArray[np.int64], Labels]:
    """(levels int64 [N, C, H, W], labels int64 [N]): the first class's samples, then the next one's.

    They are the images that `gpcnn-sample --label all --count N/classes --seed …` draws.
    """
    spec = model.spec
    device = next(model.parameters()).device
    labels = np.repeat(np.arange(spec.conditioning_size), samples // spec.conditioning_size)
    batch = max(1, _SUBPIXELS_AT_ONCE // spec.subpixels)
    parts = []
    for first in range(0, samples, batch):
        condition = torch.from_numpy(labels[first : first + batch]).to(device)
        uniforms = torch.from_numpy(noise(spec, seed, len(condition), first)).to(device)
        levels, _ = sample_cached(model, uniforms, condition, temperature=temperature)
        parts.append(levels.cpu().numpy().astype(np.int64))
        if on_progress is not None:
            on_progress(min(1.0, (first + batch) / samples))
    return np.concatenate(parts), labels


def compare(
    class_names: tuple[str, ...],
    seed: int,
    labels: Labels,
    found: Labels,
    test_labels: Labels,
    found_test: Labels,
) -> ClassConsistency:
    """Count: labels of samples and what they are taken for, then the same of real test images, int64 [N] each."""
    rows = []
    for k, name in enumerate(class_names):
        here, real = found[labels == k], found_test[test_labels == k]
        others = np.bincount(here[here != k], minlength=len(class_names))
        rows.append(
            ClassRow(
                name=name,
                samples=len(here),
                accuracy=float(np.mean(here == k)),
                test_images=len(real),
                classifier_accuracy=float(np.mean(real == k)) if len(real) else None,
                mistaken_for=class_names[int(others.argmax())] if others.any() else None,
            )
        )
    return ClassConsistency(
        samples=len(labels),
        seed=seed,
        accuracy=float(np.mean(found == labels)),
        test_images=len(test_labels),
        classifier_accuracy=float(np.mean(found_test == test_labels)),
        classes=tuple(rows),
    )
