"""What `gpcnn-train` trains when no flag says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpcnn_deploy.spec import ModelSpec

if TYPE_CHECKING:
    from gpcnn_training.trainer.settings import OptimizerName


@dataclass(frozen=True)
class Preset:
    """Defaults for a data set.

    Attributes:
        levels: K; None takes 256.
        layers: L.
        features: F.
        head_features: hidden features of the head.
        kernel_size: of layers 2..L.
        first_kernel_size: of layer 1.
        batch_size: images a step.
        optimizer: AdamW where a data set was not tried with Muon.
        learning_rate: peak of the schedule.
        muon_learning_rate: the same for Muon, if it is another.
        epochs: limit in passes over the training images.
        cpu_time_limit: further limit, in seconds, on a CPU.
        recipe: the recipe that trains the same model to the end.
        recipe_gives: what that leads to.
    """

    levels: int = 256
    layers: int = 12
    features: int = 32
    head_features: int = 64
    kernel_size: int = 3
    first_kernel_size: int = 7
    batch_size: int = 32
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 2e-3
    muon_learning_rate: float | None = None
    epochs: int = 100
    cpu_time_limit: float = 600.0
    recipe: str | None = None
    recipe_gives: str = ""

    def rate(self, optimizer: OptimizerName) -> float:
        """Peak of the schedule with an optimizer."""
        muon = self.learning_rate if self.muon_learning_rate is None else self.muon_learning_rate
        return muon if optimizer == "muon" else self.learning_rate

    def shape(self) -> dict[str, int]:
        """Those that a `ModelSpec` has too, by name."""
        return {name: getattr(self, name) for name in ModelSpec.__struct_fields__ if hasattr(self, name)}


PRESETS = {
    # 1,497 images: beyond 20 passes the test images get less likely (88.7 nats after 43 passes, 73.9 after 20)
    "digits": Preset(levels=17, layers=6, learning_rate=5e-3, epochs=20),
    "mnist": Preset(
        levels=2,
        epochs=60,
        kernel_size=5,
        optimizer="muon",
        learning_rate=4e-3,
        muon_learning_rate=1e-3,  # 3e-3 learned faster at first, then lost it again: 80.9 nats became 85.4
        cpu_time_limit=900.0,
        recipe="mnist-conditional",
        recipe_gives="76.6 nats/image; an hour and a half on two CPU cores",
    ),
    "cifar10": Preset(levels=256, layers=15, features=128, head_features=256, learning_rate=1e-3, epochs=200),
    "fashion-mnist": Preset(levels=16, epochs=60),
    "emoji": Preset(levels=16, epochs=60),
}
OWN_DATA = Preset()
PRIOR = Preset(features=64, head_features=128, first_kernel_size=5)
"""Of a VQ-VAE: the network over its codes, and the training of either stage."""
