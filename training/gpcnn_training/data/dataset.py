"""What every data source yields: 8-bit images with labels, split once and for all into training and test images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.text import valid

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

MAX_CLASSES = 10_000
MAX_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class DataSet:
    """Images and labels, checked when it is made.

    Attributes:
        name: short name, used for run folders and in checkpoints.
        train_pixels: uint8 [N, C, H, W], C 1 or 3.
        train_labels: int64 [N], each in [0, number of classes); all 0 without classes.
        test_pixels: uint8 [N, C, H, W].
        test_labels: int64 [N].
        class_names: one name per label; empty when the images have no labels.

    Raises:
        DataError: the parts do not fit together.
    """

    name: str
    train_pixels: Pixels
    train_labels: Labels
    test_pixels: Pixels
    test_labels: Labels
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", valid(self.name))  # names of files may be any bytes
        object.__setattr__(self, "class_names", tuple(map(valid, self.class_names)))
        for part, pixels, labels in (
            ("training", self.train_pixels, self.train_labels),
            ("test", self.test_pixels, self.test_labels),
        ):
            if len(pixels) == 0:
                raise DataError(f"{self.name}: no {part} images: expected at least one")
            if len(pixels) != len(labels):
                raise DataError(f"{self.name}: {len(pixels)} {part} images but {len(labels)} labels: expected one each")
            top = max(1, len(self.class_names))
            if labels.min() < 0 or labels.max() >= top:
                raise DataError(
                    f"{self.name}: {part} labels run from {labels.min()} to {labels.max()}: expected 0 to {top - 1}"
                )
        if self.train_pixels.shape[1:] != self.test_pixels.shape[1:]:
            raise DataError(
                f"{self.name}: training images are {self.train_pixels.shape[1:]}, test images "
                f"{self.test_pixels.shape[1:]} (channels, height, width): expected one size"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.train_pixels.shape[1:]
        return c, h, w

    def digest(self) -> str:
        """SHA-256 over all images, labels and class names: how a resumed run tells whether its data are the same."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for array in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def split(name: str, pixels: Pixels, labels: Labels, class_names: tuple[str, ...]) -> DataSet:
    """Take a tenth of the images (at most 10,000) for testing; which ones depends on their number alone.

    Raises:
        DataError: fewer than two images, or the parts do not fit together.
    """
    count = len(pixels)
    if count < 2:
        raise DataError(f"{name}: {count} images: expected at least 2, one to train on and one to test on")
    order = np.random.Generator(np.random.Philox(key=count)).permutation(count)
    test, train = np.split(order, [min(MAX_TEST_IMAGES, max(1, count // 10))])
    test, train = np.sort(test), np.sort(train)
    return DataSet(name, pixels[train], labels[train], pixels[test], labels[test], class_names)


def checked_labels(source: str, labels: npt.NDArray[Any], images: int) -> Labels:
    """Labels of a user's file as int64 [N].

    Raises:
        DataError: not one non-negative integer per image, or absurdly many classes.
    """
    if labels.shape != (images,):
        raise DataError(f"{source}: labels have shape {list(labels.shape)}: expected [{images}], one per image")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{source}: labels are {labels.dtype}: expected integers 0, 1, 2, …")
    if images and (int(labels.min()) < 0 or int(labels.max()) >= MAX_CLASSES):
        raise DataError(f"{source}: labels run from {labels.min()} to {labels.max()}: expected 0 to {MAX_CLASSES - 1}")
    return labels.astype(np.int64)
