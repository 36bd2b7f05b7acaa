"""What all commands share: expected errors and Ctrl-C become one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

from typing import Any

import click

from gpcnn_deploy.errors import GpcnnError, InterruptedRun


class Command(click.Command):
    """A click command that reports a `GpcnnError`, or a file that the system refuses, in one line with an exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `click.Command`; `-h` is `--help`."""
        kwargs["context_settings"] = {"help_option_names": ["-h", "--help"], **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: an expected error or Ctrl-C, after its line was shown.
        """
        try:
            return super().invoke(ctx)
        except GpcnnError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise click.exceptions.Exit(error.exit_code) from error
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
            raise click.exceptions.Exit(GpcnnError.exit_code) from error
        except KeyboardInterrupt as interrupt:
            click.echo("Error: interrupted: nothing half-finished is left behind", err=True)
            raise click.exceptions.Exit(InterruptedRun.exit_code) from interrupt
