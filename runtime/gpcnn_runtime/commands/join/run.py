"""From the parts of a job to its whole: what `gpcnn-join` does, and `gpcnn_runtime.join_parts` for Python."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.system.files import is_stream
from gpcnn_deploy.text import spanned
from gpcnn_runtime.commands.sample.jobs import (
    DAMAGED,
    ImageArrays,
    Job,
    difference,
    holds,
    image_arrays,
    picture_arrays,
    write_npz,
)

_OF_A_PART = {"levels", "log_prob", "pictures", "positions", "labels", "seed", "job"}
"""What `write_npz` writes anew. All other arrays, such as a vector or a map, are the same in all parts of a job."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What was joined.

    Attributes:
        output: the file.
        parts: the files that it was made of, in order of their images.
        images: how many there are.
    """

    output: str
    parts: tuple[str, ...]
    images: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """One file: its job, the positions it holds, what it holds of each image, and the small arrays."""

    path: Path
    job: Job
    span: range
    arrays: ImageArrays
    common: dict[str, npt.NDArray[Any]]


def join_parts(parts: Sequence[str | Path], output: str | Path) -> Joined:
    """Write the .npz that one run of the whole job would have written. Memory holds a megabyte of the images.

    Args:
        parts: .npz files that `gpcnn-sample --shard` or `--positions` wrote, in any order.
        output: the file to write, whole or not at all.

    Raises:
        UsageError: no parts, or a folder.
        DataError: a file is damaged, or no part; the parts are of several jobs, overlap, or leave images out.
        OutputError: the output holds something else, or cannot be written.
    """
    if not parts:
        raise UsageError("no parts: expected the .npz files of a job")
    place = Path(output)
    read = sorted((_read(Path(path)) for path in parts), key=lambda part: part.span.start)
    first, job = read[0], msgspec.structs.replace(read[0].job, positions=None)
    for part in read[1:]:
        other = msgspec.structs.replace(part.job, positions=None)
        if other != job:
            raise DataError(f"{part.path} and {first.path} are of two jobs ({difference(other, job)}): join one")
        if part.arrays != first.arrays:
            raise DataError(f"{part.path} and {first.path} hold images of different kinds: draw one of them again")
    _check_complete(read, job.total)
    if not is_stream(place):
        holds(place, job)  # refuses to overwrite anything else
    files = [part.path for part in read]
    try:
        write_npz(place, job, first.arrays, range(job.total), first.common, files)
    except DAMAGED as error:
        raise DataError(f"a part is damaged ({error}): draw it again") from error
    return Joined(output=str(place), parts=tuple(map(str, files)), images=job.total)


def _check_complete(parts: Sequence[_Part], total: int) -> None:
    """Refuse parts that overlap, or do not make up the whole."""
    position, before = 0, None
    for part in parts:
        if part.span.start < position and before is not None:
            raise DataError(f"{before.path} and {part.path} both hold image {part.span.start}: leave one of them out")
        if part.span.start > position:
            raise _missing(position, part.span.start, total)
        position, before = part.span.stop, part
    if position < total:
        raise _missing(position, total, total)


def _missing(start: int, stop: int, total: int) -> DataError:
    images = "image" if stop - start == 1 else "images"
    return DataError(
        f"no part holds {images} {spanned(start, stop - 1)} of {total}: name the part that does, or draw it with "
        f"gpcnn-sample --positions {start}:{stop}"
    )


def _read(path: Path) -> _Part:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: pictures need no joining; copy the folders of all parts into one")
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file: name the .npz of a part")
        with np.load(path, allow_pickle=False) as archive:
            job = msgspec.json.decode(str(archive["job"]), type=Job)
            common = {name: archive[name] for name in archive.files if name not in _OF_A_PART}
        if job.positions is None:
            raise DataError(f"{path} holds a whole job, no part of one: there is nothing to join")
        span = range(*job.positions)
        if not 0 <= span.start < span.stop <= job.total:
            raise ValueError("positions")
        arrays = _images(path, len(span))
    except (*DAMAGED, msgspec.DecodeError, UnicodeError) as error:
        raise DataError(
            f"{path} is damaged, or no part of a job: expected an .npz that gpcnn-sample --shard or --positions wrote"
        ) from error
    return _Part(path, job, span, arrays, common)


def _images(path: Path, count: int) -> ImageArrays:
    """What a file holds of each image, by its headers; ValueError where that is not what `write_npz` writes."""
    found: ImageArrays = {}
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
        for name in ("levels", "log_prob", *(["pictures"] if "pictures.npy" in there else [])):
            with archive.open(f"{name}.npy") as member:
                if np.lib.format.read_magic(member) != (1, 0):
                    raise ValueError("layout")
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
                size = archive.getinfo(f"{name}.npy").file_size - member.tell()
            if fortran_order or len(shape) != 4 or shape[0] != count or size != np.prod(shape) * dtype.itemsize:
                raise ValueError(name)
            found[name] = (dtype, shape[1:])
    expected = [image_arrays(levels, found["levels"][1]) for levels in (np.uint8, np.uint16)]
    if "pictures" in found:
        expected = [arrays | picture_arrays(found["pictures"][1]) for arrays in expected]
    if found not in expected:
        raise ValueError("arrays")
    return found
