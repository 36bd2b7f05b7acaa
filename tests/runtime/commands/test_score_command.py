"""gpcnn-score as a user meets it: scores, files, messages, exit codes, and 100,000 pictures in bounded memory."""

from __future__ import annotations

import csv
import errno
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import EMBEDDED, LABELLED, NAMES, PLAIN, Make

from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import sha256
from gpcnn_runtime.commands.score.cli import main
from gpcnn_runtime.commands.score.heatmap import full_scale, heat
from gpcnn_runtime.commands.score.run import Scoring
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import score, to_levels

SMALL = {"features": 4, "layers": 2, "first_kernel_size": 3, "head_features": 5}
BINARY = ModelSpec(height=6, width=5, levels=2, **SMALL)
OTHER = ModelSpec(height=6, width=5, levels=4, **SMALL)  # a background for LABELLED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def digits(folder: Path) -> list[Path]:
    """Six pictures of 6×5 pixels in pictures/."""
    (folder / "pictures").mkdir()
    paths = [folder / "pictures" / f"{k}.png" for k in range(6)]
    for k, path in enumerate(paths):
        Image.fromarray(pixels_of(k)).save(path)
    return paths


def pixels_of(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (6, 5), np.uint8)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def scored(code: int, *arguments: object) -> dict[str, Any]:
    """Exit code as expected, nothing on stderr, and the JSON."""
    result = run(*arguments, "--json", "out.json")
    assert (result.exit_code, result.stderr) == (code, "")
    found: dict[str, Any] = json.loads(Path("out.json").read_text())
    return found


def fails(code: int, message: str, *arguments: object) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert message in result.stderr
    assert result.stdout == ""
    if code == 1:
        assert len(result.stderr.strip().splitlines()) == 1


def expected(path: Path, count: int, label: int | None = None) -> Any:
    with Sampler.load(path) as sampler:
        levels = np.stack([levels_from_pixels(pixels_of(k)[None], LABELLED.levels) for k in range(count)])
        return score(sampler, levels, label, per_pixel=True)


def test_scores_under_every_label(digits: list[Path], sampler_path: Path) -> None:
    found = scored(0, "--engine", sampler_path, "pictures")
    wanted = expected(sampler_path, 6)
    assert found["class_names"] == list(NAMES)
    assert found["engine"]["digest"] == sha256(sampler_path)
    assert [row["picture"] for row in found["pictures"]] == [f"pictures/{k}.png" for k in range(6)]
    for n, row in enumerate(found["pictures"]):
        assert row["nats"] == pytest.approx(wanted.nats[n], abs=1e-4)
        assert row["bits_per_dim"] == pytest.approx(row["nats"] / 30 / math.log(2))
        assert row["label_nats"] == pytest.approx(wanted.label_nats[n].tolist(), abs=1e-4)
        best = min(row["label_nats"])
        assert row["label"] == row["label_nats"].index(best)
        assert row["class_name"] == NAMES[row["label"]]
        likelihood = [math.exp(-nats) for nats in row["label_nats"]]
        assert row["posterior"] == pytest.approx(math.exp(-best) / sum(likelihood))
        assert row["nats"] == pytest.approx(-math.log(sum(likelihood) / 3))
    nats = [row["nats"] for row in found["pictures"]]
    summary = found["summary"]
    assert (summary["pictures"], summary["errors"]) == (6, 0)
    assert summary["mean_nats"] == pytest.approx(np.mean(nats))
    assert summary["std_nats"] == pytest.approx(np.std(nats))
    assert summary["mean_bits_per_dim"] == pytest.approx(np.mean(nats) / 30 / math.log(2))


def test_one_label_by_name_or_number(digits: list[Path], sampler_path: Path, step_path: Path) -> None:
    wanted = expected(sampler_path, 6, 2).nats.tolist()
    for engine, label in ((sampler_path, "bag, red"), (sampler_path, "2"), (step_path, "2")):
        found = scored(0, "--engine", engine, "--label", label, *digits, "--batch-size", 2, "--threads", 1)
        assert found["label"] == 2
        assert [row["nats"] for row in found["pictures"]] == pytest.approx(wanted, abs=1e-4)
        assert all(row.keys() == {"picture", "nats", "bits_per_dim"} for row in found["pictures"])


def test_people_see_a_table_of_few_and_the_most_surprising_of_many(digits: list[Path], sampler_path: Path) -> None:
    told = run("--engine", sampler_path, *digits).stdout
    wanted = expected(sampler_path, 6)
    for k in range(6):
        assert f"{wanted.nats[k]:.2f}" in told
        assert f"{wanted.label_nats[k, 1]:.1f}" in told
    assert "nats under each label" in told
    assert f"6 pictures in 0.{told.split('6 pictures in 0.')[1][0]} s: {wanted.nats.mean():.2f} ± " in told
    many = run("--engine", sampler_path, *["pictures"] * 4).stdout
    assert "the most surprising" in many
    top = wanted.nats.argmax()
    assert many.count(f"{top}.png") == 4
    assert many.count(f"{wanted.nats.argmin()}.png") == 0


def test_csv_holds_the_same(digits: list[Path], sampler_path: Path, folder: Path) -> None:
    (folder / "pictures" / "9.png").write_bytes(b"")
    result = run("--engine", sampler_path, "pictures", "--csv", "new/s.csv", "--json", "s.json")
    assert result.exit_code == 1
    found = json.loads((folder / "s.json").read_text())["pictures"]
    with (folder / "new" / "s.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found) == 7
    for row, one in zip(rows[:6], found, strict=False):
        assert float(row["nats"]) == one["nats"]
        assert (int(row["label"]), row["class_name"]) == (one["label"], one["class_name"])
        assert float(row["nats_bag, red"]) == one["label_nats"][2]
        assert row["error"] == ""
    assert rows[6]["nats"] == ""
    assert rows[6]["error"] == found[6]["error"] == "pictures/9.png: is empty (0 bytes): expected a picture"


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_standard_output_has_the_machine_format_alone(digits: list[Path], sampler_path: Path, option: str) -> None:
    result = run("--engine", sampler_path, "pictures", option, "-")
    assert result.exit_code == 0
    if option == "--json":
        assert len(json.loads(result.stdout)["pictures"]) == 6
    else:
        assert len(list(csv.DictReader(result.stdout.splitlines()))) == 6
    assert "6 pictures in" in result.stderr


def test_labels_of_an_npz_give_an_accuracy(folder: Path, sampler_path: Path) -> None:
    images = np.stack([pixels_of(k) for k in range(6)])
    best = expected(sampler_path, 6).label_nats.argmin(axis=1)
    best[0] = (best[0] + 1) % 3
    np.savez("a.npz", images=images, labels=best)
    found = scored(0, "--engine", sampler_path, "a.npz")
    assert found["summary"]["label_accuracy"] == pytest.approx(5 / 6)
    assert found["pictures"][3]["given_label"] == found["pictures"][3]["label"]
    assert found["pictures"][0]["given_label"] != found["pictures"][0]["label"]
    assert "the given one for 83.33%" in run("--engine", sampler_path, "a.npz").stdout


def test_what_was_drawn_scores_what_it_was_drawn_with(folder: Path, sampler_path: Path) -> None:
    with Sampler.load(sampler_path) as sampler:
        drawn = sampler.sample([1], seed=3, count=4)
    np.savez("drawn.npz", levels=drawn.levels, labels=drawn.labels)
    found = scored(0, "--engine", sampler_path, "drawn.npz", "--label", 1)
    assert [-row["nats"] for row in found["pictures"]] == pytest.approx(drawn.log_likelihood().tolist(), abs=1e-3)


def test_colour(folder: Path, make: Make) -> None:
    engine, pixels = make(PLAIN, 3), np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    found = scored(0, "--engine", engine, "a.png")
    with Sampler.load(engine) as sampler:
        wanted = score(sampler, levels_from_pixels(pixels.transpose(2, 0, 1)[None], 7)).nats[0]
    assert found["pictures"][0]["nats"] == pytest.approx(wanted, abs=1e-3)


def test_binary_models_threshold_or_draw(folder: Path, make: Make) -> None:
    Image.fromarray(pixels_of(0)).save("a.png")
    Image.fromarray(pixels_of(1)).save("b.png")
    engine = make(BINARY, 2)
    near = scored(0, "--engine", engine, "a.png", "b.png")
    drawn = scored(0, "--engine", engine, "a.png", "b.png", "--binarize", "stochastic", "--seed", 5)
    again = scored(0, "--engine", engine, "a.png", "b.png", "--binarize", "stochastic", "--seed", 5, "--batch-size", 1)
    with Sampler.load(engine) as sampler:
        for k in range(2):
            hard = score(sampler, (pixels_of(k)[None, None] > 127).astype(np.int32)).nats[0]
            soft = score(sampler, to_levels(pixels_of(k)[None], BINARY, "stochastic", 5, k)[None]).nats[0]
            assert near["pictures"][k]["nats"] == pytest.approx(hard, abs=1e-4)
            assert drawn["pictures"][k]["nats"] == pytest.approx(soft, abs=1e-4)
            assert again["pictures"][k]["nats"] == pytest.approx(soft, abs=1e-4)
            assert abs(hard - soft) > 0.1


def test_heatmaps_show_picture_and_surprise(digits: list[Path], sampler_path: Path, folder: Path) -> None:
    found = scored(0, "--engine", sampler_path, "pictures", "--heatmap", "heat")
    wanted = expected(sampler_path, 6)
    for n, row in enumerate(found["pictures"]):
        assert row["heatmap"] == f"heat/00000{n}-{n}.png"
        with Image.open(folder / row["heatmap"]) as picture:
            sheet = np.asarray(picture)
        scale = 224 // 5
        assert sheet.shape == (10 * scale, 16 * scale, 3)
        small = sheet[::scale, ::scale]
        np.testing.assert_array_equal(small[2:8, 2:7, 0], pixels_of(n))
        near = heat(wanted.log_prob[n], LABELLED).transpose(1, 2, 0).astype(int)
        assert np.abs(small[2:8, 9:14].astype(int) - near).max() <= 1
    assert len(list((folder / "heat").iterdir())) == 6


def test_heat_runs_from_black_by_red_and_yellow_to_white() -> None:
    spec = ModelSpec(height=1, width=5, levels=4)
    top = full_scale(spec)
    assert top == pytest.approx(math.log(4) + math.log(100))
    nats = np.array([[[0, top / 3, top * 2 / 3, top, 10 * top]]])
    colours = heat(-nats, spec).transpose(1, 2, 0)[0].tolist()
    assert colours == [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255]]


def test_resize_and_invert_are_explicit(folder: Path, sampler_path: Path) -> None:
    large = Image.fromarray(255 - pixels_of(0)).resize((50, 60), Image.Resampling.NEAREST).convert("RGB")
    large.save("a.png")
    message = "a.png: is 50×60 8-bit RGB; the model takes 5×6 8-bit grey (width × height): convert it, or add --resize"
    result = run("--engine", sampler_path, "a.png")
    assert (result.exit_code, result.stderr) == (1, f"Error: {message}\n")
    assert result.stdout.splitlines() == ["No picture was scored; 1 input could not be read."]
    found = scored(0, "--engine", sampler_path, "a.png", "--resize", "--invert")
    assert found["pictures"][0]["nats"] == pytest.approx(expected(sampler_path, 1).nats[0], abs=1e-4)


def test_bad_pictures_get_a_line_each_and_the_rest_is_scored(
    digits: list[Path], sampler_path: Path, folder: Path
) -> None:
    (folder / "pictures" / "1.png").write_bytes(digits[1].read_bytes()[:50])
    (folder / "pictures" / "3.png").write_text("not a picture")
    Image.new("L", (9, 9)).save(digits[4])
    result = run("--engine", sampler_path, "pictures", "nowhere.png", "--json", "out.json", "--batch-size", 1)
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    starts = [
        "pictures/1.png: is damaged",
        "pictures/3.png: is not a picture",
        "pictures/4.png: is 9×9",
        "nowhere.png: no",
    ]
    assert len(lines) == 4
    assert all(line.startswith(f"Error: {start}") for line, start in zip(lines, starts, strict=True))
    found = json.loads((folder / "out.json").read_text())
    wanted = expected(sampler_path, 6).nats
    assert [row.get("nats") is None for row in found["pictures"]] == [False, True, False, True, True, False, True]
    for k in (0, 2, 5):
        assert found["pictures"][k]["nats"] == pytest.approx(wanted[k], abs=1e-4)
    assert (found["summary"]["pictures"], found["summary"]["errors"]) == (3, 4)
    assert "4 inputs could not be read." in result.stdout


# --- the anomaly detector


@pytest.fixture
def usual(folder: Path) -> Path:
    """120 random pictures."""
    np.savez("usual.npz", images=np.random.default_rng(0).integers(0, 256, (120, 6, 5), np.uint8))
    return folder / "usual.npz"


def calibrated(engine: Path, *more: object) -> tuple[dict[str, Any], list[float]]:
    """The threshold, and the nats it was made of."""
    result = run("--engine", engine, "usual.npz", "--calibrate", "--save", "t.json", "--csv", "c.csv", *more)
    assert (result.exit_code, result.stderr) == (0, "")
    made = json.loads(Path("t.json").read_text())
    assert f"Wrote t.json: {made['method']} above {made['threshold']:.2f} nats is anomalous" in result.stdout
    with Path("c.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    background = [float(row.get("background_nats") or 0) for row in rows]
    return made, [float(row["nats"]) - b for row, b in zip(rows, background, strict=True)]


def test_likelihood_threshold_is_a_quantile_of_usual_scores(usual: Path, sampler_path: Path) -> None:
    made, nats = calibrated(sampler_path)
    rank = math.ceil(121 * 0.99)  # the split conformal bound: at most 1 % of new usual pictures, on average
    assert made["threshold"] == pytest.approx(sorted(nats)[rank - 1])
    same = {
        "method": "likelihood",
        "engine_digest": sha256(sampler_path),
        "quantile": 0.01,
        "pictures": 120,
        "label": None,
    }
    assert same.items() <= made.items()
    made, _ = calibrated(sampler_path, "--quantile", 0.25)
    assert made["threshold"] == pytest.approx(sorted(nats)[math.ceil(121 * 0.75) - 1])
    found = scored(3, "--engine", sampler_path, "usual.npz", "--threshold", "t.json")
    flags = [row["anomalous"] for row in found["pictures"]]
    assert flags == [value > made["threshold"] for value in nats]
    assert found["summary"]["anomalies"] == sum(flags) == 120 - math.ceil(121 * 0.75)
    told = run("--engine", sampler_path, "usual.npz", "--threshold", "t.json").stdout
    assert f"{sum(flags)} anomalies (24.17%): likelihood above {made['threshold']:.2f} nats." in told


def test_exit_status_tells_anomalies_and_errors(usual: Path, sampler_path: Path, folder: Path) -> None:
    _, nats = calibrated(sampler_path, "--quantile", 0.25)
    with np.load(usual) as arrays:
        images = arrays["images"]
    Image.fromarray(images[int(np.argmin(nats))]).save("fine.png")
    Image.fromarray(images[int(np.argmax(nats))]).save("odd.png")
    base = ("--engine", sampler_path, "--threshold", "t.json")
    assert scored(0, *base, "fine.png")["summary"]["anomalies"] == 0
    assert scored(3, *base, "fine.png", "odd.png")["summary"]["anomalies"] == 1
    assert "ANOMALOUS" in run(*base, "odd.png").stdout
    assert "1 anomaly (50.00%)" in run(*base, "fine.png", "odd.png").stdout
    assert run(*base, "fine.png", "none.png").exit_code == 1
    assert run(*base, "odd.png", "none.png").exit_code == 1


def test_typicality_is_two_sided(usual: Path, sampler_path: Path) -> None:
    made, nats = calibrated(sampler_path, "--typicality", "--quantile", 0.1)
    mean = float(np.mean(nats))
    away = sorted(abs(value - mean) for value in nats)
    assert made["mean_nats"] == pytest.approx(mean)
    assert made["threshold"] == pytest.approx(away[math.ceil(121 * 0.9) - 1])
    found = scored(3, "--engine", sampler_path, "usual.npz", "--threshold", "t.json")
    flagged = [row for row in found["pictures"] if row["anomalous"]]
    assert {row["nats"] < mean for row in flagged} == {True, False}
    assert all(row["anomaly_score"] == pytest.approx(abs(row["nats"] - mean)) for row in found["pictures"])


def test_ratio_is_against_the_background(usual: Path, sampler_path: Path, make: Make) -> None:
    background = make(OTHER, 2)
    made, ratios = calibrated(sampler_path, "--background", background, "--quantile", 0.1)
    assert made["threshold"] == pytest.approx(sorted(ratios)[math.ceil(121 * 0.9) - 1])
    found = scored(3, "--engine", sampler_path, "usual.npz", "--threshold", "t.json", "--background", background)
    for row, ratio in zip(found["pictures"], ratios, strict=True):
        assert row["anomaly_score"] == pytest.approx(row["nats"] - row["background_nats"])
        assert row["anomaly_score"] == pytest.approx(ratio)
    with Sampler.load(background) as sampler, np.load(usual) as arrays:
        wanted = score(sampler, levels_from_pixels(arrays["images"][:, None], 4)).nats
    assert [row["background_nats"] for row in found["pictures"]] == pytest.approx(wanted.tolist(), abs=1e-4)
    alone = scored(0, "--engine", sampler_path, "usual.npz", "--background", background)
    assert "anomalous" not in alone["pictures"][0]
    assert alone["pictures"][0]["anomaly_score"] == pytest.approx(ratios[0])


def test_a_threshold_is_refused_where_scores_cannot_be_compared(usual: Path, sampler_path: Path, make: Make) -> None:
    background, other = make(OTHER, 2), make(OTHER, 3)
    use = ("usual.npz", "--threshold", "t.json")
    calibrated(sampler_path)
    fails(1, "was calibrated for another engine (SHA-256", "--engine", make(LABELLED, 3), *use)
    fails(2, "is one of likelihood: leave --background out", "--engine", sampler_path, *use, "--background", background)
    fails(2, "was calibrated without --label: score in the same way", "--engine", sampler_path, *use, "--label", 1)
    calibrated(sampler_path, "--label", 1)
    fails(2, "was calibrated with --label 3: score in the same way", "--engine", sampler_path, *use)
    assert run("--engine", sampler_path, *use, "--label", "3").exit_code == 0  # the same label by its name
    calibrated(sampler_path, "--background", background)
    fails(2, "name the background model: --background", "--engine", sampler_path, *use)
    fails(1, "calibrated for another background engine", "--engine", sampler_path, *use, "--background", other)
    binary = make(BINARY, 2)
    calibrated(binary, "--binarize", "stochastic")
    fails(2, "was calibrated with --binarize stochastic", "--engine", binary, *use)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no threshold of gpcnn-score --calibrate"),
        (b"\xff\xfe", "is no threshold"),
        (b"[" * 50_000, "is no threshold"),
        (b" " * 70_000, "is no threshold of gpcnn-score --calibrate (it is too large)"),
        (b'{"method": "likelihood"}', "is no threshold"),
        ({"method": "magic"}, "is no threshold"),
        ({"more": 1}, "is no threshold"),
        ({"schema": 2}, "layout 2, this version reads 1: calibrate anew"),
        ({"threshold": None}, "is no threshold"),
    ],
)
def test_threshold_files_are_checked(usual: Path, sampler_path: Path, content: Any, message: str) -> None:
    if isinstance(content, dict):
        made, _ = calibrated(sampler_path)
        content = json.dumps({**made, **content}).encode()
    Path("t.json").write_bytes(content)
    fails(1, message, "--engine", sampler_path, "usual.npz", "--threshold", "t.json")


def test_a_number_too_large_is_no_threshold(usual: Path, sampler_path: Path) -> None:
    made, _ = calibrated(sampler_path)
    Path("t.json").write_text(json.dumps(made).replace(str(made["threshold"]), "1e999"))
    fails(1, "t.json: ", "--engine", sampler_path, "usual.npz", "--threshold", "t.json")


def test_calibration_needs_enough_pictures(digits: list[Path], sampler_path: Path, folder: Path) -> None:
    result = run("--engine", sampler_path, "pictures", "--calibrate")
    assert result.exit_code == 1
    message = "a quantile of 0.01 needs at least 99 usual pictures, and has 6: add pictures, or choose a larger"
    assert result.stderr.startswith(f"Error: {message}")
    assert not (folder / "threshold.json").exists()
    assert run("--engine", sampler_path, "pictures", "--calibrate", "--quantile", "0.2").exit_code == 0
    assert (folder / "threshold.json").exists()


# --- mistakes


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Missing argument 'PICTURES...'", []),
        ("--quantile belongs to --calibrate", ["a.png", "--quantile", "0.1"]),
        ("--save belongs to --calibrate", ["a.png", "--save", "t.json"]),
        ("--typicality belongs to --calibrate", ["a.png", "--typicality"]),
        ("give one of them", ["a.png", "--calibrate", "--threshold", "t.json"]),
        (
            "--typicality and --background are two methods",
            ["a", "--calibrate", "--typicality", "--background", "b.onnx"],
        ),
        ("--json and --csv both name -: name two files", ["a.png", "--json", "-", "--csv", "-"]),
        ("--json and --csv both name x: name two files", ["a.png", "--json", "x", "--csv", "x"]),
        ("unknown label '9': expected one of", ["a.png", "--label", "9"]),
        ("0<x<1", ["a.png", "--calibrate", "--quantile", "1"]),
        (
            "stochastic binarization is for grey models with 2 levels; this one has 4",
            ["a.png", "--binarize", "stochastic"],
        ),
    ],
)
def test_usage_errors(folder: Path, sampler_path: Path, message: str, arguments: list[str]) -> None:
    fails(2, message, "--engine", sampler_path, *arguments)


def test_engines_that_do_not_fit(folder: Path, make: Make, sampler_path: Path) -> None:
    fails(2, "no engine in this folder", "a.png")
    fails(1, "none.onnx: no such file", "--engine", "none.onnx", "a.png")
    fails(2, "is unconditional", "--engine", make(PLAIN, 3), "a.png", "--label", 0)
    fails(2, "is conditioned on an embedding", "--engine", make(EMBEDDED, 2), "a.png")
    fails(2, "is conditioned on an embedding", "--engine", sampler_path, "a.png", "--background", make(EMBEDDED, 2))
    fails(
        2,
        "expected 6×5, 1 and 4, as the other engine has",
        "--engine",
        sampler_path,
        "a.png",
        "--background",
        make(PLAIN, 3),
    )
    fails(
        2,
        "expected 6×5, 1 and 4, as the other engine has",
        "--engine",
        sampler_path,
        "a.png",
        "--background",
        make(BINARY, 2),
    )
    fails(1, "t.json: no such file: make one with gpcnn-score --calibrate", "a.png", "--threshold", "t.json")


def test_results_that_cannot_be_written(digits: list[Path], sampler_path: Path, folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").write_text("")
    base = ("--engine", sampler_path, "pictures")
    fails(1, "cannot write d: it is a folder; name a file with --csv", *base, "--csv", "d")
    fails(1, "cannot write d: it is a folder", *base, "--json", "d")
    fails(1, "cannot write d: it is a folder; name a file with --save", *base, "--calibrate", "--save", "d")
    fails(1, "cannot write f/s.csv", *base, "--csv", "f/s.csv")
    fails(1, "cannot write f/x: Not a directory", *base, "--heatmap", "f/x")
    fails(1, "cannot write into f: it is no folder", *base, "--heatmap", "f")


def test_interrupted_runs_keep_their_rows(
    digits: list[Path], sampler_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Scoring._scored

    def interrupted(self: Scoring, good: Any) -> Any:
        if good[0][0] >= 2:
            raise KeyboardInterrupt
        return honest(self, good)

    monkeypatch.setattr(Scoring, "_scored", interrupted)
    arguments = ("--threads", 1, "--batch-size", 6, "--csv", "s.csv", "--json", "s.json")
    result = run("--engine", sampler_path, "pictures", *arguments)
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted; rows so far are in s.csv\n"
    assert len((folder / "s.csv").read_text().splitlines()) == 3
    assert not (folder / "s.json").exists()


def test_a_full_disk_is_one_line(
    digits: list[Path], sampler_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def writerow(self, _: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gpcnn_runtime.commands.score.rows.csv.writer", lambda *_, **__: Full())
    fails(1, "cannot write s.csv: No space left on device", "--engine", sampler_path, "pictures", "--csv", "s.csv")


def test_names_cannot_forge_output(folder: Path, sampler_path: Path) -> None:
    name = "a\nError: b[red]\x1b[31m.png"
    Image.fromarray(pixels_of(0)).save(name)
    result = run("--engine", sampler_path, name, "--csv", "s.csv")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "b[red]\\x1b[31m.png" in result.stdout
    assert len(Path("s.csv").read_text().splitlines()) == 2


HELP = """
import sys
from gpcnn_runtime.commands.score.cli import main
main(["--help"], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ")
    assert not set(done.stderr.split()) & {"numpy", "onnxruntime", "msgspec", "rich", "PIL", "torch"}


# --- many pictures

STREAM = """
import sys
sys.argv = ["gpcnn-score", *sys.argv[1:]]
from gpcnn_runtime.commands.score.cli import main
try:
    main()
finally:
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak / 1024, file=sys.stderr)
"""


def peak_mb(engine: Path, count: int) -> float:
    """Peak memory of a process that scores so many pictures of an .npz."""
    with zipfile.ZipFile("many.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 6, 5), np.uint8))
        with archive.open("images.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (count, 6, 5)})
            random = np.random.default_rng(0)
            for start in range(0, count, 1000):
                stream.write(random.integers(0, 256, (min(1000, count - start), 6, 5), np.uint8).tobytes())
    command = [sys.executable, "-c", STREAM, "--engine", str(engine), "many.npz", "--csv", "s.csv", "--json", "s.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{count:,} pictures in" in done.stdout
    with Path("s.csv").open() as rows:
        assert sum(1 for _ in rows) == count + 1
    assert json.loads(Path("s.json").read_text())["summary"]["pictures"] == count
    return float(done.stderr.strip().splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_pictures(folder: Path, make: Make) -> None:
    engine = make(BINARY, 5)
    assert peak_mb(engine, 8_000) < peak_mb(engine, 1_000) + 8


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_100_000_pictures_stream(folder: Path, make: Make) -> None:
    engine = make(BINARY, 5)
    assert peak_mb(engine, 100_000) < peak_mb(engine, 2_000) + 15
