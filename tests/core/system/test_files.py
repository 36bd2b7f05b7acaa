"""A file appears whole or not at all, whatever stops the writing."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from gpcnn_deploy.errors import OutputError, OutputWarning
from gpcnn_deploy.system.files import atomic_path, check_file, check_folder, sha256, write_atomic


def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the ne")
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_space_is_an_output_error_that_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*result: File too large; free space"):
            write_atomic(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_made_and_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "result"
    write_atomic(path, b"new")
    (tmp_path / "plain").touch()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        write_atomic(tmp_path, b"x")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", b"x")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_impossible_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / ("n" * 300), b"")
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_the_file_system_takes_is_taken(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


def test_what_is_no_file_but_can_be_written_is_written(tmp_path: Path) -> None:
    write_atomic(Path("/dev/null"), b"new")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, b"new")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OutputError, match="it is a disk or a socket; name a file with -o"):
            write_atomic(tmp_path / "socket", b"")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomic(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def test_a_mount_that_knows_no_modes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(Path, "chmod", refuse)
    for content in (b"new", b"newer"):
        write_atomic(tmp_path / "result", content)
        assert (tmp_path / "result").read_bytes() == content


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES])
def test_a_file_that_cannot_be_replaced_is_written_in_place_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old and longer")
    inode = path.stat().st_ino

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.warns(OutputWarning, match="was written in place, since it cannot be replaced"):
        write_atomic(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot write"):  # nothing is there that could be written in place
        write_atomic(tmp_path / "other", b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_a_file_that_is_written_in_place_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")

    def busy(*arguments: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomic(path, b"new, and longer")
    assert path.read_bytes() == b"old"


def test_a_file_in_a_folder_that_takes_no_other_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    (folder / "mounted").write_bytes(b"old")
    make = tempfile.mkstemp

    def refuse(*arguments: object, dir: object = None, **more: object) -> object:
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return make(*arguments, dir=dir, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.warns(OutputWarning, match="its folder takes no other file"):
        write_atomic(folder / "mounted", b"new")
    assert (folder / "mounted").read_bytes() == b"new"
    check_file(folder / "mounted")
    with pytest.raises(OutputError, match="Read-only file system; fix permissions, or name another place with --json"):
        check_file(folder / "other", "--json")


def test_a_name_that_is_not_utf8_is_written_and_can_be_told(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(OutputError) as caught:
        write_atomic(path / "below", b"new")
    str(caught.value).encode()


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "a", b"new")


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    check_file(tmp_path / "a" / "b" / "file")
    check_folder(tmp_path / "c" / "d", "--out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is no folder; name a folder with --out"):
        check_folder(tmp_path / "file", "--out")
    for check in (check_file, check_folder):
        with pytest.raises(OutputError, match=r"name another place with --x"):
            check(tmp_path / "file" / "below", "--x")
        with pytest.raises(OutputError, match=r"name another place with --x"):
            check(tmp_path / ("n" * 300), "--x")
