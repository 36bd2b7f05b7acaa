"""The pictures of an .npz, slice by slice: nothing is unpickled, and never is more than a slice in memory."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.class_names import MAX_CLASSES, label_of_file
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import (
    CLASS_NAMES,
    Keys,
    Layout,
    Part,
    check_white,
    find_keys,
    image_shape,
    images_layout,
    images_to_pixels,
    label_numbers,
    labels_shape,
)
from gpcnn_deploy.pictures.files import MAX_PICTURE_PIXELS, Target, fit
from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.spec import PictureSpec
from gpcnn_deploy.text import counted, spanned

_LEVELS = "levels"
_PLAIN = ("images", _LEVELS)  # of these arrays a picture is called by its number alone
_SLICE_BYTES = 1 << 20
# What zipfile and numpy raise for damaged files.
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error)


def read_npz(
    path: Path, name: str, spec: PictureSpec, class_names: tuple[str, ...], target: Target, invert: bool
) -> Iterator[tuple[str, npt.NDArray[np.uint8] | DataError, int | None]]:
    """The pictures of an .npz, as `pictures` describes them; a bad one, or a bad rest of the file, as its error.

    Args:
        path: of a file.
        name: the path as messages show it.
        spec: what the pictures must fit.
        class_names: the model's, which the labels of the file are to mean.
        target: what may be done to pictures that do not fit.
        invert: swap dark and light.

    Yields:
        (name, pixels uint8 [C, H, W] or an error, the model's label if the file has labels that it knows).
    """
    number = 0
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{name}: is not an .npz file, or a truncated one: write one with numpy.savez")
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            key = _keys(name, archive)
            images = stack.enter_context(_member(name, archive, key.images))
            labels = _Labels(name, archive, key.labels, images.shape[0], class_names, stack)
            are_levels = key.images == _LEVELS
            layout = _check_levels(images, spec) if are_levels else _check_images(images, spec, target)
            one_of = f"{name}[" if key.images in _PLAIN else f"{name}:{key.images}["
            for block in images.blocks(max(1, _SLICE_BYTES // max(1, images.row_bytes))):
                numbers = labels.read(len(block))
                whole = not are_levels and block.dtype.kind in "iu"
                if number == 0 and whole and block.max() == 1:
                    check_white(images.source, 1)
                pixels = None if are_levels else _all_pixels(block, layout)
                for k, label in enumerate(numbers):
                    one, number = f"{one_of}{number}]", number + 1
                    try:
                        if are_levels:
                            made = _drawn(one, block[k], spec)
                        elif pixels is None:
                            made = fitted(one, images_to_pixels(f"{one}: pixels", block[k : k + 1], layout)[0], target)
                        else:
                            made = fitted(one, pixels[k], target)
                        yield one, 255 - made if invert else made, label
                    except DataError as error:
                        yield one, error, None
    except DataError as error:
        yield name, error, None
    except _DAMAGE as error:
        why = getattr(error, "strerror", None) or error or type(error).__name__
        rest = f" after {counted(number, 'picture')}" if number else ""
        yield name, DataError(f"{name}: cannot be read{rest} ({why}): write the file anew"), None


def count_npz(path: Path) -> int:
    """How many pictures an .npz holds by its header; 1, its error, for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive, _member("", archive, _keys("", archive).images) as member:
            return max(1, member.shape[0])
    except (DataError, *_DAMAGE):
        return 1


def fitted(source: str, pixels_CHW: npt.NDArray[np.uint8], target: Target) -> npt.NDArray[np.uint8]:
    """Pixels of an array as the target has them.

    Raises:
        DataError: they do not fit.
    """
    channels, *size = pixels_CHW.shape
    if channels == target.channels and tuple(size) == target.size:
        return pixels_CHW
    from PIL import Image

    kind = "8-bit grey" if channels == 1 else "8-bit RGB"
    return fit(Image.fromarray(pixels_CHW[0] if channels == 1 else pixels_CHW.transpose(1, 2, 0)), target, source, kind)


def _keys(name: str, archive: zipfile.ZipFile) -> Keys:
    """The arrays that hold the pictures and their labels: of several parts, those to test on."""
    names = [member.removesuffix(".npy") for member in archive.namelist()]
    if "images" in names:
        return Keys("images", "labels")
    if _LEVELS in names:
        return Keys(_LEVELS, "labels")
    parts: tuple[Part, ...] = ("test", "validation", "train")
    for part in parts:
        if (keys := find_keys(part, names)) is not None:
            return keys
    held = ", ".join(names[:8]) or "nothing"
    raise DataError(f"{name}: has no array 'images' (it holds {held})")


class _Labels:
    """The labels of a file, a slice at a time, as labels of the model; of a file without any, None for each picture."""

    def __init__(
        self,
        name: str,
        archive: zipfile.ZipFile,
        key: str,
        images: int,
        class_names: tuple[str, ...],
        stack: contextlib.ExitStack,
    ) -> None:
        self._member: _Member | None = None
        self._class_names = class_names
        self._own: tuple[str, ...] | None = None
        self._known: dict[int, int | None] = {}  # each number is looked up once
        if f"{key}.npy" not in archive.namelist():
            return
        self._member = stack.enter_context(_member(name, archive, key))
        labels_shape(self._member.source, self._member.shape, self._member.dtype, images)
        if f"{CLASS_NAMES}.npy" in archive.namelist():
            with _member(name, archive, CLASS_NAMES) as names:
                if names.dtype.kind == "U" and len(names.shape) == 1 and names.shape[0] <= MAX_CLASSES:
                    self._own = tuple(map(str, names.read(names.shape[0]).tolist()))

    def read(self, rows: int) -> list[int | None]:
        if self._member is None:
            return [None] * rows
        numbers = label_numbers(self._member.source, self._member.read(rows)).tolist()
        for number in set(numbers) - self._known.keys():
            self._known[number] = label_of_file(number, self._class_names, self._own)
        return [self._known[number] for number in numbers]


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
            raise DataError(
                f"{source} of shape {list(self.shape)} do not fit the file's {counted(size, 'byte')}: write it anew"
            )

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


def _check_images(images: _Member, spec: PictureSpec, target: Target) -> Layout:
    layout = images_layout(images.source, images.shape, images.dtype)
    channels, height, width = image_shape(images.shape, layout)
    if height * width > MAX_PICTURE_PIXELS:
        raise DataError(f"{images.source} are enormous, {width}×{height} pixels each: expected {target.needed()}")
    if (height, width) != target.size and target.resampling is None:
        kind = "grey" if channels == 1 else "RGB"
        raise target.misfit(images.source, f"{width}×{height} {kind}", "--image-size HxW", plural=True)
    return layout


def _check_levels(levels: _Member, spec: PictureSpec) -> Layout:
    shape = list(spec.image_shape)
    if levels.dtype.kind not in "iu" or list(levels.shape[1:]) != shape or 0 in levels.shape:
        raise DataError(
            f"{levels.source} are {levels.dtype} of shape {list(levels.shape)}: expected integers of shape [N, "
            f"{', '.join(map(str, shape))}], as gpcnn-sample writes them for this model"
        )
    return "NCHW"


def _all_pixels(block: npt.NDArray[Any], layout: Layout) -> npt.NDArray[np.uint8] | None:
    """Pixels [N, C, H, W] of a slice; None if one of its pictures is out of range: each then has to be looked at."""
    try:
        return images_to_pixels("", block, layout)
    except DataError:
        return None


def _drawn(name: str, levels: npt.NDArray[Any], spec: PictureSpec) -> npt.NDArray[np.uint8]:
    """Pixels of levels that gpcnn-sample drew."""
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high >= spec.levels:
        raise DataError(f"{name}: holds {spanned(int(low), int(high))}: expected 0 to {spec.levels - 1}")
    return pixels_from_levels(levels, spec.levels)
