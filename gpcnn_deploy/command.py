"""What all commands share: expected errors become one line on stderr and an exit code; bugs keep their traceback."""

from __future__ import annotations

from typing import Any

import click

from gpcnn_deploy.errors import GpcnnError


class _Failure(click.ClickException):
    def __init__(self, error: GpcnnError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code


class Command(click.Command):
    """A click command that reports every `GpcnnError` as `Error: …` with the error's exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.ClickException: an expected error, to be shown in one line.
        """
        try:
            return super().invoke(ctx)
        except GpcnnError as error:
            raise _Failure(error) from error
