"""What all commands share: expected errors and Ctrl-C become one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from gpcnn_deploy import __version__
from gpcnn_deploy.errors import GpcnnError, InterruptedRun, MissingExtraError

STDOUT = Path("-")

version_option = click.version_option(__version__)

json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write the result as JSON to this file, too; with - to standard output, and nothing else there.",
)

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="GPCNN_DATA_DIR",
    show_envvar=True,
    help="Folder that holds the files of MNIST, Fashion-MNIST or CIFAR-10; without it they are downloaded once.",
)


def write_json(path: Path | None, value: Any) -> None:
    """Write what `--json` asks for: a msgspec struct, a dataclass or plain values; None writes nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        return
    import msgspec  # here, so that --help is quick

    from gpcnn_deploy.files import write_atomic

    content = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    if path == STDOUT:
        click.echo(content.decode(), nl=False)
    else:
        write_atomic(path, content)


def say(json_path: Path | None, text: str) -> None:
    """Print a result for people: to standard output, or beside it where `--json -` has that for itself."""
    click.echo(text, err=json_path == STDOUT)


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
            with _interrupts() as interrupts:
                return super().invoke(ctx)
        except GpcnnError as error:
            if interrupts and isinstance(error, MissingExtraError):  # some packages turn Ctrl-C into an ImportError
                raise _interrupted() from error
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise click.exceptions.Exit(error.exit_code) from error
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
            raise click.exceptions.Exit(GpcnnError.exit_code) from error
        except KeyboardInterrupt as interrupt:
            raise _interrupted() from interrupt


def _interrupted() -> click.exceptions.Exit:
    click.echo("Error: interrupted: nothing half-finished is left behind", err=True)
    return click.exceptions.Exit(InterruptedRun.exit_code)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The SIGINTs that came within, each of which raises KeyboardInterrupt as ever."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        if ours and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)
