"""The loop that drives single-step engines, on a step small enough to follow by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.base import EngineInfo, Request, StepBatch, StepEngine
from gpcnn_runtime.engines.cancel import Cancellation, Cancelled

SPEC = ModelSpec(height=2, width=3, channels=3, levels=5)
ORDER = (0, 2, 3, 1)  # N H W C: flattened, this is raster and channel order


class ChainStep(StepEngine):
    """Sub-pixel t becomes (the one before + a number from its noise) mod K: causal, and as slow to settle as can be."""

    def __init__(self, stride: int = 1, causal: bool = True, fail_at: int | None = None) -> None:
        self.metadata = EngineMetadata(role="step", spec=SPEC, parameters=0, checkpoint_digest="", tools={})
        self.info = EngineInfo(Path("chain"), "test", "0", "host")
        self.stride, self.causal, self.fail_at = stride, causal, fail_at
        self.steps = 0
        self.open_batches = 0

    def next(self, image: npt.NDArray[np.int32], request: Request) -> npt.NDArray[np.int32]:
        before = np.zeros_like(image.transpose(ORDER).reshape(len(image), -1))
        before[:, 1:] = image.transpose(ORDER).reshape(len(image), -1)[:, :-1]
        n, c, h, w = image.shape
        before = before.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        if not self.causal:
            before = image
        drawn = (before + 1 + (request.noise * 3).astype(np.int32)) % SPEC.levels
        return np.where(request.mask, request.known, drawn).astype(np.int32)

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[StepBatch]:
        self.open_batches += 1
        try:
            yield ChainBatch(self, request)
        finally:
            self.open_batches -= 1

    def close(self) -> None:
        pass


class ChainBatch:
    def __init__(self, engine: ChainStep, request: Request) -> None:
        self.engine, self.request = engine, request
        self.image = self.before = request.start()

    def place(self, levels: npt.NDArray[np.int32]) -> None:
        self.image = levels.copy()

    def advance(self, steps: int) -> int:
        for _ in range(steps):
            self.engine.steps += 1
            if self.engine.steps == self.engine.fail_at:
                raise EngineError("enqueue failed")
            self.before, self.image = self.image, self.engine.next(self.image, self.request)
        return int((self.before != self.image).sum())

    def read(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        return self.image, -self.before.astype(np.float32)  # "log-probability" of the image that went in


def request_of(count: int, seed: int = 0, **fields: Any) -> Request:
    rng = np.random.default_rng(seed)
    shape = (count, *SPEC.image_shape)
    mask = fields.pop("mask", np.zeros(shape, np.bool_))
    known = np.where(mask, rng.integers(0, SPEC.levels, shape), 0).astype(np.int32)
    return Request(rng.random(shape, np.float32), known, mask, **fields)


def by_hand(request: Request) -> npt.NDArray[np.int32]:
    image = np.zeros_like(request.known)
    for n in range(request.count):
        last = 0
        for i, j, c in np.ndindex(SPEC.height, SPEC.width, SPEC.channels):
            at = (n, c, i, j)
            drawn = (last + 1 + int(request.noise[at] * 3)) % SPEC.levels
            last = image[at] = request.known[at] if request.mask[at] else drawn
    return image


@pytest.mark.parametrize("stride", [1, 2, 7, 100])
def test_both_schedules_end_in_the_image_drawn_by_hand(stride: int) -> None:
    request = request_of(4, mask=np.random.default_rng(1).random((4, *SPEC.image_shape)) < 0.2)
    expected = by_hand(request)
    for strategy in ("jacobi", "raster"):
        result = ChainStep(stride).run(request, strategy)
        np.testing.assert_array_equal(result.levels, expected)
        np.testing.assert_array_equal(result.log_prob, -expected)  # of the image that comes out


def test_evaluations_count_every_step() -> None:
    request = request_of(1)
    jacobi, raster = ChainStep(), ChainStep()
    assert jacobi.run(request).evaluations == jacobi.steps <= SPEC.subpixels + 1
    assert raster.run(request, "raster").evaluations == raster.steps == SPEC.subpixels + 1


def test_a_fully_known_image_takes_one_evaluation() -> None:
    request = request_of(2, mask=np.ones((2, *SPEC.image_shape), np.bool_))
    result = ChainStep().run(request)
    assert result.evaluations == 1
    np.testing.assert_array_equal(result.levels, request.known)


def test_a_step_without_a_fixed_point_is_an_error() -> None:
    engine = ChainStep(causal=False)
    with pytest.raises(EngineError, match="still changing after 19 steps, where 19 are enough"):
        engine.run(request_of(1))
    assert engine.open_batches == 0


@pytest.mark.parametrize("strategy", ["jacobi", "raster"])
@pytest.mark.parametrize("fail_at", [1, 2, 5])
def test_a_failing_step_releases_the_batch(strategy: Any, fail_at: int) -> None:
    engine = ChainStep(fail_at=fail_at)
    with pytest.raises(EngineError, match="enqueue failed"):
        engine.run(request_of(1), strategy)
    assert engine.open_batches == 0


@pytest.mark.parametrize("strategy", ["jacobi", "raster"])
def test_a_cancelled_request_stops_before_its_next_step(strategy: Any) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    engine = ChainStep()
    with pytest.raises(Cancelled):
        engine.run(request_of(1, cancellation=cancellation), strategy)
    assert (engine.steps, engine.open_batches) == (0, 0)


def test_a_hook_is_called_once_while_its_block_runs_and_never_after() -> None:
    cancellation, calls = Cancellation(), []
    with cancellation.hook(lambda: calls.append("over")):
        pass
    with cancellation.hook(lambda: calls.append("running")):
        cancellation.cancel()
        cancellation.cancel()
    assert calls == ["running"]
    with pytest.raises(Cancelled), cancellation.hook(lambda: calls.append("late")):
        calls.append("entered")
    assert calls == ["running"]
