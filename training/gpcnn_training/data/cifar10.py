"""CIFAR-10 from its binary version (no pickle): found as .bin files or as the published archive, or downloaded.

A file is a row of records of 3,073 bytes: a label 0 to 9, then the red, the green and the blue plane of a 32×32 image,
row by row. The published files hold 10,000 records each. No hash of the single files is published, so they are checked
by this layout; a file of fewer, whole records is taken as it is. The archive is checked by its published MD5.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import DataSet, Labels, Pixels
from gpcnn_training.data.download import download

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST = "test_batch.bin"
_NAMES = "batches.meta.txt"
_FILES = (_NAMES, *_TRAIN, _TEST)

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_RECORDS = 10_000
_MOST = _RECORD * _RECORDS
_MEND = f"put the published files there ({_URL})"

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_Contents = Iterator[tuple[str, bytes]]
"""(file, its first bytes) of each file that is there: one byte more than it may hold shows that it is too long."""


def load_cifar10(data_dir: Path | None) -> DataSet:
    """Load CIFAR-10.

    Args:
        data_dir: a folder that holds the six .bin files or the archive, itself or in a subfolder `cifar10` or
            `cifar-10-batches-bin`; None downloads the archive once into the platform's cache folder. Nothing is
            unpacked to disk.

    Raises:
        DataError: a file is missing, damaged, or cannot be downloaded; the message names it.
    """
    if data_dir is None:
        return _from_archive(download("cifar10", _URL, _MD5))
    folders = (data_dir, data_dir / _FOLDER, data_dir / "cifar10", data_dir / "cifar10" / _FOLDER)
    for folder in folders:
        if any((folder / file).is_file() for file in (*_TRAIN, _TEST)):
            return _from_folder(folder)
    archive = _URL.rpartition("/")[2]
    for folder in folders:
        if (folder / archive).is_file():
            _check_archive(folder / archive)
            return _from_archive(folder / archive)
    raise DataError(
        f"neither {archive} nor {_TRAIN[0]} is in {data_dir}, {data_dir / _FOLDER} or {data_dir / 'cifar10'}: "
        f"put it there ({_URL}; the version of that name, not the pickled one), or leave --data-dir out to download it"
    )


def _check_archive(path: Path) -> None:
    import pooch  # type: ignore[import-untyped]

    if pooch.file_hash(str(path), alg="md5") != _MD5:
        raise DataError(
            f"{path}: is not the published archive, or not all of it ({counted(path.stat().st_size, 'byte')}, MD5 "
            "differs): "
            f"{_MEND}"
        )


def _from_folder(folder: Path) -> DataSet:
    def contents() -> _Contents:
        for file in _FILES:
            if (folder / file).is_file():
                with (folder / file).open("rb") as stream:
                    yield file, stream.read(_MOST + 1)

    return _load(str(folder), contents())


def _from_archive(path: Path) -> DataSet:
    """Read the members that are needed, each by its full name, into memory, in one pass."""

    def contents() -> _Contents:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                if folder == _FOLDER and file in _FILES and member.isreg():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield file, stream.read(_MOST + 1)

    try:
        return _load(str(path), contents())
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path}: cannot be read ({error}): {_MEND}") from error


def _load(place: str, contents: _Contents) -> DataSet:
    parts: dict[str, tuple[Pixels, Labels]] = {}
    for file, content in contents:
        if file == _NAMES:
            _check_class_names(f"{place}: {file}", content)
        else:
            parts[file] = _records(f"{place}: {file}", content)
    for file in (*_TRAIN, _TEST):
        if file not in parts:
            raise DataError(f"{place}: {file} is missing: {_MEND}")
    train_pixels, train_labels = zip(*(parts[file] for file in _TRAIN), strict=True)
    return DataSet("cifar10", np.concatenate(train_pixels), np.concatenate(train_labels), *parts[_TEST], CLASS_NAMES)


def _records(source: str, content: bytes) -> tuple[Pixels, Labels]:
    """(pixels [N, 3, 32, 32], labels [N]) of one file."""
    if len(content) > _MOST:
        raise DataError(f"{source}: holds more than {_RECORDS:,} records of {_RECORD:,} bytes: {_MEND}")
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{source}: holds {counted(len(content), 'byte')}: expected {_RECORDS:,} records of {_RECORD:,} bytes, "
            f"or fewer, but whole ones: {_MEND}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    wrong = np.flatnonzero(labels >= len(CLASS_NAMES))
    if len(wrong):
        raise DataError(f"{source}: record {wrong[0]} has the label {labels[wrong[0]]}: expected 0 to 9: {_MEND}")
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *_SHAPE), labels


def _check_class_names(source: str, content: bytes) -> None:
    """Files of another data set may have the same layout: where the list of classes is there, it must be CIFAR-10's."""
    if tuple(content.decode("ascii", "replace").split()) != CLASS_NAMES:
        raise DataError(f"{source}: does not list the classes of CIFAR-10 ({', '.join(CLASS_NAMES)}): {_MEND}")
