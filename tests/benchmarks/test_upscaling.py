"""The sheet of small pictures, what is drawn of them, and the originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from benchmarks import upscaling
from gpcnn_deploy.pictures.maps import made_small, maps_of_pictures
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.data.sources import load_data
from gpcnn_training.model import GatedPixelCNN

SPEC = ModelSpec(
    height=8, width=8, levels=17, features=4, layers=2, head_features=5, conditioning="map", conditioning_size=1,
    map_height=4, map_width=2, map_features=3, map_kind="picture"
)  # fmt: skip


def test_a_row_is_the_small_picture_what_was_drawn_and_the_original(tmp_path: Path) -> None:
    engine, sheet = tmp_path / "model.gpcnn", tmp_path / "sheet.png"
    engine.write_bytes(draft_model_file(GatedPixelCNN(SPEC).eval()).content)
    arguments = ["--engine", engine, "--data", "digits", "--pictures", 3, "--count", 2, "-o", sheet, "--seed", 5]
    result = CliRunner().invoke(upscaling.main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    test = load_data("digits").test_pixels
    chosen = test[[0, 100, 200]]
    with Sampler.load(engine) as sampler:
        drawn = sampler.sample(seed=5, count=2, map=maps_of_pictures(chosen, SPEC)).pixels()[:, 0]
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    cells = pixels[2:, 2:].reshape(3, 10, 4, 10)[:, :8, :, :8].transpose(0, 2, 1, 3)
    assert np.array_equal(cells[:, 0, ::2, ::4], made_small(chosen, 4, 2)[:, 0])
    assert np.array_equal(cells[:, 1:3].reshape(6, 8, 8), drawn)
    assert np.array_equal(cells[:, 3], chosen[:, 0])


def test_another_model_is_refused(tmp_path: Path) -> None:
    engine = tmp_path / "model.gpcnn"
    engine.write_bytes(
        draft_model_file(GatedPixelCNN(ModelSpec(height=8, width=8, features=2, layers=1)).eval()).content
    )
    result = CliRunner().invoke(upscaling.main, ["--engine", str(engine), "--data", "digits"])
    assert result.exit_code == 2
    assert "enlarges no pictures" in result.stderr
