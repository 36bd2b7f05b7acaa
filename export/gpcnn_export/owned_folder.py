"""Folders that an export writes: it knows its own files again by a manifest, and touches nobody else's.

A manifest is a JSON file in the folder. It names the generator, and each file with its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import msgspec

from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.system.files import sha256, write_atomic

MAX_MANIFEST_BYTES = 1 << 20


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What every manifest holds; others of its keys are the export's own."""

    generator: str
    files: dict[str, str]


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """Name → SHA-256, for the manifest."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def owned_files(folder: Path, manifest: str, same: Callable[[Path], bool] = lambda path: False) -> dict[str, str]:
    """Our files in a folder, name → digest, if it may be written to; none if it is new or empty.

    Args:
        folder: where an export is to be written.
        manifest: name of the manifest in it.
        same: whether a file that was changed may be replaced all the same.

    Raises:
        OutputError: the folder is no folder, has files but no manifest of ours, or one of our files was changed.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write {folder}: it is a file; name a folder with -o")
        if not folder.exists() or next(folder.iterdir(), None) is None:
            return {}
        ours = _read_manifest(folder, manifest)
        for name, digest in ours.items():
            path = folder / name
            if path.is_file() and sha256(path) != digest and not same(path):
                raise OutputError(
                    f"{path} was changed since it was exported, and would be lost: move it away, or name another "
                    "folder with -o"
                )
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}; name another folder with -o") from error
    return ours


def write_owned(folder: Path, files: dict[str, bytes], manifest: str, content: bytes, ours: dict[str, str]) -> None:
    """Write files and their manifest, each whole or not at all; those of an earlier export that are not wanted go.

    Args:
        folder: that `owned_files` found to be ours or nobody's.
        files: name → content.
        manifest: its name.
        content: of the manifest.
        ours: what `owned_files` gave.

    Raises:
        OutputError: a file of another's has the name of one of ours, or one cannot be written.
    """
    for name, wanted in files.items():
        found = folder / name
        if name not in ours and found.exists() and found.read_bytes() != wanted:
            raise _not_ours(folder, name)
    if not ours:  # first, so that a folder that was left half written is known as ours
        write_atomic(folder / manifest, content)
    for name, wanted in files.items():
        write_atomic(folder / name, wanted)
    for name in ours.keys() - files.keys() - {manifest}:
        (folder / name).unlink(missing_ok=True)
    write_atomic(folder / manifest, content)


def _read_manifest(folder: Path, name: str) -> dict[str, str]:
    try:
        with (folder / name).open("rb") as stream:
            manifest = msgspec.json.decode(stream.read(MAX_MANIFEST_BYTES), type=_Manifest)
    except (FileNotFoundError, IsADirectoryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_ours(folder) from None
    if not manifest.generator.startswith("gpcnn-deploy") or not all(_inside(folder, file) for file in manifest.files):
        raise _not_ours(folder)
    return manifest.files


def _inside(folder: Path, name: str) -> bool:
    """Whether it is a plain name, with `/` for folders, of a file that lies in the folder."""
    if not name or name != str(PurePosixPath(name)) or {"\\", ":", "\0"} & set(name) or ".." in name.split("/"):
        return False
    return (folder / name).resolve().is_relative_to(folder.resolve()) and (folder / name).resolve() != folder.resolve()


def _not_ours(folder: Path, name: str = "") -> OutputError:
    what = f"has a file {name} that" if name else "has files, and none of them says that this command"
    wrote = "this command did not write" if name else "wrote them"
    return OutputError(f"{folder} {what} {wrote}: name a new or an empty folder with -o")
