"""The user's own images: what fits is loaded as it is, what does not is named in one line."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_training.data.own_arrays import load_npz
from gpcnn_training.data.sources import load_data

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 5, 4)).astype(np.uint8)
RGB = RNG.integers(0, 256, (20, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(20) % 3


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def test_npz_keeps_each_image_with_its_label(tmp_path: Path) -> None:
    marked = GREY.copy()
    marked[:, 0, 0] = LABELS
    for images in (marked, marked[..., None], marked.astype(np.int64)):
        data = load_data(str(npz(tmp_path, images=images, labels=LABELS)))
        assert (data.name, data.image_shape, data.class_names) == ("mine", (1, 5, 4), ("0", "1", "2"))
        assert (len(data.train_pixels), len(data.test_pixels)) == (18, 2)
        assert np.array_equal(data.train_pixels[:, 0, 0, 0], data.train_labels)
        assert np.array_equal(data.test_pixels[:, 0, 0, 0], data.test_labels)
        both = np.concatenate([data.train_pixels, data.test_pixels])[:, 0]
        assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in marked)


def test_npz_rgb_class_names_and_test_images(tmp_path: Path) -> None:
    path = npz(
        tmp_path, images=RGB, labels=LABELS, class_names=list("abcd"), test_images=RGB[:3], test_labels=[0, 3, 1]
    )
    data = load_data(str(path))
    assert data.class_names == ("a", "b", "c", "d")
    assert np.array_equal(data.train_pixels, RGB.transpose(0, 3, 1, 2))
    assert np.array_equal(data.test_pixels, RGB[:3].transpose(0, 3, 1, 2))
    assert data.test_labels.tolist() == [0, 3, 1]


def test_npz_without_labels_and_of_bools(tmp_path: Path) -> None:
    data = load_data(str(npz(tmp_path, images=GREY > 99)))
    assert data.class_names == ()
    assert set(np.unique(data.train_pixels)) == {0, 255}


def test_the_split_and_the_digest_are_the_same_every_time(tmp_path: Path) -> None:
    first, again = (load_data(str(npz(tmp_path, images=GREY, labels=LABELS))) for _ in range(2))
    assert first.digest() == again.digest()
    other = GREY.copy()
    other[7, 3, 2] ^= 1
    assert load_data(str(npz(tmp_path, images=other, labels=LABELS))).digest() != first.digest()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "no array 'images'"),
        ({"images": GREY[0]}, "shape [5, 4]: expected [N, H, W]"),
        ({"images": RGB.transpose(0, 1, 3, 2)}, "shape [20, 5, 3, 4]: expected [N, H, W] for grey"),
        ({"images": GREY.astype(float)}, "hold 0 to 255: expected floats of 0 (black) to 1 (white)"),
        ({"images": GREY / 127.5 - 1}, "hold -1 to 1: expected floats of 0 (black) to 1 (white)"),
        ({"images": np.where(GREY > 9, np.nan, 0.5)}, "hold nan: expected floats"),
        ({"images": GREY.astype(str)}, "<U3: expected integers 0 to 255"),
        ({"images": GREY.astype(np.int16) * 2}, "expected 0 to 255"),
        ({"images": GREY.astype(np.int16) - 1}, "expected 0 to 255"),
        ({"images": GREY % 2}, "no value above 1"),
        ({"images": GREY[:0]}, "are empty"),
        ({"images": GREY[:, :0]}, "are empty"),
        ({"images": GREY[:1]}, "expected at least 2"),
        ({"images": GREY, "labels": LABELS[:-1]}, "labels have shape [19]: expected [20]"),
        ({"images": GREY, "labels": np.ones((20, 4), int)}, "labels of shape [20, 4] are not one-hot (see row 0)"),
        ({"images": GREY, "labels": np.eye(20)[:, :19]}, "are not one-hot (see row 19)"),
        ({"images": GREY, "labels": np.zeros((20, 2, 2), int)}, "labels have shape [20, 2, 2]: expected [20]"),
        ({"images": GREY, "labels": LABELS / 2}, "float64 of shape [20]: expected integers 0, 1, 2"),
        ({"images": GREY, "labels": LABELS, "class_names": ["\u00e9", "e\u0301", "b"]}, "repeated name"),
        ({"images": GREY, "val_images": RGB}, "val_images are (3, 5, 4), images (1, 5, 4)"),
        ({"images": GREY, "labels": LABELS - 1}, "labels hold -1 to 1"),
        ({"images": GREY, "labels": LABELS * 10**6}, "labels hold 0 to 2000000"),
        ({"images": GREY, "labels": LABELS.astype(str)}, "expected integers"),
        ({"images": GREY, "labels": LABELS, "class_names": ["a", "b"]}, "one name for each of 3 classes"),
        ({"images": GREY, "labels": LABELS, "class_names": ["a", "b", "a"]}, "repeated name"),
        ({"images": GREY, "labels": LABELS, "class_names": ["a", "b", ""]}, "empty"),
        ({"images": GREY, "labels": LABELS, "test_images": GREY}, "no array 'test_labels'"),
        ({"images": GREY, "labels": LABELS, "test_images": GREY, "test_labels": LABELS + 1}, "expected 0 to 2"),
        ({"images": GREY, "labels": LABELS, "test_images": RGB, "test_labels": LABELS}, "expected one size"),
        ({"images": np.array([{"a": 1}, None], object)}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        load_data(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine" in str(caught.value)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("images, labels")


def plain_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, GREY)


def pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00K\x01.")


def truncated(path: Path) -> None:
    np.savez(path, images=GREY, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-150])


def flipped(path: Path) -> None:
    np.savez(path, images=GREY, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)


def absurd(path: Path) -> None:
    """An array that claims 2**50 images and holds none."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1125899906842624, 5, 4), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize("write", [empty, text, plain_array, pickle, truncated, flipped, absurd])
def test_damaged_and_foreign_files_are_named(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "mine.npz"
    write(path)
    with pytest.raises(DataError, match=r"mine\.npz: (is not an \.npz file|cannot be read)"):
        load_data(str(path))


def test_no_such_data() -> None:
    with pytest.raises(UsageError, match="expected digits, mnist, fashion-mnist, cifar10, emoji, or the path"):
        load_data("digit")


def pictures(folder: Path, images: np.ndarray[Any, Any], suffix: str = ".png") -> None:
    for k, image in enumerate(images):
        path = folder / ("cat", "dog")[k % 2] / f"{k:03}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.mark.parametrize("suffix", [".png", ".BMP", ".tiff"])
def test_folder_of_class_folders(tmp_path: Path, suffix: str) -> None:
    pictures(tmp_path / "pets", RGB, suffix)
    (tmp_path / "pets" / ".thumbnails").mkdir()
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not a picture")
    data = load_data(str(tmp_path / "pets"))
    assert (data.name, data.image_shape, data.class_names) == ("pets", (3, 5, 4), ("cat", "dog"))
    found = {
        (image.transpose(1, 2, 0).tobytes(), int(label))
        for image, label in zip(
            np.concatenate([data.train_pixels, data.test_pixels]),
            np.concatenate([data.train_labels, data.test_labels]),
            strict=True,
        )
    }
    assert found == {(image.tobytes(), k % 2) for k, image in enumerate(RGB)}
    assert load_data(str(tmp_path / "pets")).digest() == data.digest()


def test_pictures_are_grey_if_none_has_colour(tmp_path: Path) -> None:
    pictures(tmp_path, np.repeat(GREY[..., None], 3, 3))
    assert load_data(str(tmp_path)).image_shape == (1, 5, 4)
    colour = np.repeat(GREY[:1, ..., None], 3, 3)
    colour[0, 4, 3, 2] ^= 1
    Image.fromarray(colour[0]).save(tmp_path / "dog" / "one.png")
    assert load_data(str(tmp_path)).image_shape == (3, 5, 4)


def other_size(folder: Path) -> Path:
    Image.fromarray(GREY[0, :4]).save(folder / "dog" / "small.png")
    return folder / "dog" / "small.png"


def cut(folder: Path) -> Path:
    path = folder / "dog" / "cut.png"
    Image.fromarray(RNG.integers(0, 256, (5, 4)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    return path


def no_picture(folder: Path) -> Path:
    (folder / "dog" / "fake.png").write_text("no picture")
    return folder / "dog" / "fake.png"


def transparent(folder: Path) -> Path:
    Image.new("RGBA", (4, 5), (1, 2, 3, 99)).save(folder / "dog" / "ghost.png")
    return folder / "dog" / "ghost.png"


def deep(folder: Path) -> Path:
    Image.fromarray(GREY[0].astype(np.uint16) * 256).save(folder / "dog" / "deep.png")
    return folder / "dog" / "deep.png"


def huge(folder: Path) -> Path:
    Image.new("1", (2000, 2000)).save(folder / "dog" / "huge.png")
    return folder / "dog" / "huge.png"


def empty_class(folder: Path) -> Path:
    (folder / "emu").mkdir()
    return folder / "emu"


@pytest.mark.parametrize("spoil", [other_size, cut, no_picture, transparent, deep, huge, empty_class])
def test_a_picture_that_does_not_fit_is_named(tmp_path: Path, spoil: Callable[[Path], Path]) -> None:
    pictures(tmp_path, GREY)
    path = spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        load_data(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_sizes_are_both_named(tmp_path: Path) -> None:
    pictures(tmp_path, GREY)
    other_size(tmp_path)
    with pytest.raises(DataError, match=r"4×4 but .*000\.png is 4×5"):
        load_data(str(tmp_path))


def test_a_folder_of_pictures_alone_has_no_classes(tmp_path: Path) -> None:
    for k, image in enumerate(GREY):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    data = load_data(str(tmp_path))
    assert (data.class_names, len(data.train_pixels), len(data.test_pixels)) == ((), 18, 2)
    both = np.concatenate([data.train_pixels, data.test_pixels])[:, 0]
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in GREY)


def test_a_folder_without_any_picture(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"has no class folders, nor pictures: .*: 1 file left out: notes\.txt"):
        load_data(str(tmp_path))


def test_members_that_are_no_arrays_or_cannot_be_unpacked(tmp_path: Path) -> None:
    raw = tmp_path / "raw.npz"
    with zipfile.ZipFile(raw, "w") as file:
        file.writestr("images", b"not an array")
    with pytest.raises(DataError, match="images is not an array"):
        load_npz(raw)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(DataError, match=r"no array 'images' \(it holds x, y\)"):
        load_npz(other)
    locked = tmp_path / "locked.npz"
    np.savez(locked, images=np.zeros((2, 4, 4), np.uint8))
    content = bytearray(locked.read_bytes())
    content[6] |= 1  # the flag of an encrypted member, in the local header and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(locked)
