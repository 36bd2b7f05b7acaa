"""`gpcnn-doctor`: what this machine can run, and what to install for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.command import STDOUT, Command, json_option, version_option, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from gpcnn_runtime.commands.doctor.diagnosis import Diagnosis


@click.command(cls=Command)
@json_option
@version_option
def main(json_path: Path | None) -> None:
    """Show what this machine can draw, build and train with, and what to install for the rest.

    Exits 0 if something here can draw images, and 1 otherwise.
    """
    from rich.console import Console

    from gpcnn_deploy.errors import EngineError
    from gpcnn_runtime.commands.doctor.diagnosis import examine

    with Console(stderr=True).status("trying providers, GPUs and TensorRT"):
        found = examine()
    write_json(json_path, found)
    stderr = json_path == STDOUT
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console = Console(stderr=stderr, width=120)
    for table in tables(found):
        console.print(table)
    for note in found.notes:
        console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    if not found.can_sample:
        raise EngineError(
            f"nothing here can draw images: {found.native.detail}; or pip install 'gpcnn-deploy[cpu]' for .onnx engines"
        )


def tables(found: Diagnosis) -> Iterator[Table]:
    """Abilities first, then what they rest on."""
    yield _table("This machine can", ((a.what, _yes(a.possible), a.how) for a in found.abilities))
    machine = found.machine
    rows = [
        ("CPU", "", f"{machine['cpu']}, {machine['cores']} cores, {int(machine['memory_mb']) / 1e3:.1f} GB of memory"),
        ("system", "", f"{machine['system']}, Python {machine['python']}, gpcnn-deploy {machine['gpcnn-deploy']}"),
    ]
    for gpu in found.gpus:
        memory = f", {gpu.memory_mb / 1e3:.1f} GB" if gpu.memory_mb else ""
        rows.append(("GPU", "yes", f"{gpu.name}, compute capability {gpu.compute_capability}{memory}"))
    if found.gpu_problem is not None:
        rows.append(("GPU", "no", found.gpu_problem))
    rows.append(("native engine", _yes(found.native.works), found.native.detail))
    rows += [(f"provider {check.name}", _yes(check.works), check.detail) for check in found.providers]
    rows += [(f"TensorRT: {check.name}", _yes(check.works), check.detail) for check in found.tensorrt]
    yield _table("It has", rows)
    packages = (
        (package.name, package.version or "–", f"{', '.join(package.extras)}; {_minimum(package.minimum)}")
        for package in found.packages
    )
    yield _table("Packages", packages)


def _table(title: str, rows: Iterator[tuple[str, str, str]] | list[tuple[str, str, str]]) -> Table:
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, show_header=False, title_justify="left")
    for cells in rows:
        table.add_row(*map(escape, cells))
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _minimum(minimum: str | None) -> str:
    return "any version" if minimum is None else f"{minimum} or newer"


if __name__ == "__main__":
    main()
