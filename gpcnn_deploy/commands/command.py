"""What all commands share: expected errors and signals become one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from gpcnn_deploy import __version__
from gpcnn_deploy.commands.console import taken, warn
from gpcnn_deploy.commands.outputs import OUTPUT_FILE, check_outputs, named_outputs
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.errors import GpcnnError, InterruptedRun, MissingExtraError, OutputError, OutputWarning, lacks_memory
from gpcnn_deploy.system.files import STDOUT, write_atomic
from gpcnn_deploy.system.streams import guarded
from gpcnn_deploy.text import bounded, json_bytes, printable

__all__ = ["STDOUT", "Command", "data_dir_option", "explain", "json_option", "say", "write_json"]

json_option = click.option(
    "--json",
    "json_path",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Also write the result as JSON to this file. With -, write it to standard output, and nothing else there.",
)


def _there(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a folder that the command line names and that is not there.

    One that the environment names, perhaps long ago, is of no concern before files are looked for in it.
    """
    given = value is not None and ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE
    if given and value is not None and not value.is_dir():
        raise click.BadParameter(f"Directory '{value}' does not exist.", ctx, param)
    return value


data_dir_option = click.option(
    "--data-dir",
    type=PATH,
    envvar="GPCNN_DATA_DIR",
    show_envvar=True,
    callback=_there,
    help="Folder that holds the files of MNIST, Fashion-MNIST or CIFAR-10. Without it, they are downloaded once.",
)


def write_json(path: Path | None, value: Any) -> None:
    """Write what `--json` asks for: a msgspec struct, a dataclass or plain values; None writes nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        return
    import msgspec  # here, so that --help is quick

    content = msgspec.json.format(json_bytes(value), indent=2) + b"\n"
    if path == STDOUT:
        click.echo(content.decode(), nl=False)
    else:
        write_atomic(path, content)


def say(json_path: Path | None, text: str) -> None:
    """Tell people of a result that is saved: on standard output, or beside it where `--json -` has that for itself.

    A reader that has gone (`| head`) is no error, since nothing is lost.
    """
    with contextlib.suppress(BrokenPipeError):
        click.echo(text, err=taken(json_path))


class Command(click.Command):
    """A click command that reports what a user can mend, or what the system refuses, in one line with an exit code.

    Before it begins it finds out that every result that an option names can be written (`outputs` beside this file).
    SIGTERM and a terminal that is closed (SIGHUP) interrupt it as Ctrl-C does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `click.Command`; `-h` is `--help`, and every command has `--version`."""
        kwargs["context_settings"] = {"help_option_names": ["-h", "--help"], **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)
        click.version_option(__version__)(self)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command, its streams guarded from begin to end."""
        try:
            with guarded():
                return super().main(*args, **kwargs)
        except BrokenPipeError:  # whoever read the result has gone
            sys.exit(1)
        except OutputError as error:
            _show(str(error))
            sys.exit(error.exit_code)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's; what a line of the command line says too long is shortened."""
        with _one_line([]):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: an expected error or a signal, after its line was shown.
        """
        with _interrupts() as interrupts, _one_line(interrupts), _warnings():
            check_outputs(named_outputs(ctx))
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result


def explain(error: Exception) -> tuple[str, int] | None:
    """What to tell of an error, in one line, and the exit code; None for a bug, which keeps its traceback."""
    if isinstance(error, GpcnnError):
        return " ".join(str(error).split()), error.exit_code
    if lacks_memory(error):
        from gpcnn_deploy.system.machine import of_memory

        return f"not enough memory{of_memory()}: try smaller batches, or end other programs", GpcnnError.exit_code
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "the system lets no more threads start: try --threads 1, or end other programs", GpcnnError.exit_code
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        if error.filename is not None:
            name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
            return bounded(f"{printable(name)}: {printable(reason)}"), GpcnnError.exit_code
        return bounded(f"{printable(reason)}{_mend(error)}"), GpcnnError.exit_code
    return None


def _mend(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ": free space; temporary files go where TMPDIR says"
    if "temporary directory" in str(error):
        return ": free space, or let TMPDIR name a folder that can be written"
    return ""


@contextlib.contextmanager
def _one_line(interrupts: list[int]) -> Iterator[None]:
    """Show expected errors and interrupts.

    Raises:
        click.exceptions.Exit: in place of them.
    """
    try:
        yield
    except click.ClickException as error:
        error.message = bounded(error.message)  # type: ignore[misc]
        raise
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt as interrupt:
        raise _interrupted(interrupts) from interrupt
    except Exception as error:
        if interrupts and isinstance(error, MissingExtraError):  # some packages turn Ctrl-C into an ImportError
            raise _interrupted(interrupts) from error
        told = explain(error)
        if told is None:
            raise
        line, code = told
        _show(line)
        if isinstance(error, InterruptedRun) and interrupts:
            code = 128 + interrupts[-1]
        raise click.exceptions.Exit(code) from error


def _show(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        click.echo(f"Error: {line}", err=True)


def _interrupted(interrupts: list[int]) -> click.exceptions.Exit:
    _show("interrupted: nothing half-finished is left behind")
    return click.exceptions.Exit(128 + interrupts[-1] if interrupts else InterruptedRun.exit_code)


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    """Show an `OutputWarning` as a line; others as ever."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, OutputWarning):
            warn(str(message))
        else:
            before(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", OutputWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals that came within and ask to end: SIGINT, SIGTERM, SIGHUP, each of which raises KeyboardInterrupt.

    One that is ignored, as SIGHUP under nohup, stays so.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        again = number in seen and number != signal.SIGINT  # a terminal that closes sends SIGHUP twice
        seen.append(number)
        if not again:
            raise KeyboardInterrupt

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        usual[signal.SIGHUP] = signal.SIG_DFL
    ours: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ours = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
    for number in ours:
        signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in ours.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)
