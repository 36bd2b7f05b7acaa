"""What a run needs to go on: weights, optimizer moments, step and time.

There is no generator to save: all random numbers of a run are functions of its seed and the step.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from gpcnn_deploy.errors import CheckpointError
from gpcnn_training.checkpoint import Header, build_model, read_header, read_tensors, write_tensors
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.runs import STATE
from gpcnn_training.schedule import Count, Settings

_MOMENTS = ("exp_avg", "exp_avg_sq")
Moments = dict[str, dict[str, torch.Tensor]]  # name of the weight → name of the moment → tensor


class TrainingState(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a training state.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        checkpoint: the header of the checkpoint that belongs to these weights.
        settings: what the run was asked to do.
        seconds: time trained so far.
        data_digest: SHA-256 of the data set.
        threads: CPU threads that the run computes with, whose number changes the last bit of a sum; None measures anew.
    """

    schema: int = 1
    checkpoint: Header
    settings: Settings
    seconds: float
    data_digest: str
    threads: Count | None = None


def save_state(run: Path, model: GatedPixelCNN, optimizer: torch.optim.AdamW, state: TrainingState) -> None:
    """Write the training state of a run, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"weight.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    write_tensors(run / STATE, tensors, state)


def read_state(run: Path) -> TrainingState:
    """The header of a run's state.

    Raises:
        CheckpointError: missing, damaged or of a newer schema.
    """
    return read_header(_state_file(run), TrainingState)


def load_state(run: Path) -> tuple[GatedPixelCNN, Moments, TrainingState]:
    """Model, optimizer moments and header of a run's state.

    Raises:
        CheckpointError: missing, damaged, of a newer schema, or with tensors that do not fit the spec.
    """
    path = _state_file(run)
    state, tensors = read_tensors(path, TrainingState)
    groups: dict[str, dict[str, torch.Tensor]] = {group: {} for group in ("weight", *_MOMENTS)}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = tensor
    weights = groups.pop("weight")
    model = build_model(path, state.checkpoint.spec, weights)
    if state.checkpoint.step == 0:
        return model, {}, state
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for tensors in groups.values():
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise CheckpointError(f"{path}: optimizer moments do not fit the weights: start a new run")
    return model, {name: {moment: groups[moment][name] for moment in _MOMENTS} for name in shapes}, state


def _state_file(run: Path) -> Path:
    path = run / STATE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: only a run folder that still has its {STATE} can be resumed")
    return path


def restore_optimizer(optimizer: torch.optim.AdamW, model: GatedPixelCNN, moments: Moments, step: int) -> None:
    """Give an AdamW optimizer over `model.parameters()` the moments that it had after `step` steps."""
    content = optimizer.state_dict()
    names = [name for name, _ in model.named_parameters()]
    content["state"] = {
        index: {"step": torch.tensor(float(step)), **moments[name]} for index, name in enumerate(names) if moments
    }
    optimizer.load_state_dict(content)
