"""What all tests share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_engines import LABELLED, Make, engine_bytes

from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import write_atomic


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Networks this small are drawn faster, and beside other tests much faster, by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# A shell that runs the tests in the background lets them ignore Ctrl-C, and nohup lets them ignore a closed terminal.
# All programs that they start would ignore it, too.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make(spec, window, seed, class names) → path of an engine, a step where window is None; made once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # what one process of a test run has exported serves the others, too
    folder = folder / "engines"
    folder.mkdir(exist_ok=True)

    @functools.cache
    def build(
        spec: ModelSpec, window: int | Schedule | None, seed: int = 0, names: tuple[str, ...] | None = None
    ) -> Path:
        named = repr((spec, window, seed, names)).encode()
        path = folder / f"{hashlib.sha256(named).hexdigest()}.onnx"
        if not path.exists():
            write_atomic(path, engine_bytes(spec, window, seed, names))
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
