"""Files that appear whole or not at all, and digests of what is on disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from gpcnn_deploy.errors import OutputError, OutputWarning
from gpcnn_deploy.system.streams import write_bytes

STDOUT = Path("-")
"""Standard output, as the name of a file."""

_STREAMS = {
    **dict.fromkeys(("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"), "stdout"),
    **dict.fromkeys(("/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"), "stderr"),
}
_FOLDER_REFUSES = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_REPLACED = {*_FOLDER_REFUSES, errno.EBUSY, errno.EXDEV, errno.ETXTBSY}
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS}
_NAME = 50  # characters of up to four bytes each: the temporary name stays below the 255 bytes that file systems take


def stream_of(path: Path) -> TextIO | None:
    """The stream of this process that a path names, such as `-` or `/dev/stderr`; None for a file."""
    name = _STREAMS.get(str(path))
    return None if name is None else getattr(sys, name)


def is_stream(path: Path) -> bool:
    """Whether a path names a stream of this process, a pipe or a device: what is written there is not read again."""
    if str(path) in _STREAMS:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block ends well, remove it otherwise.

    A file that was there leaves its permissions and, where allowed, its owner. A file that cannot be replaced, as one
    that is mounted into a container, is written in place, and an `OutputWarning` says so. A pipe, a character device,
    or a stream of this process (`-` is standard output) is written when the block has ended well.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, no space, a folder in its place).
    """
    temporary: Path | None = None
    try:
        try:
            target, status = _target(path)
            temporary, beside = _temporary(target, status)
            yield temporary
            if target is None or (status is not None and not stat.S_ISREG(status.st_mode)):
                _pour(temporary, path)
                return
            _sync(temporary)
            _take_over(temporary, status)
            if beside and _replaced(temporary, target, path, status is not None):
                temporary = None
            elif not beside:
                _write_in_place(temporary, target, path, "its folder takes no other file")
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; free space, fix permissions, or name another place"
            ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def check_file(path: Path, option: str = "-o") -> None:
    """Find out, before the work, that `path` can be written by `atomic_path`; nothing is left behind.

    Raises:
        OutputError: it cannot; the message names the option that takes another place.
    """
    with _named(path, option):
        target, status = _target(path, option)
        if target is None:
            return
        if status is not None and not stat.S_ISREG(status.st_mode):
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        _try(target, status)


def check_folder(path: Path, option: str) -> None:
    """Find out, before the work, that files can be written into the folder `path`, which may have to be made.

    Raises:
        OutputError: they cannot; the message names the option that takes another place.
    """
    with _named(path, option):
        target = _resolved(path)
        status = _status(target)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise OutputError(f"cannot write into {path}: it is no folder; name a folder with {option}")
        _try(target / "file", None)


@contextlib.contextmanager
def _named(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; fix permissions, or name another place with {option}"
        ) from error


def _try(target: Path, status: os.stat_result | None) -> None:
    folder = target.parent
    while _status(folder) is None and folder != folder.parent:
        folder = folder.parent
    there = status if folder == target.parent else None
    temporary, _ = _temporary(target if folder == target.parent else folder / "file", there)
    temporary.unlink()


def _target(path: Path, option: str = "-o") -> tuple[Path | None, os.stat_result | None]:
    """The file that a path leads to, and what is there now; (None, None) for a stream of this process."""
    if str(path) in _STREAMS:
        return None, None
    target = _resolved(path)  # a link stays one
    status = _status(target)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write {path}: it is a folder; name a file with {option}")
    if status is not None and not any(kind(status.st_mode) for kind in (stat.S_ISREG, stat.S_ISCHR, stat.S_ISFIFO)):
        raise OutputError(f"cannot write {path}: it is a disk or a socket; name a file with {option}")
    return target, status


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle, in Python before 3.13; a name with a zero byte
        raise OutputError(f"cannot write {path}: {error}; name another place") from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _temporary(target: Path | None, status: os.stat_result | None) -> tuple[Path, bool]:
    """A new file, and whether it is beside the target, which it can then replace."""
    regular = target is not None and (status is None or stat.S_ISREG(status.st_mode))
    if target is not None and regular:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name[:_NAME]}.", suffix=".part", dir=target.parent)
            os.close(handle)
            return Path(name), True
        except OSError as error:
            if status is None or error.errno not in _FOLDER_REFUSES or not os.access(target, os.W_OK):
                raise
    handle, name = tempfile.mkstemp(prefix="gpcnn-", suffix=".part")
    os.close(handle)
    return Path(name), False


def _sync(temporary: Path) -> None:
    with temporary.open("rb+") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _take_over(temporary: Path, status: os.stat_result | None) -> None:
    """Give a new file the permissions and the owner that the old one had, or else the usual permissions.

    Mounts of other systems may allow neither; the file is worth more than its mode.
    """
    if status is None:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    else:
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):
                os.chown(temporary, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError):
        temporary.chmod(mode)


def _replaced(temporary: Path, target: Path, path: Path, there: bool) -> bool:
    """Rename the new file over the old one; where the system does not let that be, write in place and return False."""
    try:
        temporary.replace(target)
        return True
    except OSError as error:
        if not there or error.errno not in _NOT_REPLACED:
            raise
        _write_in_place(temporary, target, path, error.strerror or str(error))
        return False


def _write_in_place(temporary: Path, target: Path, path: Path, reason: str) -> None:
    with temporary.open("rb") as source, target.open("rb+") as stream:
        size = os.fstat(source.fileno()).st_size
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, size)  # no space is noticed before the old content is touched
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise
        shutil.copyfileobj(source, stream)
        stream.truncate()
    warnings.warn(
        OutputWarning(
            f"{path} was written in place, since it cannot be replaced ({reason}): another program that read "
            "it meanwhile may have seen a part of it"
        ),
        stacklevel=2,
    )


def _pour(temporary: Path, path: Path) -> None:
    """Write the content into a stream of this process, a pipe or a device."""
    if str(path) in _STREAMS:
        stream = stream_of(path)
        if stream is None:
            raise OutputError(f"cannot write to {path}: it is closed; name a file")
        write_bytes(stream, temporary.read_bytes())
        return
    with temporary.open("rb") as source, path.open("wb", buffering=0) as raw:
        while block := source.read(1 << 20):
            while block:
                block = block[raw.write(block) :]


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises:
        OutputError: as `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_together(path: Path, content: bytes, *beside: tuple[Path, bytes | None]) -> None:
    """Write `content` to `path` and, of what belongs beside it, all that is there: all appear, or none, `path` last.

    Raises:
        OutputError: as `atomic_path`.
    """
    with contextlib.ExitStack() as stack:  # left in reverse
        stack.enter_context(atomic_path(path)).write_bytes(content)
        for place, more in beside:
            if more is not None:
                stack.enter_context(atomic_path(place)).write_bytes(more)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
