"""A VQ-VAE's engines in gpcnn-sample and gpcnn-score: pictures like others, completed, and scored by their codes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_vqvae import PRIOR, SPEC, engines_in

import gpcnn_runtime.commands.sample.cli
import gpcnn_runtime.commands.score.cli
from gpcnn_export.proof.pictures import check_pictures
from gpcnn_runtime import Sampler
from gpcnn_training.checkpoint import load_vqvae
from gpcnn_training.vqvae.pictures import decibels, decode, encode

PIXELS = check_pictures(SPEC, 8)
ENGINES = ("model.gpcnn", "model.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines_in(tmp_path_factory.mktemp("vqvae"), PIXELS, SPEC, PRIOR, 1)


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in made.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def sampled(*arguments: object) -> Result:
    result = run(gpcnn_runtime.commands.sample.cli.main, *arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_nats_of_codes_and_how_well_pictures_come_back(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    options = ("--engine", engine, "--json", "s.json", "--csv", "s.csv", "--heatmap", "heat")
    result = run(gpcnn_runtime.commands.score.cli.main, "2.png", "3.png", *options)
    assert result.exit_code == 0, result.output
    assert "bits/code" in result.stdout
    found = json.loads(Path("s.json").read_text())
    codes = encode(pictures, PIXELS[2:4])
    back = decode(pictures, codes).astype(float)
    with Sampler.load(engine) as sampler:
        label_nats = [-sampler.score(codes, label).sum(axis=(1, 2, 3)) for label in (0, 1)]
    mixed = math.log(2) - np.logaddexp(-label_nats[0], -label_nats[1])
    for k, row in enumerate(found["pictures"]):
        assert np.isclose(row["nats"], mixed[k], rtol=1e-5)
        assert abs(row["psnr"] - decibels(((back[k] - PIXELS[2 + k]) ** 2).mean())) < 0.1
        assert np.isclose(row["bits_per_dim"], row["nats"] / 6 / math.log(2))
        with Image.open(row["heatmap"]) as heat:
            assert heat.size == (28 * (2 * 8 + 6), 28 * (12 + 4))
    assert found["of_codes"]
    assert Path("s.csv").read_text().splitlines()[0].startswith("picture,nats,bits_per_dim,psnr,")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_completion_keeps_pixels_and_codes_and_draws_the_rest(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    options = ("--rows", 6, "--count", 3, "--label", "b", "--output-format", "npz", "-o", "c.npz")
    sampled("--engine", engine, "--complete", "5.png", *options)
    with np.load("c.npz") as arrays:
        codes, drawn, kept, mask = (arrays[name] for name in ("levels", "pictures", "kept", "mask"))
    assert np.array_equal(mask[0], [[True, True], [False, False], [False, False]])  # row 4 to 7 are kept in part
    assert (codes[:, 0, 0] == encode(pictures, PIXELS[5:6])[0, 0, 0]).all()
    assert np.array_equal(kept, np.broadcast_to(np.arange(12)[:, None] < 6, (3, 12, 8)))
    assert (drawn[:, :, :6] == PIXELS[5, :, :6]).all()
    decoded = decode(pictures, codes.astype(np.int32)).astype(int)
    assert np.abs(decoded[:, :, 6:] - drawn[:, :, 6:]).max() <= 1
    assert len({one.tobytes() for one in codes}) > 1
    sampled("--engine", engine, "--complete", "5.png", "--box", "0,4,8,4", "--candidates", 4, "--rank-by", "known")
    sampled("--engine", engine, "--complete", "5.png", "--rows", 6, "--output-format", "png", "-o", "folder")
    with Image.open("folder/original.png") as original:
        assert np.array_equal(np.asarray(original), PIXELS[5].transpose(1, 2, 0))
    result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", engine, "--complete", "5.png", "--rows", 3)
    assert result.exit_code == 2
    assert "no code of the picture would be left: one stands for 4×4 pixels" in result.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_images_like_a_picture_have_a_share_of_its_codes(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    own = encode(pictures, PIXELS[[3, 6]])
    options = ("--count", 30, "--output-format", "npz", "-o", "l.npz")
    likes = ("--engine", engine, "--like", "3.png", "--like", "6.png")
    sampled(*likes, *options, "--vary", 0.25)
    with np.load("l.npz") as arrays:
        codes, back, original = (arrays[name] for name in ("levels", "reconstruction", "original"))
    assert np.array_equal(original, PIXELS[[3, 6]])
    assert np.abs(decode(pictures, own).astype(int) - back).max() <= 1
    same = codes.reshape(2, 30, 1, 3, 2) == own[:, None]
    assert 0.7 <= same.mean() < 1  # drawn anew, a code may be what it was
    sampled(*likes, "--vary", 0, "--output-format", "npz", "-o", "none.npz")
    with np.load("none.npz") as arrays:
        assert (arrays["levels"].reshape(2, 4, 1, 3, 2) == own[:, None]).all()
    sampled(*likes, "-o", "sheet.png", "--scale", 1)
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (6 * 10 + 2, 2 * 14 + 2)
    again = sampled(*likes, *options, "--vary", 0.25)
    assert "60 of them drawn before" in again.stdout


@pytest.mark.parametrize("engine", ENGINES)
def test_images_like_a_picture_are_drawn_under_the_labels_that_are_named(engine: str) -> None:
    """Codes that stay are the picture's, and those drawn anew are what the same known codes give under the label."""
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    own = encode(pictures, PIXELS[[3, 6]])
    likes = ("--engine", engine, "--like", "3.png", "--like", "6.png", "--count", 5, "--vary", 0.6, "--seed", 4)
    npz = ("--output-format", "npz", "-o")
    drawn: dict[str, Any] = {}
    for name, labels in {"a": ["a"], "b": ["b"], "both": ["a", "b"], "all": ["all"]}.items():
        chosen = [word for label in labels for word in ("--label", label)]
        sampled(*likes, *chosen, *npz, f"{name}.npz")
        with np.load(f"{name}.npz") as arrays:
            drawn[name] = {key: arrays[key] for key in arrays}
        each = 5 * (2 if name in ("both", "all") else 1)
        kept = (drawn[name]["levels"].reshape(2, each, 1, 3, 2) == own[:, None]).mean()
        assert 0.3 <= kept < 1
    assert drawn["a"]["labels"].tolist() == [0] * 10
    assert drawn["both"]["labels"].tolist() == ([0] * 5 + [1] * 5) * 2
    assert not np.array_equal(drawn["a"]["levels"], drawn["b"]["levels"])
    assert all(np.array_equal(drawn["both"][key], drawn["all"][key]) for key in drawn["both"] if key != "job")
    assert np.array_equal(drawn["both"]["levels"][:5], drawn["a"]["levels"][:5])  # the first picture under a: both ways
    with Sampler.load(engine) as sampler:
        staying = drawn["b"]["levels"] == own.repeat(5, axis=0)
        again = sampler.sample([1] * 10, 4, 1, known=own.repeat(5, axis=0), mask=staying)
        assert np.array_equal(again.levels, drawn["b"]["levels"])  # a code that was drawn stays so if it is known
    assert "20 of them drawn before" in sampled(*likes, "--label", "a,b", *npz, "both.npz").stdout
    result = run(gpcnn_runtime.commands.sample.cli.main, *likes, "--label", "b", *npz, "a.npz")
    assert result.exit_code == 1
    assert "a.npz holds another job" in result.stderr
    sampled(*likes, "--label", "a,b", "--shard", "2/4", *npz, "part.npz")
    with np.load("part.npz") as arrays:
        assert np.array_equal(arrays["levels"], drawn["both"]["levels"][5:10])
        assert arrays["labels"].tolist() == [1] * 5
    sampled(*likes, "--label", "a,b", "--output-format", "png", "-o", "folder")
    assert {path.name for path in Path("folder").glob("*.png")} >= {"000000-a.png", "000005-b.png", "000019-b.png"}
    sampled(*likes, "--label", "b", "-o", "sheet.png", "--scale", 1, "--json", "s.json")
    report = json.loads(Path("s.json").read_text())
    assert {image["class_name"] for image in report["images"]} == {"b"}
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (7 * 10 + 2, 2 * 14 + 2)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("unknown label 'x': expected one of", ("--like", "1.png", "--label", "x")),
        ("--upscale and --label both say what to draw", ("--upscale", "1.png", "--label", "a")),
        ("--map and --like both say what to draw", ("--like", "1.png", "--label", "a", "--map", "m.npy")),
        ("--interpolate is not for a VQ-VAE", ("--interpolate", "a,b")),
        ("--vary goes with --like", ("--label", "a", "--vary", 0.5)),
        ("--like and --complete both say which codes", ("--like", "1.png", "--complete", "1.png", "--rows", 6)),
        ("name one with --label in place of --embedding", ("--embedding", "h.npy")),
        ("1.npz", ("--like", "1.npz")),
    ],
)
def test_what_a_vqvae_cannot_do_is_one_line_and_nothing_is_written(message: str, arguments: tuple[object, ...]) -> None:
    before = set(Path().iterdir())
    result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", "model.gpcnn", *arguments)
    assert result.exit_code in (1, 2), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [("--binarize", "stochastic"), ("--background", "model.onnx"), ("--embeddings", "h.npy")],
)
def test_scores_of_codes_take_no_options_of_pixels(arguments: tuple[str, ...]) -> None:
    result = run(gpcnn_runtime.commands.score.cli.main, "1.png", "--engine", "model.gpcnn", *arguments)
    assert result.exit_code in (1, 2), result.output
    assert f"{arguments[0]} is not for a VQ-VAE" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
