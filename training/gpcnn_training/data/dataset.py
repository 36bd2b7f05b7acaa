"""What every data source yields: 8-bit images with labels, split once and for all into training and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import check_range
from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.pictures.maps import Maps
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.text import counted, spanned, valid

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]

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
        validation: how many of the training images, the last ones, the data set itself sets apart to choose the best
            checkpoint by; 0 leaves it to the training.
        preparation: what was done to the pictures; None if they were taken as they are.
        notes: what whoever uses it should know, such as files that were left out; one line each.
        train_embeddings: float32 [N, E], a vector that describes each image; None without any.
        test_embeddings: the same of the test images.
        train_maps: int32 (categories) or float32 (values) [N, M, h, w], a map of each image; None without any.
        test_maps: the same of the test images.

    Raises:
        DataError: the parts do not fit together.
    """

    name: str
    train_pixels: Pixels
    train_labels: Labels
    test_pixels: Pixels
    test_labels: Labels
    class_names: tuple[str, ...]
    validation: int = 0
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()
    train_embeddings: Embeddings | None = None
    test_embeddings: Embeddings | None = None
    train_maps: Maps | None = None
    test_maps: Maps | None = None

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
                raise DataError(
                    f"{self.name}: {counted(len(pixels), part + ' image')} but {counted(len(labels), 'label')}: "
                    "expected one each"
                )
            top = max(1, len(self.class_names))
            if labels.min() < 0 or labels.max() >= top:
                raise DataError(
                    f"{self.name}: {part} labels are {spanned(labels.min(), labels.max())}: expected "
                    f"{spanned(0, top - 1)}"
                )
        if not 0 <= self.validation < len(self.train_pixels):
            raise DataError(
                f"{self.name}: no image is left to train on, all {len(self.train_pixels)} are validation images: add "
                "others"
            )
        if self.train_pixels.shape[1:] != self.test_pixels.shape[1:]:
            raise DataError(
                f"{self.name}: training images are {self.train_pixels.shape[1:]}, test images "
                f"{self.test_pixels.shape[1:]} (channels, height, width): expected one size"
            )
        self._check_embeddings()
        self._check_maps()

    def _check_embeddings(self) -> None:
        train, test = self.train_embeddings, self.test_embeddings
        if train is None and test is None:
            return
        if train is None or test is None or train.ndim != 2 or train.shape[1:] != test.shape[1:]:
            shapes = " and ".join("none" if one is None else str(list(one.shape)) for one in (train, test))
            raise DataError(f"{self.name}: embeddings of training and test images are {shapes}: expected one length")
        for part, pixels, vectors in (("training", self.train_pixels, train), ("test", self.test_pixels, test)):
            if len(vectors) != len(pixels):
                raise DataError(
                    f"{self.name}: {counted(len(pixels), part + ' image')} but {counted(len(vectors), 'embedding')}: "
                    "expected one each"
                )

    def _check_maps(self) -> None:
        train, test = self.train_maps, self.test_maps
        if train is None and test is None:
            return
        if train is None or test is None or train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            kinds = " and ".join("none" if one is None else f"{one.dtype} {list(one.shape)}" for one in (train, test))
            raise DataError(
                f"{self.name}: maps of training and test images are {kinds} [N, M, h, w]: expected one size and type"
            )
        for part, pixels, maps in (("training", self.train_pixels, train), ("test", self.test_pixels, test)):
            if len(maps) != len(pixels):
                raise DataError(
                    f"{self.name}: {counted(len(pixels), part + ' image')} but {counted(len(maps), 'map')}: expected "
                    "one each"
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
        if self.validation:
            digest.update(repr(self.validation).encode())
        return digest.hexdigest()

    def check_classes(self) -> None:
        """Refuse a class that no image is trained on: what a model draws of it would be noise.

        Raises:
            DataError: names the classes.
        """
        trained = self.train_labels[: len(self.train_labels) - self.validation]
        counts = np.bincount(trained, minlength=len(self.class_names))
        empty = [name for name, count in zip(self.class_names, counts, strict=True) if count == 0]
        if empty:
            raise DataError(
                f"{self.name}: no training image is of {shortened('class', empty)}: add some, or leave the class out"
            )

    def check_levels(self, levels: int) -> None:
        """Refuse images of one level only, or of another scale than 0..255.

        Raises:
            DataError: the range found is told.
        """
        low, high = int(self.train_pixels.min()), int(self.train_pixels.max())
        one, other = levels_from_pixels(np.array([low, high], np.uint8), levels).tolist()
        if one == other:
            raise DataError(
                f"{self.name}: pixels are {spanned(low, high)}, which --levels {levels} makes level {one} alone: "
                "expected 0 (black) to 255 (white)"
            )
        check_range(f"{self.name}: pixels", low, high)


def shortened(what: str, names: Sequence[str], shown: int = 5, length: int = 40) -> str:
    """`class cat`, `class cat, dog … and 7 more`: names, bounded in number and length."""
    listed = ", ".join(name if len(name) <= length else f"{name[: length - 1]}…" for name in names[:shown])
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"{what} {listed}{more}".strip()


def split(
    name: str,
    pixels: Pixels,
    labels: Labels,
    class_names: tuple[str, ...],
    validation: int = 0,
    preparation: Preparation | None = None,
    notes: tuple[str, ...] = (),
    embeddings: Embeddings | None = None,
    maps: Maps | None = None,
) -> DataSet:
    """Take a tenth of the images (at most 10,000) for testing, but never all of a class.

    Which ones they are depends on their number alone, unless that would leave a class without a training image: the
    first of its test images then is one. The last `validation` images stay where they are.

    Raises:
        DataError: fewer than two images, or the parts do not fit together.
    """
    count = len(pixels) - validation
    if count < 2:
        raise DataError(f"{name}: {counted(count, 'image')}: expected at least 2, one to train on and one to test on")
    order = np.random.Generator(np.random.Philox(key=count)).permutation(count)
    test, train = np.split(order, [min(MAX_TEST_IMAGES, max(1, count // 10))])
    test, train = np.sort(test), np.sort(train)
    if class_names:
        train, test = _with_each_class(labels, train, test)
    train = np.concatenate([train, np.arange(count, count + validation)])
    return DataSet(
        name,
        pixels[train],
        labels[train],
        pixels[test],
        labels[test],
        class_names,
        validation,
        preparation,
        notes,
        None if embeddings is None else embeddings[train],
        None if embeddings is None else embeddings[test],
        None if maps is None else maps[train],
        None if maps is None else maps[test],
    )


def _with_each_class(
    labels: Labels, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions to train and to test on, changed so that the first image of a class that is tested only is trained."""
    found, first = np.unique(labels[test], return_index=True)
    moved = test[first[~np.isin(found, labels[train])]]
    kept = np.setdiff1d(test, moved)
    if len(kept) == 0:  # an image of a class that has several takes their place
        several = train[np.bincount(labels[train])[labels[train]] > 1]
        if len(several) == 0:
            return train, test
        kept, train = several[:1], np.setdiff1d(train, several[:1])
    return np.union1d(train, moved), kept
