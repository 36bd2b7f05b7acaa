"""What all commands share."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gpcnn_deploy.commands.command import Command, json_option, write_json
from gpcnn_deploy.errors import GpcnnError, MissingExtraError, UsageError


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MissingExtraError("numpy", "cpu", "drawing"), 130, "Error: interrupted: nothing half-finished is left behind"),
        (UsageError("something else"), 2, "Error: something else"),
    ],
)
def test_an_interrupt_that_a_package_made_an_import_error_of_is_one(error: GpcnnError, code: int, message: str) -> None:
    @click.command(cls=Command)
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise error from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = CliRunner().invoke(command)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stderr) == (code, message + "\n")


def test_without_an_interrupt_a_missing_package_is_one() -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise MissingExtraError("numpy", "cpu", "drawing")

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert "which is not installed: pip install 'gpcnn-deploy[cpu]'" in result.stderr


NO_TORCH_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "400 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(28, "No space left on device"),
            "No space left on device: free space; temporary files go",
        ),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "let TMPDIR name a folder"),
        (PermissionError(13, "Permission denied", "some\nwhere"), "some\\nwhere: Permission denied"),
        (OSError(2, "No such file or directory", b"caf\xe9"), "caf\\udce9: No such file or directory"),
        (OSError("only words"), "only words"),
        (TimeoutError(), "TimeoutError"),
        (MemoryError(), "not enough memory"),
        (RuntimeError(NO_TORCH_MEMORY), "not enough memory"),
        (RuntimeError("can't start new thread"), "try --threads 1"),
        (GpcnnError("x" * 56_000 + " mend it so"), "mend it so"),
        (UsageError("line\nbreak"), "line break"),
    ],
)
def test_what_the_system_refuses_is_one_line_of_bounded_length(error: Exception, line: str) -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert result.exit_code == (2 if isinstance(error, UsageError) else 1), result.exception
    assert result.stderr.startswith("Error: ")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 1100


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise error

    assert CliRunner().invoke(command).exception is error


def test_what_click_refuses_is_bounded_too() -> None:
    @click.command(cls=Command)
    @click.option("--number", type=int)
    def command(number: int) -> None:
        pass

    result = CliRunner().invoke(command, ["--number", "x" * 56_000])
    assert result.exit_code == 2
    assert len(result.stderr) < 1300


SLEEPER = """
import click, sys, time
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.errors import InterruptedRun

@click.command(cls=Command)
def main():
    try:
        open("ready", "w").close()
        time.sleep(30)
    except KeyboardInterrupt:
        time.sleep(0.5)  # saves, while a second signal comes
        open("saved", "w").close()
        {then}

main([])
"""


@pytest.mark.parametrize("then", ["raise", "raise InterruptedRun('interrupted: kept') from None"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_that_ask_to_end_let_a_command_save_first(tmp_path: Path, name: str, then: str) -> None:
    number = signal.Signals[name]
    process = start(tmp_path, then)
    process.send_signal(number)
    if number != signal.SIGINT:  # a terminal that closes sends SIGHUP twice
        time.sleep(0.1)
        process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number, error
    assert (tmp_path / "saved").exists()
    assert error.startswith("Error: interrupted")
    assert "Traceback" not in error


def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "raise", "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.kill()
    process.communicate()


def start(folder: Path, then: str, before: str = "") -> subprocess.Popen[str]:
    program = f"import signal\n{before}\n" + SLEEPER.format(then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 30
    while not (folder / "ready").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def test_a_result_that_had_to_be_written_in_place_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*arguments: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", busy)
    (tmp_path / "mounted.json").touch()

    @click.command(cls=Command)
    @json_option
    def command(json_path: Path | None) -> None:
        write_json(json_path, {"a": 1})

    result = CliRunner().invoke(command, ["--json", str(tmp_path / "mounted.json")])
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"Warning: {tmp_path}/mounted.json was written in place")
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "mounted.json").read_text() == '{\n  "a": 1\n}\n'
