"""Arrays of pictures, as people's .npz files hold them: names, layouts, ranges and labels. For training and scoring.

Shape legend: N images, C channels, H rows, W columns, M classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.text import spanned

Layout = Literal["NHW", "NHWC", "NCHW"]
Part = Literal["train", "validation", "test"]

_TINY = 1e-6
"""What float images may lie outside [0, 1] by."""
_DARKEST_WHITE = 32
"""Pixels that all lie below this are no values of 0..255, but levels, or numbers of another scale."""


class Keys(NamedTuple):
    """Names of the arrays of a part."""

    images: str
    labels: str


FAMILIES: dict[Part, tuple[Keys, ...]] = {
    "train": (Keys("images", "labels"), Keys("train_images", "train_labels"), Keys("x_train", "y_train")),
    "validation": (Keys("val_images", "val_labels"), Keys("x_val", "y_val"), Keys("x_valid", "y_valid")),
    "test": (Keys("test_images", "test_labels"), Keys("x_test", "y_test")),
}
"""Ours and MedMNIST's names, and those of Keras; upper and lower case are alike."""
CLASS_NAMES = "class_names"
EMBEDDINGS: dict[Part, tuple[str, ...]] = {
    "train": ("embeddings", "train_embeddings"),
    "validation": ("val_embeddings",),
    "test": ("test_embeddings",),
}
"""Names of the vectors that describe the images of a part; upper and lower case are alike."""
MAX_EMBEDDING = 65_536
"""Most numbers of one."""


def find_keys(part: Part, names: Iterable[str]) -> Keys | None:
    """The names that the arrays of a part have among those of a file, as the file spells them; None without images."""
    spelled = {name.lower(): name for name in names}
    for keys in FAMILIES[part]:
        if keys.images in spelled:
            return Keys(spelled[keys.images], spelled.get(keys.labels, keys.labels))
    return None


def images_layout(source: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Layout:
    """How an array holds its images.

    Args:
        source: names it in messages.
        shape: [N, H, W], [N, H, W, C] or [N, C, H, W], C being 1 or 3; where both would do, the last axis is C.
        dtype: integers of 0..255, floats of 0..1, or bool.

    Raises:
        DataError: another shape or type.
    """
    if dtype.kind not in "iubf":
        raise DataError(f"{source} are {dtype}: expected integers 0 to 255, for example uint8, floats 0 to 1, or bool")
    layout: Layout | None = None
    if len(shape) == 3:
        layout = "NHW"
    elif len(shape) == 4 and shape[3] in (1, 3):
        layout = "NHWC"
    elif len(shape) == 4 and shape[1] in (1, 3):
        layout = "NCHW"
    if layout is None:
        raise DataError(
            f"{source} have shape {list(shape)}: expected [N, H, W] for grey, [N, H, W, 3] or [N, 3, H, W] for RGB"
        )
    if 0 in shape:
        raise DataError(f"{source} are empty, of shape {list(shape)}")
    return layout


def image_shape(shape: Sequence[int], layout: Layout) -> tuple[int, int, int]:
    """(C, H, W) of one image of an array."""
    if layout == "NHW":
        return 1, shape[1], shape[2]
    return (shape[3], shape[1], shape[2]) if layout == "NHWC" else (shape[1], shape[2], shape[3])


def checked_vectors(source: str, vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Vectors of an array, [N, E], as float32.

    Raises:
        DataError: another shape or type, or numbers that are not finite.
    """
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or not 1 <= vectors.shape[1] <= MAX_EMBEDDING:
        raise DataError(
            f"{source}: {vectors.dtype} of shape {list(vectors.shape)}: expected floats [N, E], a row of 1 to "
            f"{MAX_EMBEDDING} numbers for each image"
        )
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(vectors, np.float32)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(wrong):
        raise DataError(f"{source}: nan or infinite numbers, first in row {wrong[0]}: expected finite ones")
    return found


def images_to_pixels(source: str, images: npt.NDArray[Any], layout: Layout) -> npt.NDArray[np.uint8]:
    """Images of an array as uint8 [N, C, H, W].

    Raises:
        DataError: values outside the range of their type; the range found is told.
    """
    if layout == "NHW":
        images = images[:, None]
    elif layout == "NHWC":
        images = images.transpose(0, 3, 1, 2)
    if images.dtype == np.bool_:
        return np.ascontiguousarray(images.astype(np.uint8) * np.uint8(255))
    low, high = images.min(), images.max()
    if images.dtype.kind == "f":
        if not (low >= -_TINY and high <= 1 + _TINY):  # nan, too
            raise DataError(
                f"{source} hold {spanned(f'{low:g}', f'{high:g}')}: expected floats of 0 (black) to 1 (white), or "
                "integers of 0 to 255"
            )
        return np.ascontiguousarray(np.rint(images.clip(0, 1) * 255).astype(np.uint8))
    if low < 0 or high > 255:
        raise DataError(f"{source} hold {spanned(int(low), int(high))}: expected 0 to 255")
    return np.ascontiguousarray(images.astype(np.uint8))


def check_white(source: str, high: int) -> None:
    """Refuse integers that are 0 and 1 alone.

    Raises:
        DataError: the largest value is told.
    """
    if high <= 1:
        raise DataError(f"{source} hold no value above {high}: expected 0 to 255 (black to white), or bool")


def check_range(source: str, low: int, high: int) -> None:
    """Refuse pixels of another scale than 0..255: nearly all of them would become one level.

    Raises:
        DataError: the range found is told.
    """
    check_white(source, high)
    if high < _DARKEST_WHITE:
        raise DataError(
            f"{source} hold {spanned(low, high)}: expected 0 (black) to 255 (white); if {high} is white, multiply them "
            f"by 255 / {high}"
        )


def labels_shape(source: str, shape: Sequence[int], dtype: np.dtype[Any], images: int) -> int:
    """How many numbers an image has for its label: 1 ([N] or [N, 1]), or M where labels are one-hot [N, M].

    Raises:
        DataError: another shape or type.
    """
    columns = shape[1] if len(shape) == 2 else 1
    if len(shape) not in (1, 2) or shape[0] != images or columns < 1:
        raise DataError(
            f"{source} have shape {list(shape)}: expected [{images}], one per image, or [{images}, M] for one-hot"
        )
    if dtype.kind not in ("iu" if columns == 1 else "iubf"):
        raise DataError(f"{source} are {dtype} of shape {list(shape)}: expected integers 0, 1, 2, …")
    return columns


def label_numbers(source: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Labels [N], [N, 1] or one-hot [N, M] of a file as int64 [N].

    Raises:
        DataError: rows of a table that are not one-hot.
    """
    if labels.ndim == 1 or labels.shape[1] == 1:
        return labels.reshape(len(labels)).astype(np.int64)
    hot = labels != 0
    wrong = np.flatnonzero((hot.sum(1) != 1) | (labels.max(1) != 1))
    if len(wrong):
        raise DataError(
            f"{source} of shape {list(labels.shape)} are not one-hot (see row {wrong[0]}): expected one 1 a row, the "
            "rest 0: a picture has one class"
        )
    return np.asarray(hot.argmax(1), np.int64)
