"""Pictures from users: what fits becomes exact levels, everything else is one line, and nothing enormous is decoded."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.levels import levels_from_pixels, pixels_from_levels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.inputs.picture import read_levels, read_pixels
from gpcnn_runtime.inputs.stream import BadPicture, Picture, count_pictures, pictures

GREY = ModelSpec(height=6, width=5, levels=4)
RGB = ModelSpec(height=6, width=5, channels=3, levels=256)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5), np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def encoded(picture: Image.Image, suffix: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, suffix, **options)
    return stream.getvalue()


def refused(path: Path, spec: ModelSpec, *parts: str, resize: bool = False) -> None:
    with pytest.raises(DataError) as caught:
        read_levels(path, spec, resize=resize)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "pgm", "webp"])
def test_grey_pixels_become_the_nearest_levels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    colour = suffix in ("gif", "webp")  # these hold palettes and colour alone
    picture = Image.fromarray(PIXELS)
    (picture.convert("RGB") if colour else picture).save(path, **({"lossless": True} if suffix == "webp" else {}))
    levels = read_levels(path, GREY, resize=colour)
    assert levels.dtype == np.int32
    np.testing.assert_array_equal(levels, levels_from_pixels(PIXELS, 4)[None])


def test_colours_keep_their_channels(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_levels(tmp_path / "a.png", RGB), COLOURS.transpose(2, 0, 1))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = PIXELS > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_levels(tmp_path / "a.png", GREY), np.where(bits, 3, 0)[None])


def test_invert_swaps_dark_and_light(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", GREY, invert=True), 255 - PIXELS[None])


@pytest.mark.parametrize(
    ("mode", "size", "kind"),
    [
        ("L", (6, 5), "is 6×5 8-bit grey"),
        ("L", (28, 28), "is 28×28 8-bit grey"),
        ("RGB", (5, 6), "is 5×6 8-bit RGB"),
        ("P", (5, 6), "is 5×6 palette"),
        ("CMYK", (5, 6), "is 5×6 CMYK"),
        ("I;16", (5, 6), "is 5×6 16-bit grey"),
    ],
)
def test_what_does_not_fit_is_told_what_would(tmp_path: Path, mode: str, size: tuple[int, int], kind: str) -> None:
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    picture = Image.new(mode, size, (200, 0, 0) if mode in ("RGB", "P") else None)
    picture.save(path)
    refused(path, GREY, kind, "the model takes 5×6 8-bit grey (width × height)", "add --resize")
    assert read_levels(path, GREY, resize=True).shape == (1, 6, 5)


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA", "PA"])
def test_what_is_stored_in_another_way_and_loses_nothing_is_taken_as_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tiff" if mode == "PA" else "a.png")
    grey, colour = Image.fromarray(PIXELS), Image.fromarray(COLOURS)
    grey.convert("P" if mode == "PA" else mode).save(path)
    np.testing.assert_array_equal(read_pixels(path, GREY), PIXELS[None])
    np.testing.assert_array_equal(read_pixels(path, RGB), np.broadcast_to(PIXELS, (3, 6, 5)))
    if mode == "RGBA":
        colour.convert(mode).save(path)
        np.testing.assert_array_equal(read_pixels(path, RGB), COLOURS.transpose(2, 0, 1))


def test_resize_is_exact_where_nothing_is_lost(tmp_path: Path) -> None:
    flat = Image.fromarray(PIXELS).resize((50, 60), Image.Resampling.NEAREST)
    flat.save(tmp_path / "large.png")
    Image.fromarray(np.full((60, 50), 77, np.uint8)).save(tmp_path / "plain.png")
    Image.fromarray(PIXELS.astype(np.uint16) * np.uint16(257)).save(tmp_path / "deep.png")
    Image.fromarray(PIXELS).convert("RGBA").save(tmp_path / "opaque.png")
    assert (read_pixels(tmp_path / "plain.png", GREY, resize=True) == 77).all()
    np.testing.assert_array_equal(read_pixels(tmp_path / "deep.png", GREY, resize=True), PIXELS[None])
    np.testing.assert_array_equal(read_pixels(tmp_path / "opaque.png", GREY, resize=True), PIXELS[None])
    np.testing.assert_array_equal(read_pixels(tmp_path / "large.png", GREY, resize=True), PIXELS[None])


def test_sixteen_bits_of_colour_are_not_cut_in_silence(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">15H", *(value * 257 for value in COLOURS[0].ravel().tolist()))
    (tmp_path / "a.png").write_bytes(png(5, 6, 16, 2, row * 6))
    refused(tmp_path / "a.png", RGB, "is 5×6 16-bit RGB", "add --resize")
    np.testing.assert_array_equal(read_levels(tmp_path / "a.png", RGB, resize=True)[:, 0], COLOURS[0].T)


def test_partly_transparent_pictures_are_refused_even_with_resize(tmp_path: Path) -> None:
    Image.new("RGBA", (5, 6), (1, 2, 3, 4)).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", RGB, "is partly transparent: lay it on a background first", resize=True)


def test_colour_keyed_pictures_are_transparent(tmp_path: Path) -> None:
    Image.new("L", (5, 6), 9).save(tmp_path / "a.png", transparency=9)
    refused(tmp_path / "a.png", GREY, "is partly transparent")
    refused(tmp_path / "a.png", GREY, "is partly transparent", resize=True)


def test_floating_point_pictures_have_no_honest_levels(tmp_path: Path) -> None:
    Image.new("F", (5, 6)).save(tmp_path / "a.tiff")
    refused(tmp_path / "a.tiff", GREY, "mode F", "the model takes 5×6 8-bit grey")
    refused(tmp_path / "a.tiff", GREY, "is of mode F: save it as 8-bit grey or RGB", resize=True)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animated_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("L", (5, 6), 0), Image.new("L", (5, 6), 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refused(path, GREY, "is animated or has several pages: expected a single picture", resize=True)


def test_enormous_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    """60,000×60,000 pixels would take 3.6 GB; 7,500×7,500 pass Pillow's own guard."""
    for size in (60_000, 12_000, 7_500):
        path = tmp_path / f"{size}.png"
        path.write_bytes(png(size, size, 8, 0, b"\0" * 1000))
        tracemalloc.start()
        refused(path, GREY, "is enormous", "expected 5×6 8-bit grey, or with --resize at most 50 million", resize=True)
        refused(path, GREY, "is enormous")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5e6


def test_a_text_bomb_in_a_picture_is_an_error(tmp_path: Path) -> None:
    body = b"key\0\0" + zlib.compress(b"0" * 20_000_000, 9)
    text = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    (tmp_path / "a.png").write_bytes(png(5, 6, 8, 0, b"\0\1\2\3\4\5" * 6, text))
    refused(tmp_path / "a.png", GREY, "is damaged or truncated")


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\nshowpage\n")
    refused(tmp_path / "empty.png", GREY, "is empty (0 bytes)")
    refused(tmp_path / "text.png", GREY, "is not a picture: expected PNG, JPEG, BMP, GIF, WebP, TIFF or PNM")
    refused(tmp_path / "program.eps", GREY, "is not a picture")
    refused(tmp_path / "folder.png", GREY, "is a folder: expected a picture")
    refused(tmp_path / "none.png", GREY, "no such file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        refused(tmp_path / "pipe.png", GREY, "is a device or a pipe")


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_every_truncation_is_an_error_or_the_same_picture(tmp_path: Path, suffix: str) -> None:
    """A file that lacks only its end mark may still be read; it then holds every pixel."""
    path = tmp_path / "a.png"
    content = encoded(Image.fromarray(PIXELS), suffix)
    path.write_bytes(content)
    whole = read_pixels(path, GREY, resize=True)
    errors: list[DataError] = []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(read_pixels(path, GREY, resize=True), whole)
        except DataError as error:
            errors.append(error)
    assert len(errors) > len(content) * 0.5
    assert not any("\n" in str(error) for error in errors)


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_flipped_bytes_are_an_error_or_a_picture(tmp_path: Path, suffix: str) -> None:
    path, random = tmp_path / "a.png", np.random.default_rng(2)
    content = np.frombuffer(encoded(Image.fromarray(PIXELS), suffix), np.uint8)
    errors: list[DataError] = []
    for _ in range(150):
        broken = content.copy()
        broken[random.integers(0, len(broken), 3)] = random.integers(0, 256, 3)
        path.write_bytes(broken.tobytes())
        try:
            assert read_pixels(path, GREY, resize=True).shape == (1, 6, 5)
        except DataError as error:
            errors.append(error)
    assert all(str(error).startswith(f"{path}: ") for error in errors)


# --- many pictures


def listed(spec: ModelSpec, *paths: Path, **options: bool) -> tuple[list[Picture], list[BadPicture]]:
    found = list(pictures(paths, spec, **options))
    assert count_pictures(paths) >= len(found)
    return (
        [item for item in found if isinstance(item, Picture)],
        [item for item in found if isinstance(item, BadPicture)],
    )


def test_folders_are_read_with_their_subfolders_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a/x/1.png", "c.png", "a/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / ".hidden").write_text("not read")
    (tmp_path / "b" / "notes.txt").write_text("not a picture")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    good, bad = listed(GREY, tmp_path)
    names = [Path(item.name).relative_to(tmp_path).as_posix() for item in good]
    assert names == ["c.png", "a/0.png", "a/x/1.png", "b/10.png", "b/2.png"]
    assert [Path(item.name).name for item in bad] == ["notes.txt"]
    assert count_pictures([tmp_path]) == 6


def test_a_bad_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "z.png")
    (tmp_path / "empty").mkdir()
    bad_paths = [tmp_path / "empty", tmp_path / "none.png", tmp_path / "none.npz", tmp_path / "a\0b.png"]
    good, bad = listed(GREY, tmp_path / "a.png", *bad_paths, tmp_path / "z.png")
    assert [Path(item.name).name for item in good] == ["a.png", "z.png"]
    reasons = ["holds no pictures", "no such file", "no such file", ""]
    for item, path, reason in zip(bad, bad_paths, reasons, strict=True):
        assert str(item.error).startswith(str(DataError(f"{path}:")))
        assert reason in str(item.error)


def test_names_that_are_not_utf8_can_be_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        Image.fromarray(PIXELS).save(path)
    except OSError:
        pytest.skip("this file system has no such names")
    good, _ = listed(GREY, tmp_path)
    assert good[0].name.encode("utf-8").endswith(b"\\udcff.png")


def test_npz_of_images_and_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, (5000, 6, 5), np.uint8)  # more than one slice of them
    images = np.concatenate([images] * 10)
    labels = np.arange(len(images)) % 7
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    good, bad = listed(GREY, tmp_path / "a.npz")
    assert bad == []
    np.testing.assert_array_equal(np.stack([item.pixels for item in good]), images[:, None])
    assert [item.label for item in good] == labels.tolist()
    assert good[12].name == f"{tmp_path / 'a.npz'}[12]"
    assert count_pictures([tmp_path / "a.npz"]) == len(images)


def test_npz_in_colour_compressed_bool_and_as_drawn(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", images=COLOURS[None])
    (colour,), _ = listed(RGB, tmp_path / "c.npz")
    np.testing.assert_array_equal(colour.pixels, COLOURS.transpose(2, 0, 1))
    np.savez(tmp_path / "b.npz", images=(PIXELS > 127)[None])
    (bits,), _ = listed(GREY, tmp_path / "b.npz", invert=True)
    np.testing.assert_array_equal(bits.pixels[0], np.where(PIXELS > 127, 0, 255))
    levels = levels_from_pixels(PIXELS, 4)[None, None].astype(np.uint8)
    np.savez(tmp_path / "l.npz", levels=levels, labels=np.array([2]), log_prob=np.zeros(3))
    (drawn,), _ = listed(GREY, tmp_path / "l.npz")
    np.testing.assert_array_equal(drawn.pixels, pixels_from_levels(levels[0], 4))
    assert drawn.label == 2


def test_npz_of_another_size_needs_resize(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.full((2, 12, 10, 3), 77, np.uint8))
    _, (bad,) = listed(GREY, tmp_path / "a.npz")
    message = "images are 10×12 RGB; the model takes 5×6 8-bit grey (width × height): convert them, or add --resize"
    assert str(bad.error) == f"{tmp_path / 'a.npz'}: {message}"
    good, _ = listed(GREY, tmp_path / "a.npz", resize=True)
    assert [item.pixels.tolist() for item in good] == [np.full((1, 6, 5), 77).tolist()] * 2


def save(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)  # type: ignore[arg-type]


ZEROS = np.zeros((3, 6, 5), np.uint8)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (save(pictures=ZEROS), "has no array 'images' (it holds pictures)"),
        (
            save(images=ZEROS.astype(str)),
            "images are <U3: expected integers 0 to 255, for example uint8, floats 0 to 1",
        ),
        (save(images=ZEROS[0]), "images have shape [6, 5]: expected [N, H, W] for grey, [N, H, W, 3] or [N, 3, H, W]"),
        (save(images=ZEROS[:0]), "images are empty, of shape [0, 6, 5]"),
        (save(images=np.array(7)), "images are a single value"),
        (save(images=np.asfortranarray(ZEROS + PIXELS)), "are in Fortran order: write numpy.ascontiguousarray"),
        (save(images=ZEROS + np.uint8(1)), "images hold no value above 1: expected 0 to 255 (black to white), or bool"),
        (save(images=np.array([{}, None, "x"], object)), "are Python objects: expected numbers"),
        (save(images=ZEROS, labels=[1, 2]), "labels have shape [2]: expected [3], one per image, or [3, M]"),
        (save(images=ZEROS, labels=[0.5, 1, 2]), "labels are float64 of shape [3]: expected integers"),
        (save(images=np.zeros((1, 9000, 9000), np.uint8)), "are enormous, 9000×9000 pixels each"),
        (save(levels=np.zeros((2, 1, 5, 6), np.uint8)), "expected integers of shape [N, 1, 6, 5], as gpcnn-sample"),
        (lambda path: path.write_bytes(b"PK"), "is not an .npz file, or a truncated one"),
        (lambda path: path.write_bytes(b""), "is not an .npz file, or a truncated one"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "a.npz")
    good, (bad,) = listed(GREY, tmp_path / "a.npz", resize="9000" in message)
    assert good == []
    assert str(bad.error).startswith(f"{tmp_path / 'a.npz'}: ")
    assert message in str(bad.error)


def test_values_out_of_range_spoil_their_picture_alone(tmp_path: Path) -> None:
    images = np.stack([PIXELS.astype(int)] * 3)
    images[1, 0, 0] = 256
    np.savez(tmp_path / "a.npz", images=images)
    good, (bad,) = listed(GREY, tmp_path / "a.npz")
    assert [item.name[-3:] for item in good] == ["[0]", "[2]"]
    assert (
        str(bad.error) == f"{tmp_path / 'a.npz'}[1]: pixels hold {PIXELS.ravel()[1:].min()} to 256: expected 0 to 255"
    )


def test_npz_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "a.npz", images=np.array([Bomb()], object), labels=np.array([Bomb()], object))
    _, (bad,) = listed(GREY, tmp_path / "a.npz")
    assert "Python objects" in str(bad.error)
    assert not (tmp_path / "exploded").exists()


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


@pytest.mark.parametrize("shape", [(10**12, 6, 5), (2, 6, 5), (-1, 6, 5), (2**62, 2**62, 3)])
def test_a_declared_size_that_the_file_does_not_hold(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy(shape, b"\7" * 30))
    good, (bad,) = listed(GREY, tmp_path / "a.npz")
    assert good == []
    assert "do not fit the file's" in str(bad.error)


def test_damage_in_the_middle_costs_what_comes_after(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (100_000, 6, 5), np.uint8)
    np.savez(path, images=images)
    content = bytearray(path.read_bytes())
    content[len(content) - 500_000] ^= 255
    path.write_bytes(content)
    good, (bad,) = listed(GREY, path)
    assert 0 < len(good) <= 100_000
    assert f"a.npz: cannot be read after {len(good):,} pictures (Bad CRC-32" in str(bad.error)


def test_every_truncation_of_an_npz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=ZEROS + PIXELS, labels=np.arange(3))
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        good, bad = listed(GREY, path)
        assert (len(good), len(bad)) == (0, 1)


def test_an_npz_streams_in_bounded_memory(tmp_path: Path) -> None:
    """24 MB of pictures, of which a slice is held at a time."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy((30_000, 28, 28), b"\7" * (30_000 * 784)))
    spec = ModelSpec(height=28, width=28)
    tracemalloc.start()
    count = sum(isinstance(item, Picture) for item in pictures([tmp_path / "a.npz"], spec))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 8e6


def test_the_folder_of_a_job_of_gpcnn_sample_holds_pictures_alone(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "job.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no picture")
    found = list(pictures([tmp_path], ModelSpec(height=6, width=5)))
    assert [isinstance(each, BadPicture) for each in found] == [False, True]


def test_npz_of_other_programs_gives_its_test_images(tmp_path: Path) -> None:
    images = np.random.default_rng(4).integers(0, 256, (3, 6, 5), np.uint8)
    other = 255 - images
    for images_key, labels_key, train in (
        ("test_images", "test_labels", "train_images"),
        ("x_test", "y_test", "x_train"),
        ("X_test", "y_test", "X_train"),
    ):
        np.savez(tmp_path / "a.npz", **{train: other, images_key: images, labels_key: np.array([[2], [0], [1]])})
        good, bad = listed(GREY, tmp_path / "a.npz")
        assert bad == []
        assert [item.name for item in good] == [f"{tmp_path / 'a.npz'}:{images_key}[{k}]" for k in range(3)]
        np.testing.assert_array_equal(np.stack([item.pixels[0] for item in good]), images)
        assert [item.label for item in good] == [2, 0, 1]


def test_npz_of_floats_planes_and_one_hot_labels(tmp_path: Path) -> None:
    planes = COLOURS.transpose(2, 0, 1)[None]
    np.savez(tmp_path / "a.npz", images=planes / 255, labels=np.array([[0, 0, 1.0]]))
    (item,), bad = listed(RGB, tmp_path / "a.npz")
    np.testing.assert_array_equal(item.pixels, planes[0])
    assert (item.label, bad) == (2, [])
    images = np.stack([PIXELS / 255, PIXELS / 255 - 0.5, np.full((6, 5), np.nan)])
    np.savez(tmp_path / "b.npz", images=images)
    good, bad = listed(GREY, tmp_path / "b.npz")
    assert [item.name[-3:] for item in good] == ["[0]"]
    assert ["floats of 0 (black) to 1 (white)" in str(item.error) for item in bad] == [True, True]


def test_labels_of_an_npz_are_classes_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.stack([PIXELS] * 3), labels=[0, 1, 2], class_names=["dog", "emu", "cat"])
    found = list(pictures([tmp_path / "a.npz"], GREY, class_names=("cat", "dog")))
    assert [item.label for item in found if isinstance(item, Picture)] == [1, None, 0]


def test_what_systems_leave_behind_is_no_picture(tmp_path: Path) -> None:
    for name in ("__MACOSX/a.png", "@eaDir/b.png", ".hidden/c.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"junk")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    good, bad = listed(GREY, tmp_path)
    assert (len(good), bad) == (1, [])
