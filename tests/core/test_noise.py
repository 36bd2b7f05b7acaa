"""The noise contract: a function of seed and index alone, the same for ever."""

from __future__ import annotations

import numpy as np
import pytest

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.philox import MAX_SEED, noise
from gpcnn_deploy.spec import ModelSpec

RGB = ModelSpec(height=2, width=3, channels=3)
FROZEN = [15193939, 14205912, 11016596]  # the first pixel of image 2 of seed 5, times 2**24


def test_the_stream_is_frozen() -> None:
    """These numbers are what engines in the field were checked with: they must never change."""
    expected = np.random.Generator(np.random.Philox(key=np.array([5, 2], np.uint64))).random(18, np.float32)
    found = noise(RGB, seed=5, count=1, first=2)[0]
    assert found.transpose(1, 2, 0).ravel().tolist() == expected.tolist()
    assert (found[:, 0, 0] * 2**24).astype(int).tolist() == FROZEN


def test_an_image_does_not_depend_on_its_batch() -> None:
    together = noise(RGB, seed=9, count=5)
    for k in range(5):
        assert np.array_equal(noise(RGB, seed=9, count=1, first=k)[0], together[k])
    assert np.array_equal(noise(RGB, seed=9, count=3, first=2), together[2:])
    assert len({image.tobytes() for image in together}) == 5


def test_seeds_and_indices_do_not_mix() -> None:
    assert not np.array_equal(noise(RGB, seed=1, count=1, first=2), noise(RGB, seed=2, count=1, first=1))


def test_uniforms_lie_in_the_unit_interval() -> None:
    u = noise(ModelSpec(height=64, width=64), seed=0, count=8)
    assert u.dtype == np.float32
    assert u.shape == (8, 1, 64, 64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(float(u.mean()) - 0.5) < 4 * 12**-0.5 / u.size**0.5


def test_the_largest_seed_is_accepted_and_the_next_refused() -> None:
    assert noise(RGB, seed=MAX_SEED, count=1).shape == (1, 3, 2, 3)
    for seed, first, count in ((MAX_SEED + 1, 0, 1), (-1, 0, 1), (0, -1, 1), (0, MAX_SEED, 1), (0, 0, -1)):
        with pytest.raises(UsageError, match="expected 0 to 2"):
            noise(RGB, seed=seed, count=count, first=first)
