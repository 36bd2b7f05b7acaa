"""The emoji that ship with the package: all there, whole, and no family of them on both sides of the split."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import gpcnn_training.data.emoji as emoji
from benchmarks.make_emoji import family_of, make
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.preparation import Preparation
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.sources import load_data

FOLDER = Path(emoji.__file__).parent


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("emoji")


def rows() -> list[dict[str, str]]:
    with (FOLDER / "emoji.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_emoji_are_there_in_nine_classes(data: DataSet) -> None:
    assert data.image_shape == (3, 64, 64)
    assert len(data.train_pixels) + len(data.test_pixels) == len(rows()) == 1906
    assert len(data.class_names) == 9
    assert "flags" in data.class_names
    data.check_classes()
    assert set(data.test_labels.tolist()) == set(range(9))


def test_pictures_belong_to_their_names(data: DataSet) -> None:
    """The flag of Japan is a red disc on white; a black circle is black."""
    table = [row for part in ("train", "validation", "test") for row in rows() if row["part"] == part]
    pixels = np.concatenate([data.train_pixels, data.test_pixels])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert [data.class_names[label] for label in labels] == [row["category"] for row in table]
    centre = {row["name"]: pixels[k, :, 32, 32].astype(int) for k, row in enumerate(table)}
    red, green, blue = centre["japan flag"]
    assert red > 150
    assert max(green, blue) < 90
    assert centre["medium black circle"].max() < 90
    assert np.ptp(centre["medium white circle"]) < 40
    assert centre["medium white circle"].min() > 200


def test_no_family_is_in_two_parts(data: DataSet) -> None:
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows():
        parts[family_of(row["code points"])].add(row["part"])
    assert {len(found) for found in parts.values()} == {1}
    trained = data.train_pixels[: len(data.train_pixels) - data.validation]
    held = data.train_pixels[len(trained) :]
    kinds = [{picture.tobytes() for picture in part} for part in (trained, held, data.test_pixels)]
    assert not kinds[0] & kinds[1]
    assert not kinds[0] & kinds[2]
    assert not kinds[1] & kinds[2]
    assert len(held) > 50
    assert len(data.test_pixels) > 150


def test_half_the_size_is_the_mean_of_four_pixels(data: DataSet) -> None:
    small = load_data("Emoji", preparation=Preparation(image_size=(32, 32), resampling="area"))
    n, c, h, w = data.test_pixels.shape
    means = data.test_pixels.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    assert small.image_shape == (3, 32, 32)
    assert np.abs(small.test_pixels - means).max() <= 1  # rows and columns are rounded in turn


def test_the_licence_lies_beside_them() -> None:
    assert "Apache License 2.0" in (FOLDER / "emoji.LICENSE.txt").read_text()


def test_a_pillow_without_webp_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    with pytest.raises(DataError, match="pip install --upgrade pillow"):
        load_data("emoji")


def test_the_generator_keeps_every_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of 45 random pictures, one of them transparent, two alike, one of another skin: read back exactly."""
    random = np.random.default_rng(3)
    pictures = tmp_path / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    entries: list[dict[str, object]] = []
    expected: list[np.ndarray] = []
    before = np.empty(0, np.uint8)
    for k in range(45):
        pixels = random.integers(0, 256, (64, 64, 4), np.uint8)
        pixels[..., 3] = 255
        if k == 7:
            pixels[:32, :, 3] = 0
        if k == 9:  # looks as 8 does
            pixels = before
        before = pixels
        Image.fromarray(pixels).save(pictures / f"{k}.png")
        shown = pixels[..., :3].copy()
        shown[pixels[..., 3] == 0] = 255
        expected.append(shown.transpose(2, 0, 1))
        category = "Component" if k == 44 else "Symbols"
        entries.append({"unified": f"{k:04X}", "name": f"SIGN {k}", "category": category, "image": f"{k}.png"})
        entries[-1] |= {"sort_order": k, "skin_variations": {}}
    (tmp_path / "emoji.json").write_text(json.dumps(entries))
    make(tmp_path, tmp_path)
    monkeypatch.setattr(emoji, "_SHEET", tmp_path / "emoji.webp")
    monkeypatch.setattr(emoji, "_TABLE", tmp_path / "emoji.csv")
    made = emoji.load_emoji()
    found = {picture.tobytes() for picture in np.concatenate([made.train_pixels, made.test_pixels])}
    assert found == {picture.tobytes() for picture in expected[:44]}
    assert len(made.test_pixels) in (4, 5)  # a tenth, and perhaps a family of two
    assert len(made.train_pixels) + len(made.test_pixels) == 44


@pytest.mark.parametrize(
    ("code_points", "family"),
    [
        ("1F3C3-200D-2640-FE0F", "1F3C3"),
        ("1F3C3-200D-2642-FE0F-200D-27A1-FE0F", "1F3C3"),
        ("1F469-200D-1F692", "1F9D1-1F692"),
        ("1F1EF-1F1F5", "1F1EF-1F1F5"),
    ],
)
def test_families(code_points: str, family: str) -> None:
    assert family_of(code_points) == family
