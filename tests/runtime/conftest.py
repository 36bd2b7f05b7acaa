"""Engine files for the tests of this folder."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from small_engines import LABELLED, NAMES, Make, engine_bytes

from gpcnn_deploy.spec import ModelSpec


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make(spec, window, seed, class names) → path of an engine; made once."""
    folder = tmp_path_factory.mktemp("engines")

    @functools.cache
    def build(spec: ModelSpec, window: int | None, seed: int = 0, names: tuple[str, ...] = NAMES) -> Path:
        path = folder / f"{abs(hash((spec, window, seed, names)))}.onnx"
        path.write_bytes(engine_bytes(spec, window, seed, names))
        return path

    return build


@pytest.fixture(scope="session")
def sampler_path(make: Make) -> Path:
    """A labelled sampler of window 2."""
    return make(LABELLED, 2)


@pytest.fixture(scope="session")
def step_path(make: Make) -> Path:
    """The same model as a step."""
    return make(LABELLED, None)
