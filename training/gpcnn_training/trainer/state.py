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
from gpcnn_training.network import Network
from gpcnn_training.runs import STATE
from gpcnn_training.trainer.compute import Compute
from gpcnn_training.trainer.optimizer import moment_names, moments
from gpcnn_training.trainer.settings import Settings


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

    model: Network
    average: Network
    moments: dict[str, dict[str, Tensor]]
    state: TrainingState


def save_state(
    run: Path, model: Network, average: Network, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write the training state of a run, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"weight.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, kept in moments(optimizer, model).items():
        tensors |= {f"{moment}.{name}": tensor for moment, tensor in kept.items()}
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
    groups: dict[str, dict[str, Tensor]] = {"weight": {}, "average": {}}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = tensor
    header = state.checkpoint
    if not groups["average"]:
        raise CheckpointError(f"{path}: of a version without a moving average of the weights: start a new run")
    model, average = (build_model(path, header.spec, header.encoder, groups.pop(g)) for g in ("weight", "average"))
    if header.step == 0:
        return Restored(model, average, {}, state)
    kept: dict[str, dict[str, Tensor]] = {name: {} for name, _ in model.named_parameters()}
    expected = moment_names(state.settings.optimizer, model)
    for name, weight in model.named_parameters():
        for moment in expected[name]:
            there = groups.get(moment, {})
            if name in there and there[name].shape == weight.shape:
                kept[name][moment] = there.pop(name)
    if any(groups.values()) or any(set(kept[name]) != set(names) for name, names in expected.items()):
        raise CheckpointError(f"{path}: optimizer moments do not fit the weights: start a new run")
    return Restored(model, average, kept, state)


def _state_file(run: Path) -> Path:
    path = run / STATE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: only a run folder that still has its {STATE} can be resumed")
    return path
