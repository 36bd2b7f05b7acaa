"""Make the emoji data set that ships with the package, from the published pictures.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python -m benchmarks.make_emoji package/ training/gpcnn_training/data/

writes `emoji.webp` and `emoji.csv` into the second folder, the same bytes each time with one version of Pillow. The
first is a sheet of 64×64 tiles, lossless, each picture laid on white; the second has a row for each tile.

Skin-tone variants and the components of emoji are left out. One family of emoji in ten is for testing, and one in
twenty for validation. A family is what differs in gender, age or direction alone, and what looks the same; all of it is
in one part.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpcnn_deploy.system.files import write_atomic

Pixels = npt.NDArray[np.uint8]

TILE = 64
TEST, VALIDATION = 10, 20  # one family in so many
_IGNORED = {"FE0F", "200D", "2640", "2642", "27A1"}  # variation, joiner, gender signs, "facing right"
_AGELESS = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2", "1F474": "1F9D3", "1F475": "1F9D3"}
"""Man and woman are the adult, boy and girl the child, old man and old woman the older person."""


def family_of(code_points: str) -> str:
    """What an emoji is, gender and direction left out: `1F3C3-200D-2640-FE0F` (woman running) → `1F3C3`."""
    return "-".join(_AGELESS.get(part, part) for part in code_points.split("-") if part not in _IGNORED)


def on_white(path: Path) -> Pixels:
    """A picture uint8 [64, 64, 3], its transparency laid on white."""
    with Image.open(path) as picture:
        colours = picture.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    white.alpha_composite(colours)
    pixels = np.asarray(white.convert("RGB"))
    if pixels.shape != (TILE, TILE, 3):
        raise SystemExit(f"{path}: {pixels.shape}: expected {TILE}×{TILE} pixels")
    return pixels


def families(emoji: list[dict[str, Any]], pixels: Pixels) -> list[int]:
    """Per emoji, the number of the first one of its family."""
    first: dict[str | bytes, int] = {}
    numbers: list[int] = []
    for k, entry in enumerate(emoji):
        names: tuple[str | bytes, ...] = (family_of(entry["unified"]), pixels[k].tobytes())
        known = sorted({first[name] for name in names if name in first})
        number = known[0] if known else k
        for other in known[1:]:  # two families look the same: they are one
            numbers = [number if found == other else found for found in numbers]
            first = {name: number if found == other else found for name, found in first.items()}
        first.update(dict.fromkeys(names, number))
        numbers.append(number)
    return numbers


def sheet_of(pixels: Pixels) -> Pixels:
    """Tiles side by side, row by row, in a sheet as square as can be; what is left of it is white."""
    columns = math.isqrt(len(pixels) - 1) + 1
    rows = -(-len(pixels) // columns)
    padded = np.full((rows * columns, TILE, TILE, 3), 255, np.uint8)
    padded[: len(pixels)] = pixels
    return padded.reshape(rows, columns, TILE, TILE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * TILE, -1, 3)


def make(package: Path, out: Path) -> None:
    """Write both files."""
    emoji = [entry for entry in json.loads((package / "emoji.json").read_text()) if entry["category"] != "Component"]
    emoji.sort(key=lambda entry: entry["sort_order"])
    pixels = np.stack([on_white(package / "img" / "google" / "64" / entry["image"]) for entry in emoji])
    numbers = families(emoji, pixels)
    order = sorted(set(numbers))
    shuffled = np.random.Generator(np.random.Philox(key=len(order))).permutation(order)
    test, validation, _ = np.split(shuffled, np.cumsum([len(order) // TEST, len(order) // VALIDATION]))
    parts = dict.fromkeys(test.tolist(), "test") | dict.fromkeys(validation.tolist(), "validation")
    sheet, table = io.BytesIO(), io.StringIO()
    Image.fromarray(sheet_of(pixels)).save(sheet, "WEBP", lossless=True, quality=100, method=6)
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["code points", "name", "category", "part"])
    for entry, number in zip(emoji, numbers, strict=True):
        part = parts.get(number, "train")
        rows.writerow([entry["unified"], entry["name"].lower(), entry["category"].lower(), part])
    write_atomic(out / "emoji.webp", sheet.getvalue())
    write_atomic(out / "emoji.csv", table.getvalue().encode())
    print(f"{len(emoji)} emoji of {len(order)} families; {len(sheet.getvalue()):,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("out", type=Path, help="folder of the two files")
    given = parser.parse_args()
    make(given.package, given.out)
