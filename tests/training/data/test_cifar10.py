"""CIFAR-10's binary files: exact pixels in any place they may lie, never accepted damaged, and trainable to the end."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import gpcnn_training.data.cifar10
from gpcnn_deploy.errors import DataError
from gpcnn_training.data.cifar10 import CLASS_NAMES
from gpcnn_training.data.sources import load_data

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
TRAIN = [f"data_batch_{k}.bin" for k in range(1, 6)]
MEND = "put the published files there (https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz)"


def record(label: int, image_HWC: np.ndarray) -> bytes:
    """As the data set's page has it: the label, 1,024 reds, 1,024 greens, 1,024 blues, each plane row by row."""
    planes = [image_HWC[row, column, c] for c in range(3) for row in range(32) for column in range(32)]
    return bytes([label, *planes])


@functools.cache
def images(count: int) -> np.ndarray:
    """uint8 [count, 32, 32, 3] of pixels that name their place."""
    return np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


@functools.cache
def cifar_files() -> dict[str, bytes]:
    """Six files of 1 to 5 and 2 records, and the list of classes as it is published (with its empty line)."""
    files, first = {}, 0
    for file, count in zip([*TRAIN, "test_batch.bin"], [1, 2, 3, 4, 5, 2], strict=True):
        files[file] = b"".join(record((first + k) % 10, images(17)[first + k]) for k in range(count))
        first += count
    return files | {"batches.meta.txt": "\n".join([*CLASS_NAMES, "", ""]).encode()}


def packed(files: dict[str, bytes], folder: str = f"{FOLDER}/", kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size, member.type = len(content) if kind == tarfile.REGTYPE else 0, kind
            member.linkname = "/etc/hostname"
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def place(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def accept(monkeypatch: pytest.MonkeyPatch, archive: bytes) -> None:
    """Let this archive be the published one."""
    monkeypatch.setattr(gpcnn_training.data.cifar10, "_MD5", hashlib.md5(archive).hexdigest())


def check(data: Any) -> None:
    """Every pixel where it belongs, in the files' order."""
    expected = images(17).transpose(0, 3, 1, 2)
    assert (data.name, data.image_shape, data.class_names) == ("cifar10", (3, 32, 32), CLASS_NAMES)
    assert np.array_equal(data.train_pixels, expected[:15])
    assert np.array_equal(data.test_pixels, expected[15:])
    assert data.train_labels.tolist() == [k % 10 for k in range(15)]
    assert data.test_labels.tolist() == [5, 6]


@pytest.mark.parametrize("subfolder", ["", FOLDER, "cifar10", f"cifar10/{FOLDER}"])
@pytest.mark.parametrize("form", ["files", "files without the list of classes", "archive"])
def test_files_are_found_in_each_form_and_place(
    tmp_path: Path, form: str, subfolder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict(cifar_files())
    if form == "archive":
        files = {ARCHIVE: packed(files | {"readme.html": b"not read"})}
        accept(monkeypatch, files[ARCHIVE])
    elif form != "files":
        del files["batches.meta.txt"]
    place(tmp_path / subfolder, files)
    before = sorted(tmp_path.rglob("*"))
    check(load_data("cifar10", tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pixel_of_each_colour_is_at_its_published_offset(tmp_path: Path) -> None:
    """Byte 0 is the label; 1 to 1,024 red, to 2,048 green, to 3,072 blue; a row is 32 bytes."""
    content = bytearray(3073)
    content[0], content[1 + 33], content[1 + 1024 + 2], content[1 + 2048 + 1023] = 9, 10, 20, 30
    place(tmp_path, cifar_files() | {"test_batch.bin": bytes(content)})
    data = load_data("cifar10", tmp_path)
    expected = np.zeros((1, 3, 32, 32), np.uint8)
    expected[0, 0, 1, 1], expected[0, 1, 0, 2], expected[0, 2, 31, 31] = 10, 20, 30
    assert np.array_equal(data.test_pixels, expected)
    assert data.class_names[data.test_labels[0]] == "truck"


def one_line(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data("cifar10", folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_there_says_what_to_put_where(tmp_path: Path) -> None:
    place(tmp_path, {"data_batch_1": b"a pickle", "cifar-10-python.tar.gz": b"pickles"})
    message = one_line(tmp_path)
    assert message.startswith(f"neither {ARCHIVE} nor data_batch_1.bin is in {tmp_path}, {tmp_path / FOLDER} or ")
    assert "put it there (https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz; " in message
    assert "or leave --data-dir out to download it" in message


@pytest.mark.parametrize("file", [*TRAIN, "test_batch.bin"])
@pytest.mark.parametrize("form", ["files", "archive"])
def test_a_missing_file_is_named(tmp_path: Path, file: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: content for name, content in cifar_files().items() if name != file}
    if form == "archive":
        files = {ARCHIVE: packed(files)}
        accept(monkeypatch, files[ARCHIVE])
    place(tmp_path, files)
    there = tmp_path / ARCHIVE if form == "archive" else tmp_path
    assert one_line(tmp_path) == f"{there}: {file} is missing: {MEND}"


GOOD = cifar_files()["data_batch_3.bin"]
FEW = "bytes: expected 10,000 records of 3,073 bytes, or fewer, but whole ones"
SPOILT = {
    "empty": (b"", f"holds 0 {FEW}"),
    "a byte short": (GOOD[:-1], f"holds 9,218 {FEW}"),
    "a byte long": (GOOD + b"\0", f"holds 9,220 {FEW}"),
    "a page": (b"<html>404</html>", f"holds 16 {FEW}"),
    "of CIFAR-100": (bytes(3074 * 5), f"holds 15,370 {FEW}"),
    "label 10": (GOOD[: 2 * 3073] + b"\x0a" + GOOD[2 * 3073 + 1 :], "record 2 has the label 10: expected 0 to 9"),
    "too many": (bytes(3073 * 10_001), "holds more than 10,000 records of 3,073 bytes"),
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("form", ["files", "archive"])
def test_a_damaged_file_is_named(tmp_path: Path, spoil: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, complaint = SPOILT[spoil]
    files = cifar_files() | {"data_batch_3.bin": content}
    if form == "archive":
        files = {ARCHIVE: packed(files)}
        accept(monkeypatch, files[ARCHIVE])
    place(tmp_path, files)
    there = tmp_path / ARCHIVE if form == "archive" else tmp_path
    assert one_line(tmp_path) == f"{there}: data_batch_3.bin: {complaint}: {MEND}"


def test_10_000_records_are_taken(tmp_path: Path) -> None:
    place(tmp_path, cifar_files() | {"data_batch_2.bin": bytes(3073 * 10_000)})
    assert load_data("cifar10", tmp_path).train_pixels.shape == (10_013, 3, 32, 32)


@pytest.mark.parametrize("names", [b"", b"apple\nbaby\n", "\n".join(reversed(CLASS_NAMES)).encode(), b"\xff\xfe"])
def test_the_files_of_other_classes_are_refused(tmp_path: Path, names: bytes) -> None:
    place(tmp_path, cifar_files() | {"batches.meta.txt": names})
    assert one_line(tmp_path).startswith(
        f"{tmp_path}: batches.meta.txt: does not list the classes of CIFAR-10 (airplane, automobile, bird, "
    )


def test_another_archive_or_part_of_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = packed(cifar_files())
    accept(monkeypatch, published)
    for content in (b"", published[: len(published) // 2], published[:-1], packed({}), b"<html>404</html>"):
        place(tmp_path, {ARCHIVE: content})
        assert one_line(tmp_path) == (
            f"{tmp_path / ARCHIVE}: is not the published archive, or not all of it ({len(content):,} bytes, "
            f"MD5 differs): {MEND}"
        )


NOT_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "cut in a member": lambda: gzip.compress(gzip.decompress(packed(cifar_files()))[:20_000]),
    "cut in the compressed bytes": lambda: packed(cifar_files())[:30_000],
    "not compressed": lambda: gzip.decompress(packed(cifar_files())),
    "compressed text": lambda: gzip.compress(b"x" * 2000),
    "broken": lambda: packed(cifar_files())[:10] + b"\xff" * 50 + packed(cifar_files())[60:],
}


@pytest.mark.parametrize("name", NOT_ARCHIVES)
def test_an_archive_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its hash: the reader itself must stand up to it."""
    content = NOT_ARCHIVES[name]()
    accept(monkeypatch, content)
    place(tmp_path, {ARCHIVE: content})
    message = one_line(tmp_path)
    assert message.startswith(f"{tmp_path / ARCHIVE}: cannot be read (")
    assert message.endswith(MEND)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("", tarfile.REGTYPE),
        (f"/{FOLDER}/", tarfile.REGTYPE),
        (f"../{FOLDER}/", tarfile.REGTYPE),
        (f"{FOLDER}/../", tarfile.REGTYPE),
        (f"{FOLDER}/", tarfile.SYMTYPE),
        (f"{FOLDER}/", tarfile.LNKTYPE),
        (f"{FOLDER}/", tarfile.FIFOTYPE),
        (f"{FOLDER}/", tarfile.DIRTYPE),
    ],
)
def test_only_plain_files_of_the_published_names_are_read(
    tmp_path: Path, folder: str, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed(cifar_files(), folder, kind)
    accept(monkeypatch, content)
    place(tmp_path / "in", {ARCHIVE: content})
    assert one_line(tmp_path / "in") == f"{tmp_path / 'in' / ARCHIVE}: data_batch_1.bin is missing: {MEND}"
    assert [path.name for path in tmp_path.rglob("*")] == ["in", ARCHIVE]


@pytest.fixture
def server(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the loader downloads from."""
    folder, address = site
    monkeypatch.setattr(gpcnn_training.data.cifar10, "_URL", address + ARCHIVE)
    return folder


def test_the_archive_is_downloaded_once_and_only_if_it_is_the_published_one(
    server: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    published = packed(cifar_files())
    accept(monkeypatch, published)
    (server / ARCHIVE).write_bytes(published[:-8])
    with pytest.raises(DataError, match=rf"cannot download http.*fetch {ARCHIVE} by hand.*--data-dir"):
        load_data("cifar10")
    (server / ARCHIVE).write_bytes(published)
    check(load_data("cifar10"))
    assert f"downloading cifar10 {ARCHIVE}" in capfd.readouterr().err
    (server / ARCHIVE).unlink()
    check(load_data("cifar10"))
    assert capfd.readouterr().err == ""


def test_from_binary_files_to_a_colour_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32×32 RGB with 256 levels: the loss falls, the engine draws what PyTorch draws, and the picture is in colour."""
    from gpcnn_export.commands.export.cli import main as export
    from gpcnn_runtime.commands.sample.cli import main as sample
    from gpcnn_training.checkpoint import load_checkpoint
    from gpcnn_training.commands.train.cli import main as train

    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (10, 1, 1, 3))
    files = {}
    for file, count in [(name, 8) for name in TRAIN] + [("test_batch.bin", 4)]:
        labels = rng.integers(0, 10, count)
        pictures = (colours[labels] + rng.integers(0, 20, (count, 32, 32, 3))).astype(np.uint8)
        files[file] = b"".join(record(int(k), picture) for k, picture in zip(labels, pictures, strict=True))
    place(tmp_path / FOLDER, files)
    monkeypatch.chdir(tmp_path)

    def run(command: Any, *arguments: object) -> str:
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    # Nothing to be tried first, and few samples on a sheet: both take longer than the training.
    monkeypatch.setattr("gpcnn_training.evaluation.likelihood._SUBPIXELS_OF_A_SHEET", 4 * 3 * 32 * 32)
    small = ("--layers", 2, "--features", 8, "--batch-size", 4, "--learning-rate", 0.02)
    small += ("--precision", "fp32", "--compile", "off")
    run(train, "--data", "cifar10", "--data-dir", tmp_path, "--max-steps", 40, *small)
    folder = Path("runs/cifar10-conditional")
    _, header = load_checkpoint(folder)
    assert (header.spec.image_shape, header.spec.levels, header.quantization) == ((3, 32, 32), 256, "nearest")
    assert (header.data, header.class_names) == ("cifar10", CLASS_NAMES)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    bits = [row["test_bits_per_dim"] for row in rows if "test_bits_per_dim" in row][-1]
    assert bits < 7.2  # a model that knows nothing takes 8; this one ends near 6.5

    told = run(export, folder, "--window", 8)
    assert "Checked against eager PyTorch: " in told
    assert "of 24 images identical" in told
    run(sample, "--label", "frog", "--seed", 3, "-o", "frog.png")
    with Image.open("frog.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert picture.mode == "RGB"
    assert not np.array_equal(pixels[..., 0], pixels[..., 1])
