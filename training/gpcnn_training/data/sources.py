"""Data sets by name or path: `digits` and `emoji` (shipped), `mnist` and others (downloaded or found), or your own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.preparation import Preparation
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.names import NAMES, data_name, no_such_data
from gpcnn_training.data.prepare import prepared

DIGITS_LEVELS = 17


def load_data(name: str, data_dir: Path | None = None, preparation: Preparation | None = None) -> DataSet:
    """Load a data set.

    Args:
        name: one of `NAMES` in any spelling of `data_name`, or the path of an .npz file, of a folder of pictures, or of
            a folder of IDX files.
        data_dir: where the files of MNIST, Fashion-MNIST or CIFAR-10 lie; None downloads them.
        preparation: how pictures of other sizes and modes are to be made fit; None takes them as they are.

    Raises:
        UsageError: no such name and no such path.
        DataError: files that are missing, corrupt or of the wrong shape, and pictures that do not fit.
    """
    name = data_name(name)
    path = Path(name)
    if name not in NAMES and path.is_dir():
        from gpcnn_training.data.idx import holds_idx, load_idx
        from gpcnn_training.data.own_folder import load_folder

        return prepared(load_idx(path), preparation) if holds_idx(path) else load_folder(path, preparation)
    return prepared(_arrays(name, data_dir), preparation)


def _arrays(name: str, data_dir: Path | None) -> DataSet:
    if name == "digits":
        return _digits()
    if name == "emoji":
        from gpcnn_training.data.emoji import load_emoji

        return load_emoji()
    if name in NAMES and data_dir is not None and not data_dir.is_dir():
        raise DataError(
            f"{data_dir}: no such folder, but --data-dir or GPCNN_DATA_DIR names it: mend that, or leave it out to "
            f"download {name}"
        )
    if name == "cifar10":
        from gpcnn_training.data.cifar10 import load_cifar10

        return load_cifar10(data_dir)
    if name in NAMES:
        from gpcnn_training.data.mnist import load_mnist

        return load_mnist(name, data_dir)
    if Path(name).is_file():
        from gpcnn_training.data.own_arrays import load_npz

        return load_npz(Path(name))
    raise no_such_data(name)


def _digits() -> DataSet:
    """UCI optical digits: every sixth image is a test image (1,497 to train on, 300 to test on)."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
        pixels = pixels_from_levels(arrays["images"], DIGITS_LEVELS)[:, None]
        labels = arrays["labels"].astype(np.int64)
    test = np.arange(len(pixels)) % 6 == 0
    names = tuple(str(k) for k in range(10))
    return DataSet("digits", pixels[~test], labels[~test], pixels[test], labels[test], names)
