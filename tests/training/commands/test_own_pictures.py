"""`gpcnn-train` on pictures and arrays of one's own: what it says of them, and what it refuses before it trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from gpcnn_training.commands.train.cli import main

SMALL = (
    *("--levels", "4", "--layers", "1", "--features", "4", "--max-steps", "2", "--precision", "fp32"),
    *("--compile", "off", "--test-images", "2"),
)
GREY = np.random.default_rng(0).integers(0, 256, (12, 6, 5)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


def train(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, *SMALL])


def refused(message: str, *arguments: str) -> None:
    result = train(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("runs").exists()


def test_a_folder_of_pictures_alone_is_for_unconditional_models() -> None:
    Path("photos").mkdir()
    for k, image in enumerate(GREY):
        Image.fromarray(image).save(f"photos/{k}.png")
    Path("photos/notes.txt").write_text("x")
    refused("photos: has no class folders: expected one folder per class, or train with --model", "--data", "photos")
    result = train("--data=~/photos", "--model", "unconditional")
    assert result.exit_code == 0, result.output
    assert "1 file left out: notes.txt\n" in result.stderr
    assert Path("runs/photos-unconditional/checkpoint.safetensors").is_file()


def test_pixels_of_another_scale() -> None:
    np.savez("a.npz", images=(GREY % 17).astype(np.uint8))
    refused("a: pixels are 0 to 16, which --levels 4 makes level 0 alone", "--data", "a.npz", "--model=autoencoder")


def test_a_class_without_an_image_to_train_on() -> None:
    np.savez("a.npz", images=GREY, labels=np.arange(12) % 2, class_names=["cat", "dog", "emu"])
    refused("a: no training image is of class emu: add some, or leave the class out", "--data", "a.npz")
    assert train("--data", "a.npz", "--model", "unconditional").exit_code == 0
