"""`Scorer` without Ray: what `gpcnn-score` says of the same pictures, and an error for each bad one."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from small_engines import EMBEDDED, NAMES, Make, encoder_bytes_of, engine_bytes_of, model_of

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_runtime.commands.score.cli import main
from gpcnn_runtime.ray import EngineBytes, Scorer

SMALL = {"features": 4, "layers": 2, "first_kernel_size": 3, "head_features": 5}
BINARY = ModelSpec(height=6, width=5, levels=2, **SMALL)
OTHER = ModelSpec(height=6, width=5, levels=4, **SMALL)  # a background for the labelled model
NUMBERS = ("nats", "bits_per_dim", "posterior", "background_nats", "anomaly_score")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven files in pictures/: four pictures of 6×5 pixels, one of another size, one that is cut off, one empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for k in range(4):
        Image.fromarray(pixels_of(k)).save(f"pictures/{k}.png")
    Image.fromarray(np.zeros((9, 5), np.uint8)).save("pictures/4.png")
    Path("pictures/5.png").write_bytes(Path("pictures/0.png").read_bytes()[:50])
    Path("pictures/6.png").write_bytes(b"")
    return tmp_path


def pixels_of(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (6, 5), np.uint8)


def told(engine: Path, *more: object, what: str = "pictures") -> list[dict[str, Any]]:
    """Rows of gpcnn-score."""
    command = [what, "--engine", engine, "--json", "told.json", *more]
    result = CliRunner().invoke(main, list(map(str, command)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    rows: list[dict[str, Any]] = json.loads(Path("told.json").read_text())["pictures"]
    return rows


def batch_of(source: str) -> dict[str, np.ndarray]:
    paths = sorted(Path("pictures").iterdir())
    batch = {"path": np.array(list(map(str, paths)), object)}
    if source == "bytes":
        batch["bytes"] = np.array([path.read_bytes() for path in paths], object)
    return batch


def same(batch: dict[str, np.ndarray], rows: list[dict[str, Any]]) -> None:
    assert batch["path"].tolist() == [row["picture"] for row in rows]
    assert batch["error"].tolist() == [row.get("error", "") for row in rows]
    for name in NUMBERS:
        found = [row.get(name, np.nan) for row in rows]
        assert name in batch or np.isnan(found).all(), name
        if name in batch:
            np.testing.assert_allclose(batch[name], found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("source", ["bytes", "path"])
def test_files_are_scored_as_gpcnn_score_does_bad_ones_among_them(
    folder: Path, sampler_path: Path, source: str
) -> None:
    rows = told(sampler_path)
    batch = Scorer(sampler_path, batch_size=2)(batch_of(source))
    same(batch, rows)
    assert (batch["error"] != "").tolist() == [False] * 4 + [True] * 3
    assert batch["label"].tolist() == [row.get("label", -1) for row in rows]
    assert batch["class_name"].tolist() == [row.get("class_name", "") for row in rows]
    np.testing.assert_allclose(batch["label_nats"][:4], [row["label_nats"] for row in rows[:4]], rtol=1e-5)
    assert np.isnan(batch["label_nats"][4:]).all()
    assert "bytes" not in batch, "a result carries no pictures"


def test_options_are_those_of_the_command(folder: Path, make: Make, sampler_path: Path) -> None:
    background = make(OTHER, 2)
    scorer = Scorer(sampler_path, "bag, red", background=background, resize=True, invert=True)
    more = ["--label", "bag, red", "--background", background, "--resize", "--invert"]
    batch = scorer(batch_of("bytes"))
    same(batch, told(sampler_path, *more))
    assert "label" not in batch
    assert (batch["error"] != "").tolist() == [False] * 5 + [True] * 2


def test_a_threshold_marks_anomalies(folder: Path, sampler_path: Path) -> None:
    for k in range(4, 7):
        Path(f"pictures/{k}.png").unlink()
    told(sampler_path, "--calibrate", "--quantile", "0.5", "--save", "t.json")
    rows = told(sampler_path, "--threshold", "t.json")
    batch = Scorer(sampler_path, threshold="t.json")(batch_of("bytes"))
    same(batch, rows)
    assert batch["anomalous"].tolist() == [row["anomalous"] for row in rows]
    assert 0 < batch["anomalous"].sum() < 4
    with pytest.raises(DataError, match="calibrated for another engine"):
        Scorer("zoo:mnist-conditional", threshold="t.json")


def test_arrays_are_pictures_too(folder: Path, sampler_path: Path) -> None:
    rows = told(sampler_path)[:4]
    pixels = np.stack([pixels_of(k) for k in range(4)])
    for image in (pixels, pixels[..., None], pixels[:, None], np.stack([pixels] * 3, axis=-1), pixels / 255):
        batch = Scorer(sampler_path)({"image": image, "name": np.arange(4)})
        assert batch["error"].tolist() == [""] * 4
        np.testing.assert_allclose(batch["nats"], [row["nats"] for row in rows], rtol=1e-5)
        assert batch["name"].tolist() == [0, 1, 2, 3]
        assert "image" not in batch


def test_a_bad_array_is_an_error_of_its_row(sampler_path: Path) -> None:
    images = np.empty(4, object)
    images[:] = [pixels_of(0), np.zeros((2, 2), np.uint8), np.full((6, 5), np.nan), np.zeros((6, 5), complex)]
    batch = Scorer(sampler_path)({"image": images})
    assert (batch["error"] == "").tolist() == [True, False, False, False]
    assert all(error.startswith(f"picture {k} of its batch") for k, error in enumerate(batch["error"]) if error)


def test_a_missing_picture_is_an_error_of_its_row(folder: Path, sampler_path: Path) -> None:
    content = np.array([Path("pictures/0.png").read_bytes(), None], object)
    assert (Scorer(sampler_path)({"bytes": content})["error"] == "").tolist() == [True, False]
    paths = np.array(["pictures/0.png", "pictures/none.png"], object)
    assert (Scorer(sampler_path)({"path": paths})["error"] == "").tolist() == [True, False]


def test_stochastic_levels_follow_the_number_of_the_picture(folder: Path, make: Make) -> None:
    """As gpcnn-score numbers them, and not as batches are cut."""
    engine = make(BINARY, 2)
    rows = told(engine, "--binarize", "stochastic", "--seed", 3)
    scorer = Scorer(engine, binarization="stochastic", seed=3)
    batch = batch_of("bytes") | {"number": np.arange(7)}
    turned = {name: values[::-1] for name, values in batch.items()}
    for start in range(0, 7, 3):
        same(
            scorer({name: values[start : start + 3] for name, values in turned.items()}), rows[::-1][start : start + 3]
        )
    with pytest.raises(UsageError, match="needs a column 'number'"):
        scorer(batch_of("bytes"))


def test_vectors_come_in_a_column(make: Make, folder: Path) -> None:
    engine = make(EMBEDDED, 2)
    images = np.random.default_rng(0).integers(0, 2, (4, 4, 4), np.uint8) * 255
    vectors = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    np.savez("p.npz", images=images)
    np.save("h.npy", vectors)
    rows = told(engine, "--embeddings", "h.npy", what="p.npz")
    scorer = Scorer(engine)
    batch = scorer({"image": images, "embedding": vectors})
    np.testing.assert_allclose(batch["nats"], [row["nats"] for row in rows], rtol=1e-5)
    vectors[2, 1] = np.nan
    errors = scorer({"image": images, "embedding": vectors})["error"].tolist()
    assert [bool(error) for error in errors] == [False, False, True, False]
    with pytest.raises(UsageError, match=r"give them in a column 'embedding' \[N, 5\]"):
        scorer({"image": images})
    with pytest.raises(UsageError, match=r"has a row of shape \[4\]: expected \[5\]"):
        scorer({"image": images, "embedding": vectors[:, :4]})


def test_the_encoder_of_an_autoencoder_travels_with_it(folder: Path) -> None:
    model = model_of(EMBEDDED, 1, encoder=EncoderSpec(features=(3, 3, 3)))
    encoder = encoder_bytes_of(model)
    Path("a.encoder.onnx").write_bytes(encoder)
    Path("a.onnx").write_bytes(engine_bytes_of(model, 2, encoder_digest=hashlib.sha256(encoder).hexdigest()))
    images = np.random.default_rng(0).integers(0, 2, (4, 4, 4), np.uint8) * 255
    np.savez("p.npz", images=images)
    rows = told(Path("a.onnx"), what="p.npz")
    sent = pickle.loads(pickle.dumps(EngineBytes.read("a.onnx")))
    for path in ("a.onnx", "a.encoder.onnx"):
        Path(path).unlink()
    batch = Scorer(sent)({"image": images})
    np.testing.assert_allclose(batch["nats"], [row["nats"] for row in rows], rtol=1e-5)


def test_batches_that_are_none(sampler_path: Path) -> None:
    scorer, images = Scorer(sampler_path), np.stack([pixels_of(0)])
    with pytest.raises(UsageError, match="no column of pictures among photo: expected one of bytes, image, path"):
        scorer({"photo": images})
    with pytest.raises(UsageError, match="has a column 'error' already: rename it"):
        scorer({"image": images, "error": np.zeros(1)})
    with pytest.raises(UsageError, match="no label"):
        Scorer("zoo:mnist-unconditional", "boot")


def test_labels_by_number_are_those_by_name(sampler_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels_of(0)).save(stream, "png")
    batch = {"bytes": np.array([stream.getvalue()], object)}
    under = [Scorer(sampler_path, label)(batch)["nats"][0] for label in (*range(3), *NAMES)]
    assert len(set(under[:3])) == 3
    assert under[0] == Scorer(sampler_path, NAMES[0])(batch)["nats"][0]
