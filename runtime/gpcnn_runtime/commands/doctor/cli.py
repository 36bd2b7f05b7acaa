"""`gpcnn-doctor`: what this machine can run, and what to install for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import Command, json_option, write_json
from gpcnn_deploy.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from gpcnn_runtime.commands.doctor.diagnosis import Diagnosis


@click.command(cls=Command)
@json_option
def main(json_path: Path | None) -> None:
    """Show what this machine can draw, build and train with, and what to install for the rest.

    Exits with 0 if something here can draw images, and with 1 otherwise.
    """
    from gpcnn_deploy.commands.console import show, status, taken
    from gpcnn_deploy.errors import EngineError
    from gpcnn_runtime.commands.doctor.diagnosis import examine

    with status("trying providers, GPUs and TensorRT"):
        found = examine()
    write_json(json_path, found)
    show([*tables(found), *(f"Note: {note}" for note in found.notes)], stderr=taken(json_path))
    if not found.can_sample:
        raise EngineError(
            f"nothing here can draw images: {found.native.detail}; or pip install 'gpcnn-deploy[cpu]' for .onnx engines"
        )


def tables(found: Diagnosis) -> Iterator[Table]:
    """Abilities first, then what they rest on."""
    from gpcnn_deploy.commands.console import facts

    yield facts("This machine can", ((a.what, _yes(a.possible), a.how) for a in found.abilities))
    machine = found.machine
    cores = counted(int(machine["cores"]), "core")
    rows = [
        ("CPU", "", f"{machine['cpu']}, {cores}, {int(machine['memory_mb']) / 1e3:.1f} GB of memory"),
        *_container(machine),
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
    yield facts("It has", rows)
    packages = (
        (package.name, package.version or "–", f"{', '.join(package.extras)}; {_minimum(package.minimum)}")
        for package in found.packages
    )
    yield facts("Packages", packages)


def _container(machine: Mapping[str, str | int]) -> Iterator[tuple[str, str, str]]:
    limits = [f"{machine['cpu_limit']} CPUs"] if "cpu_limit" in machine else []
    if "memory_limit_mb" in machine:
        limits.append(f"{machine['memory_limit_mb']} MB of memory")
    if limits:
        yield "container", "", f"limits this process to {' and '.join(limits)}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _minimum(minimum: str | None) -> str:
    return "any version" if minimum is None else f"{minimum} or newer"


if __name__ == "__main__":
    main()
