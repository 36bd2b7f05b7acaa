"""How a run computes is measured, within what the user allows, and is what the run then does."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from gpcnn_deploy.errors import TrainingError
from gpcnn_training.trainer import compute
from gpcnn_training.trainer.compute import Compute, choose, threads_set

CPU = torch.device("cpu")


def chosen(seconds: dict[tuple[str, bool], float], **change: object) -> tuple[Compute, list[Compute], list[str]]:
    """What `choose` takes if a step takes so many seconds by (precision, compiled); what it tried; what it said."""
    tried: list[Compute] = []
    said: list[str] = []

    def step(candidate: Compute) -> None:
        tried.append(candidate)
        time.sleep(seconds[candidate.precision, candidate.compiled])

    arguments: dict[str, object] = {"precision": "auto", "compiling": "auto", "seconds_left": lambda speed: 3600.0}
    with threads_set(1):
        result = choose(step, 8, CPU, 1, note=said.append, **arguments | change)  # type: ignore[arg-type]
    return result, tried, said


TIMES = {("fp32", False): 0.02, ("bf16", False): 0.04, ("fp32", True): 0.01, ("bf16", True): 0.005}


@pytest.mark.parametrize(
    ("change", "precision", "compiled"),
    [
        ({}, "fp32", True),
        ({"compiling": "off"}, "fp32", False),
        ({"seconds_left": lambda speed: 60.0}, "fp32", False),
        ({"seconds_left": lambda speed: 60.0, "compiling": "on"}, "fp32", True),
        ({"precision": "bf16"}, "bf16", True),
        ({"precision": "bf16", "compiling": "off"}, "bf16", False),
    ],
)
def test_the_fastest_allowed_is_taken(change: dict[str, object], precision: str, compiled: bool) -> None:
    result, tried, _ = chosen(TIMES, **change)
    assert (result.precision, result.compiled) == (precision, compiled)
    assert 0 < result.images_per_second <= 8 / TIMES[precision, compiled]  # a busy machine sleeps longer
    if change.get("precision") == "bf16":
        assert {candidate.precision for candidate in tried} == {"bf16"}


def test_a_slower_compiled_network_is_not_taken_unless_it_was_asked_for() -> None:
    slow = TIMES | {("fp32", True): 0.06}
    assert not chosen(slow)[0].compiled
    assert chosen(slow, compiling="on")[0].compiled


def test_the_length_of_the_run_is_judged_by_the_speed_measured() -> None:
    speeds: list[float] = []
    chosen(TIMES, seconds_left=lambda speed: speeds.append(speed) or 0.0)
    assert len(speeds) == 1
    assert 0 < speeds[0] <= 8 / 0.02


def test_a_compiler_that_fails_is_done_without_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(candidate: Compute) -> None:
        if candidate.compiled:
            raise RuntimeError("No working C++ compiler found\nmore")

    said: list[str] = []
    with threads_set(1):
        result = choose(step, 8, CPU, 1, "fp32", "auto", lambda speed: 3600.0, said.append)
        assert not result.compiled
        assert said[-1] == "torch.compile fails here; going on without"
        with pytest.raises(TrainingError, match=r"No working C\+\+ compiler found\): train with --compile off"):
            choose(step, 8, CPU, 1, "fp32", "on", lambda speed: 3600.0, said.append)


def test_autocast_lowers_the_network_alone() -> None:
    layer = nn.Linear(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with compute.autocast(CPU, Compute(threads=1, precision=precision)):  # type: ignore[arg-type]
            assert layer(torch.zeros(1, 4)).dtype is dtype
        assert layer.weight.dtype is torch.float32


@pytest.mark.slow
def test_a_compiled_network_computes_the_same_loss() -> None:
    from gpcnn_deploy.spec import ModelSpec
    from gpcnn_training.model import GatedPixelCNN

    model = GatedPixelCNN(ModelSpec(height=6, width=5, layers=2, features=8, levels=3))
    levels = torch.randint(3, (4, 1, 6, 5))
    compiled = compute.prepared(model, Compute(threads=1, compiled=True))
    assert torch.allclose(compiled(levels, None), model(levels), atol=1e-5)
