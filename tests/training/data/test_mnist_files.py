"""MNIST files: found in any of their forms, downloaded once, and never accepted damaged."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import gpcnn_training.data.mnist
from gpcnn_deploy.errors import DataError
from gpcnn_training.data.mnist import _File, _Source
from gpcnn_training.data.sources import load_data

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHAPES = ((12, 5, 4), (12,), (6, 5, 4), (6,))


def idx_files() -> dict[str, bytes]:
    """Four small files of the same layout: magic number, dimensions, bytes."""
    rng = np.random.default_rng(1)
    files = {}
    for name, shape in zip(NAMES, SHAPES, strict=True):
        values = rng.integers(0, 256 if len(shape) > 1 else 10, shape).astype(np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        files[name] = header + values.tobytes()
    return files


FILES = idx_files()
GZ = {name: gzip.compress(content, mtime=0) for name, content in FILES.items()}


@pytest.fixture(autouse=True)
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loader, told to expect the four small files in place of the published ones."""
    files = [
        _File(name, shape, hashlib.sha256(FILES[name]).hexdigest(), hashlib.md5(GZ[name]).hexdigest())
        for name, shape in zip(NAMES, SHAPES, strict=True)
    ]
    small = _Source("http://127.0.0.1:9/", tuple("0123456789"), (files[0], files[1], files[2], files[3]))
    monkeypatch.setattr(gpcnn_training.data.mnist, "_SOURCES", {"mnist": small, "fashion-mnist": small})


def place(folder: Path, files: dict[str, bytes], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}{suffix}").write_bytes(content)


@pytest.mark.parametrize("subfolder", ["", "mnist"])
@pytest.mark.parametrize("form", ["plain", "gz", "recompressed"])
def test_files_are_found_in_each_form_and_place(tmp_path: Path, form: str, subfolder: str) -> None:
    files = {"plain": FILES, "gz": GZ, "recompressed": {n: gzip.compress(c, 1) for n, c in FILES.items()}}[form]
    place(tmp_path / subfolder, files, "" if form == "plain" else ".gz")
    data = load_data("mnist", tmp_path)
    assert (data.name, data.image_shape) == ("mnist", (1, 5, 4))
    assert data.train_pixels.tobytes() == FILES[NAMES[0]][16:]
    assert data.train_labels.tolist() == list(FILES[NAMES[1]][8:])
    assert data.test_pixels.tobytes() == FILES[NAMES[2]][16:]
    assert data.test_labels.tolist() == list(FILES[NAMES[3]][8:])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_with_where_to_put_it(tmp_path: Path, name: str) -> None:
    place(tmp_path, {other: GZ[other] for other in NAMES if other != name}, ".gz")
    with pytest.raises(DataError, match=rf"^{name}\.gz is not in .*put it there \(http"):
        load_data("mnist", tmp_path)


def spoilt(name: str) -> dict[str, bytes]:
    good, plain = GZ[name], FILES[name]
    flipped = bytearray(plain)
    flipped[-1] ^= 1
    return {
        "empty": b"",
        "foreign": b"<html>404</html>",
        "truncated": good[: len(good) // 2],
        "one bit": gzip.compress(bytes(flipped)),
        "short": gzip.compress(plain[:-1]),
        "long": gzip.compress(plain + b"\0"),
        "bomb": gzip.compress(bytes(50_000_000)),
        "broken deflate": good[:12] + b"\xff" * 20 + good[32:],
    }


@pytest.mark.parametrize("spoil", spoilt(NAMES[0]))
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, spoil: str) -> None:
    place(tmp_path, GZ | {name: spoilt(name)[spoil]}, ".gz")
    with pytest.raises(DataError) as caught:
        load_data("mnist", tmp_path)
    assert f"{name}.gz: " in str(caught.value)
    assert "put the published file there" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def server(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the loader downloads from."""
    folder, address = site
    sources = {n: s._replace(url=address) for n, s in gpcnn_training.data.mnist._SOURCES.items()}
    monkeypatch.setattr(gpcnn_training.data.mnist, "_SOURCES", sources)
    return folder


def test_files_are_downloaded_once(server: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place(server, GZ, ".gz")
    data = load_data("mnist")
    assert "downloading mnist train-images-idx3-ubyte.gz" in capfd.readouterr().err
    for name in NAMES:
        (server / f"{name}.gz").unlink()
    assert load_data("mnist").digest() == data.digest()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"<html>sign in to this network</html>", b"", GZ[NAMES[1]][:-8]])
def test_a_download_of_something_else_is_refused_and_not_kept(server: Path, content: bytes) -> None:
    place(server, GZ | {NAMES[1]: content}, ".gz")
    with pytest.raises(DataError, match=rf"cannot download http.*{NAMES[1]}\.gz .*by hand.*--data-dir"):
        load_data("mnist")
    place(server, GZ, ".gz")
    assert load_data("mnist").train_labels.tolist() == list(FILES[NAMES[1]][8:])


def test_a_missing_page_and_a_dead_line_say_what_to_fetch_by_hand(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"cannot download http.*fetch train-images-idx3-ubyte\.gz by hand"):
        load_data("mnist")
    sources = {n: s._replace(url="http://127.0.0.1:9/") for n, s in gpcnn_training.data.mnist._SOURCES.items()}
    monkeypatch.setattr(gpcnn_training.data.mnist, "_SOURCES", sources)
    with pytest.raises(DataError, match=r"cannot download http://127\.0\.0\.1:9/train-images.*--data-dir"):
        load_data("fashion-mnist")


@pytest.mark.skipif("GPCNN_DATA_DIR" not in os.environ, reason="GPCNN_DATA_DIR does not name a folder with MNIST")
def test_the_published_files_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    data = load_data("mnist", Path(os.environ["GPCNN_DATA_DIR"]))
    assert data.train_pixels.shape == (60_000, 1, 28, 28)
    assert np.bincount(data.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
