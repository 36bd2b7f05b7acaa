"""Optimizers by name, and what a run must keep of one to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gpcnn_training.network import Network
from gpcnn_training.trainer.settings import OptimizerName, Settings

MUON_STEP = 4.0
"""How much longer Muon's steps are than AdamW's at a learning rate: the best of 1, 4 and 10 on MNIST."""

_ADAMW = ("exp_avg", "exp_avg_sq")
_LEVELS = ("top.", "bottom.")  # of a VQ-VAE-2's prior, which is two networks
_NOT_HIDDEN = ("layers.0.vertical.weight", "layers.0.horizontal.weight", "head.earlier.weight", "head.logits.weight")


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the weights between hidden features, AdamW for all others, at one learning rate.

    Muon steps along the semi-orthogonal matrix nearest to the momentum; a convolution is a matrix [F', F · k · k]. A
    step is as long as AdamW's usually are (Liu et al. 2025, arXiv 2502.16982), times MUON_STEP.
    """

    def __init__(self, model: Network, settings: Settings) -> None:
        """Over the weights of `model`, which are in channels-last layout, so that a matrix is a view of its weight."""
        hidden = hidden_weights(model)
        self.hidden = [weight for name, weight in model.named_parameters() if name in hidden]
        others = [weight for name, weight in model.named_parameters() if name not in hidden]
        super().__init__([*others, *self.hidden], {"lr": settings.learning_rate})
        self.matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.hidden]
        for weight, matrix in zip(self.hidden, self.matrices, strict=True):
            assert weight.data_ptr() == matrix.data_ptr(), "a copy would never be trained"
        self.adamw = torch.optim.AdamW(others, settings.learning_rate, weight_decay=settings.weight_decay)
        self.muon = torch.optim.Muon(
            self.matrices,
            settings.learning_rate * MUON_STEP,
            weight_decay=settings.weight_decay / MUON_STEP,
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step at the learning rate of the parameter group."""
        loss = None if closure is None else closure()
        rate = self.param_groups[0]["lr"]
        self.adamw.param_groups[0]["lr"] = rate
        self.muon.param_groups[0]["lr"] = rate * MUON_STEP
        for weight, matrix in zip(self.hidden, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        self.adamw.step()
        self.muon.step()  # type: ignore[no-untyped-call]
        return loss


def hidden_weights(model: nn.Module) -> frozenset[str]:
    """Names of the convolutions from hidden features to hidden features: none that reads a picture or gives logits."""
    return frozenset(name for name, weight in model.named_parameters() if weight.ndim == 4 and _is_hidden(name))


def _is_hidden(name: str) -> bool:
    for level in _LEVELS:
        name = name.removeprefix(level)
    return name.startswith(("layers.", "blocks.", "head.")) and name not in _NOT_HIDDEN


def as_matrix(weight: Tensor) -> Tensor:
    """[F', F, k, k'] → [F', k · k' · F], a view of a weight in channels-last layout."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def as_weight(matrix: Tensor, shape: torch.Size) -> Tensor:
    """What `as_matrix` had: [F', k · k' · F] → [F', F, k, k']."""
    outputs, inputs, *kernel = shape
    return matrix.view(outputs, *kernel, inputs).permute(0, 3, 1, 2)


def make_optimizer(model: Network, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all weights of `model`."""
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), settings.learning_rate, alpha=0.95, eps=1e-8)
    if settings.optimizer == "muon":
        return Muon(model, settings)
    return torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)


def moment_names(optimizer: OptimizerName, model: Network) -> dict[str, tuple[str, ...]]:
    """Weight name → what the optimizer keeps of it, each of the weight's shape."""
    hidden = hidden_weights(model) if optimizer == "muon" else frozenset()
    others = ("square_avg",) if optimizer == "rmsprop" else _ADAMW
    return {name: ("momentum_buffer",) if name in hidden else others for name, _ in model.named_parameters()}


def moments(optimizer: torch.optim.Optimizer, model: Network) -> dict[str, dict[str, Tensor]]:
    """Weight name → moment → tensor of the weight's shape; without those that no step has made yet."""
    kept: dict[str, dict[str, Tensor]] = {}
    matrices: dict[Tensor, Tensor] = {}
    if isinstance(optimizer, Muon):
        matrices = dict(zip(optimizer.hidden, optimizer.matrices, strict=True))
    for name, weight in model.named_parameters():
        if weight in matrices:
            state: Mapping[str, Tensor] = optimizer.muon.state[matrices[weight]]  # type: ignore[attr-defined]
            kept[name] = {moment: as_weight(tensor, weight.shape) for moment, tensor in state.items()}
        else:
            state = (optimizer.adamw if isinstance(optimizer, Muon) else optimizer).state[weight]
            kept[name] = {moment: tensor for moment, tensor in state.items() if moment != "step"}
    return kept


def restore_moments(
    optimizer: torch.optim.Optimizer, model: nn.Module, kept: Mapping[str, Mapping[str, Tensor]], step: int
) -> None:
    """Give an optimizer over the weights of `model` the moments that it had after `step` steps."""
    weights = dict(model.named_parameters())
    if isinstance(optimizer, Muon):
        hidden = hidden_weights(model)
        order = [name for name in weights if name in hidden]
        _load(optimizer.muon, [{moment: as_matrix(t) for moment, t in kept[name].items()} for name in order])
        _load(optimizer.adamw, [{"step": _count(step), **kept[name]} for name in weights if name not in hidden])
    else:
        _load(optimizer, [{"step": _count(step), **kept[name]} for name in weights])


def _load(optimizer: torch.optim.Optimizer, states: list[dict[str, Tensor]]) -> None:
    content = optimizer.state_dict()
    content["state"] = dict(enumerate(states))
    optimizer.load_state_dict(content)


def _count(step: int) -> Tensor:
    return torch.tensor(float(step))
