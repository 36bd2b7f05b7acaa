"""One process at a time: a lock on a place, which the system releases when its holder ends, however that ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gpcnn_deploy.errors import OutputError

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EROFS, errno.EACCES, errno.EPERM}
_BYTE = 1 << 30  # the byte that is locked on Windows: others must be able to read what stands before it


@contextlib.contextmanager
def held(file: Path, place: Path) -> Iterator[None]:
    """Hold the lock file `file` for `place` while the block runs; the file is removed at the end.

    A file system without locks is used without one.

    Raises:
        OutputError: another process holds it; the message says which one, and on which machine.
    """
    stream = _lock(file, place)
    try:
        yield
    finally:
        if stream is not None:
            with contextlib.suppress(OSError):
                file.unlink()  # while it is held: who opened it before notices in `_lock`
            stream.close()


def _lock(file: Path, place: Path) -> IO[bytes] | None:
    while True:
        try:
            stream = file.open("ab+")
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise OutputError(f"cannot write {file}: {error.strerror}; free space or fix permissions") from error
        try:
            _take(stream)
        except (BlockingIOError, PermissionError):
            with stream:
                raise OutputError(f"{place} is in use by {_holder(stream)}: wait until it ends, or end it") from None
        except OSError as error:
            stream.close()
            if error.errno in _NO_LOCKS:
                return None
            raise
        if _still_there(file, stream):
            with contextlib.suppress(OSError):  # a full disk: the lock holds, it only does not say whose it is
                stream.truncate(0)
                stream.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                stream.flush()
            return stream
        stream.close()  # its last holder has removed it


def _take(stream: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        stream.seek(_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    import fcntl

    fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _still_there(file: Path, stream: IO[bytes]) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _holder(stream: IO[bytes]) -> str:
    try:
        stream.seek(0)
        who = json.loads(stream.read(1000))
        return f"process {int(who['pid'])} on {str(who['host'])[:100]}"
    except (OSError, ValueError, TypeError, LookupError):
        return "another process"
