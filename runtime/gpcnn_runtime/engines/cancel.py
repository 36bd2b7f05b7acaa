"""Stopping work that runs in other threads: a flag to look at between steps, and hooks into calls that take long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Cancelled(Exception):
    """The work was called off; nobody waits for its result."""


class Cancellation:
    """Shared by one caller and the threads that work for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._hooks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Call the work off: `check` raises from now on, and every active hook is called once."""
        with self._lock:
            self._cancelled = True
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: the work was called off.
        """
        if self._cancelled:
            raise Cancelled

    @contextlib.contextmanager
    def hook(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `cancel` calls `stop`, which makes the block's long call return early.

        Raises:
            Cancelled: the work was called off before the block began.
        """
        with self._lock:
            self.check()
            self._hooks.append(stop)
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._hooks.remove(stop)
