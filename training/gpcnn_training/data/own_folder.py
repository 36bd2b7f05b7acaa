"""The user's own pictures: a folder per class, perhaps within `train/`, `val/` and `test/`, or one folder of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpcnn_deploy.class_names import MAX_CLASSES, natural_order, normalized
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.files import SUFFIXES, Target, is_clutter, read_picture
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import DataSet, Pixels, shortened, split
from gpcnn_training.data.prepare import target_of

_PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders that hold the parts of a data set, as ImageFolder has them; upper and lower case are alike."""


def load_folder(path: Path, preparation: Preparation | None = None) -> DataSet:
    """Load a folder of pictures, all of one size unless they are resized.

    It holds a folder for each class, or pictures alone, which have no classes (for `--model unconditional`), or such
    folders in `train/` and perhaps `val/` and `test/`. Classes stand in the order of their names, numbers in it by
    value. Images are grey if no picture has colour, else RGB, unless the preparation says.

    Raises:
        DataError: names the picture or the folder that does not fit, and how.
    """
    reader = _Reader(path, target_of(preparation or Preparation()))
    parts = _parts(path)
    preparation = preparation or None
    train = _listed(reader, parts.get("train", path))
    if not train.files:
        raise DataError(
            f"{path}: has no class folders, nor pictures: expected one folder per class with pictures in "
            f"it, or pictures alone for --model unconditional{reader.left_out(': ')}"
        )
    classes = train.classes
    others = {name: _listed(reader, parts[name], classes) for name in ("validation", "test") if name in parts}
    if "test" not in others and "validation" in others:
        others["test"] = others.pop("validation")
        reader.notes.append(f"{parts['validation'].name}/ serves as test images, as there is no test/")
    order = [train, *(others[name] for name in ("validation", "test") if name in others)]
    pixels = reader.pixels([file for part in order for file in part.files])
    labels = np.array([label for part in order for label in part.labels], np.int64)
    held = len(others["validation"].files) if "validation" in others else 0
    first = len(train.files) + held
    name, notes = path.resolve().name, reader.all_notes()
    if "test" not in others:
        return split(name, pixels, labels, classes, held, preparation, notes)
    return DataSet(
        name,
        pixels[:first],
        labels[:first],
        pixels[first:],
        labels[first:],
        classes,
        held,
        preparation,
        notes,
    )


@dataclasses.dataclass
class _Part:
    """Files of a part of the data set with their labels, and the classes that it has."""

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]


class _Reader:
    """Reads pictures, and remembers what a folder holds besides."""

    def __init__(self, root: Path, target: Target) -> None:
        self.root, self.target = root, target
        self.notes: list[str] = []
        self._others: list[str] = []

    def split_off(self, folder: Path, holds_folders: bool = False) -> tuple[list[Path], list[Path]]:
        """(pictures, folders) of a folder, each in the order of names; all else is remembered as left out.

        Args:
            folder: what is listed.
            holds_folders: folders in it are wanted; else they, too, are left out.
        """
        pictures, folders = [], []
        for entry in _entries(folder):
            if entry.is_dir():
                if holds_folders:
                    folders.append(entry)
                else:
                    self.leave_out(entry)
            elif entry.suffix.lower() in SUFFIXES:
                pictures.append(entry)
            else:
                self.leave_out(entry)
        return pictures, folders

    def leave_out(self, path: Path) -> None:
        """Remember a file, or a folder."""
        self._others.append(str(path.relative_to(self.root)) + ("/" if path.is_dir() else ""))

    def left_out(self, before: str = "") -> str:
        """`3 files left out: notes.txt, cat/old/ …`; nothing if none was."""
        count = len(self._others)
        if not count:
            return ""
        return before + shortened(f"{count:,} file{'s' if count > 1 else ''} left out:", self._others)

    def all_notes(self) -> tuple[str, ...]:
        return (*self.notes, *([self.left_out()] if self._others else []))

    def pixels(self, files: list[Path]) -> Pixels:
        """All pictures: uint8 [N, C, H, W].

        Raises:
            DataError: one cannot be read, or is of another size than the first.
        """
        images: list[Pixels] = []
        for file in files:
            image = read_picture(file, self.target)
            if images and image.shape[1:] != images[0].shape[1:]:
                (height, width), (first_height, first_width) = image.shape[1:], images[0].shape[1:]
                raise DataError(
                    f"{file} is {width}×{height} but {files[0]} is {first_width}×{first_height}: expected pictures of "
                    f"one size: resize them, or add --image-size {first_height}x{first_width}"
                )
            images.append(image)
        channels = max(image.shape[0] for image in images)
        return np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(entry for entry in folder.iterdir() if not is_clutter(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _parts(path: Path) -> dict[str, Path]:
    """The folders of the parts, if the folder holds these and no others; else nothing."""
    found: dict[str, Path] = {}
    for folder in (entry for entry in _entries(path) if entry.is_dir()):
        part = next((part for part, names in _PARTS.items() if folder.name.lower() in names), None)
        if part is None or part in found:
            return {}
        found[part] = folder
    return found if "train" in found else {}


def _listed(reader: _Reader, folder: Path, classes: tuple[str, ...] | None = None) -> _Part:
    """Pictures of a folder or of its class folders; `classes` are those that it must not go beyond."""
    if folder != reader.root:
        for entry in _entries(reader.root):
            if not entry.is_dir() and classes is None:
                reader.leave_out(entry)
    loose, folders = reader.split_off(folder, holds_folders=True)
    if not folders:
        if classes:
            raise DataError(f"{folder}: has no class folders, as the training images have: sort its pictures into some")
        return _Part(loose, [0] * len(loose), ())
    for file in loose:
        reader.leave_out(file)
    by_name: dict[str, list[Path]] = {}
    for entry in folders:
        by_name.setdefault(_class_name(entry), []).append(entry)
    names = tuple(sorted(by_name, key=natural_order)) if classes is None else classes
    if len(names) > MAX_CLASSES:
        raise DataError(f"{folder}: holds {counted(len(names), 'folder')}: expected at most {MAX_CLASSES:,} classes")
    part = _Part([], [], names)
    for name, entries in by_name.items():
        if name not in names:
            where = "no class folders" if not names else f"no class folder {name}"
            raise DataError(f"{entries[0]}: {where} is there to train on: add one, or remove this one")
    for label, name in enumerate(names):
        files = [file for entry in by_name.get(name, []) for file in reader.split_off(entry)[0]]
        if not files and classes is None:
            inner = [entry.name for entry in _entries(by_name[name][0]) if entry.is_dir()]
            mend = f"name it with --data if {shortened('', inner, 2)} are the classes" if inner else "add some"
            raise DataError(f"{by_name[name][0]}: class folder without a picture: {mend}, or remove it")
        part.files += files
        part.labels += [label] * len(files)
    return part


def _class_name(folder: Path) -> str:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{folder}: its name is not UTF-8, and so no class name: rename it") from error
    return normalized(folder.name)
