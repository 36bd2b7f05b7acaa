"""What a run needs to go on: weights, their moving average, optimizer moments, step, time and how it computes.

There is no generator to save: all random numbers of a run are functions of its seed and the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from gpcnn_deploy.checkpoint_header import Header, read_header
from gpcnn_deploy.errors import CheckpointError
from gpcnn_training.checkpoint import build_model, read_tensors, write_tensors
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.runs import STATE
from gpcnn_training.trainer.compute import Compute
from gpcnn_training.trainer.settings import OptimizerName, Settings

_MOMENTS: dict[OptimizerName, tuple[str, ...]] = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg",),
}


class TrainingState(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a training state.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        checkpoint: the header of the checkpoint that belongs to these weights.
        settings: what the run was asked to do.
        seconds: time trained so far.
        data_digest: SHA-256 of the data set.
        compute: how the run computes, which decides the last bits of its sums; None measures anew.
    """

    schema: int = 1
    checkpoint: Header
    settings: Settings
    seconds: float
    data_digest: str
    compute: Compute | None = None


@dataclass(frozen=True)
class Restored:
    """A training state, read: model with the weights of the last step, their moving average, moments by weight name."""

    model: GatedPixelCNN
    average: GatedPixelCNN
    moments: dict[str, dict[str, Tensor]]
    state: TrainingState


def save_state(
    run: Path, model: GatedPixelCNN, average: GatedPixelCNN, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write the training state of a run, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"weight.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS[state.settings.optimizer]:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    write_tensors(run / STATE, tensors, state)


def read_state(run: Path) -> TrainingState:
    """The header of a run's state.

    Raises:
        CheckpointError: missing, damaged or of a newer schema.
    """
    return read_header(_state_file(run), TrainingState)[0]


def load_state(run: Path) -> Restored:
    """A run's state.

    Raises:
        CheckpointError: missing, damaged, of a newer schema, or with tensors that do not fit the spec.
    """
    path = _state_file(run)
    state, tensors = read_tensors(path, TrainingState)
    names_of_moments = _MOMENTS[state.settings.optimizer]
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in ("weight", "average", *names_of_moments)}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = tensor
    header = state.checkpoint
    if not groups["average"]:
        raise CheckpointError(f"{path}: of a version without a moving average of the weights: start a new run")
    model, average = (build_model(path, header.spec, header.encoder, groups.pop(g)) for g in ("weight", "average"))
    if header.step == 0:
        return Restored(model, average, {}, state)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for tensors in groups.values():
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise CheckpointError(f"{path}: optimizer moments do not fit the weights: start a new run")
    moments = {name: {moment: groups[moment][name] for moment in names_of_moments} for name in shapes}
    return Restored(model, average, moments, state)


def _state_file(run: Path) -> Path:
    path = run / STATE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: only a run folder that still has its {STATE} can be resumed")
    return path


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, moments: dict[str, dict[str, Tensor]], step: int
) -> None:
    """Give an optimizer over `model.parameters()` the moments that it had after `step` steps."""
    content = optimizer.state_dict()
    names = [name for name, _ in model.named_parameters()]
    content["state"] = {
        index: {"step": torch.tensor(float(step)), **moments[name]} for index, name in enumerate(names) if moments
    }
    optimizer.load_state_dict(content)
