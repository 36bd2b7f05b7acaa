"""Standard output and standard error of a command: results are told from what is said beside them.

What goes to standard error (progress, warnings, errors) is a side channel: if nobody can take it any more, it is
dropped, and the work goes on. Standard output carries results: if it cannot be written, that is an error of one line.
Neither fails for a character that the terminal's encoding does not have.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO, cast

from gpcnn_deploy.errors import OutputError

_STDOUT = "standard output"


class _Guarded:
    """A text stream whose failures go to a handler; all else is the stream's own."""

    def __init__(self, stream: TextIO, failed: Callable[[Exception], None]) -> None:
        self._stream, self._failed = stream, failed
        self._error: Exception | None = None  # once it has failed, it stays so

    def write(self, text: str | bytes) -> int:
        if text == "":  # by which click finds out what it has before it: no time for an error
            return 0
        if text == b"":  # the same; this is a stream of text, though click's shell completion writes bytes to it
            raise TypeError("expected text")
        try:
            if self._error is None:
                if isinstance(text, bytes):
                    self._stream.flush()
                    return self._stream.buffer.write(text)
                return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: closed
            self._error = error
        if self._error is not None:
            self._failed(self._error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            if self._error is None:
                self._stream.flush()
        except (OSError, ValueError) as error:
            self._error = error
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # by which click would go around this, where the encoding is ASCII
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let standard output and standard error of this process behave as this module says while the block runs.

    Raises:
        OutputError: standard output cannot be written.
        BrokenPipeError: who read it has gone.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace" if stream is before[0] else "backslashreplace")
    out = cast(TextIO, _Guarded(before[0] if before[0] is not None else _Closed(), _refuse))
    sys.stdout = out
    sys.stderr = cast(TextIO, _Guarded(before[1] if before[1] is not None else io.StringIO(), _drop))
    try:
        yield
    finally:
        try:
            if sys.stdout is out:
                out.flush()
        finally:
            sys.stdout, sys.stderr = before


class _Closed(io.StringIO):
    """Standard output that was closed before this program began: what is only said goes nowhere."""


def stdout_is_closed() -> bool:
    """Whether there is no standard output that a result could go to."""
    return sys.stdout is None or isinstance(getattr(sys.stdout, "_stream", sys.stdout), _Closed)


def _drop(error: Exception) -> None:
    """Nobody listens to what is said beside the work."""


def _refuse(error: Exception) -> NoReturn:
    _let_go()
    if isinstance(error, BrokenPipeError):
        raise error
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    raise OutputError(f"cannot write to {_STDOUT}: {reason}; send it to another place") from error


def _let_go() -> None:
    """Point the descriptor of standard output nowhere, so that what its buffer still holds fails no second time."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.__stdout__ is not None and sys.__stdout__.fileno() == 1:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)


def write_bytes(stream: TextIO, content: bytes) -> None:
    """Write bytes to a text stream of the system, behind what was written to it as text.

    Raises:
        OutputError: it is closed, takes no bytes, or cannot be written.
        BrokenPipeError: who read it has gone.
    """
    if stdout_is_closed() and stream is sys.stdout:
        raise OutputError(f"cannot write to {_STDOUT}: it is closed; name a file")
    stream.flush()
    binary = getattr(getattr(stream, "_stream", stream), "buffer", None)
    if binary is None:
        raise OutputError(f"cannot write to {_STDOUT}: it takes text alone; name a file")
    try:
        binary.write(content)
        binary.flush()
    except (OSError, ValueError) as error:
        _refuse(error)
