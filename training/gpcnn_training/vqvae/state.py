"""What the first stage of a VQ-VAE's run needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from gpcnn_deploy.checkpoint_header import CODES_KEY, CodesHeader, read_header
from gpcnn_deploy.errors import CheckpointError
from gpcnn_training.checkpoint import build_vqvae, read_tensors, write_tensors
from gpcnn_training.runs import CODES_STATE
from gpcnn_training.trainer.compute import Compute
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.vqvae.codebook import CodebookAverages, averages_of
from gpcnn_training.vqvae_network import Vqvae

_MOMENTS = ("exp_avg", "exp_avg_sq")


class CodesState(msgspec.Struct, frozen=True, kw_only=True):
    """Header of the first stage's training state.

    Attributes:
        schema: version of this layout; a reader refuses newer ones.
        codes: the header of the file that belongs to these weights.
        settings: what the first stage was asked to do.
        seconds: time trained so far.
        ended: the limits were reached.
        data_digest: SHA-256 of the data set.
        compute: how the run computes; None measures anew.
    """

    schema: int = 1
    codes: CodesHeader
    settings: Settings
    seconds: float = 0.0
    ended: bool = False
    data_digest: str = ""
    compute: Compute | None = None


@dataclass(frozen=True)
class RestoredCodes:
    """A state, read: the network with the weights of the last step, their moving average, codebooks and optimizer."""

    network: Vqvae
    average: Vqvae
    averages: dict[str, CodebookAverages]
    moments: dict[str, dict[str, Tensor]]
    state: CodesState


def read_codes_state(run: Path) -> CodesState:
    """The header of a run's state.

    Raises:
        CheckpointError: missing, damaged or of a newer schema.
    """
    return read_header(run / CODES_STATE, CodesState, CODES_KEY)[0]


def save_codes_state(
    run: Path,
    network: Vqvae,
    average: Vqvae,
    averages: Mapping[str, CodebookAverages],
    optimizer: torch.optim.Optimizer,
    state: CodesState,
) -> None:
    """Write the state of a run's first stage, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"weight.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for codebook, kept in averages.items():
        tensors |= {f"{codebook}.uses": kept.uses, f"{codebook}.sums": kept.sums}
    for name, parameter in network.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    write_tensors(run / CODES_STATE, tensors, state, CODES_KEY)


def load_codes_state(run: Path) -> RestoredCodes:
    """The state of a run's first stage.

    Raises:
        CheckpointError: missing, damaged, of a newer schema, or with tensors that do not fit the spec.
    """
    path = run / CODES_STATE
    state, tensors = read_tensors(path, CodesState, CODES_KEY)
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in ("weight", "average", *_MOMENTS)}
    for key, tensor in tensors.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = tensor
    network, average = (build_vqvae(path, state.codes.vqvae, groups.pop(group)) for group in ("weight", "average"))
    averages = averages_of(network)
    for codebook, ours in averages.items():
        kept = groups.pop(codebook, {})
        if {name: tensor.shape for name, tensor in kept.items()} != {"uses": ours.uses.shape, "sums": ours.sums.shape}:
            raise CheckpointError(f"{path}: the codebook's averages do not fit it: start a new run")
        ours.uses, ours.sums = kept["uses"], kept["sums"]
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    if state.codes.step == 0:
        return RestoredCodes(network, average, averages, {}, state)
    for found in groups.values():
        if {name: tensor.shape for name, tensor in found.items()} != shapes:
            raise CheckpointError(f"{path}: optimizer moments do not fit the weights: start a new run")
    moments = {name: {moment: groups[moment][name] for moment in _MOMENTS} for name in shapes}
    return RestoredCodes(network, average, averages, moments, state)
