"""gpcnn-sample as a user meets it: pictures, messages and exit codes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import LABELLED, PLAIN, Make

from gpcnn_deploy import __version__
from gpcnn_deploy.pictures.levels import grid, pixels_from_levels
from gpcnn_runtime.commands.sample.cli import main
from gpcnn_runtime.engines.base import OutOfMemoryError
from gpcnn_runtime.engines.onnxruntime.engine import OnnxSampler
from gpcnn_runtime.sampler import Sampler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path | int) -> Result:
    """Run the command; pictures keep their size unless a test says otherwise."""
    if "--scale" not in arguments:
        arguments = (*arguments, "--scale", 1)
    return run_as_it_stands(*arguments)


def run_as_it_stands(*arguments: str | Path | int) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: str | Path | int) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fails(code: int, message: str, *arguments: str | Path | int) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert result.stdout == ""
    if code != 2:
        assert len(result.stderr.strip().splitlines()) == 1


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def expected(
    path: Path, labels: object, seed: int, count: int, columns: int | None = None, **more: float
) -> np.ndarray:
    with Sampler.load(path) as sampler:
        return sampler.sample(labels, seed, count, **more).grid(columns)


def test_one_image_keeps_its_pixels(folder: Path, sampler_path: Path) -> None:
    told = ok("--engine", sampler_path, "--label", 1, "--seed", 3)
    np.testing.assert_array_equal(picture(folder / "sample.png"), expected(sampler_path, 1, 3, 1))
    assert picture(folder / "sample.png").shape == (6, 5)
    assert told.startswith("sample.png: 1 image of 6×5, in ")
    assert "ms an image)" in told
    assert f"engine: {sampler_path} (sampler, window 2) on ONNX Runtime " in told
    assert told.rstrip().endswith("CPU, 1 thread")


def test_default_engine_is_the_one_in_the_folder(folder: Path, sampler_path: Path) -> None:
    (folder / "model.onnx").write_bytes(sampler_path.read_bytes())
    ok("--label", "boot")
    assert (folder / "sample.png").exists()


def test_a_small_picture_is_enlarged_to_be_seen(folder: Path, sampler_path: Path) -> None:
    assert run_as_it_stands("--engine", sampler_path, "--label", 0, "-o", "large.png").exit_code == 0
    ok("--engine", sampler_path, "--label", 0, "-o", "small.png")
    small, large = picture(folder / "small.png"), picture(folder / "large.png")
    assert small.shape == (6, 5)
    assert large.shape == (6 * 42, 5 * 42)
    np.testing.assert_array_equal(large[::42, ::42], small)


def test_colour_and_scale(folder: Path, make: Make) -> None:
    engine = make(PLAIN, 3)
    ok("--engine", engine, "--scale", 3, "-o", folder / "new" / "a.png")
    sheet = expected(engine, None, 0, 1)
    assert sheet.shape == (4, 6, 3)
    np.testing.assert_array_equal(picture(folder / "new" / "a.png"), sheet.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (["boot"], [0]),
        (["3"], [1]),  # a class of that name wins over a number, which is unknown here
        (["0,2", "1"], [0, 2, 1]),
        (["bag, red"], [2]),
        (["boot, 1"], [0, 1]),
        (["all"], [0, 1, 2]),
        (["2", "2"], [2, 2]),
    ],
)
def test_labels(folder: Path, sampler_path: Path, labels: list[str], numbers: list[int]) -> None:
    ok("--engine", sampler_path, *(text for label in labels for text in ("--label", label)))
    np.testing.assert_array_equal(picture(folder / "sample.png"), expected(sampler_path, numbers, 0, 1))


def test_a_class_whose_name_is_another_ones_number(folder: Path, make: Make) -> None:
    """--label takes a name for a name, before it takes it for a number; the number it stands for stays one."""
    engine = make(LABELLED, 2, names=("1", "2", "0"))
    for name, number in (("1", 0), ("2", 1), ("0", 2)):
        ok("--engine", engine, "--label", name)
        np.testing.assert_array_equal(picture(folder / "sample.png"), expected(make(LABELLED, 2), number, 0, 1))
    ok("--engine", engine, "--label", "all")
    np.testing.assert_array_equal(picture(folder / "sample.png"), expected(make(LABELLED, 2), [0, 1, 2], 0, 1))


def test_several_of_each_label_are_a_row_each(folder: Path, sampler_path: Path) -> None:
    ok("--engine", sampler_path, "--label", "all", "--count", 5, "--threads", 2, "--batch-size", 2)
    assert picture(folder / "sample.png").shape == (3 * 8 + 2, 5 * 7 + 2)
    np.testing.assert_array_equal(picture(folder / "sample.png"), expected(sampler_path, [0, 1, 2], 0, 5, columns=5))


def test_temperature_and_seed_matter(folder: Path, sampler_path: Path) -> None:
    base = ("--engine", sampler_path, "--label", 0, "--count", 9)
    seen = set()
    for more in ((), ("--seed", 1), ("--temperature", "0.3")):
        ok(*base, *more)
        seen.add(picture(folder / "sample.png").tobytes())
    assert len(seen) == 3
    cold = expected(sampler_path, 0, 0, 9, temperature=0.3)
    np.testing.assert_array_equal(picture(folder / "sample.png"), cold)


def test_both_strategies_of_a_step_draw_the_samplers_image(folder: Path, sampler_path: Path, step_path: Path) -> None:
    ok("--engine", sampler_path, "--label", "2,0", "-o", "sampler.png")
    for strategy in ("jacobi", "raster"):
        told = ok("--engine", step_path, "--label", "2,0", "--strategy", strategy, "-o", f"{strategy}.png")
        assert "(step) on ONNX Runtime" in told
        assert (folder / f"{strategy}.png").read_bytes() == (folder / "sampler.png").read_bytes()


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "unknown label '9': expected one of 0 boot, 1 3, 2 bag, red", ["--label", "9"]),
        (2, "unknown label 'sock'", ["--label", "boot,sock"]),
        (2, "unknown label ''", ["--label", "boot,"]),
        (2, "choose with --label, one of boot, 3, bag, red, or all", []),
        (2, "count is 0: expected at least 1", ["--label", "0", "--count", "0"]),
        (2, "temperature is 0: expected 1e-06 or more", ["--label", "0", "--temperature", "0"]),
        (2, "temperature is -1", ["--label", "0", "--temperature", "-1"]),
        (2, "temperature is nan", ["--label", "0", "--temperature", "nan"]),
        (2, "seed is -1: expected 0 to 2**64 - 1", ["--label", "0", "--seed", "-1"]),
        (2, "strategy raster needs a step engine", ["--label", "0", "--strategy", "raster"]),
        (2, "'zigzag' is not one of 'jacobi', 'raster'", ["--label", "0", "--strategy", "zigzag"]),
        (2, "No such option", ["--label", "0", "--wat"]),
        (2, "'--threads'", ["--label", "0", "--threads", "0"]),
        (2, "images in one call: expected at most 2**63 - 1", ["--label", "0", "--count", "10000000000000000000"]),
        (2, "too many pixels for one picture: draw fewer, or add --output", ["--label", "0", "--count", "9999999"]),
    ],
)
def test_usage_errors(folder: Path, sampler_path: Path, code: int, message: str, arguments: list[str]) -> None:
    for output_format in ("grid", "png", "npz"):
        if "too many" in message and output_format != "grid":
            continue
        fails(code, message, "--engine", sampler_path, *arguments, "--output-format", output_format)
        assert list(folder.iterdir()) == []


def test_label_for_an_unconditional_model(folder: Path, make: Make) -> None:
    for label in ("3", "all"):
        fails(2, "this model is unconditional: it takes no label", "--engine", make(PLAIN, 3), "--label", label)


def test_no_engine_named_and_none_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpcnn_runtime.zoo.catalogue.FOLDER", folder)
    fails(2, "no engine in this folder (model.gpcnn, model.onnx, model.plan): name one with --engine", "--label", 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.onnx", None, "no such file; make one with gpcnn-export"),
        ("empty.onnx", b"", "is empty"),
        ("picture.onnx", b"\x89PNG\r\n", "is a PNG picture"),
        ("text.onnx", b"hello" * 50, "truncated, damaged or foreign"),
        ("model.plan", b"ftrt", "a plan needs the metadata written beside it"),
    ],
)
def test_engine_errors_exit_1(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    fails(1, message, "--engine", name, "--label", 0)
    assert not (folder / "sample.png").exists()


def test_output_that_is_a_folder(folder: Path, sampler_path: Path) -> None:
    for output_format in ("grid", "npz"):
        fails(
            1, "it is a folder", "--engine", sampler_path, "--label", 0, "--output-format", output_format, "-o", folder
        )
    assert list(folder.iterdir()) == []


def test_a_file_where_a_folder_must_be(folder: Path, sampler_path: Path) -> None:
    (folder / "x").write_text("mine")
    fails(1, "cannot write x/a.png", "--engine", sampler_path, "--label", 0, "-o", "x/a.png")
    fails(
        1,
        "it is no folder; name a folder with -o",
        "--engine",
        sampler_path,
        "--label",
        0,
        "-o",
        "x",
        "--output-format",
        "png",
    )
    assert (folder / "x").read_text() == "mine"


def test_a_failed_run_leaves_what_was_there(folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sample.png").write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for output_format, name in (("grid", "sample.png"), ("npz", "a.npz"), ("png", "a")):
        arguments = ["--engine", sampler_path, "--label", 0, "-o", name, "--output-format", output_format]
        fails(1, "No space left on device; free space", *arguments)
    assert (folder / "sample.png").read_bytes() == b"before"
    assert not list(folder.rglob("*.part"))
    assert not (folder / "a.npz").exists()


def test_out_of_memory_names_the_batch_size(folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise OutOfMemoryError("no room")

    monkeypatch.setattr(OnnxSampler, "run", run_out)
    arguments = ["--engine", sampler_path, "--label", 0, "--threads", 2, "--count", 128]
    fails(1, "not enough memory for 2 × 64 images at a time: try --batch-size 32", *arguments)
    fails(1, "2 × 16 images at a time: try --batch-size 8", *arguments, "--batch-size", 16)

    def python_runs_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Sampler, "draw", python_runs_out)
    fails(1, "not enough memory: try --batch-size 32, or --threads 1", *arguments)


def test_ctrl_c_exits_130(folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "draw", press)
    fails(130, "interrupted: nothing was written", "--engine", sampler_path, "--label", 0)
    assert list(folder.iterdir()) == []


def test_a_bug_keeps_its_traceback(folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sampler, "draw", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("--engine", sampler_path, "--label", 0)


def test_progress_is_shown_on_a_terminal_alone(
    folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rich.console

    bars: list[rich.console.Console] = []
    original = rich.console.Console

    def console(*arguments: object, **options: object) -> rich.console.Console:
        bars.append(original(*arguments, **options))  # type: ignore[arg-type]
        return bars[-1]

    monkeypatch.setattr(rich.console, "Console", console)
    many = ("--engine", sampler_path, "--label", 0, "--count", 9, "--batch-size", 1, "--threads", 2)
    ok(*many)
    assert bars == []
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    run(*many[:-6])
    assert bars == []  # one image: nothing to wait for
    result = run(*many)
    assert result.exit_code == 0
    assert len(bars) == 1
    assert bars[0].stderr
    assert "drawing" not in result.stdout


def test_levels_are_written_as_pixels(folder: Path, sampler_path: Path) -> None:
    with Sampler.load(sampler_path) as sampler:
        levels = sampler.sample(0, count=4).levels
    ok("--engine", sampler_path, "--label", 0, "--count", 4)
    np.testing.assert_array_equal(picture(folder / "sample.png"), grid(pixels_from_levels(levels, LABELLED.levels)))


def test_version() -> None:
    result = run_as_it_stands("--version")
    assert result.exit_code == 0
    assert result.stdout.endswith(f", version {__version__}\n")


@pytest.mark.parametrize("output_format", ["grid", "png", "npz"])
def test_json_tells_what_was_drawn(folder: Path, sampler_path: Path, output_format: str) -> None:
    options = ["--engine", sampler_path, "--label", "2,0", "--count", 2, "--seed", 5, "--output-format", output_format]
    ok(*options, "-o", "out", "--temperature", "0.9", "--threads", 2, "--json", "deep/told.json")
    told = json.loads(Path("deep/told.json").read_text())
    with Sampler.load(sampler_path) as sampler:
        drawn = sampler.sample([2, 0], 5, 2, temperature=0.9)
        version = sampler.engine.info.version
    assert told.pop("engine") == {
        **{"path": str(sampler_path), "digest": hashlib.sha256(sampler_path.read_bytes()).hexdigest()},
        **{
            "role": "sampler",
            "window": 2,
            "batch_window": None,
            "batch_from": None,
            "batch": None,
            "precision": "fp32",
        },
        **{"runtime": "ONNX Runtime", "version": version, "provider": "CPU", "threads": 2},
    }
    images = told.pop("images")
    seconds, each = told.pop("seconds"), told.pop("ms_per_image")
    assert each == pytest.approx(seconds / 4 * 1e3)
    assert seconds > 0
    others = ("like", "embeddings", "maps", "upscale", "interpolate", "positions")
    assert [told.pop(name) for name in others] == [None] * len(others)
    assert told == {
        **{"output": "out", "output_format": output_format, "labels": [2, 0], "count": 2, "seed": 5},
        **{"temperature": 0.9, "drawn_before": 0, "completion": None},
    }
    assert [image["position"] for image in images] == [0, 1, 2, 3]
    assert [(image["label"], image["class_name"]) for image in images] == [(2, "bag, red")] * 2 + [(0, "boot")] * 2
    np.testing.assert_allclose([image["nats"] for image in images], -drawn.log_likelihood(), atol=1e-4)
    hashes = [hashlib.sha256(image.astype(np.uint8).tobytes()).hexdigest() for image in drawn.levels]
    assert [image["levels_sha256"] for image in images] == hashes
    assert all(image["rank"] is None and image["known_nats"] is None for image in images)


def test_json_on_standard_output_has_it_for_itself(folder: Path, make: Make) -> None:
    result = run("--engine", make(PLAIN, 3), "--json", "-")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["labels"], told["images"][0]["label"], told["images"][0]["class_name"]) == (None, None, None)
    assert result.stderr.startswith("sample.png: 1 image of 4×6, in ")


def test_json_of_a_job_that_goes_on_tells_what_this_run_drew(folder: Path, sampler_path: Path) -> None:
    options = ["--engine", sampler_path, "--label", 0, "--count", 4, "--output-format", "png", "--json", "told.json"]
    ok(*options)
    (folder / "samples" / "000002-boot.png").unlink()
    ok(*options)
    told = json.loads(Path("told.json").read_text())
    assert (told["drawn_before"], [image["position"] for image in told["images"]]) == (3, [2])
    ok(*options)
    told = json.loads(Path("told.json").read_text())
    assert (told["drawn_before"], told["images"], told["ms_per_image"]) == (4, [], None)


@pytest.mark.parametrize(
    ("output_format", "name", "message"),
    [
        ("grid", "a.jpg", "-o a.jpg ends in '.jpg', but pictures are written as .png alone: name it so"),
        ("grid", "b/a.PNGX", "-o b/a.PNGX ends in '.PNGX', but pictures are written as .png alone: name it so"),
        ("grid", "a.npz", "-o a.npz ends in '.npz', which is no picture: name a .png, or add --output-format npz"),
        ("npz", "a.png", "-o a.png ends in '.png', but --output-format npz writes an .npz: name it so"),
        ("npz", "a.npy", "-o a.npy ends in '.npy', but --output-format npz writes an .npz: name it so"),
        ("png", "a.png", "-o a.png ends in '.png', but --output-format png writes a folder of pictures: name a folder"),
        ("png", "a.npz", "-o a.npz ends in '.npz', but --output-format png writes a folder of pictures: name a folder"),
    ],
)
def test_names_that_say_another_format(folder: Path, output_format: str, name: str, message: str) -> None:
    """Before an engine is looked for."""
    fails(2, f"Error: {message}\n", "--output-format", output_format, "-o", name)


@pytest.mark.parametrize(
    ("output_format", "name"),
    [("grid", "a.PNG"), ("grid", "bare"), ("npz", "a.npz"), ("npz", "bare"), ("png", "bare"), ("png", "run.2")],
)
def test_names_that_fit_the_format(folder: Path, sampler_path: Path, output_format: str, name: str) -> None:
    ok("--engine", sampler_path, "--label", 0, "--output-format", output_format, "-o", name)
    assert (folder / name).is_dir() == (output_format == "png")


def test_json_that_cannot_be_written_is_refused_before_anything_is_drawn(folder: Path, sampler_path: Path) -> None:
    (folder / "there").mkdir()
    options = ["--engine", sampler_path, "--label", 0]
    fails(1, "cannot write there: it is a folder; name a file with --json", *options, "--json", "there")
    fails(2, "-o and --json both name a.png: name two files", *options, "-o", "a.png", "--json", "there/../a.png")
    assert [path.name for path in folder.iterdir()] == ["there"]
