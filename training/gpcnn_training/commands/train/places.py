"""Where a run's data and its folder are: what new runs, resumed ones and those of two stages share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import click
from lightning_fabric import Fabric

from gpcnn_deploy.system.lock import held
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.data.names import NAMES, data_name
from gpcnn_training.runs import LOCK
from gpcnn_training.runs import run_folder as run_folder
from gpcnn_training.trainer.settings import Settings


def note(fabric: Fabric) -> Callable[[str], None]:
    """Where a trainer says what is worth knowing."""
    return lambda text: click.echo(text, err=True) if fabric.is_global_zero else None


def hold(folder: Path, fabric: Fabric, stack: contextlib.ExitStack) -> None:
    """Let no second process train in the folder meanwhile."""
    if fabric.is_global_zero:
        stack.enter_context(held(folder / LOCK, folder))


def remembered_name(text: str) -> str:
    """How a run remembers its data: a published name as it is, a path from the root."""
    name = data_name(text)
    return name if name in NAMES else str(Path(name).resolve())


def is_there(name: str) -> bool:
    """Whether data can be loaded by this name: a published one, or a path where something is."""
    return data_name(name) in NAMES or Path(data_name(name)).exists()


def data_folder(request: TrainRequest, settings: Settings) -> Path | None:
    """The folder of published data sets: as it was given now, or else as it was at the beginning.

    One that the environment names and that is not there (what a command line names is) gives way to the latter.
    """
    before = Path(settings.data_dir) if settings.data_dir else None
    if request.data_dir is None or (before is not None and before.is_dir() and not request.data_dir.is_dir()):
        return before
    return request.data_dir
