"""Long jobs: thousands of images in bounded memory, written as they come, going on where an interrupted run stopped.

A folder or an .npz holds one job, which it names; another job is refused there. Every file appears whole or not at all,
so what exists is done. However often a job was interrupted, its pictures are the same bytes; its .npz has the same
levels, and log-probabilities that are the same up to rounding.

A part of a job goes into the folder of the whole: its pictures have the names that they have there. A part that is an
.npz is a file of its own, and a job that says which part.
"""

from __future__ import annotations

import abc
import bisect
import contextlib
import lzma
import shutil
import struct
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.class_names import in_file_name
from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.pictures.levels import level_dtype, png_bytes
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_deploy.system.files import atomic_path, is_stream, write_atomic
from gpcnn_deploy.system.lock import held
from gpcnn_deploy.text import counted
from gpcnn_runtime.inputs.stream import JOB_FILE

if TYPE_CHECKING:
    from gpcnn_runtime.samples import Samples

LOCK_FILE = ".lock"
WAIT_SECONDS = 10.0
"""How long a part of a job waits for others that begin in the same folder."""
# A part of an .npz is written when it holds this many sub-pixels (5 bytes each), or after this many seconds.
PART_SUBPIXELS = 1 << 20
PART_SECONDS = 10.0

_LATER = {"given": 0, "given_digest": None, "same_noise": 1, "positions": None}
"""Fields that jobs had not from the beginning, and what they are where they say nothing: not in JSON then."""


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides a job's images. Threads, batch size and strategy do not.

    Attributes:
        output_format: `png` or `npz`.
        engine_digest: SHA-256 of the engine file.
        labels: one number per label asked for; None for a model without labels.
        class_names: the name of each of them; none in jobs of earlier versions, whose file names have numbers.
        count: images of each label, or of each picture.
        seed: of the noise.
        temperature: divides the logits.
        scale: picture pixels per image pixel; 1 for `npz`.
        known_digest: SHA-256 of the pixels that completions keep; None where whole images are drawn.
        candidates: completions drawn for each one kept.
        likes: pictures whose codes are drawn from.
        like_digest: SHA-256 of their levels; None without any.
        rank_by: `image` or `known`: which are kept.
        given: embeddings that are drawn from.
        given_digest: SHA-256 of them; None without any.
        same_noise: images in a row that share their noise.
        positions: (start, stop) of the images in an .npz of a part; None for a whole job.
    """

    output_format: str
    engine_digest: str
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...] = ()
    count: int
    seed: int
    temperature: float
    scale: int = 1
    known_digest: str | None = None
    candidates: int = 1
    rank_by: str = "image"

    likes: int = 0
    like_digest: str | None = None
    given: int = 0
    given_digest: str | None = None
    same_noise: int = 1
    positions: tuple[int, int] | None = None

    @property
    def total(self) -> int:
        """Images of the whole job; with a picture's codes and labels, `labels` has one for each of both."""
        if self.likes and self.labels is not None:
            return self.count * len(self.labels)
        return self.count * (self.likes or self.given or (1 if self.labels is None else len(self.labels)))

    def json(self) -> bytes:
        """What files hold. Earlier versions read it where it has nothing that they lack."""
        fields = msgspec.to_builtins(self)
        for name, default in _LATER.items():
            if fields[name] == default:
                del fields[name]
        return msgspec.json.encode(fields)

    def class_name(self, position: int) -> str | None:
        """What file names call that label: its class, or in jobs of earlier versions its number."""
        if self.labels is None:
            return None
        number = position // self.count
        return in_file_name(self.class_names[number]) if self.class_names else str(self.labels[number])

    def known_as(self, there: Job) -> Job | None:
        """This job as a place has it that was claimed for `there`; None if that is another job."""
        older = msgspec.structs.replace(self, class_names=())
        return self if there == self else older if there == older else None


class JobOutput(abc.ABC):
    """Where a job's images go. `open`, then `add` what `missing` lists, in that order, then `finish`, then `close`.

    From `open` to `close` the place belongs to this process: a second one is refused, and told who is at work.
    """

    def __init__(self, path: Path, job: Job, spec: ModelSpec, total: int, span: range | None = None) -> None:
        """`total`: images of the whole job; `span`: positions of those to be drawn, a part of them."""
        self.path, self.job, self.spec, self.total = path, job, spec, total
        self.span = range(total) if span is None else span
        self._arrays = image_arrays(level_dtype(spec.levels), spec.image_shape)
        self._stack = contextlib.ExitStack()

    @abc.abstractmethod
    def open(self) -> Sequence[int]:
        """Prepare the place; returns the positions that are still to be drawn, ascending.

        Raises:
            OutputError: the place holds another job or something else, is in use, or cannot be written.
        """

    def close(self) -> None:
        """Leave the place to others."""
        self._stack.close()

    def _claim(self, folder: Path) -> None:
        claimed(folder, self.job)  # refuses, before anything is written
        _make(folder)
        if len(self.span) == self.total:
            self._stack.enter_context(held(folder / LOCK_FILE, self.path))
            self.job = claim(folder, self.job)
            return
        # Several parts may be at work in one folder, each under a lock of its own; only who comes first names the job.
        with _soon_held(folder / LOCK_FILE, self.path):
            self.job = claim(folder, self.job)
            own = folder / f"{LOCK_FILE}-{self.span.start}-{self.span.stop}"
            self._stack.enter_context(held(own, self.path))

    @abc.abstractmethod
    def add(self, samples: Samples) -> None:
        """Take the next images.

        Raises:
            OutputError: they cannot be written.
        """

    @abc.abstractmethod
    def keep(self) -> int:
        """Write what was taken, whatever happens next; returns how many of the images asked for exist.

        Raises:
            OutputError: they cannot be written.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """Bring the files into their final form.

        Raises:
            OutputError: they cannot be written.
        """


class PngFolder(JobOutput):
    """One PNG per image: `000042-cat.png` is the image at position 42, of the class `cat`."""

    def open(self) -> Sequence[int]:
        """As `JobOutput.open`."""
        self._claim(self.path)
        numbers = (entry.name.partition("-")[0].removesuffix(".png") for entry in self.path.glob("*.png"))
        named = {int(number) for number in numbers if number.isascii() and number.isdigit()}
        done = {k for k in named if k in self.span and (self.path / self.name(k)).exists()}
        self._done = len(done)
        return _Missing(self.span.stop, sorted(done), self.span.start)

    def name(self, position: int) -> str:
        """File name of the image at a position."""
        digits = max(6, len(str(self.total - 1)))
        name = self.job.class_name(position)
        return f"{position:0{digits}}.png" if name is None else f"{position:0{digits}}-{name}.png"

    def add(self, samples: Samples) -> None:
        """As `JobOutput.add`."""
        for position, pixels_CHW in zip(samples.positions, samples.pixels(), strict=True):
            picture = pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0)
            write_atomic(self.path / self.name(int(position)), png_bytes(picture, self.job.scale))
            self._done += 1

    def keep(self) -> int:
        """As `JobOutput.keep`."""
        return self._done

    def finish(self) -> None:
        """Nothing is left to do: each picture is final."""


class _Missing(Sequence[int]):
    """first to total - 1 without `done`, all ascending; takes no more memory than `done`, however large total is."""

    def __init__(self, total: int, done: list[int], first: int = 0) -> None:
        self._length, self._first = total - first - len(done), first
        # How many are missing before each that is done.
        self._before = [position - first - k for k, position in enumerate(done)]

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...

    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return [self[k] for k in range(self._length)[at]]
        k = range(self._length)[at]
        return self._first + k + bisect.bisect_right(self._before, k)


class NpzFile(JobOutput):
    """One .npz of the job's images, and of what belongs to them.

    It has levels uint8 [N, C, H, W] (uint16 of more than 256), log_prob float32 [N, C, H, W] (nats), labels int32 [N],
    class_names, seed and job; of a part of a job also positions int64 [N]; of a VQ-VAE, whose levels are codes, also
    pictures uint8 [N, C, H, W]. Until it is complete, what was drawn lies beside it in the folder `NAME.parts`.
    """

    def __init__(
        self,
        path: Path,
        job: Job,
        spec: ModelSpec,
        total: int,
        more: Mapping[str, npt.NDArray[np.generic]] | None = None,
        span: range | None = None,
        vqvae: VqvaeSpec | None = None,
    ) -> None:
        """`more`: small arrays that belong in the file, too; `vqvae`: whose pictures do."""
        super().__init__(path, job, spec, total, span)
        if vqvae is not None:
            self._arrays |= picture_arrays(vqvae.image_shape)
        self._more = dict(more or {})

    def open(self) -> Sequence[int]:
        """As `JobOutput.open`."""
        self._streamed = is_stream(self.path)
        # What goes into a pipe cannot be gone on with: its parts are kept for this run alone.
        if self._streamed:
            self._parts = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gpcnn-sample-")))
        else:
            self._parts = self.path.with_name(self.path.name + ".parts")
        self._pending: list[Samples] = []
        self._written = time.monotonic()
        if self.path.is_dir():
            raise OutputError(f"cannot write {self.path}: it is a folder; name a file with -o")
        self._done = self.span.start  # the first position that is not in a file yet
        self._complete = not self._streamed and holds(self.path, self.job)
        if self._complete:
            return []
        self._claim(self._parts)
        self._done = self._files()[1]
        return range(self._done, self.span.stop)

    def add(self, samples: Samples) -> None:
        """As `JobOutput.add`."""
        self._pending.append(samples)
        held = sum(len(part) for part in self._pending)
        if held * self.spec.subpixels >= PART_SUBPIXELS or time.monotonic() - self._written > PART_SECONDS:
            self.keep()

    def keep(self) -> int:
        """As `JobOutput.keep`."""
        if self._pending:
            arrays = {name: np.concatenate([getattr(part, name) for part in self._pending]) for name in self._arrays}
            # Ctrl-C may come between any two lines, and leads here again: the same images then go to the same file.
            first = int(self._pending[0].positions[0])
            with atomic_path(self._parts / f"{first:012}.npz") as temporary, temporary.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
            self._done = first + len(arrays["levels"])
            self._pending = []
        self._written = time.monotonic()
        return len(self.span) if self._complete else self._done - self.span.start

    def finish(self) -> None:
        """Put the parts together, one at a time, then remove them."""
        if self._complete:
            return
        self.keep()
        files, done = self._files()
        if done != self.span.stop:
            raise OutputError(
                f"{self._parts} lost {counted(self.span.stop - done, 'image')} on the way: run the command again"
            )
        write_npz(self.path, self.job, self._arrays, self.span, self._more, files)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _files(self) -> tuple[list[Path], int]:
        """The parts that follow each other without a gap from the first image, and the position after them."""
        files: list[Path] = []
        done = self.span.start
        while (file := self._parts / f"{done:012}.npz").exists():
            length = self._length(file)
            if not 0 < length <= self.span.stop - done:
                break  # damaged on disk: drawn again, and replaced
            files.append(file)
            done += length
        return files, done

    def _length(self, file: Path) -> int:
        """How many images a part holds, read whole; 0 for a damaged one."""
        try:
            with np.load(file, allow_pickle=False) as part:
                arrays = [part[name] for name in self._arrays]
        except DAMAGED:
            return 0
        length = len(arrays[0]) if arrays[0].ndim else 0
        sound = all(
            array.dtype == dtype and array.shape == (length, *shape)
            for array, (dtype, shape) in zip(arrays, self._arrays.values(), strict=True)
        )
        return length if sound else 0


ImageArrays = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""Name → type and shape of what an .npz holds of each image."""


def image_arrays(levels: npt.DTypeLike, shape: tuple[int, ...]) -> ImageArrays:
    """Of images (C, H, W) whose levels are of that type."""
    return {"levels": (np.dtype(levels), shape), "log_prob": (np.dtype(np.float32), shape)}


def picture_arrays(shape: tuple[int, ...]) -> ImageArrays:
    """What a VQ-VAE adds: the pictures (C, H, W) that its decoder makes of codes."""
    return {"pictures": (np.dtype(np.uint8), shape)}


def write_npz(
    path: Path,
    job: Job,
    arrays: ImageArrays,
    span: range,
    more: Mapping[str, npt.NDArray[np.generic]],
    files: Sequence[Path],
) -> None:
    """Write one .npz of the images at positions `span` of a job, whole or not at all.

    Args:
        path: of the file.
        job: what it is of.
        arrays: what it holds of each image.
        span: their positions.
        more: small arrays that belong in the file, too.
        files: .npz files that hold these arrays of these images, in order.

    Raises:
        OutputError: it cannot be written.
    """
    small: dict[str, Any] = {**more, "seed": np.uint64(job.seed), "job": np.array(job.json().decode())}
    if job.labels is not None:
        labels = np.array(job.labels, np.int32)
        small["labels"] = labels[np.arange(span.start, span.stop) // job.count]
    if job.positions is not None:
        small["positions"] = np.arange(span.start, span.stop)
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, array in small.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        for name, (dtype, shape) in arrays.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype)) | {"shape": (len(span), *shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for file in files:
                    with zipfile.ZipFile(file) as part, part.open(f"{name}.npy") as source:
                        np.lib.format.read_magic(source)
                        np.lib.format.read_array_header_1_0(source)
                        shutil.copyfileobj(source, member, 1 << 20)


def claimed(folder: Path, job: Job) -> Job | None:
    """The job, as it is told there, if `folder` is its place already; None where it can become that.

    Raises:
        OutputError: it holds another job or something else, or cannot be used.
    """
    file = folder / JOB_FILE
    try:
        if file.exists():
            there = msgspec.json.decode(file.read_bytes(), type=Job)
            known = job.known_as(there)
            if known is None:
                raise OutputError(f"{folder} holds another job ({difference(there, job)}): {_ELSEWHERE}")
            return known
        if folder.exists() and (not folder.is_dir() or any(not _of_a_start(entry) for entry in folder.iterdir())):
            raise OutputError(f"{folder} exists and holds no job of gpcnn-sample: {_ELSEWHERE}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OutputError(f"{file} is damaged ({error}): {_ELSEWHERE}") from error
    except OSError as error:
        raise _unusable(folder, error) from error
    return None


def _of_a_start(entry: Path) -> bool:
    """Whether it is a file of a job that is just being begun there."""
    name = entry.name
    return name.startswith(LOCK_FILE) or (name.startswith(f".{JOB_FILE}.") and name.endswith(".part"))


@contextlib.contextmanager
def _soon_held(file: Path, place: Path) -> Iterator[None]:
    """As `held`, of a lock that others hold for a moment each: theirs are waited for.

    Raises:
        OutputError: somebody still holds it after `WAIT_SECONDS`.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(file, place))
                break
            except OutputError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
        yield


def claim(folder: Path, job: Job) -> Job:
    """Make `folder` the place of `job`, or find that it is already; returns the job as it is told there.

    Raises:
        OutputError: as `claimed`.
    """
    known = claimed(folder, job)
    if known is not None:
        return known
    _make(folder)
    write_atomic(folder / JOB_FILE, msgspec.json.format(job.json()) + b"\n")
    return job


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot use {folder}: {error.strerror or error}; {_ELSEWHERE}")


_ELSEWHERE = "name another place with -o, or remove it first"


DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, SyntaxError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
    RuntimeError,  # encrypted, or packed in a way that Python does not know
)
"""What numpy raises for a file that is no .npz, or one that is damaged."""


def holds(path: Path, job: Job) -> bool:
    """Whether a finished .npz of `job` is there; False where nothing is.

    Raises:
        OutputError: something else is there.
    """
    try:
        if not path.exists():
            return False
        if not path.is_file():
            raise OSError("a device or a pipe")
        with np.load(path, allow_pickle=False) as archive:
            there = msgspec.json.decode(str(archive["job"]), type=Job)
    except (*DAMAGED, msgspec.DecodeError, UnicodeError) as error:
        raise OutputError(f"{path} exists and is not of this job: name another with -o, or remove it") from error
    if job.known_as(there) is None:
        raise OutputError(f"{path} holds another job ({difference(there, job)}): {_ELSEWHERE}")
    return True


def difference(there: Job, asked: Job) -> str:
    """In words, the first in which two jobs differ."""
    for field in Job.__struct_fields__:
        if (old := getattr(there, field)) != (new := getattr(asked, field)):
            return f"its {field.replace('_', ' ')} is {old}, asked for {new}"
    return "it differs"
