"""Public names at the top of a package that are loaded when they are first asked for (PEP 562)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """What a package calls `__getattr__`, so that importing the package alone stays cheap.

    Args:
        package: its name.
        modules: names of modules, and the names that each of them gives the package.
    """

    def load(name: str) -> Any:
        for module, names in modules.items():
            if name in names:
                from importlib import import_module

                return getattr(import_module(module), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
