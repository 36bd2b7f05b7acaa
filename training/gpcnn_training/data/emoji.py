"""Noto Emoji, shipped with the package: 1,906 colour pictures of 64×64 in nine categories.

`emoji.webp` is a sheet of tiles, row by row; `emoji.csv` says what each is. `python -m benchmarks.make_emoji` made
both.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from gpcnn_deploy.errors import DataError
from gpcnn_training.data.dataset import DataSet

TILE = 64
_SHEET = Path(__file__).with_name("emoji.webp")
_TABLE = Path(__file__).with_name("emoji.csv")


def load_emoji() -> DataSet:
    """All emoji without skin-tone variants; classes are the categories.

    The split is fixed. What differs in gender, age or direction alone is in one part.

    Raises:
        DataError: the installed Pillow reads no WebP.
    """
    from PIL import Image, features

    if not features.check("webp"):
        raise DataError("the emoji are a WebP picture, which this Pillow cannot read: pip install --upgrade pillow")
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with Image.open(_SHEET) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    across = sheet.shape[1] // TILE
    tiles = sheet.reshape(-1, TILE, across, TILE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, TILE, TILE)[: len(rows)]
    names = tuple(sorted({row["category"] for row in rows}))
    labels = np.array([names.index(row["category"]) for row in rows], np.int64)
    parts = np.array([row["part"] for row in rows])
    train, validation, test = (np.flatnonzero(parts == part) for part in ("train", "validation", "test"))
    trained = np.concatenate([train, validation])
    return DataSet("emoji", tiles[trained], labels[trained], tiles[test], labels[test], names, len(validation))
