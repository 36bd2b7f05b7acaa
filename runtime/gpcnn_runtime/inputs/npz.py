"""The pictures of an .npz, slice by slice: nothing is unpickled, and never is more than a slice in memory."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures import pixels_from_levels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.inputs.picture import MAX_PICTURE_PIXELS, fit, needed

_SLICE_BYTES = 1 << 20
# What zipfile and numpy raise for damaged files.
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error)


def read_npz(
    path: Path, name: str, spec: ModelSpec, *, resize: bool, invert: bool
) -> Iterator[tuple[str, npt.NDArray[np.uint8] | DataError, int | None]]:
    """The pictures of an .npz, as `pictures` describes them; a bad one, or a bad rest of the file, as its error.

    Args:
        path: of a file.
        name: the path as messages show it.
        spec: what the pictures must fit.
        resize: convert those that do not.
        invert: swap dark and light.

    Yields:
        (name, pixels uint8 [C, H, W] or an error, label if the file has `labels`).
    """
    number = 0
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{name}: is not an .npz file, or a truncated one: write one with numpy.savez")
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            key = _array_name(name, archive)
            images = stack.enter_context(_member(name, archive, key))
            labels = None
            if "labels.npy" in archive.namelist():
                labels = stack.enter_context(_member(name, archive, "labels"))
                _check_labels(labels, images)
            check = _check_levels if key == "levels" else _check_images
            check(images, spec, resize)
            rows = max(1, _SLICE_BYTES // max(1, images.row_bytes))
            numbers: Sequence[int | None]
            for block in images.blocks(rows):
                numbers = labels.read(len(block)).tolist() if labels is not None else [None] * len(block)
                if number == 0 and key == "images" and block.dtype != np.bool_ and block.max() == 1:
                    raise DataError(
                        f"{images.source} hold no value above 1: expected 0 to 255 (black to white), or bool"
                    )
                for values, label in zip(block, numbers, strict=True):
                    one, number = f"{name}[{number}]", number + 1
                    try:
                        pixels = _pixels(one, values, spec, key == "levels")
                        yield one, 255 - pixels if invert else pixels, label
                    except DataError as error:
                        yield one, error, None
    except DataError as error:
        yield name, error, None
    except _DAMAGE as error:
        why = getattr(error, "strerror", None) or error or type(error).__name__
        rest = f" after {number} pictures" if number else ""
        yield name, DataError(f"{name}: cannot be read{rest} ({why}): write the file anew"), None


def count_npz(path: Path) -> int:
    """How many pictures an .npz holds by its header; 1, its error, for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive, _member("", archive, _array_name("", archive)) as member:
            return max(1, member.shape[0])
    except (DataError, *_DAMAGE):
        return 1


def _array_name(name: str, archive: zipfile.ZipFile) -> str:
    keys = [member.removesuffix(".npy") for member in archive.namelist()]
    for key in ("images", "levels"):
        if key in keys:
            return key
    held = ", ".join(keys[:8]) or "nothing"
    raise DataError(f"{name}: has no array 'images' (it holds {held})")


class _Member:
    """One array of an .npz, read from its beginning, part by part; nothing in it is executed."""

    def __init__(self, source: str, stream: IO[bytes], size: int) -> None:
        self.source, self._stream = source, stream
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{source} have a layout of version {version}: write the file with numpy.savez")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype: np.dtype[Any] = dtype
        if dtype.hasobject:
            raise DataError(f"{source} are Python objects: expected numbers")
        if fortran_order and len(self.shape) > 1:
            raise DataError(f"{source} are in Fortran order: write numpy.ascontiguousarray of them")
        if not self.shape:
            raise DataError(f"{source} are a single value: expected an array of pictures")
        self.row_bytes = dtype.itemsize
        for length in self.shape[1:]:
            self.row_bytes *= length
        if min(self.shape) < 0 or stream.tell() + self.shape[0] * self.row_bytes != size:
            raise DataError(f"{source} of shape {list(self.shape)} do not fit the file's {size} bytes: write it anew")

    def read(self, rows: int) -> npt.NDArray[Any]:
        """The next rows of the first axis."""
        wanted = rows * self.row_bytes
        content = bytearray()
        while len(content) < wanted:
            part = self._stream.read(wanted - len(content))
            if not part:
                raise EOFError("it ends early")
            content += part
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])

    def blocks(self, rows: int) -> Iterator[npt.NDArray[Any]]:
        """All rows, at most that many at a time."""
        for start in range(0, self.shape[0], rows):
            yield self.read(min(rows, self.shape[0] - start))
        self._stream.read(1)  # the end of the member: where its checksum is compared


@contextlib.contextmanager
def _member(name: str, archive: zipfile.ZipFile, key: str) -> Iterator[_Member]:
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: is packed in a way that numpy does not write: write it with numpy.savez")
    with archive.open(info) as stream:
        yield _Member(f"{name}: {key}", stream, info.file_size)


def _check_images(images: _Member, spec: ModelSpec, resize: bool) -> None:
    shape = images.shape
    if images.dtype.kind not in "iub":
        raise DataError(f"{images.source} are {images.dtype}: expected integers 0 to 255, for example uint8")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape:
        raise DataError(
            f"{images.source} have shape {list(shape)}: expected [N, H, W] for grey or [N, H, W, 3] for RGB"
        )
    channels = shape[3] if len(shape) == 4 else 1
    if shape[1] * shape[2] > MAX_PICTURE_PIXELS:
        raise DataError(f"{images.source} are enormous, {shape[2]}×{shape[1]} pixels each: expected {needed(spec)}")
    if (channels, *shape[1:3]) != spec.image_shape and not resize:
        kind = "grey" if channels == 1 else "RGB"
        raise DataError(
            f"{images.source} are {shape[2]}×{shape[1]} {kind}; the model takes {needed(spec)} (width × height):"
            " convert them, or add --resize"
        )


def _check_levels(levels: _Member, spec: ModelSpec, resize: bool) -> None:
    shape = list(spec.image_shape)
    if levels.dtype.kind not in "iu" or list(levels.shape[1:]) != shape or 0 in levels.shape:
        raise DataError(
            f"{levels.source} are {levels.dtype} of shape {list(levels.shape)}: expected integers of shape [N, "
            f"{', '.join(map(str, shape))}], as gpcnn-sample writes them for this model"
        )


def _check_labels(labels: _Member, images: _Member) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{labels.source} are {labels.dtype} of shape {list(labels.shape)}: expected integers of shape "
            f"[{images.shape[0]}], one per image"
        )


def _pixels(name: str, values: npt.NDArray[Any], spec: ModelSpec, are_levels: bool) -> npt.NDArray[np.uint8]:
    top = spec.levels - 1 if are_levels else 255
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > top:
        raise DataError(f"{name}: runs from {low} to {high}: expected 0 to {top}")
    if are_levels:
        return pixels_from_levels(values, spec.levels)
    pixels = values.astype(np.uint8).reshape(*values.shape[:2], -1)
    if (pixels.shape[2], *pixels.shape[:2]) == spec.image_shape:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    from PIL import Image

    return fit(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), spec)
