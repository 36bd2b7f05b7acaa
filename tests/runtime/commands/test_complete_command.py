"""gpcnn-sample --complete as a user meets it: pictures in, pictures out, messages and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import LABELLED, PLAIN, Make

import gpcnn_runtime.completions
from gpcnn_runtime.commands.sample.cli import main
from gpcnn_runtime.completions import Completions, complete
from gpcnn_runtime.inputs.masks import keep_outside, keep_rows
from gpcnn_runtime.sampler import Sampler

LEVELS = np.random.default_rng(7).integers(0, LABELLED.levels, LABELLED.image_shape).astype(np.int32)
HOLE = np.zeros((LABELLED.height, LABELLED.width), np.bool_)
HOLE[1:4, 1:3] = True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler_path: Path) -> Path:
    """A folder with an engine, a picture of LEVELS and the mask HOLE."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(sampler_path.read_bytes())
    Image.fromarray((LEVELS[0] * 85).astype(np.uint8)).save("picture.png")
    Image.fromarray(HOLE.astype(np.uint8) * 255).save("mask.png")
    return tmp_path


def run(*arguments: str | Path | int) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ok(*arguments: str | Path | int) -> str:
    result = run("--complete", "picture.png", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fails(code: int, message: str, *arguments: str | Path | int) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr == f"Error: {message}\n"
    assert result.stdout == ""
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def picture(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def expected(mask: np.ndarray, **more: object) -> Completions:
    with Sampler.load("model.onnx") as sampler:
        return complete(sampler, LEVELS, mask, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "mask"),
    [
        (["--mask", "mask.png"], ~HOLE),
        (["--rows", "4"], keep_rows(LABELLED, 4)),
        (["--box", "0,2,4,1"], keep_outside(LABELLED, "0,2,4,1")),
    ],
)
def test_each_way_to_say_what_to_draw(folder: Path, arguments: list[str], mask: np.ndarray) -> None:
    told = ok(*arguments, "--label", "boot", "--scale", 1)
    done = expected(mask, labels=0)
    assert len(done) == 4
    np.testing.assert_array_equal(picture("completions.png"), done.sheet())
    distinct = "" if done.distinct() == 4 else f" ({done.distinct()} distinct)"
    assert told.startswith(f"completions.png: 4 completions of picture.png{distinct}, in ")
    lines = told.splitlines()
    assert lines[1].startswith("engine: model.onnx (sampler, window 2) on ONNX Runtime ")
    assert lines[2] == "rank  position        nats       known  label"
    for k in range(4):
        rank, position, nats, known, *label = lines[3 + k].split()
        assert (int(rank), int(position), label) == (k + 1, done.positions[k], ["0", "boot"])
        assert float(nats) == pytest.approx(-done.log_likelihood()[k], abs=2e-3)
        assert float(known) == pytest.approx(-done.known_log_likelihood()[k], abs=2e-3)
    assert ("did not guide them: --candidates 16 --rank-by known shows what fits" in told) == (
        "--rows" not in arguments
    )


def test_every_option_counts(folder: Path) -> None:
    options = ["--mask", "mask.png", "--label", "2,0", "--count", 3, "--candidates", 5, "--seed", 9]
    told = ok(*options, "--temperature", "0.7", "--rank-by", "known", "--scale", 2, "-o", "a/b.png")
    done = expected(~HOLE, labels=[2, 0], count=3, candidates=5, seed=9, temperature=0.7, rank_by="known")
    np.testing.assert_array_equal(picture("a/b.png"), done.sheet().repeat(2, 0).repeat(2, 1))
    distinct = "" if done.distinct() == 3 else f" ({done.distinct()} distinct)"
    assert f"3 completions of picture.png{distinct}, the best of 15 under each of 2 labels, in " in told
    assert "did not guide" not in told


def test_a_small_sheet_is_enlarged(folder: Path) -> None:
    ok("--rows", 3, "--label", 0)
    sheet = expected(keep_rows(LABELLED, 3), labels=0).sheet()
    factor = 768 // sheet.shape[1]
    np.testing.assert_array_equal(picture("completions.png"), sheet.repeat(factor, 0).repeat(factor, 1))


def test_without_a_label_the_known_pixels_choose_it(folder: Path) -> None:
    ok("--mask", "mask.png", "--scale", 1)
    done = expected(~HOLE)
    np.testing.assert_array_equal(picture("completions.png"), done.sheet())
    told = ok("--rows", 3, "--scale", 1)
    prefix = expected(keep_rows(LABELLED, 3))
    np.testing.assert_array_equal(picture("completions.png"), prefix.sheet())
    assert prefix.labels is not None
    assert (
        told.splitlines()[3].split()[4:] == f"{prefix.labels[0]} {['boot', '3', 'bag, red'][prefix.labels[0]]}".split()
    )


def test_a_model_without_labels_in_colour(folder: Path, make: Make) -> None:
    levels = np.random.default_rng(0).integers(0, 2, PLAIN.image_shape) * 6
    Image.fromarray((levels.transpose(1, 2, 0) // 6 * 255).astype(np.uint8)).save("colour.png")
    engine = make(PLAIN, 3)
    for arguments in (["--scale", "1"], ["--output-format", "png"]):
        result = run("--engine", engine, "--complete", "colour.png", "--box", "1,1,2,2", "--count", 2, *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "rank  position        nats       known\n" in result.stdout
    with Sampler.load(engine) as sampler:
        done = complete(sampler, levels, keep_outside(PLAIN, "1,1,2,2"), count=2)
    np.testing.assert_array_equal(picture("completions.png"), done.sheet())
    names = sorted(path.name for path in Path("completions").iterdir())
    assert names == ["01.png", "02.png", "job.json", "masked.png", "original.png"]
    np.testing.assert_array_equal(picture("completions/02.png"), done.pixels()[1].transpose(1, 2, 0))
    np.testing.assert_array_equal(picture("completions/original.png"), picture("colour.png"))
    np.testing.assert_array_equal(picture("completions/masked.png"), done.masked().transpose(1, 2, 0))


def test_resize_and_invert(folder: Path) -> None:
    Image.fromarray((255 - LEVELS[0] * 85).astype(np.uint8)).resize((10, 12), Image.Resampling.NEAREST).save(
        "large.png"
    )
    Image.fromarray(HOLE.astype(np.uint8) * 255).resize((10, 12), Image.Resampling.NEAREST).convert("RGB").save("m.png")
    arguments = ["--complete", "large.png", "--mask", "m.png", "--label", 0, "--scale", 1]
    size = "is 10×12 8-bit grey; the model takes 5×6 8-bit grey (width × height): convert it, or add --resize"
    fails(1, f"large.png: {size}", *arguments)
    assert run(*arguments, "--resize", "--invert").exit_code == 0
    sheet = picture("completions.png")
    hatched = np.isin(sheet[2:8, 9:14], (112, 176))
    np.testing.assert_array_equal(hatched, HOLE)  # the mask is not inverted
    Image.fromarray((255 - LEVELS[0] * 85).astype(np.uint8)).save("inverted.png")
    run("--complete", "inverted.png", "--invert", "--rows", 3, "--label", 0, "--scale", 1, "-o", "i.png")
    np.testing.assert_array_equal(picture("i.png"), expected(keep_rows(LABELLED, 3), labels=0).sheet())


def test_npz(folder: Path) -> None:
    ok("--mask", "mask.png", "--count", 3, "--candidates", 2, "--seed", 4, "--output-format", "npz")
    done = expected(~HOLE, count=3, candidates=2, seed=4)
    with np.load("completions.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    names = {"levels", "log_prob", "rank", "positions", "labels", "class_names", "original", "mask", "seed", "job"}
    assert arrays.keys() == names
    types = {name: str(array.dtype) for name, array in arrays.items() if name not in ("job", "class_names")}
    assert types == {
        **{"levels": "uint8", "log_prob": "float32", "rank": "int32", "positions": "int64", "labels": "int32"},
        **{"original": "uint8", "mask": "bool", "seed": "uint64"},
    }
    np.testing.assert_array_equal(arrays["levels"], done.levels)
    np.testing.assert_allclose(arrays["log_prob"], done.log_prob, atol=1e-5)
    assert arrays["rank"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(arrays["positions"], done.positions)
    np.testing.assert_array_equal(arrays["labels"], done.labels)
    assert arrays["class_names"].tolist() == ["boot", "3", "bag, red"]
    np.testing.assert_array_equal(arrays["original"], LEVELS)
    np.testing.assert_array_equal(arrays["mask"], ~HOLE[None])
    assert arrays["seed"] == 4
    job = msgspec.json.decode(str(arrays["job"]))
    assert (job["candidates"], job["rank_by"], len(job["known_digest"])) == (2, "image", 64)


@pytest.mark.parametrize(("output_format", "name"), [("png", "completions"), ("npz", "completions.npz")])
def test_another_job_is_refused_and_the_same_goes_again(folder: Path, output_format: str, name: str) -> None:
    base = ["--complete", "picture.png", "--rows", 3, "--label", 0, "--output-format", output_format]
    assert run(*base).exit_code == 0
    before = {path: path.read_bytes() for path in Path().rglob("*.png")}
    assert run(*base).exit_code == 0
    assert {path: path.read_bytes() for path in Path().rglob("*.png")} == before
    elsewhere = "name another place with -o, or remove it first"
    for more, difference in (
        (["--seed", 1], "its seed is 0, asked for 1"),
        (["--candidates", 2], "its candidates is 1, asked for 2"),
        (["--count", 2], "its count is 4, asked for 2"),
    ):
        fails(1, f"{name} holds another job ({difference}): {elsewhere}", *base, *more)
    result = run(*["4" if part == 3 else part for part in base])
    assert (result.exit_code, "its known digest is " in result.stderr) == (1, True)
    # Nor may whole images go where completions are, or the other way round.
    plain = ["--label", 0, "--count", 4, "--output-format", output_format]
    result = run(*plain, "-o", name)
    assert (result.exit_code, "its known digest is " in result.stderr) == (1, True)
    assert run(*plain).exit_code == 0
    result = run(*base, "-o", name.replace("completions", "samples"))
    assert (result.exit_code, "its known digest is None, asked for " in result.stderr) == (1, True)


def test_what_a_pixel_below_the_mask_holds_is_no_other_job(folder: Path) -> None:
    """The picture in the hole is not part of the job."""
    ok("--mask", "mask.png", "--label", 0, "--output-format", "npz")
    erased = np.where(HOLE, 0, LEVELS[0] * 85).astype(np.uint8)
    Image.fromarray(erased).save("picture.png")
    ok("--mask", "mask.png", "--label", 0, "--output-format", "npz")


def test_png_folder(folder: Path) -> None:
    ok("--mask", "mask.png", "--label", 2, "--count", 2, "--output-format", "png", "--scale", 3, "-o", "out")
    done = expected(~HOLE, labels=2, count=2)
    assert sorted(p.name for p in Path("out").iterdir()) == [
        *("01-bag__red.png", "02-bag__red.png", "job.json", "masked.png", "original.png")
    ]
    for k in range(2):
        large = done.pixels()[k, 0].repeat(3, 0).repeat(3, 1)
        np.testing.assert_array_equal(picture(f"out/{k + 1:02}-bag__red.png"), large)


def test_json(folder: Path) -> None:
    options = ["--mask", "mask.png", "--candidates", 3, "--count", 2, "--seed", 1]
    ok(*options, "--json", "a.json")
    result = run("--complete", "picture.png", *options, "--json", "-")
    assert result.exit_code == 0
    assert result.stderr.startswith("completions.png: 2 completions of picture.png")
    a, b = json.loads(Path("a.json").read_text()), json.loads(result.stdout)
    done = expected(~HOLE, candidates=3, count=2, seed=1)
    for told in (a, b):
        assert told["completion"] == {
            **{"picture": "picture.png", "kept_pixels": 24, "guided": False},
            **{"candidates": 3, "rank_by": "image", "drawn": 18},
        }
        assert (told["output"], told["count"], told["seed"], told["labels"]) == ("completions.png", 2, 1, None)
        assert [image["rank"] for image in told["images"]] == [1, 2]
        for k, image in enumerate(told["images"]):
            assert image["position"] == done.positions[k]
            assert done.labels is not None
            assert image["label"] == done.labels[k]
            assert image["class_name"] == ["boot", "3", "bag, red"][done.labels[k]]
            assert image["nats"] == pytest.approx(-done.log_likelihood()[k], abs=1e-4)
            assert image["known_nats"] == pytest.approx(-done.known_log_likelihood()[k], abs=1e-4)
        assert told["ms_per_image"] == pytest.approx(told["seconds"] / 18 * 1e3)


def test_many_completions_are_not_all_listed(folder: Path) -> None:
    told = ok("--box", "4,5,1,1", "--label", 0, "--count", 50)
    assert "50 completions of picture.png (" in told
    assert " distinct), in " in told
    assert "… and 30 more, which --json FILE lists\n" in told
    assert sum(line.endswith("0 boot") for line in told.splitlines()) == 20


READ = "--resize and --invert are for pictures that are read: add --complete PICTURE, --like or --upscale"
ADD = "name it with --complete PICTURE, or leave {0} out"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--complete does not say what to draw: add --rows, --box or --mask", ["--complete", "picture.png"]),
        ("--mask and --rows each say what to draw: leave one of them", "--complete picture.png --rows 3 --mask m.png"),
        ("--rows and --box each say what to draw: leave one of them", "--complete picture.png --rows 3 --box 0,0,1,1"),
        (
            "--mask and --rows and --box each say what to draw: leave one of them",
            "--complete picture.png --mask mask.png --rows 3 --box 0,0,1,1",
        ),
        (f"--rows is for completing a picture: {ADD.format('--rows')}", "--rows 3"),
        (f"--rows is for completing a picture: {ADD.format('--rows')}", "--rows 0"),
        (f"--box is for completing a picture: {ADD.format('--box')}", "--box 1,1,1,1"),
        (f"--mask is for completing a picture: {ADD.format('--mask')}", "--mask mask.png"),
        (f"--candidates is for completing a picture: {ADD.format('--candidates')}", "--candidates 3"),
        (f"--rank-by is for completing a picture: {ADD.format('--rank-by')}", "--rank-by known"),
        (READ, "--resize"),
        (READ, "--invert"),
        ("--candidates is 0: expected at least 1", "--complete picture.png --rows 3 --candidates 0"),
        ("--rows 0: expected 1 to 5, the rows to keep of the 6", "--complete picture.png --rows 0"),
        ("--rows 6: expected 1 to 5, the rows to keep of the 6", "--complete picture.png --rows 6"),
        ("--rows -1: expected 1 to 5, the rows to keep of the 6", "--complete picture.png --rows -1"),
        ("count is 0: expected at least 1", "--complete picture.png --rows 3 --count 0"),
        (
            "everything known comes before what is drawn, and is equally likely beside it: rank by image",
            "--complete picture.png --rows 3 --rank-by known",
        ),
        (
            "9,000,002 images at scale 1: too many pixels for one picture: draw fewer, or add --output-format png",
            "--complete picture.png --rows 3 --count 9000000",
        ),
        ("unknown label '7': expected one of 0 boot, 1 3, 2 bag, red", "--complete picture.png --rows 3 --label 7"),
        (
            "--mask picture-black.png: is black everywhere: expected white (128 and more) where to draw, black "
            "where to keep",
            "--complete picture.png --mask picture-black.png",
        ),
    ],
)
def test_usage_errors(folder: Path, message: str, arguments: str | list[str]) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint8)).save("picture-black.png")
    fails(2, message, *(arguments.split() if isinstance(arguments, str) else arguments))


LEAVES = "leaves the image or is empty: expected X,Y,W,H with X + W up to 5 and Y + H up to 6"
FOUR = "expected four whole numbers X,Y,W,H, as in --box 0,0,4,4"


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("1,1,5,1", LEAVES),
        ("1,1,1,6", LEAVES),
        ("-1,0,2,2", LEAVES),
        ("0,-1,2,2", LEAVES),
        ("0,0,0,2", LEAVES),
        ("0,0,2,-1", LEAVES),
        ("9999999999999999999999,0,1,1", LEAVES),
        ("0,0,5,6", "covers the whole image: leave a pixel to keep"),
        ("", FOUR),
        ("1,2,3", FOUR),
        ("1,2,3,4,5", FOUR),
        ("a,b,c,d", FOUR),
        ("1.5,1,1,1", FOUR),
        ("1;1;1;1", FOUR),
    ],
)
def test_boxes_that_do_not_fit(folder: Path, box: str, message: str) -> None:
    fails(2, f"--box {box}: {message}", "--complete", "picture.png", "--box", box)


@pytest.mark.parametrize("option", ["--complete", "--mask"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.png", "no such file"),
        (".", "is a folder: expected a picture"),
        ("empty.png", "is empty (0 bytes): expected a picture"),
        ("model.onnx", "is not a picture: expected PNG, JPEG, BMP, GIF, WebP, TIFF or PNM"),
        (
            "large.png",
            "is 9×9 8-bit grey; the model takes 5×6 8-bit grey (width × height): convert it, or add --resize",
        ),
    ],
)
def test_pictures_that_cannot_be_read(folder: Path, option: str, name: str, message: str) -> None:
    Path("empty.png").touch()
    Image.fromarray(np.eye(9, dtype=np.uint8)).save("large.png")
    names = {"--complete": "picture.png", "--mask": "mask.png"} | {option: name}
    fails(1, f"{name}: {message}", *(text for pair in names.items() for text in pair), "--label", 0)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampler, "sample", lambda *_, **__: pytest.fail("drawn"))
    Path("there").mkdir()
    Path("there/holiday.txt").write_text("mine")
    base = ["--complete", "picture.png", "--rows", 3, "-o", "there"]
    for output_format in ("grid", "npz"):
        fails(1, "cannot write there: it is a folder; name a file with -o", *base, "--output-format", output_format)
    message = "there exists and holds no job of gpcnn-sample: name another place with -o, or remove it first"
    fails(1, message, *base, "--output-format", "png")


def test_ctrl_c_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "sample", press)
    for output_format in ("grid", "png", "npz"):
        arguments = ["--complete", "picture.png", "--rows", 3, "--output-format", output_format]
        fails(130, "interrupted: nothing was written", *arguments)
    assert not Path("completions").exists()


def test_help_says_what_raster_order_means() -> None:
    told = " ".join(run("--help").stdout.split())
    assert "known pixels below a gap cannot guide what is drawn into it" in told
    assert "white (128 and more) is drawn, black is kept" in told
    assert gpcnn_runtime.completions.COUNT == 4
    assert "[default: 1; 4 with --like or --complete; 9 with --interpolate]" in told


def test_the_python_of_the_docs(folder: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "completing.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (folder / "digit.png").write_bytes((folder / "picture.png").read_bytes())
    code = (
        code.replace("model.gpcnn", "model.onnx")
        .replace("spec, 14", "spec, 3")
        .replace("labels=8", "labels=1")
        .replace("sample(8,", "sample(1,")
    )
    exec(compile(code, str(page), "exec"), {})


def test_the_commands_of_the_docs(folder: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "completing.md"
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("gpcnn-sample ")]
    assert len(lines) == 3
    (folder / "digit.png").write_bytes((folder / "picture.png").read_bytes())
    for line in lines:
        line = line.replace("model.gpcnn", "model.onnx").replace("--rows 14", "--rows 3")
        arguments = line.replace("9,9,10,10", "1,1,3,3").split()[1:]
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
