"""Parts of a job, drawn apart, are together what one run draws: the same files, the same bytes."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_engines import EMBEDDED, MAPPED, PLAIN, Make, model_of
from small_vqvae import SPEC, save

import gpcnn_runtime.commands.sample.jobs
from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.lock import held
from gpcnn_export.checkpoint_to_native import draft_model_file, make_model_file, write_model_file
from gpcnn_export.proof.pictures import check_pictures
from gpcnn_runtime import Sampler, join_parts
from gpcnn_runtime.commands.join.cli import main as join_main
from gpcnn_runtime.commands.parts import Part, parse_part
from gpcnn_runtime.commands.sample.cli import main

COUNT = 10
TOTAL = 2 * COUNT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(engine: Path, output_format: str, *more: str) -> Result:
    arguments = ["--engine", str(engine), "--label", "2,0", "--count", str(COUNT), "--output-format", output_format]
    return checked(CliRunner().invoke(main, [*arguments, *more]))


def checked(result: Result) -> Result:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.integers(1, 10**18), st.integers(1, 50), st.randoms())
@settings(max_examples=50, deadline=None)
def test_shards_cover_a_job_once_and_evenly(total: int, shards: int, random: object) -> None:
    shards = min(shards, total)
    spans = [Part("", shard=(number + 1, shards)).of(total) for number in range(shards)]
    assert (spans[0].start, spans[-1].stop) == (0, total)
    assert all(a.stop == b.start for a, b in itertools.pairwise(spans))
    assert {len(span) for span in spans} <= {total // shards, total // shards + 1}
    names = [Part("", shard=(number + 1, shards)).in_file_name() for number in range(shards)]
    assert names == sorted(names)


@pytest.mark.parametrize("shards", [1, 3, 20])
def test_pictures_of_all_shards_are_the_folder_of_one_run(folder: Path, sampler_path: Path, shards: int) -> None:
    assert run(sampler_path, "png", "-o", "whole").exit_code == 0
    for number in range(shards, 0, -1):
        assert run(sampler_path, "png", "-o", "shared", "--shard", f"{number}/{shards}").exit_code == 0
        assert run(sampler_path, "png", "-o", f"own-{number}", "--shard", f"{number}/{shards}").exit_code == 0
        shutil.copytree(folder / f"own-{number}", folder / "copied", dirs_exist_ok=True)
    assert tree(folder / "whole") == tree(folder / "shared") == tree(folder / "copied")
    assert "20 of them drawn before" in run(sampler_path, "png", "-o", "copied").stdout


def test_a_part_draws_its_images_alone_and_goes_on_where_it_stopped(folder: Path, sampler_path: Path) -> None:
    told = run(sampler_path, "png", "--positions", "8:12", "--json", "told.json").stdout
    assert told.startswith("samples: 4 images of 6×5, positions 8 to 11 of 20, in ")
    names = ["000008-bag__red.png", "000009-bag__red.png", "000010-boot.png", "000011-boot.png"]
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [*names, "job.json"]
    report = json.loads((folder / "told.json").read_text())
    assert report["positions"] == [8, 12]
    assert [image["position"] for image in report["images"]] == [8, 9, 10, 11]
    (folder / "samples" / names[2]).unlink()
    assert "3 of them drawn before" in run(sampler_path, "png", "--positions", "8:12").stdout
    assert "4 of them drawn before" in run(sampler_path, "png").stdout


@pytest.mark.parametrize("shards", [2, 7])
def test_joined_parts_are_the_file_of_one_run(folder: Path, sampler_path: Path, shards: int) -> None:
    assert run(sampler_path, "npz", "-o", "whole.npz").exit_code == 0
    for number in range(1, shards + 1):
        assert run(sampler_path, "npz", "--shard", f"{number}/{shards}").exit_code == 0
    parts = sorted(folder.glob("samples-*-of-*.npz"))
    assert len(parts) == shards
    joined = checked(CliRunner().invoke(join_main, [*map(str, reversed(parts)), "-o", "joined.npz", "--json", "-"]))
    assert json.loads(joined.stdout) == {
        "output": "joined.npz",
        "parts": [str(part) for part in parts],
        "images": TOTAL,
    }
    with np.load("whole.npz") as whole, np.load("joined.npz") as again:
        assert whole.files == again.files
        np.testing.assert_allclose(again["log_prob"], whole["log_prob"], atol=1e-5)
        for name in set(whole.files) - {"log_prob"}:
            np.testing.assert_array_equal(again[name], whole[name])
    # It is the finished job itself: nothing is drawn again.
    assert "20 of them drawn before" in run(sampler_path, "npz", "-o", "joined.npz").stdout


def test_a_part_is_a_file_of_its_own(folder: Path, sampler_path: Path) -> None:
    assert run(sampler_path, "npz", "--positions", "8:12").exit_code == 0
    with Sampler.load(sampler_path) as sampler:
        drawn = sampler.sample([2, 0], count=COUNT)
    with np.load("samples-8-12.npz", allow_pickle=False) as part:
        np.testing.assert_array_equal(part["levels"], drawn.levels[8:12])
        np.testing.assert_array_equal(part["positions"], [8, 9, 10, 11])
        np.testing.assert_array_equal(part["labels"], [2, 2, 0, 0])
        assert msgspec.json.decode(str(part["job"]))["positions"] == [8, 12]
    assert "4 of them drawn before" in run(sampler_path, "npz", "--positions", "8:12").stdout
    refused = run(sampler_path, "npz", "--positions", "8:13", "-o", "samples-8-12.npz")
    assert (refused.exit_code, "its positions is (8, 12), asked for (8, 13)" in refused.stderr) == (1, True)
    fields = msgspec.json.decode(whole_job(folder, sampler_path)).keys()
    assert not fields & {"positions", "given", "given_digest", "same_noise"}, "earlier versions know no such fields"


def drawn(*arguments: object) -> None:
    result = checked(CliRunner().invoke(main, list(map(str, arguments))))
    assert result.exit_code == 0, result.output


def parted(output_format: str, *job: object, shards: int = 3) -> tuple[Path, Path]:
    """What one run of a job writes, and what its shards come to."""
    end = ".npz" if output_format == "npz" else ""
    common = [*job, "--output-format", output_format]
    drawn(*common, "-o", f"whole{end}")
    parts = [f"part-{number}{end}" if end else "joined" for number in range(1, shards + 1)]
    for number, part in enumerate(parts, 1):
        drawn(*common, "-o", part, "--shard", f"{number}/{shards}")
    if end:
        join_parts(parts, "joined.npz")
    return Path(f"whole{end}"), Path(f"joined{end}")


def equal_arrays(one: Path, other: Path) -> dict[str, np.ndarray]:
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        np.testing.assert_allclose(a["log_prob"], b["log_prob"], atol=1e-5)
        for name in set(a.files) - {"log_prob"}:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
        return dict(a)


@pytest.mark.parametrize("kind", ["--embedding", "--interpolate"])
def test_parts_of_jobs_of_vectors(folder: Path, make: Make, kind: str) -> None:
    """A shard may end within a way: its images keep the noise of the way."""
    vectors = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    np.save("h.npy", vectors)
    named = ["h.npy"] if kind == "--embedding" else ["h.npy:0,h.npy:1", kind, "h.npy:2,h.npy:3"]
    job = ["--engine", make(EMBEDDED, 2), kind, *named, "--count", 4]
    arrays = equal_arrays(*parted("npz", *job))
    assert len(arrays["levels"]) == (16 if kind == "--embedding" else 8)
    assert len({image.tobytes() for image in arrays["levels"]}) > 2
    whole, joined = parted("png", *job)
    assert tree(whole) == tree(joined)


def test_parts_between_two_labels(folder: Path) -> None:
    job = ["--engine", "zoo:mnist-conditional", "--interpolate", "3,8", "--count", 5]
    whole, joined = parted("png", *job, shards=2)
    assert tree(whole) == tree(joined)
    assert len(list(whole.glob("*.png"))) == 5


def test_parts_of_more_than_256_levels(folder: Path) -> None:
    spec = ModelSpec(
        height=3, width=3, levels=300, features=4, layers=2, head_features=6, input="categorical", input_size=4
    )
    (folder / "many.gpcnn").write_bytes(draft_model_file(model_of(spec), ()).content)
    arrays = equal_arrays(*parted("npz", "--engine", "many.gpcnn", "--count", 9, shards=2))
    assert arrays["levels"].dtype == np.uint16
    assert arrays["levels"].max() > 255
    with np.load("part-1.npz") as part:
        np.savez("part-1.npz", **{**part, "levels": part["levels"].astype(np.uint8)})
    with pytest.raises(DataError, match="hold images of different kinds"):
        join_parts(["part-1.npz", "part-2.npz"], "out.npz")


def test_parts_of_a_job_under_maps(folder: Path) -> None:
    (folder / "map.gpcnn").write_bytes(draft_model_file(model_of(MAPPED), ()).content)
    np.save("maps.npy", np.random.default_rng(7).integers(0, 3, (4, *MAPPED.map_shape[1:], MAPPED.map_shape[0])))
    job = ["--engine", "map.gpcnn", "--map", "maps.npy", "--count", 4]
    arrays = equal_arrays(*parted("npz", *job))
    assert len(arrays["levels"]) == 16
    assert len(arrays["map"]) == 4
    whole, joined = parted("png", *job)
    assert tree(whole) == tree(joined)


def test_parts_of_a_vqvae_have_its_pictures(folder: Path) -> None:
    write_model_file(folder / "codes.gpcnn", make_model_file(save(folder / "my.safetensors")))
    arrays = equal_arrays(*parted("npz", "--engine", "codes.gpcnn", "--count", 9, "--label", "0"))
    assert len(arrays["pictures"]) == len(arrays["levels"]) == 9
    with np.load("part-1.npz") as part:
        np.savez("part-1.npz", **{name: part[name] for name in part.files if name != "pictures"})
    with pytest.raises(DataError, match="hold images of different kinds"):
        join_parts([f"part-{number}.npz" for number in (1, 2, 3)], "out.npz")


def test_parts_of_images_like_pictures_by_a_vqvae(folder: Path) -> None:
    write_model_file(folder / "codes.gpcnn", make_model_file(save(folder / "my.safetensors")))
    for number, pixels in enumerate(check_pictures(SPEC, 2)):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(f"{number}.png")
    job = ["--engine", "codes.gpcnn", "--like", "0.png", "--like", "1.png", "--count", 5, "--vary", 0.7]
    arrays = equal_arrays(*parted("npz", *job))
    assert len(arrays["pictures"]) == 10
    assert len(arrays["original"]) == 2
    whole, joined = parted("png", *job)
    assert tree(whole) == tree(joined)


def whole_job(folder: Path, engine: Path) -> bytes:
    assert run(engine, "png", "-o", "whole", "--shard", "1/1").exit_code == 0
    return (folder / "whole" / "job.json").read_bytes()


def test_images_of_a_part_of_a_huge_job_are_theirs(folder: Path, make: Make) -> None:
    engine = make(PLAIN, 3)
    huge = ["--engine", str(engine), "--count", str(10**15), "--output-format", "npz"]
    last = 10**15 - 2
    assert CliRunner().invoke(main, [*huge, "--positions", f"{last}:{last + 2}", "-o", "a.npz"]).exit_code == 0
    with np.load("a.npz") as part, Sampler.load(engine) as sampler:
        np.testing.assert_array_equal(part["levels"], sampler.sample(count=2, first=last).levels)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--shard", "2"], "--shard 2: expected NUMBER/SHARDS, such as 2/8 for the second of eight"),
        (["--shard", "a/b"], "--shard a/b: expected NUMBER/SHARDS, such as 2/8 for the second of eight"),
        (["--shard", "0/8"], "--shard 0/8: shards are counted from 1; expected 1/8 to 8/8"),
        (["--shard", "9/8"], "--shard 9/8: shards are counted from 1; expected 1/8 to 8/8"),
        (["--shard", "0/0"], "--shard 0/0: shards are counted from 1; expected at least one shard"),
        (["--shard", "1/21"], "--shard 1/21: there are 20 images: expected at most 20 shards"),
        (["--positions", "5"], "--positions 5: expected START:STOP, such as 0:50000"),
        (["--positions", "-1:5"], "--positions -1:5: expected START:STOP, such as 0:50000"),
        (
            ["--positions", "5:5"],
            "--positions 5:5 is empty: STOP is the first that is left out; expected a larger",
        ),
        (["--positions", "5:21"], "--positions 5:21: there are 20 images: expected at most 5:20"),
        (["--positions", "20:21"], "--positions 20:21: there are 20 images: expected 0:20, or a part of it"),
        (
            ["--positions", "0:5", "--shard", "1/2"],
            "--positions and --shard both name a part: leave one of them out",
        ),
        (
            ["--shard", "1/2", "--output-format", "grid"],
            "--shard 1/2: parts of one sheet do not fit together: add --output-format png or npz",
        ),
        (
            ["--shard", "1/2", "--complete", "a.png", "--rows", "2"],
            "--shard 1/2: --complete ranks all completions together, and has no parts: leave it out",
        ),
    ],
)
def test_parts_that_are_none_are_refused(folder: Path, sampler_path: Path, more: list[str], told: str) -> None:
    result = run(sampler_path, "npz", *more)
    assert (result.exit_code, result.stderr) == (2, f"Error: {told}\n")
    assert list(folder.iterdir()) == []


def test_both_or_neither() -> None:
    assert parse_part(None, None) is None
    with pytest.raises(UsageError, match="expected START:STOP"):
        parse_part("١:٢", None)  # digits, but not those of a number as we write it


def test_shards_that_begin_at_the_same_time_share_a_folder(folder: Path) -> None:
    code = "from gpcnn_runtime.commands.sample.cli import main; main()"
    arguments = ["--engine", "zoo:mnist-unconditional", "--count", "8", "--output-format", "png", "--threads", "1"]
    command = [sys.executable, "-c", code, *arguments]
    shards = [
        subprocess.Popen([*command, "--shard", f"{number}/4"], stderr=subprocess.PIPE, text=True)
        for number in range(1, 5)
    ]
    assert [(shard.communicate(timeout=60)[1], shard.returncode) for shard in shards] == [("", 0)] * 4
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        *(f"{k:06}.png" for k in range(8)),
        "job.json",
    ]


def test_the_same_shard_twice_is_refused_and_another_job_too(
    folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpcnn_runtime.commands.sample.jobs, "WAIT_SECONDS", 0.2)
    run(sampler_path, "png", "--shard", "1/2")
    with held(folder / "samples" / ".lock-0-10", folder / "samples"):
        assert "samples is in use by process" in run(sampler_path, "png", "--shard", "1/2").stderr
        assert run(sampler_path, "png", "--shard", "2/2").exit_code == 0
    with held(folder / "samples" / ".lock", folder / "samples"):  # a whole run is at work
        assert "samples is in use by process" in run(sampler_path, "png", "--shard", "1/2").stderr
    assert "holds another job (its seed is 0, asked for 1)" in run(sampler_path, "png", "--seed", "1").stderr


@pytest.fixture
def parts(folder: Path, sampler_path: Path) -> list[Path]:
    for number in (1, 2, 3):
        run(sampler_path, "npz", "--shard", f"{number}/3")
    return [folder / f"samples-{number}-of-3.npz" for number in (1, 2, 3)]


def test_what_does_not_make_a_whole_is_not_joined(folder: Path, sampler_path: Path, parts: list[Path]) -> None:
    def refusal(*paths: Path) -> str:
        with pytest.raises((DataError, UsageError)) as caught:
            join_parts(paths, folder / "out.npz")
        assert not (folder / "out.npz").exists()
        return str(caught.value)

    one, two, three = parts
    assert "no part holds images 6 to 12 of 20" in refusal(one, three)
    assert "gpcnn-sample --positions 13:20" in refusal(one, two)
    assert "images 0 to 5 of 20" in refusal(two, three)
    assert "both hold image 6: leave one of them out" in refusal(one, two, two, three)
    assert refusal() == "no parts: expected the .npz files of a job"
    assert "is a folder: pictures need no joining" in refusal(folder)
    assert "no such file" in refusal(folder / "none.npz")
    run(sampler_path, "npz", "-o", "seed.npz", "--seed", "1", "--shard", "2/3")
    assert "are of two jobs (its seed is 1, asked for 0)" in refusal(one, folder / "seed.npz", three)
    run(sampler_path, "npz", "-o", "whole.npz")
    assert "holds a whole job, no part of one" in refusal(folder / "whole.npz")


def test_damaged_parts_are_not_joined(folder: Path, parts: list[Path]) -> None:
    sound = parts[1].read_bytes()
    with np.load(parts[1]) as archive:
        image = archive["levels"].tobytes()
    at = sound.index(image)
    damaged = [
        sound[: len(sound) // 2],
        b"",
        b"hello",
        sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :],  # a pixel, which the checksum finds
        sound.replace(b"(7, 1, 6, 5)", b"(6, 1, 6, 5)"),
        sound.replace(b"'|u1'", b"'|i1'"),
        sound.replace("6,13".encode("utf-32-le"), "6,99".encode("utf-32-le")),
    ]
    for content in damaged:
        assert content != sound
        parts[1].write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            join_parts(parts, folder / "out.npz")
        assert not (folder / "out.npz").exists()


def test_joining_overwrites_nothing_else(folder: Path, parts: list[Path]) -> None:
    (folder / "mine.npz").write_bytes(b"mine")
    command = [*map(str, parts), "-o", "mine.npz"]
    result = checked(CliRunner().invoke(join_main, command))
    assert (result.exit_code, (folder / "mine.npz").read_bytes()) == (1, b"mine")
    assert result.stderr == "Error: mine.npz exists and is not of this job: name another with -o, or remove it\n"
    result = checked(CliRunner().invoke(join_main, [*map(str, parts), "-o", str(parts[0])]))
    assert (result.exit_code, "holds another job" in result.stderr) == (1, True)
