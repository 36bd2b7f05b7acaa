"""The Python of the pages runs as it stands, on models of the zoo; the numbers that a reader can check are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpcnn_deploy import noise
from gpcnn_deploy.spec import ModelSpec

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a digit.png, 28×28 black and white."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((28, 28), np.uint8)
    pixels[6:22, 12:16] = 255
    Image.fromarray(pixels).save("digit.png")
    return tmp_path


def run(page: str, engine: str) -> dict[str, Any]:
    """Run a page's snippet with a model of the zoo as its `model.gpcnn`; returns its names."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert '"model.gpcnn"' in code
    names: dict[str, Any] = {}
    exec(compile(code.replace("model.gpcnn", engine), page, "exec"), names)
    return names


def test_scoring(folder: Path) -> None:
    names = run("scoring.md", "zoo:mnist-conditional")
    assert names["log_prob"].shape == (1, 1, 28, 28)
    assert np.isclose(-names["log_prob"].sum(), names["scores"].label_nats[0, 3], rtol=1e-5)
    assert names["scores"].nats[0] <= names["scores"].label_nats[0].min() + np.log(10)


def test_drawing_like_a_picture(folder: Path) -> None:
    names = run("zoo.md", "zoo:mnist-autoencoder")
    assert names["drawn"].levels.shape == (20, 1, 28, 28)
    assert names["drawn"].levels.any(axis=(1, 2, 3)).all()


def test_drawing_under_vectors(folder: Path) -> None:
    """docs/conditioning.md: two pieces write arrays that training reads, the other draws under two vectors."""
    from gpcnn_training.data.own_arrays import load_npz

    page = (DOCS / "conditioning.md").read_text("utf-8")
    data, code, scenes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(data, "conditioning.md", "exec"), {})
    vectors = load_npz(Path("my.npz")).train_embeddings
    assert vectors is not None
    assert vectors.shape == (450, 2)
    exec(compile(scenes, "conditioning.md", "exec"), {})
    maps = load_npz(Path("scenes.npz")).train_maps
    assert maps is not None
    assert (maps.shape, str(maps.dtype)) == ((450, 1, 4, 4), "int32")
    np.save("h.npy", np.random.default_rng(0).standard_normal((2, 10)).astype(np.float32))
    names: dict[str, Any] = {}
    exec(compile(code.replace("model.gpcnn", "zoo:mnist-autoencoder"), "conditioning.md", "exec"), names)
    assert len(names["images"]) == 4
    assert len({image.tobytes() for image in names["row"].levels}) > 1
    assert np.allclose(names["log_prob"], names["row"].log_prob, atol=1e-4)


def test_the_first_noise_numbers() -> None:
    """docs/engines.md: those of seed 7, image 3."""
    told = re.search(r"first four numbers of seed 7, image 3 are ([\d., ]+)\.\n", (DOCS / "engines.md").read_text())
    assert told is not None
    spec = ModelSpec(height=2, width=2)
    numbers = noise(spec, 7, 1, 3).ravel()
    assert [f"{number:.8f}" for number in numbers] == told[1].split(", ")
