"""Recipes: the flags of a training run, written down in a TOML file, with what they lead to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.preparation import Resampling
from gpcnn_deploy.spec import MAX_FEATURES, MAX_LAYERS
from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
from gpcnn_training.trainer.settings import Count, Decay, OptimizerName, Positive, Share

_PACKAGE = Path(__file__).parents[2]
FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")  # in an installed package; in a clone


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Keys of a recipe: the long flags of `gpcnn-train` without their dashes, and what is said about the result.

    Attributes:
        about: what it trains and what it reaches, in a sentence.
        time_limit, image_size: as the flag takes it, for example `45m`, `32` or `24x32`.
    """

    about: str
    data: str
    model: Literal["conditional", "unconditional", "autoencoder"] | None = None
    levels: Annotated[int, msgspec.Meta(ge=2, le=256)] | None = None
    image_size: int | str | None = None
    resampling: Resampling | None = None
    background: str | None = None
    grey: bool | None = None
    rgb: bool | None = None
    layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)] | None = None
    features: Annotated[int, msgspec.Meta(ge=1, le=MAX_FEATURES)] | None = None
    head_features: Annotated[int, msgspec.Meta(ge=1, le=MAX_FEATURES)] | None = None
    kernel_size: int | None = None
    first_kernel_size: int | None = None
    code_size: Count | None = None
    epochs: Count | None = None
    max_steps: Count | None = None
    time_limit: str | None = None
    batch_size: Count | None = None
    optimizer: OptimizerName | None = None
    learning_rate: Positive | None = None
    warm_up: Share | None = None
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] | None = None
    clip: Positive | None = None
    ema: Decay | None = None
    init: str | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    precision: PrecisionChoice | None = None
    compile: CompileChoice | None = None

    def flags(self) -> dict[str, Any]:
        """The keys that are set, by parameter name."""
        values = msgspec.structs.asdict(self)
        return {name: value for name, value in values.items() if value is not None and name != "about"}


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for folder in FOLDERS for path in folder.glob("*.toml"))


def read_recipe(name: str) -> Recipe:
    """The recipe of that name, or the file at that path.

    Raises:
        UsageError: there is none, it is no TOML, or a key or value is not one that `gpcnn-train` knows.
    """
    paths = [folder / f"{name}.toml" for folder in FOLDERS] + [Path(name)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UsageError(f"--recipe {name}: no such recipe or file; there are: {', '.join(names())}")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, Recipe)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(Recipe))
        hint = f"; keys are {known}" if "unknown field" in str(error) else ""
        raise UsageError(f"--recipe {path}: {str(error).splitlines()[0]}{hint}") from error
