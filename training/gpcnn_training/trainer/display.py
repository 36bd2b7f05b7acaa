"""Progress on stderr: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from gpcnn_deploy.commands.console import console as make_console
from gpcnn_training.trainer.settings import duration

_SECONDS_BETWEEN_LINES = 10.0


class Display:
    """One bar that says how far a task has come; a context manager, so that the terminal is left in order."""

    def __init__(self, task: str, console: Console | None = None, silent: bool = False) -> None:
        """A display of `task`; with `silent`, of nothing: the other processes of a run."""
        self.console = console or make_console(stderr=True)
        self.console.quiet = self.console.quiet or silent
        self.task = task
        self._last_line = time.monotonic()
        self._first: tuple[float, float] | None = None  # when something was done first, and how much
        self._bar: Progress | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self._bar.start()
            self._bar.add_task(self.task, total=1.0, text="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, share: float, text: str = "") -> None:
        """Show that `share` (0 to 1) is done, with what else there is to say about it, and the time left."""
        text = "  ".join(part for part in (text, self._time_left(share)) if part)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=min(1.0, share), text=text)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.note(f"{self.task} {min(1.0, share):4.0%}  {text}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _time_left(self, share: float) -> str:
        now = time.monotonic()
        self._first = self._first or (now, share)
        passed, done = now - self._first[0], share - self._first[1]
        if done <= 0 or passed < 2:
            return ""
        return f"{duration(max(0.0, (1 - share) / done * passed))} left"
