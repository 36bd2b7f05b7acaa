"""What is drawn depends on the model, the labels and the noise: on nothing else. Compared with eager PyTorch."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_engines import EMBEDDED, LABELLED, PLAIN, Make, engine_bytes, model_of

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.base import Engine, OutOfMemoryError, Request, Result
from gpcnn_runtime.engines.cancel import Cancellation, Cancelled
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.samples import Samples
from gpcnn_training.sampling import sample_raster, score


def eager(spec: ModelSpec, condition: Any, seed: int, first: int, count: int, **more: Any) -> np.ndarray:
    uniforms = torch.from_numpy(noise(spec, seed, count, first))
    condition = None if condition is None else torch.as_tensor(condition)
    return sample_raster(model_of(spec), uniforms, condition, **more).numpy()


def same(a: Samples, b: Samples) -> None:
    np.testing.assert_array_equal(a.levels, b.levels)
    np.testing.assert_allclose(a.log_prob, b.log_prob, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_labelled_images_equal_eager_raster(make: Make, window: int | None, threads: int) -> None:
    with Sampler.load(make(LABELLED, window), threads) as sampler:
        drawn = sampler.sample(["bag, red", 0], seed=5, count=4, first=7, temperature=0.8)
    labels = [2] * 4 + [0] * 4
    expected = eager(LABELLED, labels, 5, 7, 8, temperature=0.8)
    np.testing.assert_array_equal(drawn.levels, expected)
    assert drawn.levels.dtype == np.uint8
    assert drawn.labels is not None
    assert drawn.labels.tolist() == labels
    assert drawn.positions.tolist() == list(range(8))
    likelihood = score(model_of(LABELLED), torch.from_numpy(expected), torch.tensor(labels))
    np.testing.assert_allclose(drawn.log_prob, likelihood, atol=1e-4)
    np.testing.assert_allclose(drawn.log_likelihood(), likelihood.sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 4])
def test_colour_images_equal_eager_raster(make: Make, window: int | None) -> None:
    with Sampler.load(make(PLAIN, window)) as sampler:
        drawn = sampler.sample(seed=1, count=5)
    np.testing.assert_array_equal(drawn.levels, eager(PLAIN, None, 1, 0, 5))
    assert drawn.labels is None


@pytest.mark.parametrize("window", [None, 2])
def test_embeddings_equal_eager_raster(make: Make, window: int | None) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    with Sampler.load(make(EMBEDDED, window)) as sampler:
        drawn = sampler.sample(embedding=vectors, count=2)
        alone = sampler.sample(embedding=vectors[1], count=2, first=2)
    np.testing.assert_array_equal(drawn.levels, eager(EMBEDDED, vectors.repeat(2, 0), 0, 0, 6))
    np.testing.assert_array_equal(alone.levels, drawn.levels[2:4])


def test_step_raster_equals_jacobi_and_counts_evaluations(make: Make) -> None:
    with Sampler.load(make(LABELLED, None), threads=1) as sampler:
        jacobi, raster = (sampler.sample([0, 1], count=3, strategy=strategy) for strategy in ("jacobi", "raster"))
    same(jacobi, raster)
    assert raster.evaluations == LABELLED.subpixels + 1
    assert jacobi.evaluations is not None
    assert 1 < jacobi.evaluations < raster.evaluations


@pytest.mark.parametrize("window", [None, 2])
def test_completion_keeps_what_is_known_and_scoring_is_one_call(make: Make, window: int | None) -> None:
    rng = np.random.default_rng(3)
    shape = (4, *LABELLED.image_shape)
    known, mask = rng.integers(0, LABELLED.levels, shape), rng.random(shape) < 0.5
    labels = torch.tensor([1, 1, 1, 1])
    with Sampler.load(make(LABELLED, window)) as sampler:
        part = sampler.sample(1, count=4, known=known, mask=mask)
        one = sampler.sample(1, count=4, known=known[0], mask=mask[0])
        full = sampler.sample(1, count=4, known=known, mask=np.ones(shape, np.bool_), seed=9)
    expected = eager(LABELLED, labels, 0, 0, 4, known=torch.from_numpy(known), mask=torch.from_numpy(mask))
    np.testing.assert_array_equal(part.levels, expected)
    np.testing.assert_array_equal(one.levels[:, mask[0]], np.broadcast_to(known[0][mask[0]], (4, mask[0].sum())))
    np.testing.assert_array_equal(one.levels[0], part.levels[0])
    np.testing.assert_array_equal(full.levels, known)
    likelihood = score(model_of(LABELLED), torch.from_numpy(known.astype(np.int32)), labels)
    np.testing.assert_allclose(full.log_prob, likelihood, atol=1e-4)


specs = st.builds(
    ModelSpec,
    height=st.integers(1, 5),
    width=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
    levels=st.sampled_from([2, 3, 17]),
    features=st.integers(1, 5),
    layers=st.integers(1, 3),
    first_kernel_size=st.sampled_from([3, 5]),
    kernel_size=st.sampled_from([3, 5]),
    head_features=st.integers(1, 6),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), spec=specs, seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**40))
def test_no_image_depends_on_batch_threads_parts_or_window(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, spec: ModelSpec, seed: int, first: int
) -> None:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(engine_bytes(spec, data.draw(st.integers(1, spec.width), "window")))
    expected = eager(spec, None, seed, first, 7)
    for _ in range(2):
        threads, batch_size = data.draw(st.integers(1, 4), "threads"), data.draw(st.integers(1, 8), "batch size")
        with Sampler.load(path, threads, batch_size) as sampler:
            drawn = sampler.sample(seed=seed, count=7, first=first)
            k = data.draw(st.integers(0, 6), "image")
            alone = sampler.sample(seed=seed, first=first + k)
        np.testing.assert_array_equal(drawn.levels, expected)
        np.testing.assert_array_equal(alone.levels[0], expected[k])


def test_stream_comes_in_order_and_only_what_was_asked_for(make: Make) -> None:
    with Sampler.load(make(LABELLED, 2), threads=2, batch_size=3) as sampler:
        whole = sampler.sample([2, 0], seed=4, count=10)
        asked = [1, 2, 7, 11, 12, 13, 19]
        parts = list(sampler.stream([2, 0], seed=4, count=10, positions=asked))
        assert list(sampler.stream([2, 0], count=10, positions=[])) == []
    assert all(len(part) <= 3 for part in parts)
    assert np.concatenate([part.positions for part in parts]).tolist() == asked
    np.testing.assert_array_equal(np.concatenate([part.levels for part in parts]), whole.levels[asked])
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), whole.labels[asked])


class Slow(Engine):
    """Around a real engine: counts calls, waits, fails."""

    concurrent = True

    def __init__(self, inner: Engine, seconds: float = 0.0, room: int = 10**9) -> None:
        self.inner, self.metadata, self.info = inner, inner.metadata, inner.info
        self.seconds, self.room = seconds, room
        self.calls = self.cancelled = 0
        self.lock = threading.Lock()

    def run(self, request: Request, strategy: Any = "jacobi") -> Result:
        with self.lock:
            self.calls += 1
        if request.count > self.room:
            raise OutOfMemoryError("no room")
        woken = threading.Event()
        try:
            with request.cancellation.hook(woken.set):
                woken.wait(self.seconds)
                request.cancellation.check()
        except Cancelled:
            self.cancelled += 1
            raise
        return self.inner.run(request, strategy)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def inner(sampler_path: Path) -> Engine:
    return load_onnx_engine(sampler_path)


def test_a_stream_runs_only_a_little_ahead_of_its_reader(inner: Engine) -> None:
    engine = Slow(inner)
    with Sampler(engine, threads=2, batch_size=1) as sampler:
        stream = sampler.stream(0, count=100)
        next(stream)
        time.sleep(0.2)
        assert engine.calls <= 4  # two being drawn, one waiting, one taken
        stream.close()


def test_ctrl_c_calls_the_work_off_at_once(inner: Engine) -> None:
    engine = Slow(inner, seconds=60)

    def press() -> None:
        while engine.calls < 2:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    begin = time.monotonic()
    with Sampler(engine, threads=2, batch_size=1) as sampler:
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            sampler.sample(0, count=6)
    assert time.monotonic() - begin < 20
    assert engine.cancelled == engine.calls == 2


def test_a_long_call_of_onnx_runtime_is_stopped(make: Make) -> None:
    engine = load_onnx_engine(make(LABELLED, 1))
    shape = (20_000, *LABELLED.image_shape)
    request = Request(
        np.full(shape, 0.5, np.float32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.bool_),
        np.zeros(shape[0], np.int32),
    )
    threading.Timer(0.05, request.cancellation.cancel).start()
    with pytest.raises(Cancelled):
        engine.run(request)
    assert engine.run(dataclasses.replace(request, **one(request))).levels.shape == (1, *LABELLED.image_shape)


def one(request: Request) -> dict[str, Any]:
    names = ("noise", "known", "mask", "label")
    return {name: getattr(request, name)[:1] for name in names} | {"cancellation": Cancellation()}


def test_out_of_memory_names_the_batch_size_to_try(inner: Engine) -> None:
    for batch_size, advice in ((64, "2 × 50 images at a time: try --batch-size 25"), (1, "try --threads 1")):
        with (
            Sampler(Slow(inner, room=0), threads=2, batch_size=batch_size) as sampler,
            pytest.raises(OutOfMemoryError, match=f"not enough memory for .*{advice}"),
        ):
            sampler.sample(0, count=200)
        inner = load_onnx_engine(inner.info.path)
    engine = Slow(inner, room=32)
    with Sampler(engine, threads=2, batch_size=32) as sampler:
        assert len(sampler.sample(0, count=200)) == 200


class Wrong(Slow):
    """Around a real engine: changes what it drew."""

    change: Callable[[Result], Result]

    def run(self, request: Request, strategy: Any = "jacobi") -> Result:
        return self.change(super().run(request, strategy))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda result: dataclasses.replace(result, levels=result.levels - 4), "drew levels outside 0 to 3"),
        (lambda result: dataclasses.replace(result, levels=result.levels + 256), "drew levels outside 0 to 3"),
        (lambda result: dataclasses.replace(result, levels=result.levels[:, :, 1:]), "drew images of shape"),
        (lambda result: dataclasses.replace(result, levels=result.levels[:1]), "drew images of shape"),
        (lambda result: dataclasses.replace(result, log_prob=result.log_prob[0]), "drew images of shape"),
    ],
)
def test_what_any_engine_draws_is_checked(inner: Engine, change: Callable[[Result], Result], match: str) -> None:
    engine = Wrong(inner)
    engine.change = change
    with Sampler(engine) as sampler, pytest.raises(EngineError, match=match):
        sampler.sample(0, count=100)


def test_a_closed_sampler_stays_closed(inner: Engine) -> None:
    sampler = Sampler(Slow(inner), threads=1, batch_size=1)
    fresh, begun, last = (sampler.stream(0, count=count) for count in (1, 100, 2))
    next(begun)
    next(last)
    time.sleep(0.1)  # the last part is drawn, and waits to be taken
    sampler.close()
    sampler.close()
    ways: list[Callable[[], object]] = [
        lambda: sampler.sample(0),
        lambda: sampler.stream(0),
        lambda: next(fresh),
        lambda: next(begun),
        lambda: next(last),
    ]
    for way in ways:
        with pytest.raises(EngineError, match="the engine is closed: load it again"):
            way()


def test_closing_ends_a_stream_in_another_thread(inner: Engine) -> None:
    engine = Slow(inner, seconds=0.05)
    sampler = Sampler(engine, threads=1, batch_size=1)
    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(sampler.sample, 0, 0, 1000)
        while engine.calls < 2:
            time.sleep(0.001)
        sampler.close()
        with pytest.raises(EngineError, match="the engine is closed: load it again"):
            drawn.result(timeout=20)


def test_threads_share_one_sampler(make: Make) -> None:
    with Sampler.load(make(LABELLED, 2), threads=2, batch_size=2) as sampler:
        expected = [sampler.sample(k % 3, seed=k, count=5) for k in range(12)]
        with ThreadPoolExecutor(6) as pool:
            drawn = list(pool.map(lambda k: sampler.sample(k % 3, seed=k, count=5), range(12)))
    for a, b in zip(expected, drawn, strict=True):
        same(a, b)


def test_an_error_in_one_part_ends_the_call_and_the_sampler_lives_on(inner: Engine) -> None:
    class Once(Slow):
        def run(self, request: Request, strategy: Any = "jacobi") -> Result:
            result = super().run(request, strategy)
            if self.calls == 2:
                raise EngineError("once")
            return result

    with Sampler(Once(inner), threads=1, batch_size=1) as sampler:
        with pytest.raises(EngineError, match="once"):
            sampler.sample(0, count=5)
        assert len(sampler.sample(0, count=5)) == 5


def test_pictures_of_samples(make: Make) -> None:
    with Sampler.load(make(LABELLED, 2)) as sampler:
        drawn = sampler.sample([0, 1], count=2)
    assert drawn.pixels().max() <= 255
    np.testing.assert_array_equal(drawn.pixels(), drawn.levels * 85)
    sheet = drawn.grid(columns=2)
    assert sheet.shape == (2 * 8 + 2, 2 * 7 + 2)
    np.testing.assert_array_equal(sheet[10:16, 2:7], drawn.levels[2, 0] * 85)
