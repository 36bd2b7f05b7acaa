"""Images of arrays brought to another size or colour, as pictures of a folder are."""

from __future__ import annotations

import dataclasses

import numpy as np

from gpcnn_deploy.pictures.files import Target, fit
from gpcnn_deploy.preparation import Preparation
from gpcnn_training.data.dataset import DataSet, Pixels


def target_of(preparation: Preparation) -> Target:
    """What pictures are to become in training, and what may be done to them for it."""
    return Target(
        size=preparation.image_size,
        channels={"grey": 1, "rgb": 3, None: None}[preparation.colour],
        resampling=None if preparation.image_size is None else preparation.resampling or "area",
        converts=preparation.colour is not None,
        background=preparation.background,
    )


def prepared(data: DataSet, preparation: Preparation | None) -> DataSet:
    """A data set of arrays as the preparation has it."""
    if not preparation:
        return data
    target = target_of(preparation)
    return dataclasses.replace(
        data,
        train_pixels=_prepared(data.train_pixels, target),
        test_pixels=_prepared(data.test_pixels, target),
        preparation=preparation,
    )


def _prepared(pixels_NCHW: Pixels, target: Target) -> Pixels:
    from PIL import Image

    channels, *size = pixels_NCHW.shape[1:]
    target = dataclasses.replace(target, channels=target.channels or channels)
    if (channels, tuple(size)) == (target.channels, target.size or tuple(size)):
        return pixels_NCHW
    pictures = (image[0] if channels == 1 else image.transpose(1, 2, 0) for image in pixels_NCHW)
    return np.stack([fit(Image.fromarray(np.ascontiguousarray(image)), target, "image") for image in pictures])
