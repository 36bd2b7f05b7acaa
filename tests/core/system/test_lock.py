"""A place that one process works in is refused to a second one, which is told who is there."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.system import lock
from gpcnn_deploy.system.lock import held

HOLDER = """
import sys, time
from pathlib import Path
from gpcnn_deploy.system.lock import held
with held(Path(".lock"), Path("run")):
    open("ready", "w").close()
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=folder)
    end = time.monotonic() + 30
    while not (folder / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(OutputError, match=f"run is in use by process {process.pid} on {socket.gethostname()}: wait"),
            held(tmp_path / ".lock", Path("run")),
        ):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".lock").exists()
    with held(tmp_path / ".lock", tmp_path):
        pass


def test_at_the_end_nothing_is_left_and_the_next_one_comes_in(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path / ".lock", tmp_path):
            assert (tmp_path / ".lock").exists()
        assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the holder may have ended and a third process may have made the file anew."""
    take, calls = lock._take, []

    def late(stream: object) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(stream)
        take(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "_take", late)
    with held(tmp_path / ".lock", tmp_path):
        assert (tmp_path / ".lock").exists()
    assert len(calls) == 2


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(stream: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_take", none)
    with held(tmp_path / ".lock", tmp_path):
        pass
