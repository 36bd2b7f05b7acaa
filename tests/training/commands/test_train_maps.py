"""Spatial maps: each image keeps its map through splits, training, scoring and export; and small pictures enlarged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import gpcnn_training.commands.evaluate.cli
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.maps import enlarged, made_small, values_of_pixels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.commands.train.cli import main
from gpcnn_training.data.conditions import conditions_of, data_digest
from gpcnn_training.data.own_arrays import load_npz
from gpcnn_training.sampling import score

SMALL = ("--layers", "1", "--features", "4", "--levels", "2", "--batch-size", "16", "--compile", "off")
RNG = np.random.default_rng(1)
CATEGORIES = RNG.integers(0, 3, (200, 2, 2))
IMAGES = (CATEGORIES.repeat(2, 1).repeat(3, 2) == 2).astype(np.uint8) * 255
"""4×6 pixels: each of 2×3 is white where the map has category 2, else black; only the map tells which."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", images=IMAGES, maps=CATEGORIES)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(message: str, *arguments: object) -> None:
    result = run(*arguments, *SMALL)
    assert result.exit_code in (1, 2), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_each_image_keeps_its_map() -> None:
    np.savez("val.npz", images=IMAGES[:90], maps=CATEGORIES[:90, ..., None], val_images=IMAGES[90:],
             val_maps=CATEGORIES[90:])  # fmt: skip
    np.savez("test.npz", train_images=IMAGES[:90], Train_Maps=CATEGORIES[:90].astype(np.uint8),
             test_images=IMAGES[90:], test_maps=CATEGORIES[90:])  # fmt: skip
    for file, tested in (("my.npz", 20), ("val.npz", 9), ("test.npz", 110)):
        data = load_npz(Path(file))
        assert data.train_maps is not None
        assert data.test_maps is not None
        for pixels, maps in ((data.train_pixels, data.train_maps), (data.test_pixels, data.test_maps)):
            assert maps.dtype == np.int32
            assert np.array_equal(pixels[:, :, ::2, ::3] > 0, maps == 2)
        assert len(data.test_pixels) == tested


def test_a_model_learns_from_maps_alone_and_scores_and_draws_by_them() -> None:
    result = run("--data", "my.npz", "--epochs", 15, "--learning-rate", 0.03, *SMALL)
    assert result.exit_code == 0, result.output
    assert "conditional on a map of 2×2, 3 categories" in result.stderr
    checkpoint = Path("runs/my-map/checkpoint.safetensors")
    model, header = load_checkpoint(checkpoint)
    spec = header.spec
    assert (spec.conditioning, spec.map_shape, spec.map_categories, spec.map_kind) == (
        "map",
        (1, 2, 2),
        3,
        "categories",
    )
    data = load_npz(Path("my.npz"))
    _, maps = conditions_of(data, spec, own_codes=False)
    assert maps is not None
    levels = torch.from_numpy((data.test_pixels > 0).astype(np.int64))
    own = -score(model, levels, torch.from_numpy(maps)).sum((1, 2, 3)).mean().item()
    others = -score(model, levels, torch.from_numpy((maps + 1) % 3)).sum((1, 2, 3)).mean().item()
    assert own == pytest.approx(header.test_nll, abs=1e-3)
    assert own < 1 < others  # without the map, four blocks have 0.64 nats each
    again = run("--epochs", 0, "--resume", "runs/my-map", "--out", "again")
    assert again.exit_code == 0, again.output
    assert Path("again/samples.png").read_bytes() == Path("runs/my-map/samples.png").read_bytes()
    evaluated = CliRunner().invoke(
        gpcnn_training.commands.evaluate.cli.main, [str(checkpoint), "--data", "my.npz", "--json", "-", "--draws", "1"]
    )
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["nats_per_image"]["mean"] == pytest.approx(header.test_nll, abs=1e-3)
    assert "given the map\n" in evaluated.stderr
    for file, arrays, message in (
        ("none.npz", {}, "has no array 'maps'"),
        ("large.npz", {"maps": CATEGORIES.repeat(2, 1)}, "4 rows × 2 columns × 1 plane: expected 2 × 2 × 1"),
        ("more.npz", {"maps": CATEGORIES + 1}, "holds 1 to 3: expected categories 0 to 2"),
        ("floats.npz", {"maps": CATEGORIES / 2}, "holds floats: expected integers, categories 0 to 2"),
    ):
        np.savez(file, images=IMAGES, **arrays)
        evaluated = CliRunner().invoke(gpcnn_training.commands.evaluate.cli.main, [str(checkpoint), "--data", file])
        assert evaluated.exit_code == 1
        assert message in evaluated.stderr
        assert len(evaluated.stderr.strip().splitlines()) == 1


def test_a_small_picture_is_enlarged() -> None:
    images = RNG.integers(0, 256, (60, 4, 4, 3), np.uint8)
    np.savez("rgb.npz", images=images.repeat(2, 1).repeat(2, 2))
    result = run("--data", "rgb.npz", "--model", "upscale", "--factor", 2, "--max-steps", 3, *SMALL)
    assert result.exit_code == 0, result.output
    assert "conditional on the picture at 4×4" in result.stderr
    spec = load_checkpoint(Path("runs/rgb-upscale"))[1].spec
    assert (spec.map_kind, spec.map_shape, spec.map_categories) == ("picture", (3, 4, 4), 0)
    data = load_npz(Path("rgb.npz"))
    small, _ = conditions_of(data, spec, own_codes=False)
    assert np.array_equal(small, values_of_pixels(data.train_pixels[:, :, ::2, ::2]))
    assert data_digest(data, spec, False) == data.digest()
    evaluated = CliRunner().invoke(gpcnn_training.commands.evaluate.cli.main, ["runs/rgb-upscale", "--data", "rgb.npz"])
    assert "of p(x | small x), given the small picture\n" in evaluated.stdout
    samples = ["runs/rgb-upscale", "--data", "rgb.npz", "--samples", "10"]
    evaluated = CliRunner().invoke(gpcnn_training.commands.evaluate.cli.main, samples)
    assert evaluated.exit_code == 2
    assert "this model is one that enlarges pictures: leave it out" in evaluated.stderr


def test_a_pixel_of_a_small_picture_is_the_mean_of_those_that_it_covers() -> None:
    pixels = RNG.integers(0, 256, (5, 3, 6, 8), np.uint8)
    small = made_small(pixels, 3, 2)
    exact = pixels.reshape(5, 3, 3, 2, 2, 4).astype(np.float64).mean(axis=(3, 5))
    assert np.array_equal(small, np.floor(exact + 0.5))
    assert np.array_equal(made_small(enlarged(small, 6, 8), 3, 2), small)
    assert values_of_pixels(np.array([0, 255], np.uint8)).tolist() == [-1, 1]


def test_a_run_goes_on_with_its_own_maps_only() -> None:
    assert run("--data", "my.npz", "--max-steps", 3, *SMALL).exit_code == 0
    assert run("--resume", "runs/my-map", "--max-steps", 5).exit_code == 0
    np.savez("my.npz", images=IMAGES, maps=CATEGORIES[::-1])
    changed = run("--resume", "runs/my-map", "--max-steps", 7)
    assert isinstance(changed.exception, SystemExit)
    assert "was not trained on this my" in changed.stderr


def test_models_without_maps_do_not_look_at_them() -> None:
    data, spec = load_npz(Path("my.npz")), ModelSpec(height=4, width=6)
    np.savez("plain.npz", images=IMAGES)
    assert data_digest(data, spec, False) == load_npz(Path("plain.npz")).digest()
    assert conditions_of(data, spec, False) == (None, None)


def test_a_model_starts_from_the_weights_of_one_without_a_map() -> None:
    assert run("--data", "my.npz", "--model", "unconditional", "--max-steps", 2, *SMALL).exit_code == 0
    result = run("--data", "my.npz", "--init", "runs/my-unconditional", "--max-steps", 1, *SMALL)
    assert result.exit_code == 0, result.output


def test_mistakes_are_one_line() -> None:
    def of(**arrays: Any) -> str:
        np.savez("bad.npz", **{"images": IMAGES, "maps": CATEGORIES, **arrays})
        return "bad.npz"

    nan = CATEGORIES.astype(float)
    nan[7, 1] = np.nan
    upscale = ("--model", "upscale")
    refused("maps: complex128 of shape [200, 2, 2]: expected", "--data", of(maps=CATEGORIES * 1j))
    refused("maps: int64 of shape [200, 2]: expected", "--data", of(maps=CATEGORIES[:, 0]))
    refused("maps are 199 maps: expected 200", "--data", of(maps=CATEGORIES[:-1]))
    refused("maps: integers, -1 to 1: expected categories 0 to 4095", "--data", of(maps=CATEGORIES - 1))
    refused("first in map 7", "--data", of(maps=nan))
    refused(
        ": maps have 4 rows and 4 columns: expected divisors", "--data", of(maps=CATEGORIES.repeat(2, 1).repeat(2, 2))
    )
    refused("has no array 'test_maps'", "--data", of(test_images=IMAGES))
    refused("expected int32 of [2, 2, 1]", "--data", of(test_images=IMAGES, test_maps=CATEGORIES / 2))
    refused("--factor 4 does not divide the 4 rows and 6 columns", "--data", "my.npz", *upscale)
    refused("--factor says how much", "--data", "my.npz", "--factor", 2)
    refused("--map-features is for a map", "--data", "my.npz", "--model", "unconditional", "--map-features", 8)
    np.savez("plain.npz", images=IMAGES)
    refused("has no maps: expected an .npz with an array 'maps'", "--data", "plain.npz", "--model", "map")
    np.savez("loud.npz", images=IMAGES, maps=CATEGORIES * 1000.0)
    result = run("--data", "loud.npz", "--max-steps", 1, *SMALL)
    assert result.exit_code == 0
    assert "maps have a standard deviation of" in result.stderr
    with pytest.raises(DataError, match="expected 4 × 2 × 1"):
        conditions_of(load_npz(Path("loud.npz")), ModelSpec(
            height=4, width=6, conditioning="map", conditioning_size=1, map_height=4, map_width=2, map_features=1
        ), False)  # fmt: skip
