"""Files of maps that the page opens: .npy files of NumPy, and PNGs whose numbers are categories."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gpcnn_deploy.pictures.files import read_numbers

Node = Callable[..., list[Any]]
TYPES = ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")


def test_arrays_are_those_of_numpy(node: Node, tmp_path: Path) -> None:
    arrays = [(np.random.default_rng(4).random((3, 4)) * 100).astype(kind) for kind in TYPES]
    arrays += [np.asfortranarray(np.arange(24).reshape(2, 3, 4)), np.arange(5, dtype=np.int32), np.zeros((2, 0))]
    calls = []
    for k, array in enumerate(arrays):
        np.save(tmp_path / f"{k}.npy", array)
        calls.append({"method": "npy", "file": str(tmp_path / f"{k}.npy")})
    for array, found in zip(arrays, node(*calls), strict=True):
        assert found["shape"] == list(array.shape)
        assert found["values"] == array.astype(np.float64).ravel().tolist()


def test_numbers_of_pngs_are_those_of_the_runtime(node: Node, tmp_path: Path) -> None:
    """Grey of 1, 8 and 16 bits, palettes of 1, 2, 4 and 8 bits, RGB; with every filter that Pillow writes."""
    rng = np.random.default_rng(3)
    smooth = (np.add.outer(np.arange(23) * 3, np.arange(37) * 2) % 256).astype(np.uint8)
    pictures = {
        "grey": Image.fromarray(rng.integers(0, 256, (23, 37), np.uint8)),
        "smooth": Image.fromarray(smooth),
        "one bit": Image.fromarray(rng.random((23, 37)) < 0.5),
        "deep": Image.fromarray(rng.integers(0, 65536, (23, 37), np.uint16)),
        "rgb": Image.fromarray(rng.integers(0, 256, (23, 37, 3), np.uint8)),
        "smooth rgb": Image.fromarray(np.stack([smooth, smooth.T[:23, :23].repeat(2, 1)[:, :37], smooth[::-1]], -1)),
    }
    for bits in (1, 2, 4, 8):
        palette = Image.fromarray(rng.integers(0, 2**bits, (23, 37), np.uint8), "P")
        palette.putpalette(rng.integers(0, 256, 3 * 2**bits, np.uint8).tobytes())
        pictures[f"palette of {bits} bits"] = palette
    calls = []
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        calls.append({"method": "png", "file": str(tmp_path / f"{name}.png")})
    for (name, picture), found in zip(pictures.items(), node(*calls), strict=True):
        planes = 3 if picture.mode == "RGB" else 1
        expected = read_numbers(tmp_path / f"{name}.png", planes).transpose(1, 2, 0)
        assert found["shape"] == list(expected.shape)[: 3 if planes == 3 else 2], name
        assert found["values"] == expected.ravel().tolist(), name


def test_other_files_are_refused_in_one_line(node: Node, tmp_path: Path) -> None:
    def bytes_of(save: Callable[[Any], None]) -> bytes:
        stream = io.BytesIO()
        save(stream)
        return stream.getvalue()

    array = bytes_of(lambda stream: np.save(stream, np.arange(6)))
    grey = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    png = bytes_of(lambda stream: grey.save(stream, "PNG"))
    cases = {
        "npy": {
            "no .npy file": [b"", b"text that is no array", array[:-1], array + b"0", array[:9]],
            "numbers of type >i4": [bytes_of(lambda stream: np.save(stream, np.arange(6, dtype=">i4")))],
            "numbers of type |O": [bytes_of(lambda stream: np.save(stream, np.array([None]), allow_pickle=True))],
            "numbers of type <c16": [bytes_of(lambda stream: np.save(stream, np.array([1j])))],
        },
        "png": {
            "no PNG": [b"", b"text" * 20, bytes_of(lambda stream: grey.save(stream, "GIF"))],
            "damaged": [png[: len(png) // 2], png.replace(b"IDAT", b"IDAX")],
            "in grey, of a palette or in 8-bit RGB": [
                bytes_of(lambda stream: grey.convert("RGBA").save(stream, "PNG")),
                bytes_of(lambda stream: grey.convert("LA").save(stream, "PNG")),
            ],
            "expected the size of a map": [png[:16] + (1 << 16).to_bytes(4, "big") * 2 + png[24:]],
            "interlaced": [png[:28] + b"\1" + png[29:]],
        },
    }
    calls, wanted = [], []
    for method, kinds in cases.items():
        for words, contents in kinds.items():
            for content in contents:
                path = tmp_path / f"{len(calls)}.{method}"
                path.write_bytes(content)
                calls.append({"method": method, "file": str(path)})
                wanted.append(words)
    for words, found in zip(wanted, node(*calls), strict=True):
        assert words in found["error"], found
        assert "\n" not in found["error"]


def test_no_damage_breaks_the_reader(node: Node, tmp_path: Path) -> None:
    """A byte of a PNG changed: numbers, or one line of ours, and nothing else."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).save(stream, "PNG")
    calls = []
    for damage in range(8, len(stream.getvalue())):
        content = bytearray(stream.getvalue())
        content[damage] ^= 0xFF
        (tmp_path / f"{damage}.png").write_bytes(content)
        calls.append({"method": "png", "file": str(tmp_path / f"{damage}.png")})
    for found in node(*calls):
        assert "error" in found or len(found["values"]) == np.prod(found["shape"])
