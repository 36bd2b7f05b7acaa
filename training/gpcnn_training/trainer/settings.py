"""How long a run takes and how its learning rate moves: pure functions of steps and seconds."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from gpcnn_deploy.text import counted

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
OptimizerName = Literal["adamw", "muon", "rmsprop"]

FINAL_LEARNING_RATE = 0.01  # of the peak


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked to do; kept beside its checkpoint, so that a resumed run does the same.

    Attributes:
        data: data set name, or the absolute path of the user's images.
        data_dir: folder of the four MNIST files, absolute; None downloads them.
        batch_size: images a step, of all processes together.
        optimizer: AdamW; Muon, with AdamW for what it is not for; or RMSprop as the paper has it.
        learning_rate: peak of the schedule.
        warm_up: share of the run in which the learning rate rises.
        weight_decay: of AdamW and Muon.
        clip: largest norm of the gradient of the loss in nats a sub-pixel.
        ema: decay of the moving average of the weights that is evaluated and exported; 0 takes the weights themselves.
        seed: seed of the weights, of the order of the images and of their binarization.
        epochs: limit in passes over the training images; None is no limit.
        max_steps: limit in optimizer steps; None is no limit.
        time_limit: limit in seconds of training, over all sessions of the run; None is no limit.
        dropout: share of the features behind each gate that a step leaves out.
        mirror: whether a VQ-VAE sees every other picture mirrored.
        shift: by how many pixels, at most, a VQ-VAE sees pictures moved, in each direction.
    """

    data: str
    data_dir: str | None = None
    batch_size: Count
    optimizer: OptimizerName = "adamw"
    learning_rate: Positive
    warm_up: Share = 0.03
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    clip: Positive = 1.0
    ema: Decay = 0.999
    seed: int = 0
    epochs: Count | None = None
    max_steps: Count | None = None
    time_limit: Positive | None = None
    dropout: Decay = 0.0
    mirror: bool = False
    shift: Annotated[int, msgspec.Meta(ge=0)] = 0

    def progress(self, step: int, steps_per_epoch: int, seconds: float) -> float:
        """Share of the run that is done: the largest of its limits' shares; 1 or more means that it has ended."""
        shares = [0.0]
        if self.epochs is not None:
            shares.append(step / (self.epochs * steps_per_epoch))
        if self.max_steps is not None:
            shares.append(step / self.max_steps)
        if self.time_limit is not None:
            shares.append(seconds / self.time_limit)
        return max(shares)

    def seconds_expected(self, steps_per_epoch: int, seconds_a_step: float) -> float:
        """How long the run will take, from its beginning, by its limits and the time of a step."""
        whole = self.progress(1, steps_per_epoch, 0.0)  # what one step is of it
        by_steps = seconds_a_step / whole if whole else math.inf
        return min(by_steps, self.time_limit or math.inf)

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to a hundredth of the peak; `progress` may be time, steps or both."""
        warm = min(1.0, progress / self.warm_up + 0.01) if self.warm_up else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * warm * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)

    def ema_decay_at(self, step: int) -> float:
        """Decay of the moving average at a step: of the first tenth of the steps so far at most, so that it follows."""
        return min(self.ema, (1 + step) / (10 + step))

    def limits(self) -> str:
        """The limits in words."""
        words = []
        if self.epochs is not None:
            words.append(counted(self.epochs, "epoch"))
        if self.max_steps is not None:
            words.append(counted(self.max_steps, "step"))
        if self.time_limit is not None:
            words.append(duration(self.time_limit))
        return " or ".join(words) + (", whichever comes first" if len(words) > 1 else "")


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `1 min 30 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")
