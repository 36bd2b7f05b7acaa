"""Many pictures in bounded memory: files, folders and .npz, one at a time, each bad one an entry of its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.class_names import MAX_CLASSES
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.files import is_clutter, read_picture
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import PictureSpec
from gpcnn_runtime.inputs.npz import count_npz, read_npz
from gpcnn_runtime.inputs.picture import target_of

JOB_FILE = "job.json"
"""What a long job of `gpcnn-sample` keeps in its folder: no picture."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """One picture of the inputs.

    Attributes:
        name: its path; of a picture in an .npz, with its number: `file.npz[12]`.
        pixels: uint8 [C, H, W].
        label: the model's label that an .npz with labels gives it; None without, or if the model has no such class.
        embedding: float32 [E], what it is scored under, where it comes with a vector of its own.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    label: int | None = None
    embedding: npt.NDArray[np.float32] | None = None


@dataclasses.dataclass(frozen=True)
class BadPicture:
    """An input that cannot be used, and in one line why."""

    name: str
    error: DataError


def pictures(
    paths: Iterable[str | Path],
    spec: PictureSpec,
    *,
    resize: bool = False,
    invert: bool = False,
    preparation: Preparation | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Iterator[Picture | BadPicture]:
    """Read inputs one by one, in the order given.

    Args:
        paths: picture files; folders, read with their subfolders in the order of names, without hidden files and what
            systems leave behind; .npz files with `images` [N, H, W], [N, H, W, 3] or [N, 3, H, W] of integers 0..255,
            floats 0..1 or bool, and perhaps `labels` [N], [N, 1] or one-hot, or of MedMNIST's and Keras's names (then
            the test images); or with `levels` [N, C, H, W], as gpcnn-sample writes them.
        spec: what the pictures must fit, as in `read_levels`.
        resize: convert pictures that do not fit, as in `read_levels`.
        invert: swap dark and light.
        preparation: as in `read_levels`.
        class_names: the model's, which labels of an .npz are to mean; None for one whose labels are plain numbers.
    """
    target = target_of(spec, resize, preparation)
    if class_names is None:
        class_names = tuple(map(str, range(MAX_CLASSES)))
    for entry in _entries(paths):
        if isinstance(entry, BadPicture):
            yield entry
        elif _is_npz(entry):
            for name, found, label in read_npz(entry, shown(entry), spec, class_names, target, invert):
                yield BadPicture(name, found) if isinstance(found, DataError) else Picture(name, found, label)
        else:
            try:
                pixels = read_picture(entry, target)
                yield Picture(shown(entry), 255 - pixels if invert else pixels)
            except DataError as error:
                yield BadPicture(shown(entry), error)


def count_pictures(paths: Iterable[str | Path]) -> int:
    """How many entries `pictures` yields at most; damaged files count as one. For progress bars: no picture is read."""
    total = 0
    for entry in _entries(paths):
        total += count_npz(entry) if isinstance(entry, Path) and _is_npz(entry) else 1
    return total


def shown(path: Path) -> str:
    """A path as text that any output can hold: control characters, and bytes that are not UTF-8, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def _entries(paths: Iterable[str | Path]) -> Iterator[Path | BadPicture]:
    for path in map(Path, paths):
        if _is_folder(path):
            yield from _walk(path)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path | BadPicture]:
    pending, empty = [folder], True
    while pending:
        here = pending.pop()
        try:
            # Text, not Path objects: a folder may hold a hundred thousand names.
            listed = os.listdir(here)  # noqa: PTH208
        except OSError as error:
            yield BadPicture(shown(here), DataError(f"{shown(here)}: cannot be read ({error.strerror})"))
            empty = False
            continue
        names = sorted(name for name in listed if not is_clutter(name) and name != JOB_FILE)
        folders = []
        for name in names:
            path = here / name
            if not _is_folder(path):
                empty = False
                yield path
            elif not path.is_symlink():  # a link may lead in a circle
                folders.append(path)
        pending.extend(reversed(folders))
    if empty:
        yield BadPicture(shown(folder), DataError(f"{shown(folder)}: holds no pictures"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_npz(path: Path) -> bool:
    try:
        return path.suffix.lower() == ".npz" and path.is_file()
    except (OSError, ValueError):
        return False
