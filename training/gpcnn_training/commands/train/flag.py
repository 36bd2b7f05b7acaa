"""How a flag of `gpcnn-train` is declared, once: as a field of `TrainRequest`, from which its option and its recipe key
are made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_KEY = "flag"


@dataclasses.dataclass(frozen=True)
class Flag:
    """What there is to know about a flag besides its name, its type and its default, which the field has.

    Attributes:
        option: adds the option to a command.
        type: what click makes of its text; None for text as it is.
        switch: whether it takes no value.
        key: the type of its value in a recipe, where click's type does not say it; None otherwise.
        no_key: why recipes cannot have it; None if they can.
        resumed: a run that is gone on with takes it, too, rather than keep its own.
        samples: `--epochs 0`, which only draws samples, takes it, too.
    """

    option: Decorator
    type: click.ParamType[Any] | None = None
    switch: bool = False
    key: Any = None
    no_key: str | None = None
    resumed: bool = False
    samples: bool = False


class FiniteRange(click.FloatRange):
    """A range of numbers that are finite: nan is in no range and passes each of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Text or number → number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


def flag(
    type: click.ParamType[Any] | None = None,
    help: str = "",
    *,
    default: Any = None,
    also: tuple[str, ...] = (),
    switch: bool = False,
    metavar: str | None = None,
    option: Decorator | None = None,
    **more: Any,
) -> Any:
    """A field of `TrainRequest` that is a flag.

    Args:
        type: of its text.
        help: what `--help` says.
        default: of a run, if there is one that `--help` shows.
        also: other names of it.
        switch: it takes no value.
        metavar: what stands for its value in `--help`.
        option: the option itself, where other commands have it, too.
        more: as `Flag`.
    """
    shown = {"default": default, "show_default": True} if default is not None else {"default": None}
    attributes: dict[str, Any] = {"help": help, **shown, **({"is_flag": True} if switch else {"type": type})}
    if metavar is not None:
        attributes["metavar"] = metavar

    def named(name: str) -> Decorator:
        return option or click.option(f"--{name.replace('_', '-')}", *also, name, **attributes)

    return dataclasses.field(default=default, metadata={_KEY: (named, {"type": type, "switch": switch, **more})})


def flags_of(request: Any) -> Iterator[tuple[str, Flag]]:
    """The flags of a class of requests by the names of their fields, in order."""
    for field in dataclasses.fields(request):
        named, more = field.metadata[_KEY]
        yield field.name, Flag(option=named(field.name), **more)


def options_of(request: Any) -> Callable[[Decorated], Decorated]:
    """Decorate a command with the options of a class of requests."""

    def decorate(command: Decorated) -> Decorated:
        for _, declared in reversed(list(flags_of(request))):
            command = declared.option(command)
        return command

    return decorate
