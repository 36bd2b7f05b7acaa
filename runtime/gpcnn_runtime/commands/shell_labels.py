"""Labels that a shell offers after `--label`: those of the engine that the line names, or would take by default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

_PLAIN = re.compile(r"[\w.+-]+")


def complete_labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Class names that continue what was typed, behind the last comma; numbers of names that a shell would take apart.

    An engine that cannot be read offers nothing.
    """
    from gpcnn_deploy.errors import GpcnnError
    from gpcnn_runtime.engines.load import engine_or_default
    from gpcnn_runtime.inspection import engine_metadata

    try:
        names = engine_metadata(engine_or_default(ctx.params.get("engine_path"), from_zoo=True)).class_names
    except (GpcnnError, OSError):
        return []
    before, comma, begun = incomplete.rpartition(",")
    items = [(name if _PLAIN.fullmatch(name) else str(k), name) for k, name in enumerate(names)]
    if names and not comma:
        items.append(("all", "every class"))
    return [
        CompletionItem(before + comma + value, help=name if name != value else None)
        for value, name in items
        if value.startswith(begun)
    ]
