"""The types of arguments and options that name a file or a folder to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from gpcnn_deploy.system.home import at_home


class PathType(click.Path):
    """A path, in which the home folder stands for `~`, also behind `--option=`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text → path."""
        return super().convert(at_home(os.fsdecode(value)), param, ctx)


class EntryType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """`FILE` or `FILE:ROW`, kept as text, in which the home folder stands for `~`."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Text → text."""
        return at_home(str(value))


PATH = PathType()
ENTRY = EntryType()
