"""The picture of the blind spot: what either network sees of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from benchmarks import blind_spot


def test_the_picture_shows_what_the_masks_hide(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    result = CliRunner().invoke(blind_spot.main, ["-o", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    row, column = blind_spot.PIXEL
    blind = sum(max(0, blind_spot.COLUMNS - 1 - column - up) for up in range(1, row + 1))
    earlier = row * blind_spot.COLUMNS + column
    assert f"PixelCNN (2016): sees {earlier - blind} of {earlier} earlier pixels" in result.stdout
    assert f"Gated PixelCNN: sees {earlier} of {earlier} earlier pixels" in result.stdout
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    orange = (np.abs(pixels - (0xEE, 0x9B, 0x00)).sum(-1) < 12).any(0)
    half = pixels.shape[1] // 2
    assert orange[:half].sum() > 50, "the blind spot of the left network"
    gated = (np.abs(pixels[: pixels.shape[0] * 8 // 10, half:] - (0xEE, 0x9B, 0x00)).sum(-1) < 12).any()
    assert not gated


def test_the_gradient_is_of_earlier_pixels_alone() -> None:
    row, column = blind_spot.PIXEL
    for architecture in ("pixelcnn", "gated"):
        found = blind_spot.dependence(architecture) > 0
        assert not found.reshape(-1)[row * blind_spot.COLUMNS + column :].any()
        assert found[row - 1, column + 1]
        assert found[row - 1, column + 2] == (architecture == "gated")
