"""IDX files, the format of MNIST: by whichever of their names they have, gzipped or not; and folders of one's own."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import DataSet, split

_MAX_BYTES = 1 << 34
_UBYTE = 8  # the type of the numbers that all of these files have


def spellings(name: str) -> Iterator[str]:
    """`train-images-idx3-ubyte` as published, as archives unpack it (`train-images.idx3-ubyte`), and in a folder of it.

    Each with `.gz` and without.
    """
    for spelled in (name, name.replace("-idx", ".idx")):
        yield f"{spelled}.gz"
        yield spelled
        yield f"{spelled}/{spelled}"


def holds_idx(folder: Path) -> bool:
    """Whether a folder holds training images as IDX."""
    return bool(_candidates(folder, "images", train=True))


def load_idx(folder: Path) -> DataSet:
    """Load a folder of IDX files that are named as MNIST's are, EMNIST's or KMNIST's for example.

    Training images `…train-images-idx3-ubyte`, and perhaps their labels, and both for testing (`t10k` or `test`).
    Classes are the numbers that occur.

    Raises:
        DataError: a file is damaged, or does not go with the others.
    """
    images, labels = _only(folder, "images", train=True), _only(folder, "labels", train=True)
    assert images is not None
    pixels = read_idx(images, 3)[:, None]
    if 0 in pixels.shape:
        raise DataError(f"{images}: holds no images")
    numbers = np.zeros(len(pixels), np.uint8) if labels is None else read_idx(labels, 1)
    if labels is not None and len(numbers) != len(pixels):
        raise DataError(
            f"{labels}: holds {counted(len(numbers), 'label')} for {counted(len(pixels), 'image')}: expected one each"
        )
    known = np.unique(numbers)
    names = () if labels is None else tuple(map(str, known.tolist()))
    positions = np.searchsorted(known, numbers).astype(np.int64)
    name = folder.resolve().name
    test_images, test_labels = _only(folder, "images", train=False), _only(folder, "labels", train=False)
    if test_images is None or (labels is not None and test_labels is None):
        return split(name, pixels, positions, names)
    test_pixels = read_idx(test_images, 3)[:, None]
    test_numbers = np.zeros(len(test_pixels), np.uint8) if labels is None else _numbers(test_labels)
    strange = np.setdiff1d(test_numbers, known)
    if len(strange):
        raise DataError(f"{test_labels}: holds the label {strange[0]}, of which there is no training image")
    return DataSet(name, pixels, positions, test_pixels, np.searchsorted(known, test_numbers).astype(np.int64), names)


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """The numbers of an IDX file of that many axes: uint8.

    Raises:
        DataError: not such a file, or a truncated one.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            magic = stream.read(4)
            if magic != bytes((0, 0, _UBYTE, axes)):
                raise DataError(f"{path}: is no IDX file of {axes} axes of bytes (it begins {magic.hex()})")
            shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(axes))
            size = math.prod(shape)
            if size > _MAX_BYTES:
                raise DataError(f"{path}: says that it holds {counted(size, 'byte')}: expected at most {_MAX_BYTES:,}")
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): replace it") from error
    if len(content) != size:
        more = "more than " if len(content) > size else ""
        raise DataError(
            f"{path}: holds {more}{counted(min(len(content), size), 'byte')}, expected {size:,}: replace it"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _numbers(path: Path | None) -> npt.NDArray[np.uint8]:
    assert path is not None
    return read_idx(path, 1)


def _candidates(folder: Path, kind: str, *, train: bool) -> list[Path]:
    end = "idx3-ubyte" if kind == "images" else "idx1-ubyte"
    found = []
    for entry in sorted(folder.iterdir()):
        name = entry.name.lower().removesuffix(".gz")
        part = "train" in name if train else "t10k" in name or "test" in name
        if part and kind in name and name.endswith(end):
            inner = entry / entry.name if entry.is_dir() else entry
            if inner.is_file():
                found.append(inner)
    return found


def _only(folder: Path, kind: str, *, train: bool) -> Path | None:
    """The file of a part; of a gzipped one and its unpacked copy, the latter."""
    found = _candidates(folder, kind, train=train)
    plain = {
        str(path).lower().removesuffix(".gz"): path for path in sorted(found, key=lambda path: path.suffix != ".gz")
    }
    if len(plain) > 1:
        raise DataError(
            f"{folder}: holds {' and '.join(path.name for path in list(plain.values())[:2])}: expected one file of "
            f"{'training' if train else 'test'} {kind}; put each data set into a folder of its own"
        )
    return next(iter(plain.values()), None)
