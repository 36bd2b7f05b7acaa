"""What all tests share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest
import torch


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
