"""Ctrl-C as a request: the step at hand is finished, then the run is saved. A second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from gpcnn_deploy.errors import InterruptedRun


class Interrupt:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `requested`; the next SIGINT acts as it did before.

    A signal that is ignored, as SIGHUP under nohup, stays so. A terminal that closes sends SIGHUP twice, once by the
    shell, and a second one must not disturb the saving.

    Attributes:
        requested: one has come.
        exit_code: 128 + its number, as shells have it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = InterruptedRun.exit_code
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self.exit_code = True, 128 + number
        if (before := self._before.pop(signal.SIGINT, None)) is not None:
            signal.signal(signal.SIGINT, before)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
