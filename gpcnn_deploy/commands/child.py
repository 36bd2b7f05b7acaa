"""Python modules in processes of their own: their memory is their own, and what they import stays out of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.system.machine import of_memory
from gpcnn_deploy.text import exact_json, read_exact_json

Answer = TypeVar("Answer", bound=msgspec.Struct)


class ChildError(GpcnnError):
    """An expected error of a child process."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def environment() -> dict[str, str]:
    """The environment of a child process, whose words come as UTF-8 whatever encoding a terminal has here."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8"}


def run_child(module: str, arguments: list[str], answer: type[Answer], smaller: str = "a smaller --batch") -> Answer:
    """Run `python -m module arguments` and decode its last line of output.

    Args:
        module: a click command, or anything that reports its errors as one does.
        arguments: its command line.
        answer: what it prints as one line of JSON.
        smaller: what to try where it was killed, for want of memory most likely.

    Raises:
        GpcnnError: the child's `Error: …` line, with its exit code.
        RuntimeError: it failed otherwise; the message holds its traceback.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=environment(),
    )
    if done.returncode == 0:
        return read_exact_json(done.stdout.splitlines()[-1], answer)
    lines = done.stderr.strip().splitlines()
    if lines and lines[-1].startswith("Error: "):
        raise ChildError(lines[-1].removeprefix("Error: "), done.returncode)
    if done.returncode < 0:
        raise ChildError(
            f"{module} was ended by signal {-done.returncode}: out of memory{of_memory()}? try {smaller}", 1
        )
    raise RuntimeError(f"{module} failed with exit code {done.returncode}:\n{done.stderr}")


def answer(work: Callable[[], msgspec.Struct]) -> int:
    """In the child process: print what `work` returns as one line of JSON, or an expected error as one line on stderr.

    Returns:
        The exit code.
    """
    from gpcnn_deploy.commands.command import explain

    try:
        found = work()
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        print(f"Error: {told[0]}", file=sys.stderr)
        return told[1]
    print(exact_json(found))
    return 0
