"""Pictures of any size and mode: what training did to them is said, kept, and done again by scoring and completing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors import safe_open

from gpcnn_deploy.errors import DataError, EngineError
from gpcnn_deploy.metadata import decode_metadata, encode_metadata
from gpcnn_deploy.pictures.files import read_picture
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.commands.export.cli import main as export_main
from gpcnn_runtime.commands.inspect.cli import main as inspect_main
from gpcnn_runtime.commands.sample.cli import main as sample_main
from gpcnn_runtime.commands.score.cli import main as score_main
from gpcnn_runtime.inputs.picture import read_pixels
from gpcnn_runtime.inspection import engine_metadata, inspect_engine
from gpcnn_training.commands.evaluate.cli import main as evaluate_main
from gpcnn_training.commands.train.cli import main as train_main
from gpcnn_training.data.prepare import target_of
from gpcnn_training.data.sources import load_data

SMALL = (
    *("--levels", 4, "--layers", 1, "--features", 4, "--max-steps", 2, "--precision", "fp32", "--compile", "off"),
    *("--test-images", 4, "--batch-size", 4),
)
PREPARE = ("--image-size", "6x5", "--background", "white", "--grey")


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


def ok(command: object, *arguments: object) -> Result:
    result = run(command, *arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures of two classes, each of its own size and mode."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for k, mode in enumerate(("L", "RGB", "RGBA", "P", "LA", "CMYK", "I;16", "RGB", "L", "RGBA")):
        pixels = rng.integers(0, 256, (7 + k, 9, 4)).astype(np.uint8)
        picture = Image.fromarray(pixels, "RGBA")
        if mode == "I;16":
            picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        elif mode in ("P", "CMYK"):
            picture = picture.convert("RGB").convert(mode)
        elif mode != "RGBA":
            picture = picture.convert(mode)
        path = tmp_path / "photos" / ("cat", "dog")[k % 2] / f"{k}.{'tiff' if mode == 'CMYK' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return tmp_path / "photos"


def test_from_photos_to_scores(photos: Path) -> None:
    result = ok(train_main, "--data", photos, *PREPARE, *SMALL, "--out", "r")
    said = "resized to 6×5 (area), laid on #ffffff, made grey"
    assert f"pictures are {said}; gpcnn-score and --complete prepare theirs so, too" in result.stderr
    with safe_open("r/checkpoint.safetensors", "np") as file:
        assert '"preparation":{"background":"#ffffff","colour":"grey","image_size":[6,5]' in file.metadata()["gpcnn"]
    ok(export_main, "r", "--format", "onnx", "--window", 1)
    kept = inspect_engine("model.onnx").preparation
    assert kept == Preparation(image_size=(6, 5), resampling="area", background="#ffffff", colour="grey")
    assert inspect_engine("r").preparation == kept
    for name in ("model.onnx", "r"):
        assert said in " ".join(ok(inspect_main, name).output.split())

    scored = ok(score_main, photos, "--csv", "a.csv")
    assert f"10 pictures did not fit; prepared as in training: {said}." in scored.stdout
    assert "10 pictures in" in scored.stdout
    spec = inspect_engine("model.onnx").spec
    data = load_data(str(photos), None, kept)
    trained = {image.tobytes() for image in (*data.train_pixels, *data.test_pixels)}
    read = {read_pixels(path, spec, preparation=kept).tobytes() for path in photos.rglob("*.*")}
    assert read == trained
    assert len(read) == 10

    completed = ok(sample_main, "--complete", photos / "dog" / "1.png", "--rows", 3, "--label", "dog")
    assert f"1 picture did not fit; prepared as in training: {said}" in completed.stdout

    # What fits is not said to have been prepared, whatever mode it is stored in.
    (photos.parent / "fit").mkdir()
    grey = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 5)).astype(np.uint8))
    for mode in ("L", "RGB", "RGBA", "P"):
        grey.convert(mode).save(f"fit/{mode}.png")
    np.savez("fit/many.npz", images=np.stack([np.asarray(grey)] * 3))
    scored = ok(score_main, "fit", "--json", "s.json")
    assert "in training" not in scored.stdout
    assert "prepared" not in json.loads(Path("s.json").read_text())["summary"]
    assert "in training" not in ok(sample_main, "--complete", "fit/L.png", "--rows", 3, "--label", "dog").stdout
    grey.convert("RGB").point(lambda level: level // 2).rotate(90, expand=True).save("fit/turned.png")
    scored = ok(score_main, "fit", photos / "dog" / "1.png", "--json", "s.json")
    assert f"2 pictures did not fit; prepared as in training: {said}." in scored.stdout
    assert json.loads(Path("s.json").read_text())["summary"]["prepared"] == 2

    ok(evaluate_main, "r", "--data", photos)
    resumed = ok(train_main, "--resume", "r", "--max-steps", 3)
    assert said in resumed.stderr
    refused = run(train_main, "--resume", "r", "--image-size", 8)
    assert (refused.exit_code, "leave out --image-size" in refused.stderr) == (2, True)


def test_an_engine_that_was_trained_on_pictures_as_they_are_refuses_others(photos: Path) -> None:
    np.savez("a.npz", images=np.random.default_rng(0).integers(0, 256, (12, 6, 5)).astype(np.uint8))
    ok(train_main, "--data", "a.npz", "--model", "unconditional", *SMALL, "--out", "r")
    ok(export_main, "r", "--format", "onnx", "--window", 1)
    assert inspect_engine("model.onnx").preparation is None
    refused = run(score_main, photos / "cat" / "0.png")
    assert (refused.exit_code, "the model takes 5×6 8-bit grey (width × height)" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "photos/cat/2.png: is partly transparent: lay it on a background first, or add --background white"),
        (
            ("--background", "white", "--image-size", "9"),
            "is 9×13 16-bit grey; expected 9×9 8-bit grey or RGB: convert it, or add --grey or --rgb",
        ),
        (
            ("--background", "white", "--rgb"),
            "0.png is 9×7: expected pictures of one size: resize them, or add --image-",
        ),
        (("--grey", "--rgb"), "--grey and --rgb both say what pictures become"),
        (("--resampling", "lanczos"), "--resampling lanczos goes with --image-size: add it"),
        (("--background", "snow-white"), "--background snow-white: expected an opaque colour"),
        (("--background", "#fff8"), "--background #fff8: expected an opaque colour"),
        (("--image-size", "0"), "'0': expected 1 to 1,048,576 pixels"),
        (("--image-size", "big"), "'big': expected a number, such as 32, or height x width, such as 24x32"),
        (("--image-size", "9999x9999"), "expected 1 to 1,048,576 pixels"),
    ],
)
def test_what_is_not_asked_for_is_refused_and_the_flag_named(
    photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(train_main, "--data", "photos", *arguments, *SMALL)
    assert result.exit_code != 0
    assert message in " ".join(result.stderr.split())
    assert not Path("runs").exists()


def test_arrays_are_prepared_too(photos: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 12, 10, 3)).astype(np.uint8)
    np.savez("a.npz", images=images)
    data = load_data("a.npz", None, Preparation(image_size=(6, 5), resampling="area", colour="rgb"))
    means = images.reshape(12, 6, 2, 5, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    for image in np.concatenate([data.train_pixels, data.test_pixels]):
        assert min(np.abs(image - mean).max() for mean in means) <= 1
    grey = load_data("a.npz", None, Preparation(colour="grey"))
    assert grey.image_shape == (1, 12, 10)


@pytest.mark.parametrize("resampling", ["area", "lanczos"])
def test_resampling(photos: Path, resampling: str) -> None:
    prepared = Preparation(image_size=(2, 2), resampling=resampling, colour="grey")  # type: ignore[arg-type]
    square = np.zeros((8, 8), np.uint8)
    square[:, 3:] = 240
    Image.fromarray(square).save("a.png")
    dark, light = read_picture(Path("a.png"), target_of(prepared))[0, 0].tolist()
    if resampling == "area":
        assert (dark, light) == (60, 240)
    else:
        assert light > 240  # it overshoots beside an edge, which is why it looks sharper


def test_metadata_that_contradicts_the_model_is_refused(photos: Path) -> None:
    np.savez("a.npz", images=np.random.default_rng(0).integers(0, 256, (12, 6, 5)).astype(np.uint8))
    ok(train_main, "--data", "a.npz", "--model", "unconditional", "--image-size", "6x5", *SMALL, "--out", "r")
    ok(export_main, "r", "--format", "onnx", "--window", 1)
    text = encode_metadata(engine_metadata(Path("model.onnx")))
    assert decode_metadata(text, "x").preparation is not None
    for was, becomes in (('"image_size":[6,5]', '"image_size":[6,6]'), ('"colour":null', '"colour":"rgb"')):
        assert was in text
        with pytest.raises(EngineError, match=r"x: pictures .* are not those of the model"):
            decode_metadata(text.replace(was, becomes), "x")
    for broken in ('"background":"white"', '"background":"#FFFFFF;"', '"background":7'):
        with pytest.raises(EngineError, match="metadata is damaged"):
            decode_metadata(text.replace('"background":null', broken), "x")


@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_orientation_that_a_camera_noted_is_applied_in_training_and_scoring(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    upright = np.zeros((16, 8), np.uint8)
    upright[:8, :4] = 240  # whole blocks of a JPEG
    stored = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright.T[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for k in range(3):
        (tmp_path / "d").mkdir(exist_ok=True)
        options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
        picture.save(tmp_path / "d" / f"{k}.{suffix}", exif=exif, **options)
    trained = load_data(str(tmp_path / "d")).train_pixels[0, 0]
    scored = read_pixels(tmp_path / "d" / f"0.{suffix}", ModelSpec(height=16, width=8))[0]
    assert np.array_equal(trained, scored)
    assert np.abs(scored.astype(int) - upright).max() <= (3 if suffix == "jpg" else 0)


def test_damaged_exif_says_nothing(tmp_path: Path) -> None:
    upright = np.full((16, 8), 200, np.uint8)
    Image.fromarray(upright).save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage")
    assert np.abs(read_pixels(tmp_path / "a.jpg", ModelSpec(height=16, width=8))[0].astype(int) - 200).max() <= 2


def test_what_scoring_refuses_training_refuses_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    frames = [Image.new("L", (5, 6), shade) for shade in (9, 200)]
    good = np.full((6, 5), 99, np.uint8)
    Image.fromarray(good).save(tmp_path / "good.tiff")
    content = (tmp_path / "good.tiff").read_bytes()

    def animated(path: Path) -> None:
        frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])

    def pages(path: Path) -> None:
        frames[0].save(path.with_suffix(".tiff"), save_all=True, append_images=frames[1:])

    def damaged(path: Path) -> None:
        path.with_suffix(".tiff").write_bytes(content[: len(content) // 2])

    def no_picture(path: Path) -> None:
        path.with_suffix(".png").write_text("text")

    def empty(path: Path) -> None:
        path.with_suffix(".png").write_bytes(b"")

    for spoil in (animated, pages, damaged, no_picture, empty):
        for path in (tmp_path / "d").iterdir():
            path.unlink()
        for k in range(3):
            Image.fromarray(good).save(tmp_path / "d" / f"{k}.png")
        spoil(tmp_path / "d" / "a")
        (bad,) = (path for path in (tmp_path / "d").iterdir() if path.stem == "a")
        with pytest.raises(DataError) as scoring:
            read_pixels(bad, ModelSpec(height=6, width=5))
        with pytest.raises(DataError) as training:
            load_data(str(tmp_path / "d"))
        assert str(training.value) == str(scoring.value)
