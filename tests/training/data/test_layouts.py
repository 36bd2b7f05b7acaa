"""What people's files look like: the layouts of other programs are taken as they are, and labels keep their meaning."""

from __future__ import annotations

import gzip
import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gpcnn_deploy.errors import DataError
from gpcnn_training.data.dataset import DataSet, split
from gpcnn_training.data.names import data_name
from gpcnn_training.data.sources import load_data
from gpcnn_training.trainer.trainer import hold_out

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (30, 5, 4)).astype(np.uint8)
RGB = RNG.integers(0, 256, (30, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(30) % 3


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def save(path: Path, image: npt.NDArray[np.uint8], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def shown(data: DataSet) -> dict[bytes, str]:
    """Image → name of its class."""
    pixels = np.concatenate([data.train_pixels, data.test_pixels])
    labels = np.concatenate([data.train_labels, data.test_labels])
    return {image.tobytes(): data.class_names[label] for image, label in zip(pixels, labels, strict=True)}


@pytest.mark.parametrize(
    ("images", "labels", "val_images", "val_labels", "test_images", "test_labels"),
    [
        ("images", "labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),  # MedMNIST
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),  # Keras
        ("X_train", "y_train", "X_val", "y_val", "X_test", "y_test"),
    ],
)
def test_names_of_arrays_that_are_about(
    tmp_path: Path, images: str, labels: str, val_images: str, val_labels: str, test_images: str, test_labels: str
) -> None:
    arrays = {images: GREY[:20], labels: LABELS[:20], val_images: GREY[20:24], val_labels: LABELS[20:24]}
    path = npz(tmp_path / "a.npz", **arrays, **{test_images: GREY[24:], test_labels: LABELS[24:]})
    data = load_data(path)
    assert np.array_equal(data.train_pixels[:, 0], GREY[:24])
    assert np.array_equal(data.train_labels, LABELS[:24])
    assert np.array_equal(data.test_pixels[:, 0], GREY[24:])
    assert data.validation == 4
    train, validation = hold_out(data, 20)
    assert (train.tolist(), validation.tolist()) == (list(range(20)), list(range(20, 24)))


def test_the_files_own_validation_images_are_no_test_images(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=GREY[:20], val_images=GREY[20:])
    data = load_data(path)
    assert (len(data.train_pixels), data.validation, len(data.test_pixels)) == (28, 10, 2)
    assert np.array_equal(data.train_pixels[-10:, 0], GREY[20:])


@pytest.mark.parametrize(
    "images",
    [
        RGB,
        RGB.transpose(0, 3, 1, 2),
        RGB.astype(np.float64) / 255,
        (RGB / np.float32(255)).astype(np.float32).transpose(0, 3, 1, 2),
        RGB.astype(np.int64),
    ],
    ids=["NHWC", "NCHW", "float64", "float32 NCHW", "int64"],
)
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], np.eye(3)[LABELS], np.eye(3, dtype=bool)[LABELS], np.eye(3, dtype=np.uint8)[LABELS]],
    ids=["N", "N1", "one-hot floats", "one-hot bools", "one-hot bytes"],
)
def test_layouts_of_images_and_labels(tmp_path: Path, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    data = load_data(npz(tmp_path / "a.npz", images=images, labels=labels))
    expected = {image.tobytes(): str(k % 3) for k, image in enumerate(RGB.transpose(0, 3, 1, 2))}
    assert shown(data) == expected


def test_labels_that_do_not_begin_at_0_make_no_class_of_noise(tmp_path: Path) -> None:
    data = load_data(npz(tmp_path / "a.npz", images=GREY, labels=np.array([1, 3, 12])[LABELS]))
    assert data.class_names == ("1", "3", "12")
    assert shown(data) == {image.tobytes(): ("1", "3", "12")[k % 3] for k, image in enumerate(GREY)}
    data.check_classes()


def test_a_class_that_no_image_is_trained_on_is_named(tmp_path: Path) -> None:
    data = load_data(npz(tmp_path / "a.npz", images=GREY, labels=LABELS * 2, class_names=list("abcde")))
    with pytest.raises(DataError, match="a: no training image is of class b, d: add some, or leave the class out"):
        data.check_classes()
    with pytest.raises(DataError, match="test_labels hold 7, of which there is no training image"):
        load_data(npz(tmp_path / "b.npz", images=GREY, labels=LABELS, test_images=GREY[:1], test_labels=np.array([7])))


def test_the_split_leaves_every_class_an_image_to_train_on() -> None:
    for count in range(2, 60):
        labels = np.append(np.arange(count - 1) // 2, count // 2)  # two of each, and one or two of one
        data = split("a", np.zeros((count, 1, 2, 2), np.uint8), labels, tuple(map(str, range(labels.max() + 1))))
        if count > 2:
            data.check_classes()
        assert len(data.train_pixels) + len(data.test_pixels) == count


@pytest.mark.parametrize("high", [16, 31])
def test_pixels_of_another_scale_are_refused_with_their_range(tmp_path: Path, high: int) -> None:
    images = (GREY % (high + 1)).astype(np.uint8)
    images[0, 0, 0] = high
    data = load_data(npz(tmp_path / "a.npz", images=images))
    with pytest.raises(DataError, match=rf"a: pixels are 0 to {high}, which --levels 4 makes level 0 alone"):
        data.check_levels(4)
    with pytest.raises(DataError, match=rf"a: pixels hold 0 to {high}: .* multiply them by 255 / {high}"):
        data.check_levels(256)


def test_numeric_class_folders_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for k in range(12):
        for n in range(2):
            save(tmp_path / "n" / str(k) / f"{n}.png", np.full((4, 4), 20 * k + n, np.uint8))
    data = load_data(str(tmp_path / "n"))
    assert data.class_names == tuple(map(str, range(12)))
    assert {int(image[0]) // 20: name for image, name in shown(data).items()} == {k: str(k) for k in range(12)}


def test_names_that_differ_in_unicode_normalization_alone_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    for k, name in enumerate((composed, decomposed, "tea")):
        for n in range(2):
            save(tmp_path / "n" / name / f"{k}{n}.png", GREY[2 * k + n])
    assert len(list((tmp_path / "n").iterdir())) in (2, 3)  # a file system may see to it by itself
    data = load_data(str(tmp_path / "n"))
    assert data.class_names == (composed, "tea")
    assert sorted(shown(data).values()) == [composed] * 4 + ["tea"] * 2


def test_a_class_folder_whose_name_is_not_utf8_is_named_before_training(tmp_path: Path) -> None:
    for name in (b"a", b"\xff"):
        folder = os.fsencode(tmp_path) + b"/" + name
        try:
            Path(os.fsdecode(folder)).mkdir()
        except OSError:
            pytest.skip("this file system has no such names")
        save(Path(os.fsdecode(folder)) / "a.png", GREY[0])
    with pytest.raises(DataError, match="its name is not UTF-8"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("test", ["test", "Testing", None])
@pytest.mark.parametrize("val", ["val", "valid", "validation", None])
def test_folders_of_parts(tmp_path: Path, val: str | None, test: str | None) -> None:
    parts = {"train": range(20), val: range(20, 24), test: range(24, 30)}
    for part, numbers in parts.items():
        for k in numbers if part else ():
            save(tmp_path / "d" / str(part) / ("cat", "dog", "emu")[k % 3] / f"{k:02}.png", GREY[k])
    data = load_data(str(tmp_path / "d"))
    assert data.class_names == ("cat", "dog", "emu")
    found = shown(data)
    assert all(found[image.tobytes()] == ("cat", "dog", "emu")[k % 3] for k, image in enumerate(GREY[:20]))
    both = (val is not None) and (test is not None)
    assert data.validation == (4 if both else 0)
    assert len(data.test_pixels) == (6 if test else 4 if val else 2)
    assert any("serves as test images" in note for note in data.notes) == (val is not None and test is None)


def test_parts_whose_classes_are_not_those_of_train(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / "d" / "train" / "cat" / f"{k}.png", GREY[k])
    save(tmp_path / "d" / "test" / "dog" / "1.png", GREY[5])
    with pytest.raises(DataError, match=r"test/dog: no class folder dog is there to train on"):
        load_data(str(tmp_path / "d"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for k in range(6):
        save(tmp_path / "d" / ("train", "plane")[k % 2] / f"{k}.png", GREY[k])
    assert load_data(str(tmp_path / "d")).class_names == ("plane", "train")


def test_what_is_no_picture_is_named_and_clutter_is_not(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for k in range(6):
        save(root / ("cat", "dog")[k % 2] / f"{k}.png", GREY[k])
    for name in ("__MACOSX/cat/a.png", "@eaDir/a.png", ".git/a.png", "cat/._1.png", "cat/Thumbs.db", "dog/.DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"junk")
    assert load_data(str(root)).notes == ()
    (root / "cat" / "old").mkdir()
    (root / "dog" / "a.heic").write_bytes(b"junk")
    (root / "labels.csv").write_text("a,b")
    assert load_data(str(root)).notes == ("3 files left out: labels.csv, cat/old/, dog/a.heic",)
    for k in range(40):
        (root / "cat" / f"{'long' * 30}{k:02}.txt").write_text("x")
    (note,) = load_data(str(root)).notes
    assert note.startswith("43 files left out: labels.csv, ")
    assert note.endswith(" and 38 more")
    assert len(note) < 300


def test_a_folder_around_the_folder_is_recognized(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / "photos" / "photos" / ("cat", "dog")[k % 2] / f"{k}.png", GREY[k])
    with pytest.raises(DataError, match=r"photos/photos: class folder .*: name it with --data if cat, dog are the"):
        load_data(str(tmp_path / "photos"))


def test_an_archive_of_pictures_is_recognized_in_a_short_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for k in range(500):
            archive.writestr(f"{'photos' * 20}/cat/{k}.png", b"")
    with pytest.raises(DataError, match=r"and 495 more\): is it an archive of pictures\? Unpack it") as caught:
        load_data(str(tmp_path / "photos.zip"))
    assert len(str(caught.value)) < 500


def idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    ("images", "labels", "test_images", "test_labels"),
    [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
        *[tuple(f"emnist-{n}-idx{k}-ubyte" for n, k in (("train-images", 3), ("train-labels", 1), ("test-images", 3),
            ("test-labels", 1)))],
    ],
)  # fmt: skip
def test_a_folder_of_idx_files(tmp_path: Path, images: str, labels: str, test_images: str, test_labels: str) -> None:
    numbers = (LABELS + 1).astype(np.uint8)
    for name, array in (
        (images, GREY[:24]),
        (labels, numbers[:24]),
        (test_images, GREY[24:]),
        (test_labels, numbers[24:]),
    ):
        idx(tmp_path / "x" / name, array)
    data = load_data(str(tmp_path / "x"))
    assert (data.class_names, data.train_pixels[:, 0].tolist()) == (("1", "2", "3"), GREY[:24].tolist())
    assert shown(data) == {image.tobytes(): str(k % 3 + 1) for k, image in enumerate(GREY)}
    (tmp_path / "x" / images).write_bytes(b"no idx")
    with pytest.raises(DataError, match=f"{images}: (is no IDX file|cannot be read)"):
        load_data(str(tmp_path / "x"))


def test_mnist_is_found_under_the_names_that_archives_give_it(tmp_path: Path) -> None:
    for name in ("train-images.idx3-ubyte", "train-images-idx3-ubyte/train-images-idx3-ubyte", "MNIST/raw/x"):
        path = tmp_path / name.replace("/", "_") / name.replace("raw/x", "raw/train-images-idx3-ubyte")
        idx(path, GREY)
        with pytest.raises(DataError, match=r"train-images.idx3-ubyte: holds 616 bytes, expected"):
            load_data("mnist", tmp_path / name.replace("/", "_"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cifar", "cifar10"),
        ("CIFAR-10", "cifar10"),
        ("MNIST", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("FashionMNIST", "fashion-mnist"),
        ("fashion", "fashion-mnist"),
        ("digits", "digits"),
        ("nothing", "nothing"),
    ],
)
def test_spellings_of_names(text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_name(text) == name
    if text not in ("digits", "nothing"):
        (tmp_path / text).mkdir()
        assert data_name(text) == text


def test_no_shell_expands_the_home_folder_behind_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    npz(tmp_path / "a.npz", images=GREY)
    assert data_name("~/a.npz") == str(tmp_path / "a.npz")
    assert load_data("~/a.npz").image_shape == (1, 5, 4)
