"""The user's own arrays: an .npz file of images and labels, under our names, MedMNIST's or Keras's."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.class_names import MAX_CLASSES, normalized
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import (
    CLASS_NAMES,
    EMBEDDINGS,
    FAMILIES,
    Keys,
    check_white,
    find_keys,
    images_layout,
    images_to_pixels,
    label_numbers,
    labels_shape,
)
from gpcnn_deploy.pictures.files import SUFFIXES
from gpcnn_deploy.pictures.maps import MAPS
from gpcnn_deploy.text import counted, spanned
from gpcnn_training.data.dataset import DataSet, Labels, Pixels, shortened, split
from gpcnn_training.data.own_conditions import embeddings_of, joined, maps_of

Arrays = dict[str, npt.NDArray[Any]]

_IMAGES_OF_A_BLOCK = 4096  # floats and 64-bit integers are not made whole copies of


def load_npz(path: Path) -> DataSet:
    """Load an .npz file.

    Arrays: `images`, [N, H, W] for grey, [N, H, W, 3] or [N, 3, H, W] for RGB, integers 0..255, floats 0..1 or bool;
    `labels`, integers [N] or [N, 1], or one-hot [N, M] (left out: no classes, for `--model unconditional`); optional
    `class_names` [M] of text; `test_images`, `test_labels` (left out: a tenth of the images is taken for testing);
    `val_images`, `val_labels` (left out: see `hold_out`). Or, for all of these, the names of `FAMILIES`. Beside or
    instead of labels, `embeddings`, float [N, E], or `maps` [N, h, w] or [N, h, w, M], integers that are categories or
    floats that are values; with `val_embeddings`, `test_maps` and so on where there are such images.

    Without `class_names` the classes are the numbers that occur among the training labels, each its own name.

    Raises:
        DataError: names the file, the array, what it holds and what was expected.
    """
    arrays = _read_npz(path)
    parts = {part: find_keys(part, arrays) for part in FAMILIES}
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    if train is None:
        names = _names(path)
        inside = shortened("", names) if names else "nothing"
        zipped = any(Path(name).suffix.lower() in SUFFIXES for name in names)
        mend = ": is it an archive of pictures? Unpack it, and name the folder" if zipped else ""
        raise DataError(f"{path}: has no array 'images' (it holds {inside}){mend}")
    pixels, numbers = _pixels(path, arrays, train, ranged=True), _numbers(path, arrays, train)
    class_names = () if numbers is None else _class_names(path, arrays, numbers)
    labels = _labels(path, arrays, train, class_names, len(pixels), numbers)
    embeddings = embeddings_of(path, arrays, "train", len(pixels))
    maps = maps_of(path, arrays, "train", len(pixels))
    held = 0
    if validation is not None:
        extra = _pixels(path, arrays, validation)
        if extra.shape[1:] != pixels.shape[1:]:
            raise DataError(
                f"{path}: {validation.images} are {extra.shape[1:]}, {train.images} {pixels.shape[1:]} (channels, "
                "height, width): expected one size"
            )
        held = len(extra)
        pixels = np.concatenate([pixels, extra])
        labels = np.concatenate([labels, _labels(path, arrays, validation, class_names, held)])
        embeddings = joined(embeddings, embeddings_of(path, arrays, "validation", held, embeddings))
        maps = joined(maps, maps_of(path, arrays, "validation", held, maps))
    if test is None:
        return split(path.stem, pixels, labels, class_names, held, embeddings=embeddings, maps=maps)
    test_pixels = _pixels(path, arrays, test)
    test_labels = _labels(path, arrays, test, class_names, len(test_pixels))
    return DataSet(
        path.stem,
        pixels,
        labels,
        test_pixels,
        test_labels,
        class_names,
        held,
        train_embeddings=embeddings,
        test_embeddings=embeddings_of(path, arrays, "test", len(test_pixels), embeddings),
        train_maps=maps,
        test_maps=maps_of(path, arrays, "test", len(test_pixels), maps),
    )


def _read_npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: is not an .npz file, or a truncated one: write one with numpy.savez(path, images=…, labels=…)"
        )
    known = {key for part in FAMILIES.values() for keys in part for key in keys}
    known |= {CLASS_NAMES, *(name for part in (EMBEDDINGS, MAPS) for names in part.values() for name in names)}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if name.lower() in known}
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        MemoryError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path}: cannot be read ({error or type(error).__name__}): write the file anew") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: {name} is not an array: write the file with numpy.savez")
    return found


def _names(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as arrays:
        return list(arrays.files)


def _pixels(path: Path, arrays: Arrays, keys: Keys, ranged: bool = False) -> Pixels:
    source, images = f"{path}: {keys.images}", arrays[keys.images]
    layout = images_layout(source, images.shape, images.dtype)
    if images.dtype.kind in "iuf":  # the range of all, for the message and for what it tells of their scale
        low, high = images.min(), images.max()
        images_to_pixels(source, np.array([low, high]).reshape(1, 1, 2), "NHW")
        if ranged and images.dtype.kind != "f":
            check_white(source, int(high))
    starts = range(0, len(images), _IMAGES_OF_A_BLOCK)
    return np.concatenate([images_to_pixels(source, images[k : k + _IMAGES_OF_A_BLOCK], layout) for k in starts])


def _numbers(path: Path, arrays: Arrays, keys: Keys) -> Labels | None:
    """Label numbers of a part, as the file has them; None without labels."""
    if keys.labels not in arrays:
        return None
    source, labels, images = f"{path}: {keys.labels}", arrays[keys.labels], len(arrays[keys.images])
    labels_shape(source, labels.shape, labels.dtype, images)
    numbers = label_numbers(source, labels)
    if images and (numbers.min() < 0 or numbers.max() >= MAX_CLASSES):
        raise DataError(f"{source} hold {spanned(numbers.min(), numbers.max())}: expected 0 to {MAX_CLASSES - 1}")
    return numbers


def _class_names(path: Path, arrays: Arrays, numbers: Labels) -> tuple[str, ...]:
    """Names of the classes: the file's, of label 0 on, or the numbers that occur."""
    if CLASS_NAMES not in arrays:
        return tuple(map(str, np.unique(numbers).tolist()))
    names, classes = arrays[CLASS_NAMES], int(numbers.max()) + 1
    if names.dtype.kind != "U" or names.ndim != 1 or not classes <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{path}: class_names are {names.dtype} of shape {list(names.shape)}: expected text, one name for each of "
            f"{counted(classes, 'class', 'classes')}"
        )
    unique = tuple(normalized(str(name)) for name in names)
    if len(set(unique)) != len(unique) or not all(unique):
        raise DataError(f"{path}: class_names has an empty or repeated name: expected each class to have its own")
    return unique


def _labels(
    path: Path, arrays: Arrays, keys: Keys, class_names: tuple[str, ...], images: int, numbers: Labels | None = None
) -> Labels:
    """Labels of a part as positions in `class_names`; 0 for all without classes."""
    if not class_names:
        return np.zeros(images, np.int64)
    numbers = _numbers(path, arrays, keys) if numbers is None else numbers
    if numbers is None:
        raise DataError(f"{path}: has no array '{keys.labels}': expected [{images}], one per image")
    known = np.arange(len(class_names)) if CLASS_NAMES in arrays else np.array(list(map(int, class_names)))
    strange = np.setdiff1d(numbers, known)
    if len(strange):
        raise DataError(
            f"{path}: {keys.labels} hold {strange[0]}, of which there is no training image: expected "
            f"{known[0]} to {known[-1]}"
        )
    return np.searchsorted(known, numbers).astype(np.int64)
