"""Which packages of this distribution's extras are installed, in which versions."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

import msgspec

DISTRIBUTION = "gpcnn-deploy"
BASE = "base"
_REQUIREMENT = re.compile(
    r"""(?P<name>[\w.-]+)\s*(?:[^;]*?>=(?P<minimum>[\d.]+))?[^;]*(?:;\s*extra\s*==\s*['"](?P<extra>[\w-]+)['"])?\s*"""
)
_SHOWN = (BASE, "cpu", "gpu", "plan", "tensorrt", "tensorrt-rtx", "train", "export")


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package that something here needs.

    Attributes:
        name: on PyPI.
        version: the one installed; None if it is not.
        minimum: the lowest that is supported; None for any.
        fits: installed, and not too old.
        extras: which extras bring it; `base` for what all need.
    """

    name: str
    version: str | None
    minimum: str | None
    fits: bool
    extras: tuple[str, ...]


def packages() -> tuple[Package, ...]:
    """All packages that the extras of this distribution name, those of `dev` left out."""
    found: dict[str, tuple[str | None, list[str]]] = {}
    for text in importlib.metadata.requires(DISTRIBUTION) or ():
        match = _REQUIREMENT.fullmatch(text)
        if match is None or (extra := match["extra"] or BASE) not in _SHOWN:
            continue
        found.setdefault(match["name"], (match["minimum"], []))[1].append(extra)
    result = []
    for name, (minimum, extras) in found.items():
        version = installed(name)
        fits = version is not None and _release(version) >= _release(minimum or "0")
        order = tuple(sorted(extras, key=_SHOWN.index))
        result.append(Package(name=name, version=version, minimum=minimum, fits=fits, extras=order))
    return tuple(sorted(result, key=lambda package: (_SHOWN.index(package.extras[0]), package.name)))


def installed(name: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(found: Mapping[str, Package], extra: str) -> list[str]:
    """Packages of an extra that are not there, or too old."""
    return [package.name for package in found.values() if extra in package.extras and not package.fits]


def _release(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` → (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
