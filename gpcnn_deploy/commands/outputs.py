"""Options that name a result: what they say is checked before the work begins, by `Command`, in one place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from gpcnn_deploy.errors import OutputError, UsageError
from gpcnn_deploy.system.files import STDOUT, check_file, check_folder, stream_of
from gpcnn_deploy.system.home import at_home
from gpcnn_deploy.system.streams import stdout_is_closed

Kind = Literal["file", "folder", "either"]


class OutputType(click.Path):
    """The place of a result: a file (`-` or /dev/stdout is standard output), a folder, or either of them."""

    def __init__(self, kind: Kind = "file") -> None:
        super().__init__(path_type=Path, allow_dash=True)
        self.kind: Kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text → path; every name of standard output becomes `STDOUT`."""
        path = Path(os.fsdecode(super().convert(at_home(os.fsdecode(value)), param, ctx)))
        return STDOUT if stream_of(path) is not None and path.name not in ("stderr", "2") else path


OUTPUT_FILE = OutputType("file")
OUTPUT_FOLDER = OutputType("folder")
OUTPUT_EITHER = OutputType("either")


class Output(NamedTuple):
    """A result, the option that names its place, and what it is."""

    option: str
    path: Path
    kind: Kind = "file"


def named_outputs(ctx: click.Context) -> list[Output]:
    """What the options of a command line name."""
    return [
        Output(param.opts[0], ctx.params[param.name], param.type.kind)
        for param in ctx.command.params
        if isinstance(param.type, OutputType) and param.name and ctx.params.get(param.name) is not None
    ]


def check_outputs(outputs: Iterable[Output]) -> None:
    """Find out, before the work, that all results can be written, and into places of their own; leaves nothing behind.

    Raises:
        OutputError: one cannot.
        UsageError: two of them name one file.
    """
    taken: dict[Path, Output] = {}
    for output in outputs:
        option, path, kind = output
        if path == STDOUT:
            if kind == "folder":
                raise UsageError(f"{option} - is standard output, which holds no folder: name a folder")
            if stdout_is_closed():
                raise OutputError(f"{option} - names standard output, which is closed: name a file")
        elif kind == "folder" or (kind == "either" and path.is_dir()):
            check_folder(path, option)
        else:
            check_file(path, option)
        if _shared(path):
            continue
        place = path if path == STDOUT else path.resolve()
        if place in taken:
            first = taken[place]
            raise UsageError(f"{first.option} and {option} both name {first.path}: name two files")
        taken[place] = output


def _shared(path: Path) -> bool:
    """Whether it is a device such as /dev/null, into which several results can go."""
    try:
        return path != STDOUT and stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
