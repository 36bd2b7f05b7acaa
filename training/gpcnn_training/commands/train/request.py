"""What `gpcnn-train` was asked to do: its flags, with the recipe's where they are left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.picture_files import hex_colour
from gpcnn_deploy.preparation import Preparation, Resampling
from gpcnn_training.commands.train.duration import DURATION
from gpcnn_training.commands.train.image_size import IMAGE_SIZE
from gpcnn_training.commands.train.recipe import read_recipe
from gpcnn_training.data.names import data_name
from gpcnn_training.trainer.compute import CompileChoice, PrecisionChoice
from gpcnn_training.trainer.settings import OptimizerName


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of `gpcnn-train`; None where one was not given."""

    data: str | None = None
    data_dir: Path | None = None
    model: str | None = None
    recipe: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None
    batch_size: int | None = None
    optimizer: OptimizerName | None = None
    learning_rate: float | None = None
    warm_up: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    ema: float | None = None
    layers: int | None = None
    features: int | None = None
    head_features: int | None = None
    kernel_size: int | None = None
    first_kernel_size: int | None = None
    code_size: int | None = None
    levels: int | None = None
    image_size: tuple[int, int] | None = None
    resampling: Resampling | None = None
    background: str | None = None
    grey: bool | None = None
    rgb: bool | None = None
    init: Path | None = None
    seed: int | None = None
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: PrecisionChoice | None = None
    compile: CompileChoice | None = None
    out: Path | None = None
    resume: Path | None = None
    test_images: int | None = None
    json_path: Path | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            object.__setattr__(self, "data", data_name(self.data))

    def preparation(self) -> Preparation | None:
        """What is to be done to pictures that do not fit; None takes them as they are.

        Raises:
            UsageError: flags that contradict each other, or no such colour.
        """
        if self.grey and self.rgb:
            raise UsageError("--grey and --rgb both say what pictures become: leave one of them out")
        if self.resampling is not None and self.image_size is None:
            raise UsageError(f"--resampling {self.resampling} goes with --image-size: add it, as in --image-size 32")
        resampling = None if self.image_size is None else self.resampling or "area"
        made = Preparation(
            image_size=self.image_size,
            resampling=resampling,
            background=None if self.background is None else hex_colour(self.background),
            colour="grey" if self.grey else "rgb" if self.rgb else None,
        )
        return made or None

    def with_recipe(self) -> Request:
        """The request with the recipe's flags where none was given on the command line; its limits count as one.

        Raises:
            UsageError: no such recipe, or one with a key or a value that it cannot have.
        """
        if self.recipe is None:
            return self
        if self.resume is not None:
            raise UsageError(f"--resume goes on with {self.resume} as it was begun: leave out --recipe")
        flags: dict[str, Any] = read_recipe(self.recipe).flags()
        if "time_limit" in flags:
            flags["time_limit"] = DURATION.convert(flags["time_limit"], None, None)
        if "image_size" in flags:
            flags["image_size"] = IMAGE_SIZE.convert(str(flags["image_size"]), None, None)
        if "init" in flags:
            flags["init"] = Path(flags["init"])
        if self.epochs is not None or self.max_steps is not None or self.time_limit is not None:
            flags = {name: value for name, value in flags.items() if name not in ("epochs", "max_steps", "time_limit")}
        return dataclasses.replace(self, **{k: v for k, v in flags.items() if getattr(self, k) is None})

    def refuse(self, flags: tuple[str, ...], reason: str) -> None:
        """Refuse flags that have no meaning here.

        Raises:
            UsageError: names those that were given.
        """
        given = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(self, flag) is not None]
        if given:
            raise UsageError(f"{reason}: leave out {', '.join(given)}")
