"""Levels ↔ pixels without loss, and sheets laid out as they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.pictures.levels import grid, levels_from_pixels, pixels_from_levels, png_bytes, save_png


@pytest.mark.parametrize("levels", range(2, 257))
def test_levels_survive_the_way_over_pixels(levels: int) -> None:
    every = np.arange(levels)
    pixels = pixels_from_levels(every, levels)
    assert (pixels[0], pixels[-1]) == (0, 255)
    assert np.array_equal(levels_from_pixels(pixels, levels), every)


def test_every_pixel_value_takes_the_nearest_level() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    for levels in (2, 3, 16, 17, 255, 256):
        error = np.abs(pixels_from_levels(levels_from_pixels(pixels, levels), levels).astype(int) - pixels)
        assert error.max() <= np.ceil(127.5 / (levels - 1))


def test_grid_places_images_in_reading_order() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 1, 2, 3), np.uint8)
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (3 * 3 + 1, 2 * 4 + 1)
    assert [int(sheet[1 + 3 * (k // 2), 1 + 4 * (k % 2)]) for k in range(5)] == [0, 1, 2, 3, 4]
    assert (sheet[7:9, 5:8] == 128).all()  # the place that is left empty
    assert (sheet[0] == 128).all()
    assert (sheet[:, 0] == 128).all()


def test_grid_of_one_image_is_the_image_and_of_colour_has_colour() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(1, 3, 2, 3)
    assert np.array_equal(grid(image), image[0].transpose(1, 2, 0))
    assert grid(np.zeros((7, 1, 2, 2), np.uint8)).shape == (3 * 4 + 2, 3 * 4 + 2)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_png_holds_the_pixels_scaled(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with Image.open(io.BytesIO(png_bytes(picture, scale=3))) as image:
        assert np.array_equal(np.asarray(image), picture.repeat(3, 0).repeat(3, 1))


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        save_png(tmp_path / "file" / "picture.png", np.zeros((2, 2), np.uint8))
