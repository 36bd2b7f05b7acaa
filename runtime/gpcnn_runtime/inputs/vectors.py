"""Vectors that users hand in: rows of .npy and .npz files. Nothing is unpickled."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import EMBEDDINGS, checked_vectors
from gpcnn_deploy.text import counted, spanned

NAMES: Final = ("embedding", *EMBEDDINGS["train"], *EMBEDDINGS["test"], *EMBEDDINGS["validation"])
"""Arrays of an .npz that hold vectors; the first that is there is taken."""
BESIDE_PICTURES: Final = {
    "images": EMBEDDINGS["train"],
    "levels": ("embedding",),
    "test_images": EMBEDDINGS["test"],
    "x_test": EMBEDDINGS["test"],
}
"""Of an .npz, which pictures gpcnn-score reads, and the vectors that belong to them."""

_ROW = re.compile(r"(.+):([^:]*)", re.DOTALL)
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error)


def read_vectors(text: str | Path, length: int) -> npt.NDArray[np.float32]:
    """Vectors of a file, float32 [M, E].

    Args:
        text: the path of an .npy of floats [E] or [M, E], or of an .npz with such an array; behind it perhaps `:ROW`,
            the number of one row, counted from 0.
        length: E.

    Raises:
        DataError: no such file or row, no vectors in it, or vectors of another length or type.
    """
    path, row = file_and_row(text)
    name, array = read_array(path, NAMES)
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 2 and len(array) == 0:
        raise DataError(
            f"{name}: empty, of shape {list(array.shape)}: expected at least one row of {counted(length, 'number')}"
        )
    if array.ndim != 2 or array.shape[1] != length:
        shape = list(array.shape[1:] if array.ndim == 2 and len(array) == 1 else array.shape)
        raise DataError(f"{name} has shape {shape}: expected [{length}] or [N, {length}], as the model takes")
    if row is not None:
        if row >= len(array):
            raise DataError(
                f"{name}: {counted(len(array), 'row')}, so no row {row}: expected {spanned(0, len(array) - 1)}"
            )
        array = array[row : row + 1]
    return checked_vectors(name, array)


def file_and_row(text: str | Path) -> tuple[Path, int | None]:
    """`FILE` or `FILE:ROW`, as users write it: the file, and the number of the row; None for all of them.

    Raises:
        DataError: what stands behind a file that is there is no number.
    """
    path, found = Path(text), _ROW.fullmatch(str(text))
    if path.exists() or found is None:
        return path, None
    if re.fullmatch(r"\d+", found[2], re.ASCII):
        return Path(found[1]), int(found[2])
    if Path(found[1]).suffix.lower() in (".npy", ".npz") and Path(found[1]).is_file():
        raise DataError(f"{text}: '{found[2]}' is no number of a row: expected FILE:ROW, such as {found[1]}:0")
    return path, None


def read_array(path: Path, names: Sequence[str]) -> tuple[str, npt.NDArray[Any]]:
    """The array of an .npy, or of an .npz the first that has one of these names, and what messages call it.

    Raises:
        DataError: missing, damaged or foreign; or an .npz without such an array.
    """
    expected = "write one with numpy.save(path, array)"
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file: {expected}")
        if not path.is_file():
            raise DataError(f"{path} is no file: {expected}")
        with path.open("rb") as stream:
            magic = stream.read(6)
        if magic[:2] != b"PK" and magic != b"\x93NUMPY":
            raise DataError(f"{path}: is no .npy or .npz file: {expected}")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return str(path), loaded
        with loaded as archive:
            spelled = {name.lower(): name for name in archive.files}
            found = next((spelled[name] for name in names if name in spelled), None)
            if found is None:
                held = ", ".join(archive.files[:8]) or "nothing"
                raise DataError(f"{path}: has no array '{names[0]}' (it holds {held})")
            array = archive[found]
            if not isinstance(array, np.ndarray):
                raise DataError(f"{path}: {found} is not an array: write the file with numpy.savez")
            return f"{path}: {found}", array
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise DataError(f"{path}: cannot be read ({' '.join(str(reason).split())}): {expected}") from error


def vectors_beside_pictures(path: Path, length: int) -> npt.NDArray[np.float32]:
    """As `read_vectors`, of an .npz those that belong to the pictures that gpcnn-score reads of it."""
    if not zipfile.is_zipfile(path):
        return read_vectors(path, length)
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy").lower() for name in archive.namelist()}
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read ({error}): write it anew") from error
    names = next((names for images, names in BESIDE_PICTURES.items() if images in held), NAMES)
    name, array = read_array(path, names)
    if array.ndim != 2 or array.shape[1] != length:
        raise DataError(f"{name} has shape {list(array.shape)}: expected [N, {length}], as the model takes")
    return checked_vectors(name, array)
