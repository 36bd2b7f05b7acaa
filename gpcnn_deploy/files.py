"""Files that appear whole or not at all, and digests of what is on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpcnn_deploy.errors import OutputError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block ends well, remove it otherwise.

    Raises:
        OutputError: the folder or the file cannot be written (no permission, no space, a folder in its place).
    """
    temporary: Path | None = None
    try:
        try:
            target = path.resolve()  # a link stays one
            if target.is_dir():
                raise OutputError(f"cannot write {path}: it is a folder; name a file with -o")
            if target.exists() and not target.is_file():
                raise OutputError(f"cannot write {path}: it is a device or a pipe; name a file with -o")
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
            temporary = None
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; free space, fix permissions, or name another place"
            ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises:
        OutputError: as `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
