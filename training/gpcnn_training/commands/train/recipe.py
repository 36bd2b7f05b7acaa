"""Recipes: the flags of a training run, written down in a TOML file, with what they lead to."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Optional

import click
import msgspec

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.system.home import at_home
from gpcnn_training.commands.train.flag import Flag, flags_of
from gpcnn_training.commands.train.request import TrainRequest

_PACKAGE = Path(__file__).parents[2]
FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")  # in an installed package; in a clone


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe.

    Attributes:
        about: what it trains and what it reaches, in a sentence.
        flags: what it sets, by the names of `TrainRequest`'s fields.
    """

    about: str
    flags: dict[str, Any]


def recipe_keys() -> type[msgspec.Struct]:
    """What a recipe's file holds: the long flags of `gpcnn-train` without their dashes, and `about`; msgspec's struct.

    `data` alone has to be there. Times, sizes and paths are text as the flags take it.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("about", str), ("data", str)]
    for name, declared in flags_of(TrainRequest):
        if declared.no_key is None and name != "data":
            fields.append((name, Optional[_key_type(declared)], None))  # noqa: UP045  # of a type that is a value
    return msgspec.defstruct("Recipe", fields, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab")


def _key_type(declared: Flag) -> Any:
    """The type of a flag's value in TOML, within the range that the flag has."""
    taken = declared.type if declared.key is None else declared.key
    if declared.switch:
        return bool
    if isinstance(taken, click.Choice):
        return Literal[tuple(taken.choices)]
    if isinstance(taken, (click.IntRange, click.FloatRange)):
        least, most = ("gt" if taken.min_open else "ge"), ("lt" if taken.max_open else "le")
        bounds = {least: taken.min, most: taken.max}
        number = int if isinstance(taken, click.IntRange) else float
        bound: Any = msgspec.Meta  # any two of its four bounds, as mypy cannot see
        return Annotated[number, bound(**{name: end for name, end in bounds.items() if end is not None})]
    return str if isinstance(taken, (click.ParamType, NoneType)) else taken


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for folder in FOLDERS for path in folder.glob("*.toml"))


def read_recipe(name: str) -> Recipe:
    """The recipe of that name, or the file at that path.

    Raises:
        UsageError: there is none, it is no TOML, or a key or value is not one that `gpcnn-train` knows.
    """
    paths = [folder / f"{name}.toml" for folder in FOLDERS] + [Path(at_home(name))]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UsageError(f"--recipe {name}: no such recipe or file; there are: {', '.join(names())}")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    keys = recipe_keys()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        values = msgspec.structs.asdict(msgspec.convert(content, keys))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(keys))
        hint = f"; keys are {known}" if "unknown field" in str(error) else ""
        raise UsageError(f"--recipe {path}: {str(error).splitlines()[0]}{hint}") from error
    flags = {name: value for name, value in values.items() if value is not None and name != "about"}
    for name, declared in flags_of(TrainRequest):
        if name in flags and declared.type is not None and not declared.switch:
            try:
                flags[name] = declared.type.convert(flags[name], None, None)
            except click.BadParameter as error:
                raise UsageError(f"--recipe {path}: {error.message} - at `{name.replace('_', '-')}`") from error
    return Recipe(values["about"], flags)


def with_recipe(request: TrainRequest) -> TrainRequest:
    """The request with its recipe's flags where none was given on the command line; its limits count as one.

    Raises:
        UsageError: no such recipe, or one with a key or a value that it cannot have.
    """
    if request.recipe is None:
        return request
    if request.resume is not None:
        raise UsageError(f"--resume goes on with {request.resume} as it was begun: leave out --recipe")
    flags = read_recipe(request.recipe).flags
    if request.epochs is not None or request.max_steps is not None or request.time_limit is not None:
        flags = {name: value for name, value in flags.items() if name not in ("epochs", "max_steps", "time_limit")}
    return dataclasses.replace(request, **{k: v for k, v in flags.items() if getattr(request, k) is None})
