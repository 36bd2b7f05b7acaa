"""`--map`, `--upscale`, `gpcnn-score --map`: what eager PyTorch draws under a map, and one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import ENLARGED, LABELLED, MAPPED, PLAIN, engine_bytes_of, model_of, names_of

import gpcnn_runtime.commands.bench.cli
import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
import gpcnn_runtime.commands.score.cli
from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import grid, levels_from_pixels, pixels_from_levels
from gpcnn_deploy.pictures.maps import enlarged, made_small, values_of_pixels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached, score

RNG = np.random.default_rng(7)
MAPS = RNG.integers(0, 3, (4, 2, 2, 2))  # [N, h, w, planes]
SMALL = RNG.integers(0, 256, (3, 3, 2, 3), np.uint8)  # [N, h, w, C]
VALUES = ModelSpec(
    height=4, width=4, features=4, layers=2, head_features=6, conditioning="map", conditioning_size=1, map_height=4,
    map_width=2, map_features=3
)  # fmt: skip
SINGLE = ModelSpec(
    height=4, width=4, features=4, layers=2, head_features=6, conditioning="map", conditioning_size=1, map_height=2,
    map_width=2, map_features=3, map_categories=5, map_kind="categories"
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    specs = {"map": MAPPED, "up": ENLARGED, "values": VALUES, "single": SINGLE, "label": LABELLED, "plain": PLAIN}
    for name, spec in specs.items():
        Path(f"{name}.gpcnn").write_bytes(draft_model_file(model_of(spec, 1), names_of(spec)).content)
    for name in ("map", "up"):
        Path(f"{name}.onnx").write_bytes(engine_bytes_of(model_of(specs[name], 1), 2))
    np.save("m.npy", MAPS)
    np.save("one.npy", MAPS[3].astype(np.uint8))
    np.savez("both.npz", images=np.zeros((4, 4, 6), np.uint8), maps=MAPS)
    for k, picture in enumerate(SMALL):
        Image.fromarray(picture).save(f"small{k}.png")
    return tmp_path


def eager(model: GatedPixelCNN, maps: np.ndarray, seed: int = 0) -> np.ndarray:
    uniforms = torch.from_numpy(noise(model.spec, seed, len(maps)))
    return sample_cached(model, uniforms, torch.from_numpy(maps))[0].numpy()


def run(*arguments: object, score: bool = False) -> Result:
    command = (gpcnn_runtime.commands.score.cli if score else gpcnn_runtime.commands.sample.cli).main
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: object, score: bool = False) -> str:
    result = run(*arguments, score=score)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(code: int, message: str, *arguments: object, score: bool = False) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = run(*arguments, score=score)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("engine", ["map.gpcnn", "map.onnx"])
def test_images_under_maps_are_those_of_eager_pytorch(folder: Path, engine: str) -> None:
    asked = ("--map", "m.npy", "--map", "both.npz:1", "--map", "one.npy")
    report = json.loads(
        ok("--engine", engine, *asked, "--count", 2, "--output-format", "npz", "-o", "x.npz", "--json", "-")
    )
    assert (report["maps"], report["count"]) == (["m.npy", "both.npz:1", "one.npy"], 2)
    maps = np.concatenate([MAPS, MAPS[1:2], MAPS[3:]])
    with np.load("x.npz") as drawn:
        assert np.array_equal(drawn["map"], maps)
        expected = eager(model_of(MAPPED, 1), maps.transpose(0, 3, 1, 2).repeat(2, 0).astype(np.int32))
        assert np.array_equal(drawn["levels"], expected)
        assert len({image.tobytes() for image in drawn["levels"]}) > 6
    fails(1, "holds another job", "--engine", engine, *asked[:2], "--count", 2, "--output-format", "npz", "-o", "x.npz")


@pytest.mark.parametrize("engine", ["up.gpcnn", "up.onnx"])
def test_small_pictures_are_enlarged_and_stand_before_what_was_drawn(folder: Path, engine: str) -> None:
    pictures = [word for k in range(3) for word in ("--upscale", f"small{k}.png")]
    report = json.loads(ok("--engine", engine, *pictures, "--count", 2, "-o", "x.png", "--scale", 1, "--json", "-"))
    assert report["upscale"] == ["small0.png", "small1.png", "small2.png"]
    small = SMALL.transpose(0, 3, 1, 2)
    levels = eager(model_of(ENLARGED, 1), values_of_pixels(small).repeat(2, 0))
    pixels = pixels_from_levels(levels, ENLARGED.levels).reshape(3, 2, 3, 6, 4)
    rows = np.concatenate([enlarged(small, 6, 4)[:, None], pixels], axis=1)
    with Image.open("x.png") as sheet:
        assert np.array_equal(np.asarray(sheet), grid(rows.reshape(-1, 3, 6, 4), 3))
    ok("--engine", engine, "--map", "small1.png", "--output-format", "npz", "-o", "x.npz")
    with np.load("x.npz") as drawn:
        assert np.array_equal(drawn["levels"], eager(model_of(ENLARGED, 1), values_of_pixels(small[1:2])))
    np.save("all.npy", SMALL)
    ok("--engine", engine, "--map", "all.npy:2", "--output-format", "npz", "-o", "y.npz")
    with np.load("y.npz") as drawn:
        assert np.array_equal(drawn["levels"], eager(model_of(ENLARGED, 1), values_of_pixels(small[2:])))
    Image.fromarray(255 - SMALL[0].repeat(4, 0).repeat(4, 1)).save("large.png")
    ok("--engine", engine, "--upscale", "large.png", "--resize", "--invert", "--output-format", "npz", "-o", "z.npz")
    with np.load("z.npz") as drawn:
        assert np.array_equal(drawn["levels"], eager(model_of(ENLARGED, 1), values_of_pixels(small[:1])))


def test_the_numbers_of_a_picture_are_categories_or_values(folder: Path) -> None:
    numbers = np.array([[0, 4], [3, 1]], np.uint8)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 200, 0, 200])
    palette.save("palette.png")
    Image.fromarray(numbers).save("grey.png")
    Image.fromarray(numbers.astype(np.uint16)).save("deep.png")
    expected = eager(model_of(SINGLE, 1), numbers[None, None].astype(np.int32))
    for name in ("palette.png", "grey.png", "deep.png"):
        ok("--engine", "single.gpcnn", "--map", name, "--output-format", "npz", "-o", f"{name}.npz")
        with np.load(f"{name}.npz") as drawn:
            assert np.array_equal(drawn["levels"], expected)
    values = RNG.integers(0, 256, (4, 2), np.uint8)
    Image.fromarray(values).save("values.png")
    ok("--engine", "values.gpcnn", "--map", "values.png", "--output-format", "npz", "-o", "v.npz")
    with np.load("v.npz") as drawn:
        assert np.allclose(drawn["map"][0, :, :, 0], values / 255, atol=1e-7)
        assert np.array_equal(drawn["levels"], eager(model_of(VALUES, 1), drawn["map"].transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("engine", ["map.gpcnn", "map.onnx"])
def test_a_picture_is_completed_under_a_map(folder: Path, engine: str) -> None:
    model = model_of(MAPPED, 1)
    picture = RNG.integers(0, MAPPED.levels, (1, 1, 4, 6), np.int32)
    Image.fromarray(pixels_from_levels(picture, MAPPED.levels)[0, 0]).save("p.png")
    ok("--engine", engine, "--complete", "p.png", "--rows", 2, "--map", "one.npy", "--count", 1, "--output-format",
       "npz", "-o", "c.npz")  # fmt: skip
    mask = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[:, :, :2] = True
    given = torch.from_numpy(MAPS[3:].transpose(0, 3, 1, 2).astype(np.int32))
    uniforms = torch.from_numpy(noise(MAPPED, 0, 1))
    expected = sample_cached(model, uniforms, given, torch.from_numpy(picture), mask)[0].numpy()
    with np.load("c.npz") as drawn:
        assert np.array_equal(drawn["levels"], expected)
    message = "m.npy: 4 maps: a picture is completed under one: name one of them"
    fails(2, message, "--engine", engine, "--complete", "p.png", "--rows", 2, "--map", "m.npy")


def test_scores_are_those_of_eager_pytorch(folder: Path) -> None:
    images = RNG.integers(0, 256, (4, 4, 6), np.uint8)
    np.savez("four.npz", images=images, maps=MAPS)
    levels = torch.from_numpy(levels_from_pixels(images[:, None], MAPPED.levels))
    maps = torch.from_numpy(MAPS.transpose(0, 3, 1, 2).astype(np.int32))
    for engine in ("map.gpcnn", "map.onnx"):
        for given, each in (("four.npz", maps), ("m.npy", maps), ("one.npy", maps[3:].expand(4, -1, -1, -1))):
            report = json.loads(ok("four.npz", "--engine", engine, "--map", given, "--json", "-", score=True))
            nats = [row["nats"] for row in report["pictures"]]
            expected = -score(model_of(MAPPED, 1), levels, each).sum((1, 2, 3))
            assert np.allclose(nats, expected.numpy(), atol=1e-3)
    pictures = RNG.integers(0, 256, (2, 6, 4, 3), np.uint8)
    np.savez("two.npz", images=pictures)
    pixels = pictures.transpose(0, 3, 1, 2)
    small = torch.from_numpy(values_of_pixels(made_small(pixels, 3, 2)))
    levels = torch.from_numpy(levels_from_pixels(pixels, ENLARGED.levels))
    for engine in ("up.gpcnn", "up.onnx"):
        report = json.loads(ok("two.npz", "--engine", engine, "--json", "-", score=True))
        expected = -score(model_of(ENLARGED, 1), levels, small).sum((1, 2, 3))
        assert np.allclose([row["nats"] for row in report["pictures"]], expected.numpy(), atol=1e-3)
        assert report["own_map"]
        assert "given itself made small" in ok("two.npz", "--engine", engine, score=True)
        report = json.loads(ok("two.npz", "--engine", engine, "--map", "small1.png", "--json", "-", score=True))
        other = torch.from_numpy(values_of_pixels(SMALL[1:2].transpose(0, 3, 1, 2))).expand(2, -1, -1, -1)
        expected = -score(model_of(ENLARGED, 1), levels, other).sum((1, 2, 3))
        assert np.allclose([row["nats"] for row in report["pictures"]], expected.numpy(), atol=1e-3)
        assert "own_map" not in report


def test_mistakes_are_one_line(folder: Path) -> None:
    nan = MAPS.astype(float)
    nan[2] = np.nan
    arrays = {"wide": MAPS.repeat(2, 2), "high": MAPS + 1, "floats": MAPS / 2, "flat": MAPS[:, 0, 0, 0], "nan": nan}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save("colour.png")
    map_, single = ("--engine", "map.gpcnn", "--map"), ("--engine", "single.gpcnn", "--map")
    fails(1, "no such file", *map_, "none.npy")
    fails(1, "2 rows × 4 columns × 2 planes: expected 2 × 2 × 2", *map_, "wide.npy")
    fails(1, "holds 1 to 3: expected categories 0 to 2", *map_, "high.npy")
    fails(1, "holds floats: expected integers", *map_, "floats.npy")
    fails(1, "Error: flat.npy: int64 of shape [4]: expected", *map_, "flat.npy")
    for row in ("x", "-1", "maps", "1.0", ""):
        fails(1, f"Error: m.npy:{row}: '{row}' is no number of a row: expected FILE:ROW, such as m.npy:0", *map_,
              f"m.npy:{row}")  # fmt: skip
        fails(1, f"'{row}' is no number of a row", "both.npz", *map_, f"m.npy:{row}", score=True)
    fails(1, "Error: none.npy: no such file", *map_, "none.npy:0")
    fails(1, "Error: small0.png:x: no such file", *map_, "small0.png:x")
    for shape in ((0, 2, 2), (0, 2, 2, 2), (3, 0, 2)):
        np.save("empty.npy", np.zeros(shape, int))
        empty = f"Error: empty.npy: empty, of shape {list(shape)}: expected at least one map"
        fails(1, empty, *map_, "empty.npy")
        fails(1, empty, "both.npz", *map_, "empty.npy", score=True)
    np.save("empty.npy", np.zeros((0, 3, 2, 3), np.uint8))
    fails(1, "Error: empty.npy are empty, of shape [0, 3, 2, 3]", "--engine", "up.gpcnn", "--map", "empty.npy")
    fails(1, "Error: nan.npy: nan or infinite numbers, first in map 2", "--engine", "values.gpcnn", "--map", "nan.npy")
    fails(1, "Error: m.npy: 4 maps, so no map 4: expected 0 to 3", *map_, "m.npy:4")
    fails(1, "maps have 2 planes: expected an .npy of [h, w, 2]", *map_, "small0.png")
    fails(1, "8-bit RGB: expected a picture that is grey", *single, "colour.png")
    fails(1, "the model takes 2×4 8-bit grey", "--engine", "values.gpcnn", "--map", "colour.png")
    Image.fromarray(np.full((2, 2), 5, np.uint8)).save("five.png")
    fails(1, "holds 5: expected categories 0 to 4", *single, "five.png")
    fails(2, "draws from a map of 2×2: name one with --map FILE", "--engine", "map.gpcnn")
    fails(2, "name one with --upscale SMALL.png", "--engine", "up.gpcnn")
    enlarges = "is for models that enlarge pictures (gpcnn-train --model upscale), and"
    for option, file, engine, message in (
        ("--upscale", "small0.png", "map", f"{enlarges} map.gpcnn draws from a map of 2×2: name one with --map FILE"),
        ("--upscale", "small0.png", "plain", f"{enlarges} plain.gpcnn draws without being asked for anything: leave"),
        ("--upscale", "small0.png", "label", f"{enlarges} label.gpcnn draws what a label says: name one with --label"),
        ("--map", "m.npy", "plain", "is for models with maps, and plain.gpcnn draws without"),
        ("--map", "m.npy", "label", "draws what a label says: name one with --label in place of --map"),
        ("--like", "small0.png", "map", "draws from a map of 2×2: name one with --map FILE in place of --like"),
        ("--like", "small0.png", "up", "enlarges a picture of 3×2 pixels: name one with --upscale SMALL.png in place"),
        ("--embedding", "m.npy", "map", "name one with --map FILE in place of --embedding"),
        ("--interpolate", "m.npy:0,m.npy:1", "map", "name one with --map FILE in place of --interpolate"),
    ):
        fails(2, message, "--engine", f"{engine}.gpcnn", option, file)
        fails(2, f"Error: {option} is for ", "--engine", f"{engine}.gpcnn", option, file)
    fails(2, "--upscale and --map both say", *map_, "m.npy", "--upscale", "small0.png")
    fails(2, "not on labels: leave --label out", "--engine", "map.gpcnn", "--label", "3")
    fails(1, "is 3×2 8-bit RGB; the model takes 2×3 8-bit RGB", "--engine", "up.gpcnn", "--upscale", "colour.png")
    scores = ("both.npz", "--engine", "map.gpcnn")
    fails(2, "without which it has no likelihood", *scores, score=True)
    for engine, more in (("map.gpcnn", ("--map", "m.npy")), ("up.gpcnn", ())):
        background = (
            f"--background {engine}: is conditioned on a map, and is given only the picture",
            "both.npz",
            "--background",
            engine,
        )
        fails(2, *background, "--engine", engine, *more, score=True)
    np.save("three.npy", MAPS[:3])
    fails(
        2, "3 maps for 4 pictures: expected one for each, or one map for all", *scores, "--map", "three.npy", score=True
    )
    fails(1, "holds 1 to 3", *scores, "--map", "high.npy", score=True)
    fails(2, "not conditioned on maps", "both.npz", "--engine", "plain.gpcnn", "--map", "m.npy", score=True)


def test_the_sampler_refuses_maps_that_do_not_fit(folder: Path) -> None:
    good = MAPS[0].transpose(2, 0, 1)
    with Sampler.load("map.gpcnn") as sampler:
        assert len(sampler.sample(map=good, count=2)) == 2
        for bad, message in (
            (None, "conditioned on a map: pass one"),
            (good[:1], "2 rows × 2 columns × 1 plane"),
            (good + 1, "categories 0 to 2"),
            (good / 2, "holds floats"),
            (np.zeros((0, 2, 2, 2), np.int32), "of shape"),
            (good.astype("U1"), "of shape"),
        ):
            with pytest.raises(UsageError, match=message):
                sampler.sample(map=bad)
        with pytest.raises(UsageError, match="2 conditions for 3 images"):
            sampler.score(np.zeros((3, 1, 4, 6), np.int32), map=np.stack([good, good]))
        engine = sampler.engine
        with pytest.raises(EngineError, match="check labels, maps"):
            engine._model.draw(noise(MAPPED, 0, 1), map=np.full((1, 2, 2, 2), 3, np.float32))  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match="check labels, maps"):
            engine._model.draw(noise(MAPPED, 0, 1))  # type: ignore[attr-defined]
    with Sampler.load("values.gpcnn") as sampler, pytest.raises(UsageError, match="nan or infinite"):
        sampler.sample(map=np.full((1, 4, 2), np.inf))
    with Sampler.load("plain.gpcnn") as sampler, pytest.raises(UsageError, match="not conditioned on a map"):
        sampler.sample(map=good)


def test_inspect_and_bench_know_maps(folder: Path) -> None:
    result = CliRunner().invoke(gpcnn_runtime.commands.inspect.cli.main, ["map.onnx"])
    assert "a map of 2×2, 2 planes of 3 categories" in result.stdout
    result = CliRunner().invoke(gpcnn_runtime.commands.inspect.cli.main, ["up.gpcnn"])
    assert "the picture at 3×2" in result.stdout
