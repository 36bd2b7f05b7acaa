"""Errors that a user can mend. Each message is one line: what is wrong, what was expected, how to mend it."""

from __future__ import annotations

import re

from gpcnn_deploy.text import bounded


class GpcnnError(Exception):
    """Base of all expected errors; a command prints the message and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Make the message one line: what a file says may hold line breaks and codes that a terminal obeys.

        It may be long, too: of more than `gpcnn_deploy.text.MAX_LINE` characters the middle is left out.
        """
        message = bounded(message)
        if not message.isprintable():
            message = "".join(sign if sign.isprintable() else " " if sign.isspace() else "�" for sign in message)
        super().__init__(message)


class UsageError(GpcnnError):
    """The request itself is wrong: an unknown label, a count of 0, a temperature that is not positive."""

    exit_code = 2


class InterruptedRun(GpcnnError):
    """Ctrl-C; the exit code is 128 + SIGINT, as shells have it."""

    exit_code = 130


class SpecError(GpcnnError):
    """A model spec that contradicts itself or lies outside what the model supports."""


class DataError(GpcnnError):
    """Training data that is missing, corrupt or of the wrong shape."""


class CheckpointError(GpcnnError):
    """A checkpoint that is missing, truncated, foreign or of a newer schema."""


class TrainingError(GpcnnError):
    """Training that cannot go on: the loss or its gradient is not finite."""


class EngineError(GpcnnError):
    """An engine file that is missing, foreign, of a newer schema, or that cannot run here."""


class NotHereError(EngineError):
    """A sound engine that this machine cannot run: no GPU, another one, or another TensorRT."""


class ParityError(GpcnnError):
    """An engine that does not draw what eager PyTorch draws, beyond what a proven near-tie explains."""


class OutputError(GpcnnError):
    """A result that cannot be written: no space, no permission, a folder in its place."""


class MissingExtraError(GpcnnError):
    """An optional dependency that the request needs and that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._given = package, extra, purpose
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'gpcnn-deploy[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        """As another process makes it again."""
        return type(self), self._given


class OutputWarning(UserWarning):
    """A result was written, or is still to come, but not as usual; commands show it as one line."""


_NO_MEMORY = re.compile(r"DefaultCPUAllocator|std::bad_alloc|bad allocation|out of memory", re.IGNORECASE)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory: Python's own, NumPy's, PyTorch's on a CPU or a GPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
