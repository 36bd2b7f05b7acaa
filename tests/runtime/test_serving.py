"""Batches of a server: every image is as if it were drawn alone, and a bad request spoils no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from small_engines import EMBEDDED, LABELLED, PLAIN, model_of, names_of

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.engines.base import OutOfMemoryError, Request, Result
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.serving import MODEL, PLAN, BatchSampler, check_images, load_served

KNOWN = np.arange(30, dtype=np.int32).reshape(1, 1, 6, 5) % 4
MASK = np.ones((1, 1, 6, 5), np.bool_)


def column(*values: float, dtype: npt.DTypeLike = np.int32) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(-1, 1)


def write_model(folder: Path, spec: ModelSpec, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    file = draft_model_file(model_of(spec, seed), names_of(spec), f"{seed:064x}")
    (folder / MODEL).write_bytes(file.content)
    return folder


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchSampler]:
    with BatchSampler(load_served(write_model(tmp_path, LABELLED), threads=2)) as batch:
        yield batch


def drawn(answer: Result | EngineError) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    assert isinstance(answer, Result), answer
    return answer.levels, answer.log_prob


def test_a_mixed_batch_gives_each_image_as_alone(batch: BatchSampler) -> None:
    rng = np.random.default_rng(0)
    requests, wanted = [], []
    for size in (1, 3, 1, 7, 2):
        label = rng.integers(0, 3, size)
        seed = rng.integers(0, 2**64, size, np.uint64)
        position = rng.integers(0, 2**63, size, np.uint64)
        temperature = rng.choice([0.5, 1.0, 1.7], size).astype(np.float32)
        known = rng.integers(0, 4, (size, 1, 6, 5), np.int32)
        mask = rng.random((size, 1, 6, 5)) < rng.choice([0, 0.4, 1], size)[:, None, None, None]
        given = {"seed": seed, "position": position, "temperature": temperature, "label": label}
        columns = {name: array[:, None] for name, array in given.items()}
        requests.append(check_images(batch.sampler.metadata, **columns, known=known, mask=mask))
        wanted.append(
            [
                batch.sampler.sample(
                    int(label[k]),
                    int(seed[k]),
                    temperature=float(temperature[k]),
                    first=int(position[k]),
                    known=known[k],
                    mask=mask[k],
                )
                for k in range(size)
            ]
        )
    for answer, alone in zip(batch.draw(requests), wanted, strict=True):
        levels, log_prob = drawn(answer)
        assert np.array_equal(levels, np.concatenate([one.levels for one in alone]))
        assert np.array_equal(log_prob, np.concatenate([one.log_prob for one in alone]))


def test_defaults_draw_what_one_call_of_the_sampler_draws(batch: BatchSampler) -> None:
    (answer,) = batch.draw([check_images(batch.sampler.metadata, label=column(0, 0, 1, 1, 2, 2))])
    expected = batch.sampler.sample([0, 1, 2], count=2)
    assert np.array_equal(drawn(answer)[0], expected.levels)
    assert len(np.unique(expected.levels, axis=0)) == 6  # not one image six times


def test_one_call_of_the_engine_for_each_temperature(batch: BatchSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, int]] = []
    run = batch.sampler.engine.run

    def counting(request: Request, strategy: Any) -> Result:
        calls.append((request.temperature, request.count))
        return run(request, strategy)

    monkeypatch.setattr(batch.sampler.engine, "run", counting)
    one = check_images(batch.sampler.metadata, label=column(0, 1), temperature=column(1, 0.5, dtype=np.float32))
    batch.draw([one] * 20)
    assert sorted(calls) == [(0.5, 10), (0.5, 10), (1.0, 10), (1.0, 10)]  # two threads share each


def test_a_failure_concerns_those_whose_images_were_in_it(batch: BatchSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    run = batch.sampler.engine.run

    def failing(request: Request, strategy: Any) -> Result:
        if request.temperature == 2.0:
            raise OutOfMemoryError("no")
        return run(request, strategy)

    monkeypatch.setattr(batch.sampler.engine, "run", failing)
    warm = column(1, 2, dtype=np.float32)
    mixed = check_images(batch.sampler.metadata, label=column(0, 1), temperature=warm)
    plain = check_images(batch.sampler.metadata, label=column(0))
    good, bad, again = batch.draw([plain, mixed, plain])
    assert isinstance(bad, OutOfMemoryError)
    assert "lower max_batch_size in config.pbtxt" in str(bad)
    assert np.array_equal(drawn(good)[0], batch.sampler.sample(0).levels)
    assert np.array_equal(drawn(good)[0], drawn(again)[0])
    assert batch.draw([]) == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "inputs: none: expected at least one"),
        (
            {"label": column(0, 1), "seed": column(1)},
            "inputs: label of 2, seed of 1: expected .* all of as many images",
        ),
        ({"label": np.zeros((0, 1), np.int32)}, "inputs: label of 0"),
        ({"seed": column(1)}, "give the input label, one of 0 boot, 1 3, 2 bag, red"),
        ({"label": column(3)}, "^unknown label 3: expected one of 0 boot, 1 3, 2 bag, red"),
        ({"label": column(0, -1)}, "^image 1: unknown label -1: expected"),
        ({"label": column(0), "seed": column(-1)}, "seed is -1: expected 0 to"),
        ({"label": column(0), "position": column(2**64 - 1, dtype=np.uint64)}, "noise streams .* expected 0 to"),
        ({"label": column(0), "temperature": column(np.nan, dtype=np.float32)}, "temperature is nan"),
        ({"label": column(0, 0), "temperature": column(1, 0, dtype=np.float32)}, "image 1: temperature is 0"),
        ({"label": column(0), "known": KNOWN}, "known and mask belong together"),
        ({"label": column(0), "known": KNOWN + 1, "mask": MASK}, "known holds levels outside 0 to 3"),
        ({"label": column(0), "known": KNOWN[..., 1:], "mask": MASK}, r"known has shape \[1, 6, 4\]: expected"),
        ({"label": column(0), "embedding": np.ones((1, 5), np.float32)}, "not conditioned on an embedding"),
    ],
)
def test_what_is_refused(batch: BatchSampler, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        check_images(batch.sampler.metadata, **arguments)


def test_other_models(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    with BatchSampler(load_served(write_model(tmp_path / "embedded", EMBEDDED))) as batch:
        (answer,) = batch.draw([check_images(batch.sampler.metadata, embedding=vectors, seed=column(4, 4, 4))])
        assert np.array_equal(drawn(answer)[0], batch.sampler.sample(embedding=vectors, seed=4).levels)
        with pytest.raises(UsageError, match="conditioned on an embedding: pass one, 5 numbers long"):
            check_images(batch.sampler.metadata, seed=column(1))
        with pytest.raises(UsageError, match="image 1: embedding holds nan"):
            check_images(batch.sampler.metadata, embedding=np.array([[0] * 5, [np.nan] * 5], np.float32))
    with BatchSampler(load_served(write_model(tmp_path / "plain", PLAIN))) as batch:
        (answer,) = batch.draw([check_images(batch.sampler.metadata, seed=column(4, 4, 4))])
        assert np.array_equal(drawn(answer)[0], batch.sampler.sample(seed=4, count=3).levels)


def test_a_plan_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan itself cannot run here, so another model file stands in for it."""
    folder, other = write_model(tmp_path / "one", LABELLED), write_model(tmp_path / "two", LABELLED, seed=1)
    load = Sampler.load
    stands_in = {PLAN: other / MODEL, MODEL: folder / MODEL}
    monkeypatch.setattr(Sampler, "load", lambda path, *rest, **more: load(stands_in[Path(path).name]))
    load_served(folder).close()
    (folder / PLAN).write_bytes(b"plan")
    with pytest.raises(EngineError, match=r"model\.plan is not of the model in model\.gpcnn beside it: build"):
        load_served(folder)
    stands_in[PLAN] = folder / MODEL
    load_served(folder).close()
