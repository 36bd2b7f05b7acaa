"""Requests that cannot be drawn: refused before anything runs, with what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_engines import EMBEDDED, LABELLED, PLAIN, Make

from gpcnn_deploy.errors import UsageError
from gpcnn_runtime.conditions import check_conditions
from gpcnn_runtime.sampler import Sampler, split

KNOWN = np.zeros((1, 6, 5), np.int32)
MASK = np.ones((1, 6, 5), np.bool_)


@pytest.fixture(scope="module")
def samplers(make: Make) -> Iterator[dict[str, Sampler]]:
    specs = {"labelled": LABELLED, "plain": PLAIN, "embedded": EMBEDDED}
    with Sampler.load(make(LABELLED, 2)) as a, Sampler.load(make(PLAIN, 3)) as b, Sampler.load(make(EMBEDDED, 4)) as c:
        yield dict(zip(specs, (a, b, c), strict=True))


@pytest.mark.parametrize(
    ("model", "arguments", "match"),
    [
        ("labelled", {}, "draws one class at a time: choose with --label, one of boot, 3, bag, red, or all"),
        ("labelled", {"labels": []}, "no labels"),
        ("labelled", {"labels": 4}, r"unknown label '4': expected one of 0 boot, 1 3, 2 bag, red"),
        ("labelled", {"labels": -1}, "unknown label '-1'"),
        ("labelled", {"labels": "shoe"}, "unknown label 'shoe'"),
        ("labelled", {"labels": ["boot", "shoe"]}, "unknown label 'shoe'"),
        ("labelled", {"labels": 0.5}, "unknown label '0.5'"),
        ("labelled", {"labels": 0, "count": 0}, "count is 0: expected at least 1"),
        ("labelled", {"labels": 0, "count": -3}, "count is -3"),
        ("labelled", {"labels": 0, "temperature": 0}, "temperature is 0: expected 1e-06 or more"),
        ("labelled", {"labels": 0, "temperature": -1.0}, "temperature is -1"),
        ("labelled", {"labels": 0, "temperature": float("nan")}, "temperature is nan"),
        ("labelled", {"labels": 0, "temperature": float("inf")}, "temperature is inf"),
        ("labelled", {"labels": 0, "temperature": 1e-60}, "temperature is 1e-60"),  # 0 in float32
        ("labelled", {"labels": 0, "temperature": 1e60}, "temperature is 1e"),  # infinite in float32
        ("labelled", {"labels": 0, "seed": -1}, "seed is -1: expected 0 to"),
        ("labelled", {"labels": 0, "seed": 2**64}, "seed is 18446744073709551616"),
        ("labelled", {"labels": 0, "first": -1}, "noise streams -1"),
        ("labelled", {"labels": 0, "first": 2**64}, "noise streams"),
        ("labelled", {"labels": 0, "embedding": [1.0]}, "not conditioned on an embedding"),
        ("labelled", {"labels": 0, "known": KNOWN}, "known and mask belong together"),
        ("labelled", {"labels": 0, "mask": MASK}, "known and mask belong together"),
        ("labelled", {"labels": 0, "known": KNOWN[0], "mask": MASK}, r"known has shape \[6, 5\]: expected \[1, 6, 5\]"),
        ("labelled", {"labels": 0, "count": 2, "known": KNOWN, "mask": MASK[None]}, r"mask .* or \[2, 1, 6, 5\]"),
        ("labelled", {"labels": 0, "known": KNOWN + 4, "mask": MASK}, "known holds levels outside 0 to 3"),
        ("labelled", {"labels": 0, "known": KNOWN - 1, "mask": MASK}, "known holds levels outside 0 to 3"),
        ("labelled", {"labels": 0, "known": KNOWN * 0.5, "mask": MASK}, "known has dtype float64"),
        ("labelled", {"labels": 0, "known": KNOWN, "mask": MASK * 1}, "mask has dtype int64: expected bool"),
        ("labelled", {"labels": 0, "strategy": "raster"}, "strategy raster needs a step engine"),
        ("plain", {"labels": 0}, "unconditional: it takes no label"),
        ("plain", {"embedding": [1.0]}, "not conditioned on an embedding"),
        ("embedded", {}, "conditioned on an embedding: pass one, 5 numbers long"),
        ("embedded", {"embedding": [1.0] * 4}, r"embedding has shape \(4,\): expected \[M, 5\]"),
        ("embedded", {"embedding": np.zeros((0, 5))}, "embedding has shape"),
        ("embedded", {"embedding": [np.nan] * 5}, "nan or infinite"),
    ],
)
def test_refused(samplers: dict[str, Sampler], model: str, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        samplers[model].sample(**arguments)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        samplers[model].stream(**arguments)  # at once, not when the first part is taken


@pytest.mark.parametrize("positions", [[0, 1, 2], [-1]])
def test_positions_outside_the_call(samplers: dict[str, Sampler], positions: list[int]) -> None:
    with pytest.raises(UsageError, match="positions: expected each in 0 to 1"):
        samplers["plain"].stream(count=2, positions=positions)


@pytest.mark.parametrize("arguments", [{"threads": 0}, {"threads": -1}, {"batch_size": 0}])
def test_threads_and_batch_size(make: Make, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected at least 1"):
        Sampler.load(make(PLAIN, 3), **arguments)


def test_unknown_pixels_of_known_may_hold_anything(samplers: dict[str, Sampler]) -> None:
    known, mask = np.full((1, 6, 5), -1), np.zeros((1, 6, 5), np.bool_)
    free = samplers["labelled"].sample(0)
    np.testing.assert_array_equal(samplers["labelled"].sample(0, known=known, mask=mask).levels, free.levels)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 64, 65, 128, 129, 1000, 10_000])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_split_covers_all_in_equal_parts(total: int, threads: int, batch_size: int) -> None:
    parts = list(split(total, threads, batch_size))
    assert [position for start, stop in parts for position in range(start, stop)] == list(range(total))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == total or len(parts) % threads == 0


def test_split_of_nothing() -> None:
    assert list(split(0, 2, 64)) == []


def test_any_number_of_images_is_answered_at_once(samplers: dict[str, Sampler]) -> None:
    """No list of positions or parts is made: these would not fit into any memory."""
    most = 2**63 - 1
    assert next(split(most, 2, 64)) == (0, 63)
    for positions in (None, range(most), range(5, most)):
        stream = samplers["plain"].stream(count=most, positions=positions)
        assert next(stream).positions[0] == (0 if positions is None else positions[0])
        stream.close()
    with pytest.raises(UsageError, match="positions: expected each in 0 to"):
        samplers["plain"].stream(count=most - 1, positions=range(most))
    with pytest.raises(UsageError, match=r"9,223,372,036,854,775,808 images in one call: expected at most 2\*\*63 - 1"):
        samplers["plain"].stream(count=most + 1)


@pytest.mark.parametrize("window", [None, 3])
def test_an_unknown_strategy(make: Make, window: int | None) -> None:
    strategy: Any = "rastr"
    expected = pytest.raises(UsageError, match="strategy is 'rastr': expected one of jacobi, raster")
    with Sampler.load(make(PLAIN, window)) as sampler, expected:
        sampler.stream(strategy=strategy)


@pytest.mark.parametrize(
    ("model", "arguments", "total"),
    [("labelled", {"labels": [2, 0, 2]}, 12), ("plain", {"labels": None}, 4), ("embedded", {"labels": None}, 8)],
)
def test_a_checked_request_counts_its_images_and_keeps_what_was_asked(
    samplers: dict[str, Sampler], model: str, arguments: dict[str, Any], total: int
) -> None:
    metadata = samplers[model].metadata
    embedding = np.zeros((2, metadata.spec.conditioning_size)) if model == "embedded" else None
    checked = check_conditions(metadata, seed=5, count=4, temperature=0.7, embedding=embedding, **arguments)
    assert (checked.total, checked.temperature, checked.seed) == (total, 0.7, 5)  # not 0.699999988, as float32 has it
    drawn = list(samplers[model].draw(checked, positions=[0, total - 1]))
    whole = samplers[model].sample(seed=5, count=4, temperature=0.7, embedding=embedding, **arguments)
    levels = np.concatenate([part.levels for part in drawn])
    np.testing.assert_array_equal(levels, whole.levels[[0, -1]])
