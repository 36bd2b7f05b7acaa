"""The noise of `tests/contract/noise.json`: by NumPy, and by Philox as a client in another language writes it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "noise.json").read_text())
VECTORS = CONTRACT["vectors"]
IDS = [f"seed {v['seed']}, image {v['image']}, {v['shape'][0]} channels" for v in VECTORS]
WORD = 2**64 - 1


def philox(key: tuple[int, int], counter: int) -> list[int]:
    """One block of Philox-4x64-10 (Salmon et al. 2011): four words of 64 bits."""
    a, b, c, d = (counter >> shift & WORD for shift in (0, 64, 128, 192))
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = right >> 64 ^ b ^ k0, right & WORD, left >> 64 ^ d ^ k1, left & WORD
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & WORD, k1 + 0xBB67AE8584CAA73B & WORD
    return [a, b, c, d]


def integers(seed: int, image: int) -> Iterator[int]:
    """n of each uniform n / 2**24, in raster order, channels innermost."""
    for counter in itertools.count(1):
        for word in philox((seed, image), counter):
            yield from ((word & 0xFFFFFFFF) >> 8, word >> 40)


def test_all_that_the_contract_names_is_there() -> None:
    assert (CONTRACT["version"], CONTRACT["unit"]) == (1, "2**-24")
    named = {(int(v["seed"]), int(v["image"]), v["shape"][0]) for v in VECTORS}
    assert named == set(itertools.product((0, 1, 2**64 - 1), (0, 1, 2**32), (1, 3)))
    assert len({tuple(v["noise"]) for v in VECTORS}) == len(VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_noise_is_that_of_the_contract(vector: dict[str, Any]) -> None:
    c, h, w = vector["shape"]
    found = noise(ModelSpec(height=h, width=w, channels=c), int(vector["seed"]), 1, int(vector["image"]))
    assert found.dtype == np.float32
    assert (found.astype(np.float64).ravel() * 2**24).tolist() == vector["noise"]


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_a_client_needs_philox_alone(vector: dict[str, Any]) -> None:
    c, h, w = vector["shape"]
    stream = integers(int(vector["seed"]), int(vector["image"]))
    raster = np.array(list(itertools.islice(stream, c * h * w))).reshape(h, w, c)
    assert raster.transpose(2, 0, 1).ravel().tolist() == vector["noise"]
