"""Small data and small runs."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gpcnn_training.data.dataset import DataSet


@pytest.fixture
def stripes() -> DataSet:
    """40 images of 6×5 pixels: horizontal stripes of class 0, vertical ones of class 1, in greys."""
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    rows, columns = np.mgrid[:6, :5] % 2
    pixels = np.where(labels[:, None, None] == 0, rows, columns) * 200 + rng.integers(0, 56, (40, 6, 5))
    images = pixels.astype(np.uint8)[:, None]
    return DataSet("stripes", images[:32], labels[:32], images[32:], labels[32:], ("rows", "columns"))


@pytest.fixture
def stripes_file(stripes: DataSet, tmp_path: Path) -> Path:
    """The same as a file."""
    np.savez(
        tmp_path / "stripes.npz",
        images=stripes.train_pixels[:, 0],
        labels=stripes.train_labels,
        test_images=stripes.test_pixels[:, 0],
        test_labels=stripes.test_labels,
        class_names=list(stripes.class_names),
    )
    return tmp_path / "stripes.npz"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served; the cache of downloads is a folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
