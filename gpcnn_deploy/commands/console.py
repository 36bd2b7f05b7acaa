"""What commands show people: tables and lines, warnings, and how far the work has come. Results go to files.

rich is imported when something is shown, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.system.files import STDOUT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


def console(stderr: bool = False) -> Console:
    """Where tables and lines are printed: as wide as the terminal, or WIDTH; with the boxes that its encoding has."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, stderr=stderr)  # named, since it takes UTF-8 for granted otherwise
    return made if made.is_terminal else Console(file=stream, stderr=stderr, width=WIDTH)


def table(title: str, *, headings: bool = True) -> Table:
    """An empty table, whose title is shown as it is: names of files may hold what rich takes for markup."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title, "table.title"), box=SIMPLE, show_header=headings, title_justify="left")


def facts(title: str, rows: Iterable[Sequence[str]]) -> Table:
    """A table without headings, whose cells are shown as they are, but for codes that a terminal obeys."""
    from rich.text import Text

    made = table(title, headings=False)
    for cells in rows:
        made.add_row(*(Text("".join(sign if sign.isprintable() else "�" for sign in cell)) for cell in cells))
    return made


def taken(*results: Path | None) -> bool:
    """Whether standard output holds one of these results, so that what people read goes to standard error."""
    return STDOUT in results


def show(parts: Iterable[Table | str], *, stderr: bool = False) -> None:
    """Print tables and lines, the lines as they are."""
    shown = console(stderr)
    for part in parts:
        if isinstance(part, str):
            shown.print(part, highlight=False, markup=False, emoji=False, soft_wrap=True)
        else:
            shown.print(part)


def warn(text: str) -> None:
    """Say on standard error what did not go as asked, though the work goes on."""
    click.echo(f"Warning: {text}", err=True)


def status(text: str, refresh_per_second: float = 12.5) -> Status:
    """A live line on standard error where that is a terminal; nothing elsewhere."""
    shown = console(stderr=True)
    spinner = "dots" if shown.encoding.startswith("utf") else "line"
    return shown.status(text, spinner=spinner, refresh_per_second=refresh_per_second)


@contextlib.contextmanager
def progress(doing: str, total: Callable[[], int | None], *, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, removed at the end; nothing where that is no terminal.

    Args:
        doing: what is being done, such as `drawing`.
        total: says how much there is to do; asked only for a bar that is shown.
        hidden: show none.

    Yields:
        What takes how much more is done.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total())
        yield lambda done: bar.advance(task, done)
