"""What all tests share."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_engines import LABELLED, NAMES, Make, engine_bytes
from small_plans import onnx_bytes

from gpcnn_deploy.spec import ModelSpec


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Networks this small are drawn faster, and beside other tests much faster, by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# A shell that runs the tests in the background lets them ignore Ctrl-C, and so all programs that they start.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """onnx_file(spec, window) → path of an ONNX engine, a step where window is None; made once."""
    folder = tmp_path_factory.mktemp("onnx")

    @functools.cache
    def make(spec: ModelSpec, window: int | None) -> Path:
        path = folder / f"{abs(hash((spec, window)))}.onnx"
        path.write_bytes(onnx_bytes(spec, window))
        return path

    return make
