"""One sampler shared by threads does what it does for one; and a draw's log-probability is its score."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import LABELLED, NAMES, PLAIN, Make, engine_bytes

from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.completions import complete
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import score

THREADS = 8
Task = Callable[[Sampler], list[npt.NDArray[Any]]]


def tasks(spec: ModelSpec, step: bool, count: int) -> list[Task]:
    """Requests that differ in what they ask for, in size, label, seed, mask and schedule."""
    rng = np.random.default_rng(0)
    labelled = spec.conditioning == "label"

    def levels(images: int) -> npt.NDArray[np.int32]:
        return rng.integers(0, spec.levels, (images, *spec.image_shape), np.int32)

    def drawn(k: int) -> Task:
        label = [k % 3, NAMES[(k + 1) % 3]][: 1 + k % 2] if labelled else None
        images, known = 1 + k % 7, levels(1)[0]
        mask = rng.random(spec.image_shape) < (0, 0.3, 0.9)[k % 3]
        strategy = "raster" if step and k == 2 else "jacobi"

        def task(sampler: Sampler) -> list[npt.NDArray[Any]]:
            found = sampler.sample(
                label,
                seed=k,
                count=images,
                known=known,
                mask=mask,
                temperature=1 + k % 3 / 4,
                first=k,
                strategy=strategy,  # type: ignore[arg-type]
            )
            assert (found.levels[:, mask] == known[mask]).all()
            return [found.levels, found.log_prob, found.positions]

        return task

    def scored(k: int) -> Task:
        images = levels(1 + k % 9)

        def task(sampler: Sampler) -> list[npt.NDArray[Any]]:
            found = score(sampler, images, per_pixel=True)
            assert found.log_prob is not None
            return [found.nats, found.log_prob]

        return task

    def completed(k: int) -> Task:
        image = levels(1)[0]
        mask = np.arange(spec.height)[:, None] < 1 + k % (spec.height - 1)
        mask = np.broadcast_to(mask, (spec.height, spec.width))

        def task(sampler: Sampler) -> list[npt.NDArray[Any]]:
            found = complete(sampler, image, mask, count=1 + k % 4, candidates=1 + k % 2, seed=k)
            return [found.levels, found.log_prob, *([] if found.labels is None else [found.labels])]

        return task

    kinds = (drawn, scored, drawn, completed)
    return [kinds[k % len(kinds)](k) for k in range(count)]


def same(found: list[npt.NDArray[Any]], expected: list[npt.NDArray[Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("spec", "window", "workers"),
    [(LABELLED, 2, 3), (LABELLED, None, 1), (PLAIN, 3, 1), (PLAIN, None, 3)],
    ids=["labelled sampler", "labelled step", "plain sampler", "plain step"],
)
def test_eight_threads_share_a_sampler(make: Make, spec: ModelSpec, window: int | None, workers: int) -> None:
    path, work = make(spec, window), tasks(spec, window is None, 8)
    with Sampler.load(path, threads=workers, batch_size=4, provider="cpu") as sampler:
        alone = [task(sampler) for task in work]
    assert len({result[0].tobytes() for result in alone}) > len(work) * 3 // 4
    start = Barrier(THREADS)

    def caller(seed: int) -> list[tuple[int, list[npt.NDArray[Any]]]]:
        order = random.Random(seed).sample(range(len(work)), len(work))
        start.wait()
        return [(k, work[k](sampler)) for k in order]

    # A fresh sampler: its threads are started by whoever comes first, too.
    with (
        Sampler.load(path, threads=workers, batch_size=4, provider="cpu") as sampler,
        ThreadPoolExecutor(THREADS) as callers,
    ):
        results = list(callers.map(caller, range(THREADS)))
    for result in results:
        assert sorted(k for k, _ in result) == list(range(len(work)))
        for k, found in result:
            same(found, alone[k])


@pytest.mark.parametrize("window", [2, None], ids=["sampler", "step"])
def test_a_caller_that_fails_or_stops_disturbs_no_other(make: Make, window: int | None) -> None:
    with Sampler.load(make(LABELLED, window), threads=2, batch_size=2, provider="cpu") as sampler:
        expected = sampler.sample(1, seed=5, count=9)
        start = Barrier(THREADS)

        def caller(k: int) -> bool:
            start.wait()
            for _ in range(5):
                if k % 4 == 0:
                    stream = sampler.stream(0, seed=k, count=1000)
                    next(stream)
                    stream.close()
                elif k % 4 == 1:
                    with pytest.raises(ValueError, match="stop"):
                        stop(sampler)
                else:
                    found = sampler.sample(1, seed=5, count=9)
                    same([found.levels, found.log_prob], [expected.levels, expected.log_prob])
            return True

        with ThreadPoolExecutor(THREADS) as callers:
            assert all(callers.map(caller, range(THREADS)))


def stop(sampler: Sampler) -> None:
    for _ in sampler.stream("boot", count=100):
        raise ValueError("stop")


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    conditioning = draw(st.sampled_from(["none", "label"]))
    return ModelSpec(
        height=draw(st.integers(1, 5)),
        width=draw(st.integers(1, 5)),
        channels=draw(st.sampled_from([1, 3])),
        levels=draw(st.integers(2, 9)),
        features=draw(st.integers(1, 4)),
        layers=draw(st.integers(1, 3)),
        first_kernel_size=draw(st.sampled_from([3, 5, 7])),
        kernel_size=draw(st.sampled_from([3, 5])),
        head_features=draw(st.integers(1, 5)),
        conditioning=conditioning,
        conditioning_size=0 if conditioning == "none" else 3,
    )


@settings(max_examples=6, deadline=None, derandomize=True)
@given(spec=specs(), seed=st.integers(0, 2**64 - 1), count=st.integers(1, 5), data=st.data())
def test_a_draw_scores_as_it_was_drawn(
    tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec, seed: int, count: int, data: st.DataObject
) -> None:
    check_score(tmp_path_factory.getbasetemp(), spec, data.draw(st.integers(1, spec.width)), seed, count)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(spec=specs(), seed=st.integers(0, 2**64 - 1), count=st.integers(1, 5))
def test_a_draw_of_a_step_scores_as_it_was_drawn(
    tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec, seed: int, count: int
) -> None:
    check_score(tmp_path_factory.getbasetemp(), spec, None, seed, count)


def check_score(folder: Path, spec: ModelSpec, window: int | None, seed: int, count: int) -> None:
    path = folder / "drawn.onnx"
    path.write_bytes(engine_bytes(spec, window, seed % 1000))
    labels = [2, 0] if spec.conditioning == "label" else None
    with Sampler(load_onnx_engine(path, "cpu"), threads=1) as sampler:
        drawn = sampler.sample(labels, seed=seed, count=count)
        each = None if drawn.labels is None else drawn.labels
        scored = sampler.score(drawn.levels, each)
        np.testing.assert_allclose(scored, drawn.log_prob, rtol=0, atol=1e-6)
        # One image at a time: neither its neighbours nor its place matter, but for the rounding of another batch size.
        for k in range(len(drawn)):
            one = sampler.score(drawn.levels[k : k + 1], None if each is None else int(each[k]))
            np.testing.assert_allclose(one[0], drawn.log_prob[k], rtol=0, atol=1e-5)
