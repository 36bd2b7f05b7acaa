"""What `gpcnn-train` trains when no flag says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Defaults for a data set.

    Attributes:
        levels: K; None takes 256.
        layers: L.
        features: F.
        head_features: hidden features of the head.
        batch_size: images a step.
        learning_rate: peak of the schedule.
        epochs: limit in passes over the training images.
        cpu_time_limit: further limit, in seconds, on a CPU.
    """

    levels: int = 256
    layers: int = 12
    features: int = 32
    head_features: int = 64
    batch_size: int = 32
    learning_rate: float = 2e-3
    epochs: int = 100
    cpu_time_limit: float = 600.0


PRESETS = {
    "digits": Preset(levels=17, layers=6, features=32, batch_size=32, epochs=100, cpu_time_limit=180.0),
    "mnist": Preset(levels=2, epochs=60),
    "fashion-mnist": Preset(levels=16, epochs=60),
}
OWN_DATA = Preset()
