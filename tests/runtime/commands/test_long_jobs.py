"""Jobs of many images: interrupted anywhere, they go on and end in the same images."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_engines import LABELLED, PLAIN, Make

import gpcnn_runtime.commands.sample.jobs
from gpcnn_runtime.commands.sample.cli import main
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.samples import Samples

COUNT = 10
TOTAL = 2 * COUNT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(engine: Path, output_format: str, *more: str) -> Result:
    arguments = ["--engine", str(engine), "--label", "2,0", "--count", str(COUNT), "--batch-size", "2"]
    result = CliRunner().invoke(main, [*arguments, "--output-format", output_format, *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@contextlib.contextmanager
def interrupted_after(monkeypatch: pytest.MonkeyPatch, images: int) -> Iterator[None]:
    """Ctrl-C is pressed when so many images were drawn."""
    original = Sampler.draw

    def stream(self: Sampler, *arguments: Any, **options: Any) -> Iterator[Samples]:
        whole = original(self, *arguments, **options)

        def parts() -> Iterator[Samples]:
            drawn = 0
            for part in whole:
                if drawn >= images:
                    raise KeyboardInterrupt
                drawn += len(part)
                yield part

        return parts()

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "draw", stream)
        yield


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpcnn_runtime.commands.sample.jobs, "PART_SUBPIXELS", 3 * LABELLED.subpixels)


def expected(engine: Path) -> Samples:
    with Sampler.load(engine) as sampler:
        return sampler.sample([2, 0], count=COUNT)


def test_npz_holds_what_the_sampler_draws(folder: Path, sampler_path: Path) -> None:
    assert run(sampler_path, "npz", "--seed", "0", "-o", "a.npz").exit_code == 0
    drawn = expected(sampler_path)
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"levels", "log_prob", "labels", "class_names", "seed", "job"}
        assert archive["levels"].dtype == np.uint8
        assert archive["log_prob"].dtype == np.float32
        assert archive["labels"].dtype == np.int32
        np.testing.assert_array_equal(archive["levels"], drawn.levels)
        np.testing.assert_allclose(archive["log_prob"], drawn.log_prob, atol=1e-5)
        np.testing.assert_array_equal(archive["labels"], drawn.labels)
        assert archive["seed"] == 0
        job = msgspec.json.decode(str(archive["job"]))
        assert (job["labels"], job["class_names"]) == ([2, 0], ["bag, red", "boot"])
        names = archive["class_names"][archive["labels"]]  # what each image shows
        assert names.tolist() == ["bag, red"] * COUNT + ["boot"] * COUNT
    assert [path.name for path in folder.iterdir()] == ["a.npz"]


def test_npz_of_a_model_without_labels(folder: Path, make: Make) -> None:
    arguments = ["--engine", str(make(PLAIN, 3)), "--count", "5", "--output-format", "npz"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    with np.load(folder / "samples.npz", allow_pickle=False) as archive:
        assert "labels" not in archive.files
        assert archive["levels"].shape == (5, *PLAIN.image_shape)


def test_png_folder_holds_one_picture_per_image(folder: Path, sampler_path: Path) -> None:
    result = run(sampler_path, "png", "--scale", "2")
    assert result.exit_code == 0
    assert result.stdout.startswith("samples: 20 images of 6×5, in ")
    pixels = expected(sampler_path).pixels()
    names = [f"{k:06}-{'bag__red' if k < COUNT else 'boot'}.png" for k in range(TOTAL)]
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [*names, "job.json"]
    for name, image in zip(names, pixels, strict=True):
        with Image.open(folder / "samples" / name) as opened:
            np.testing.assert_array_equal(np.asarray(opened), image[0].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("output_format", ["png", "npz"])
@pytest.mark.parametrize("after", [0, 1, 5, 13, 17])
def test_an_interrupted_job_goes_on_and_ends_in_the_same_images(
    folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch, output_format: str, after: int
) -> None:
    assert run(sampler_path, output_format, "-o", "whole/out").exit_code == 0
    with interrupted_after(monkeypatch, after):
        result = run(sampler_path, output_format, "-o", "broken/out")
    assert result.exit_code == 130
    kept = after + after % 2  # parts of two
    line = f"Error: interrupted: kept {kept} of 20 images for broken/out; the same command goes on from there\n"
    assert result.stderr == line
    assert not (folder / "broken" / "out").is_file()
    assert len(list((folder / "broken").rglob("*-*.png"))) == (kept if output_format == "png" else 0)
    # Other threads and parts draw the rest.
    result = run(sampler_path, output_format, "-o", "broken/out", "--threads", "1", "--batch-size", "7")
    assert result.exit_code == 0
    assert (f"{kept} of them drawn before" in result.stdout) == (kept > 0)
    whole, broken = tree(folder / "whole"), tree(folder / "broken")
    if output_format == "png":
        assert whole == broken
    else:
        assert whole.keys() == broken.keys() == {"out"}
        with np.load(folder / "whole/out") as a, np.load(folder / "broken/out") as b:
            assert a["levels"].tobytes() == b["levels"].tobytes()
            np.testing.assert_allclose(a["log_prob"], b["log_prob"], atol=1e-5)


@pytest.mark.parametrize("output_format", ["png", "npz"])
def test_a_finished_job_draws_nothing_again(
    folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch, output_format: str
) -> None:
    assert run(sampler_path, output_format).exit_code == 0
    before = tree(folder)
    monkeypatch.setattr(Sampler, "_draw", lambda *_: pytest.fail("drawn again"))
    result = run(sampler_path, output_format)
    assert result.exit_code == 0
    assert "20 of them drawn before" in result.stdout
    assert tree(folder) == before


def test_a_missing_picture_is_drawn_again(folder: Path, sampler_path: Path) -> None:
    run(sampler_path, "png")
    before = tree(folder)
    (folder / "samples" / "000012-boot.png").unlink()
    assert "19 of them drawn before" in run(sampler_path, "png").stdout
    assert tree(folder) == before


@pytest.mark.parametrize("output_format", ["png", "npz"])
def test_a_job_that_an_earlier_version_began_goes_on_under_its_file_names(
    folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch, output_format: str
) -> None:
    with interrupted_after(monkeypatch, 5):
        run(sampler_path, output_format, "-o", "out")
    (place,) = (path.parent for path in folder.rglob("job.json"))
    job = msgspec.json.decode((place / "job.json").read_bytes())
    assert job.pop("class_names") == ["bag, red", "boot"]
    (place / "job.json").write_bytes(msgspec.json.encode(job))
    for path in place.glob("*-bag__red.png"):
        path.rename(path.with_name(path.name.replace("bag__red", "2")))
    result = run(sampler_path, output_format, "-o", "out")
    assert (result.exit_code, "6 of them drawn before" in result.stdout) == (0, True)
    if output_format == "png":
        names = [f"{k:06}-{2 if k < COUNT else 0}.png" for k in range(TOTAL)]
        assert sorted(path.name for path in (folder / "out").iterdir()) == [*names, "job.json"]


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (["--seed", "1"], "its seed is 0, asked for 1"),
        (["--temperature", "0.5"], "its temperature is 1.0, asked for 0.5"),
        (["--count", "3"], "its count is 10, asked for 3"),
        (["--label", "1"], "its labels is (2, 0), asked for (2, 0, 1)"),
        (["--scale", "2"], "its scale is 1, asked for 2"),
    ],
)
def test_another_job_is_refused_in_the_same_folder(
    folder: Path, sampler_path: Path, more: list[str], difference: str
) -> None:
    run(sampler_path, "png")
    before = tree(folder)
    result = run(sampler_path, "png", *more)
    assert result.exit_code == 1
    assert f"samples holds another job ({difference}): name another place with -o" in result.stderr
    assert tree(folder) == before


def test_another_engine_is_another_job(folder: Path, sampler_path: Path, step_path: Path) -> None:
    run(sampler_path, "png")
    result = run(step_path, "png")
    assert result.exit_code == 1
    assert "its engine digest is" in result.stderr


def test_a_job_names_the_engine_that_drew_it(
    folder: Path, sampler_path: Path, step_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever took its file's place since it was loaded."""
    path = folder / "model.onnx"
    path.write_bytes(sampler_path.read_bytes())
    original = Sampler.draw

    def stream(*arguments: Any, **options: Any) -> Iterator[Samples]:
        path.write_bytes(step_path.read_bytes())
        return original(*arguments, **options)

    monkeypatch.setattr(Sampler, "draw", stream)
    run(path, "png")
    job = msgspec.json.decode((folder / "samples" / "job.json").read_bytes())
    assert job["engine_digest"] == hashlib.sha256(sampler_path.read_bytes()).hexdigest()


def test_a_folder_of_something_else_is_left_alone(folder: Path, sampler_path: Path) -> None:
    (folder / "samples").mkdir()
    (folder / "samples" / "holiday.png").write_bytes(b"mine")
    result = run(sampler_path, "png")
    assert result.exit_code == 1
    assert "exists and holds no job of gpcnn-sample" in result.stderr
    assert tree(folder) == {"samples/holiday.png": b"mine"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"seed": 1}', b"\x00\xff"])
def test_a_damaged_job_file_is_an_error(folder: Path, sampler_path: Path, content: bytes) -> None:
    run(sampler_path, "png")
    (folder / "samples" / "job.json").write_bytes(content)
    result = run(sampler_path, "png")
    assert result.exit_code == 1
    assert "job.json is damaged" in result.stderr


def test_a_damaged_part_is_drawn_again(folder: Path, sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(sampler_path, "npz", "-o", "whole.npz")
    with interrupted_after(monkeypatch, 13):
        run(sampler_path, "npz", "-o", "a.npz")
    parts = sorted((folder / "a.npz.parts").glob("*.npz"))
    assert len(parts) > 2
    parts[1].write_bytes(parts[1].read_bytes()[:50])
    assert run(sampler_path, "npz", "-o", "a.npz").exit_code == 0
    with np.load(folder / "whole.npz") as a, np.load(folder / "a.npz") as b:
        np.testing.assert_array_equal(a["levels"], b["levels"])
    assert not (folder / "a.npz.parts").exists()


def test_an_npz_of_another_job_is_refused(folder: Path, sampler_path: Path) -> None:
    run(sampler_path, "npz", "--seed", "1")
    before = tree(folder)
    result = run(sampler_path, "npz")
    assert result.exit_code == 1
    assert "samples.npz holds another job (its seed is 1, asked for 0): name another place with -o" in result.stderr
    assert tree(folder) == before


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def patched(content: bytes, at: int, value: int) -> bytes:
    """The same, with 16 bits changed in each of a zip's headers, where the local one has them at `at`."""
    changed = bytearray(content)
    for mark, offset in ((b"PK\3\4", at), (b"PK\1\2", at + 2)):
        found = content.find(mark)
        while found >= 0:
            changed[found + offset : found + offset + 2] = value.to_bytes(2, "little")
            found = content.find(mark, found + 1)
    return bytes(changed)


JOB = archive(job=npy(np.zeros(400)))
NOT_OURS = {
    "text": b"hello",
    "nothing": b"",
    "npy": npy(np.arange(3)),
    "other npz": archive(weights=npy(np.arange(3))),
    "job of another kind": JOB,
    "bad deflate": JOB.replace(JOB[45:60], b"\xff" * 15),
    "encrypted": patched(JOB, 6, 1),
    "packed otherwise": patched(JOB, 8, 77),
    "cut": JOB[: len(JOB) // 2],
    "a shape beyond any memory": archive(job=npy(np.zeros(400)).replace(b"(400,), ", b"(1<<60,)")),
    "a huge shape": archive(job=npy(np.zeros(400)).replace(b"(400,), }        ", b"(400000000000000,), }")),
}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS)
def test_a_file_of_something_else_is_left_alone(folder: Path, sampler_path: Path, content: bytes) -> None:
    (folder / "x.npz").write_bytes(content)
    result = run(sampler_path, "npz", "-o", "x.npz")
    assert result.exit_code == 1
    assert result.stderr == "Error: x.npz exists and is not of this job: name another with -o, or remove it\n"
    assert tree(folder) == {"x.npz": content}


def place(folder: Path, total: int = TOTAL) -> gpcnn_runtime.commands.sample.jobs.NpzFile:
    job = gpcnn_runtime.commands.sample.jobs.Job(
        output_format="npz", engine_digest="0", labels=None, count=total, seed=0, temperature=1.0
    )
    return gpcnn_runtime.commands.sample.jobs.NpzFile(folder / "a.npz", job, LABELLED, total)


def images(start: int, count: int) -> Samples:
    shape = (count, *LABELLED.image_shape)
    levels = np.full(shape, start % LABELLED.levels, np.uint8)
    positions = np.arange(start, start + count)
    return Samples(levels, np.zeros(shape, np.float32), None, positions, None, 0.0, LABELLED.levels)


GOOD = {"levels": np.zeros((4, *LABELLED.image_shape), np.uint8)}
GOOD["log_prob"] = GOOD["levels"].astype(np.float32)
SOUND = archive(**{name: npy(array) for name, array in GOOD.items()})


def part(**changes: np.ndarray) -> bytes:
    return archive(**{name: npy(array) for name, array in (GOOD | changes).items()})


DAMAGED = {
    **NOT_OURS,
    "no log_prob": archive(levels=npy(GOOD["levels"])),
    "damaged log_prob": SOUND[: SOUND.index(b"log_prob") + 40] + b"\xff" * 9 + SOUND[SOUND.index(b"log_prob") + 49 :],
    "too few log_prob": part(log_prob=GOOD["log_prob"][:3]),
    "other log_prob": part(log_prob=GOOD["log_prob"].astype(np.float64)),
    "other levels": part(levels=GOOD["levels"].astype(np.int32)),
    "other images": part(levels=GOOD["levels"][:, :, 1:], log_prob=GOOD["log_prob"][:, :, 1:]),
    "a number": part(levels=np.uint8(1), log_prob=np.float32(1)),
    "no image": part(levels=GOOD["levels"][:0], log_prob=GOOD["log_prob"][:0]),
    "more than the job": part(**{name: np.repeat(array, 5, 0) for name, array in GOOD.items()}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_any_damaged_part_is_drawn_again(folder: Path, content: bytes) -> None:
    broken = place(folder)
    assert len(broken.open()) == TOTAL
    for start in (0, 4):
        broken.add(images(start, 4))
        broken.keep()
    (folder / "a.npz.parts" / f"{4:012}.npz").write_bytes(SOUND)
    broken.close()
    with contextlib.closing(place(folder)) as sound:
        assert sound.open()[0] == 8
    (folder / "a.npz.parts" / f"{4:012}.npz").write_bytes(content)
    again = place(folder)
    missing = again.open()
    assert (missing[0], len(missing)) == (4, TOTAL - 4)
    again.add(images(4, TOTAL - 4))
    again.finish()
    again.close()
    assert [path.name for path in folder.iterdir()] == ["a.npz"]
    with np.load(folder / "a.npz") as file:
        assert len(file["levels"]) == len(file["log_prob"]) == TOTAL


@pytest.mark.parametrize("line", range(12))
def test_ctrl_c_between_any_two_lines_of_keep_writes_nothing_twice(folder: Path, line: int) -> None:
    broken = place(folder)
    broken.open()
    broken.add(images(0, 2))
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code is not gpcnn_runtime.commands.sample.jobs.NpzFile.keep.__code__:
            return None
        if event == "line":
            lines += 1
            if lines == line + 1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            broken.keep()
    finally:
        sys.settrace(before)
    assert broken.keep() == 2
    broken.close()
    assert [path.name for path in (folder / "a.npz.parts").glob("*.npz")] == [f"{0:012}.npz"]
    assert place(folder).open()[0] == 2


def test_what_is_missing_of_a_huge_job_takes_no_memory(folder: Path) -> None:
    for done in ([], [0], [0, 1, 2], [3], [1, 4, 5, 9], [9], list(range(10))):
        missing = gpcnn_runtime.commands.sample.jobs._Missing(10, done)
        assert list(missing) == [position for position in range(10) if position not in done]
        assert missing[1:4] == list(missing)[1:4]
    missing = gpcnn_runtime.commands.sample.jobs._Missing(2**63 - 1, [0, 5])
    assert (missing[0], missing[-1], missing[4:6]) == (1, 2**63 - 2, [6, 7])


@pytest.mark.parametrize("output_format", ["png", "npz"])
def test_two_jobs_do_not_write_into_one_place(folder: Path, sampler_path: Path, output_format: str) -> None:
    process, place = endless(folder, sampler_path, output_format)
    second = run_endless(sampler_path, output_format)
    assert second.exit_code == 1
    assert second.stderr.startswith(f"Error: out is in use by process {process.pid} on ")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143  # and what was drawn is kept, as by Ctrl-C
    assert errors.startswith("Error: interrupted: ")
    assert "the same command goes on from there" in errors
    assert not list(place.glob(".*"))


@pytest.mark.parametrize("name", ["-", "pipe"])
def test_an_npz_goes_into_a_pipe(folder: Path, sampler_path: Path, name: str) -> None:
    os.mkfifo(folder / "pipe")
    arguments = ["--engine", str(sampler_path), "--label", "2,0", "--count", str(COUNT), "--output-format", "npz"]
    code = "from gpcnn_runtime.commands.sample.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments, "-o", name, "--json", "told.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        content = process.stdout.read() if name == "-" else (folder / "pipe").read_bytes()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    with np.load(io.BytesIO(content)) as file:
        assert len(file["levels"]) == TOTAL
    assert sorted(path.name for path in folder.iterdir()) == ["pipe", "told.json"]


def run_endless(engine: Path, output_format: str) -> Result:
    return CliRunner().invoke(main, arguments_of_endless(engine, output_format))


def arguments_of_endless(engine: Path, output_format: str) -> list[str]:
    return [
        "--engine",
        str(engine),
        "--label",
        "0",
        "--count",
        "1000000",
        "--output-format",
        output_format,
        "-o",
        "out",
    ]


def endless(folder: Path, engine: Path, output_format: str) -> tuple[subprocess.Popen[str], Path]:
    """A job that has begun to write, and where it keeps what it wrote."""
    code = "from gpcnn_runtime.commands.sample import cli, jobs\njobs.PART_SECONDS = 0.2\ncli.main()"
    command = [sys.executable, "-c", code, *arguments_of_endless(engine, output_format)]
    place = folder / ("out" if output_format == "png" else "out.parts")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(list(place.glob("0*"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    return process, place


@pytest.mark.parametrize("output_format", ["png", "npz"])
def test_a_real_ctrl_c_exits_130_with_whole_files(folder: Path, sampler_path: Path, output_format: str) -> None:
    code = "from gpcnn_runtime.commands.sample import cli, jobs\njobs.PART_SECONDS = 0.2\ncli.main()"
    command = [sys.executable, "-c", code, "--engine", str(sampler_path)]
    command += ["--label", "0", "--count", "1000000", "--output-format", output_format, "-o", "out"]
    place = folder / ("out" if output_format == "png" else "out.parts")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while len(list(place.glob("0*"))) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == ""
    assert errors.startswith("Error: interrupted: ")
    assert errors.count("\n") == 1
    assert not list(place.glob(".*"))
    for path in place.glob("0*.png"):
        with Image.open(path) as image:
            image.load()
    assert not (folder / "out").is_file()
