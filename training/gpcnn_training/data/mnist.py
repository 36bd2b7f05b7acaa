"""MNIST and Fashion-MNIST: found in a folder or downloaded, told from damaged files by what they hold."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.download import download
from gpcnn_training.data.idx import spellings


class _File(NamedTuple):
    name: str
    shape: tuple[int, ...]
    content: str  # SHA-256 of the IDX bytes, however they are compressed
    download: str  # MD5 of the published .gz


class _Source(NamedTuple):
    url: str
    class_names: tuple[str, ...]
    files: tuple[_File, _File, _File, _File]


_IMAGES, _TEST_IMAGES, _LABELS, _TEST_LABELS = (60_000, 28, 28), (10_000, 28, 28), (60_000,), (10_000,)

_SOURCES = {
    "mnist": _Source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        tuple(str(k) for k in range(10)),
        (
            _File(
                "train-images-idx3-ubyte",
                _IMAGES,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            ),
            _File(
                "train-labels-idx1-ubyte",
                _LABELS,
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "d53e105ee54ea40749a09fcbcd1e9432",
            ),
            _File(
                "t10k-images-idx3-ubyte",
                _TEST_IMAGES,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "9fb629c4189551a2d022fa330f9573f3",
            ),
            _File(
                "t10k-labels-idx1-ubyte",
                _TEST_LABELS,
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "fashion-mnist": _Source(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        (
            "t-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        (
            _File(
                "train-images-idx3-ubyte",
                _IMAGES,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            ),
            _File(
                "train-labels-idx1-ubyte",
                _LABELS,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "25c81989df183df01b3e8a0aad5dffbe",
            ),
            _File(
                "t10k-images-idx3-ubyte",
                _TEST_IMAGES,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "bef4ecab320f06d8554ea6380940ec79",
            ),
            _File(
                "t10k-labels-idx1-ubyte",
                _TEST_LABELS,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
}


_RAW = {"mnist": ("MNIST/raw", "raw"), "fashion-mnist": ("FashionMNIST/raw", "raw")}
"""Where torchvision keeps the files."""


def load_mnist(name: str, data_dir: Path | None) -> DataSet:
    """Load `mnist` or `fashion-mnist`.

    Args:
        name: which of the two.
        data_dir: a folder that holds the four files, gzipped or not, under any of their `spellings`, itself or in a
            subfolder named after the data set, or where torchvision keeps them; None downloads them once into the
            platform's cache folder.

    Raises:
        DataError: a file is missing, damaged, or cannot be downloaded; the message names it.
    """
    source = _SOURCES[name]
    arrays = []
    for file in source.files:
        if data_dir is None:
            path = download(name, f"{source.url}{file.name}.gz", file.download)
        else:
            path = _find(name, file, data_dir)
        arrays.append(_read_idx(name, path, file))
    train_images, train_labels, test_images, test_labels = arrays
    return DataSet(
        name,
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        source.class_names,
    )


def _find(name: str, file: _File, data_dir: Path) -> Path:
    for folder in (data_dir / name, data_dir, *(data_dir / raw for raw in _RAW[name])):
        for candidate in (folder / spelled for spelled in spellings(file.name)):
            if candidate.is_file():
                return candidate
    raise DataError(
        f"{file.name}.gz is not in {data_dir} nor in {data_dir / name}: "
        f"put it there ({_SOURCES[name].url}{file.name}.gz), or leave --data-dir out to download it"
    )


def _read_idx(name: str, path: Path, file: _File) -> npt.NDArray[np.uint8]:
    mend = f"put the published file there ({_SOURCES[name].url}{file.name}.gz)"
    size = 4 + 4 * len(file.shape) + math.prod(file.shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(size + 1)  # no more than needed, whatever the file unpacks to
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): {mend}") from error
    if len(content) != size:
        more = "more than " if len(content) > size else ""
        raise DataError(f"{path}: holds {more}{counted(min(len(content), size), 'byte')}, expected {size}: {mend}")
    if hashlib.sha256(content).hexdigest() != file.content:
        raise DataError(f"{path}: is not the {name} file of that name (its SHA-256 differs): {mend}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(file.shape)).reshape(file.shape)
