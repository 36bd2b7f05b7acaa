"""How many pictures were changed to fit a model: resized, made grey, laid on a background, cut to 8 bits."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar


@dataclasses.dataclass
class Changes:
    """Pictures that were changed so far."""

    pictures: int = 0


_counted: ContextVar[Changes | None] = ContextVar("changes", default=None)


@contextlib.contextmanager
def counting_changes() -> Iterator[Changes]:
    """Count the pictures that are read within, and do not stay as they are in the file."""
    changes = Changes()
    token = _counted.set(changes)
    try:
        yield changes
    finally:
        _counted.reset(token)


def note_change() -> None:
    """One more picture was changed."""
    if (changes := _counted.get()) is not None:
        changes.pictures += 1


def changed_so_far() -> int:
    """Pictures that were changed since `counting_changes` was entered; 0 outside."""
    changes = _counted.get()
    return 0 if changes is None else changes.pictures
