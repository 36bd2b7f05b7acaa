"""The user's own images: an .npz file with `images` and `labels`, or a folder of class folders of pictures."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.spec import MAX_PIXELS
from gpcnn_training.data.dataset import MAX_CLASSES, DataSet, Labels, Pixels, checked_labels, split

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"})


def load_npz(path: Path) -> DataSet:
    """Load an .npz file.

    Arrays: `images` integers 0..255 (or bool), [N, H, W] for grey or [N, H, W, 3] for RGB; `labels` integers [N] (left
    out: no classes, for `--model unconditional`); optional `class_names` [number of classes] of text, and
    `test_images`, `test_labels` (left out: a tenth of the images is taken for testing).

    Raises:
        DataError: names the file, the array, what it holds and what was expected.
    """
    arrays = _read_npz(path)
    if "images" not in arrays:
        raise DataError(f"{path}: has no array 'images' (it holds {', '.join(_names(path)) or 'nothing'})")
    pixels = _checked_images(f"{path}: images", arrays["images"])
    has_labels = "labels" in arrays
    labels = _labels(path, arrays, "labels", len(pixels)) if has_labels else np.zeros(len(pixels), np.int64)
    class_names = _class_names(path, arrays, labels) if has_labels else ()
    if "test_images" not in arrays:
        return split(path.stem, pixels, labels, class_names)
    test_pixels = _checked_images(f"{path}: test_images", arrays["test_images"])
    test_labels = np.zeros(len(test_pixels), np.int64)
    if has_labels:
        test_labels = _labels(path, arrays, "test_labels", len(test_pixels))
    return DataSet(path.stem, pixels, labels, test_pixels, test_labels, class_names)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: is not an .npz file, or a truncated one: write one with numpy.savez(path, images=…, labels=…)"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = ("images", "labels", "class_names", "test_images", "test_labels")
            found = {name: arrays[name] for name in arrays.files if name in known}
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


def _checked_images(source: str, images: npt.NDArray[Any]) -> Pixels:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(
            f"{source} have shape {list(images.shape)}: expected [N, H, W] for grey or [N, H, W, 3] for RGB"
        )
    if 0 in images.shape:
        raise DataError(f"{source} are empty, of shape {list(images.shape)}")
    if images.dtype == np.bool_:
        images = images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iu":
        raise DataError(f"{source} are {images.dtype}: expected integers 0 to 255, for example uint8")
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        raise DataError(f"{source} run from {low} to {high}: expected 0 to 255")
    if high <= 1:
        raise DataError(f"{source} hold no value above {high}: expected 0 to 255 (black to white), or bool")
    return np.ascontiguousarray(images.astype(np.uint8).transpose(0, 3, 1, 2))


def _labels(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str, images: int) -> Labels:
    if name not in arrays:
        raise DataError(f"{path}: has no array '{name}': expected [{images}], one per image")
    return checked_labels(str(path), arrays[name], images)


def _class_names(path: Path, arrays: dict[str, npt.NDArray[Any]], labels: Labels) -> tuple[str, ...]:
    classes = int(labels.max()) + 1
    if "class_names" not in arrays:
        return tuple(str(k) for k in range(classes))
    names = arrays["class_names"]
    if names.dtype.kind != "U" or names.ndim != 1 or not classes <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{path}: class_names are {names.dtype} of shape {list(names.shape)}: expected text, one name for each of "
            f"{classes} classes"
        )
    unique = tuple(str(name) for name in names)
    if len(set(unique)) != len(unique) or not all(unique):
        raise DataError(f"{path}: class_names has an empty or repeated name: expected each class to have its own")
    return unique


def load_folder(path: Path) -> DataSet:
    """Load a folder of class folders of pictures, all of one size; grey if no picture has colour, else RGB.

    Raises:
        DataError: names the picture or the folder that does not fit, and how.
    """
    class_folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    pictures: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    first: tuple[Path, tuple[int, int]] | None = None
    for label, folder in enumerate(class_folders):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and not f.name.startswith("."))
        if not files:
            raise DataError(f"{folder}: class folder without a picture ({', '.join(sorted(_SUFFIXES))})")
        for file in files:
            picture = _read_picture(file)
            size = (picture.shape[1], picture.shape[0])
            first = first or (file, size)
            if size != first[1]:
                raise DataError(
                    f"{file} is {size[0]}×{size[1]} but {first[0]} is {first[1][0]}×{first[1][1]}: "
                    "expected pictures of one size"
                )
            pictures.append(picture)
            labels.append(label)
    if not pictures:
        raise DataError(f"{path}: has no class folders: expected one folder per class with pictures in it")
    rgb = np.stack(pictures).transpose(0, 3, 1, 2)
    grey = bool((rgb[:, :1] == rgb[:, 1:]).all())
    pixels = np.ascontiguousarray(rgb[:, :1] if grey else rgb)
    names = tuple(folder.name for folder in class_folders)
    return split(path.resolve().name, pixels, np.array(labels, np.int64), names)


def _read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """A picture as uint8 [H, W, 3]."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {picture.width}×{picture.height} pixels: expected at most {MAX_PIXELS} in all"
                )
            if picture.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA", "CMYK", "YCbCr"):
                raise DataError(f"{path}: pixel format {picture.mode}: expected 8-bit grey or RGB")
            clear = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
            if clear and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise DataError(f"{path}: is partly transparent: lay it on a background first")
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}): replace or remove it") from error
