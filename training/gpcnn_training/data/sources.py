"""Data sets by name or path: `digits` (shipped), `mnist` and others (downloaded or found), or the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.pictures import pixels_from_levels
from gpcnn_training.data.dataset import DataSet

DIGITS_LEVELS = 17
NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")


def load_data(name: str, data_dir: Path | None = None) -> DataSet:
    """Load a data set.

    Args:
        name: one of `NAMES`, or the path of an .npz file or of a folder of class folders.
        data_dir: where the files of MNIST, Fashion-MNIST or CIFAR-10 lie; None downloads them.

    Raises:
        UsageError: no such name and no such path.
        DataError: files that are missing, corrupt or of the wrong shape.
    """
    if name == "digits":
        return _digits()
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
    path = Path(name)
    if path.is_dir():
        from gpcnn_training.data.own_data import load_folder

        return load_folder(path)
    if path.is_file():
        from gpcnn_training.data.own_data import load_npz

        return load_npz(path)
    names = ", ".join(NAMES)
    raise UsageError(
        f"--data {name}: no such file or folder; expected {names}, or the path of an .npz file or picture folder"
    )


def _digits() -> DataSet:
    """UCI optical digits: every sixth image is a test image (1,497 to train on, 300 to test on)."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
        pixels = pixels_from_levels(arrays["images"], DIGITS_LEVELS)[:, None]
        labels = arrays["labels"].astype(np.int64)
    test = np.arange(len(pixels)) % 6 == 0
    names = tuple(str(k) for k in range(10))
    return DataSet("digits", pixels[~test], labels[~test], pixels[test], labels[test], names)
