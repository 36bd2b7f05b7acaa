"""A real cluster of two nodes: one is killed in the middle, and the result is complete and that of a single run.

`make test-ray` installs Ray and the package into `build/ray`, whose Python runs what is tried here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_engines import LABELLED, NAMES, model_of

from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler
from gpcnn_runtime.ray import Scorer

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build/ray/bin/python"
LIMIT_S = 300  # machines that are busy with other things take long to start what Ray is made of


@pytest.fixture(scope="session")
def python() -> Path:
    """The Python that has Ray; skips where there is none."""
    if os.name == "nt":
        pytest.skip("Ray has no clusters of several nodes on Windows")
    if not PYTHON.exists():
        pytest.skip("no Ray here: make test-ray installs it into build/ray")
    found = subprocess.run([PYTHON, "-c", "import ray.data"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no Ray here ({found.stderr.strip().splitlines()[-1]}): pip said why under make test-ray")
    return PYTHON


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a program that starts Ray; nothing of Ray is left behind, neither files nor processes."""
    # Ray's sockets lie in this folder, and the path of a socket may have 107 bytes: too few for pytest's folders.
    with tempfile.TemporaryDirectory(prefix="gpcnn-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # Without the first, Ray reports to its makers.
        env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                list(map(str, command)), cwd=cwd, env=env, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            code: int | None = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert code == 0, log.read_text("utf-8", "replace")[-20_000:]


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.gpcnn"
    path.write_bytes(draft_model_file(model_of(LABELLED), NAMES).content)
    return path


def on_cluster(python: Path, what: str, engine: Path, folder: Path) -> dict[str, np.ndarray]:
    """Columns of all rows, in the order in which they came; checks that a node went away in the middle."""
    result = folder / "result.npz"
    program = Path(__file__).with_name("on_cluster.py")
    run(python, program, what, engine, folder / "pictures", result)
    with np.load(result) as archive:
        rows = {name: archive[name] for name in archive.files}
    assert sorted(rows.pop("alive").tolist()) == [False, True]
    nodes, before = rows.pop("node"), int(rows.pop("before"))
    assert len(set(nodes)) == 2
    assert len(set(nodes[:before])) == 2
    assert 0 < before < 0.7 * len(nodes), "no middle: the job was nearly done"
    assert set(rows.pop("threads").tolist()) == {1}, "each actor has one CPU"
    return rows


def test_drawing_outlives_a_node(python: Path, engine: Path, tmp_path: Path) -> None:
    with Sampler.load(engine, 1) as sampler:
        whole = sampler.sample([2, 0], count=60, seed=7)
    rows = on_cluster(python, "draw", engine, tmp_path)
    assert rows["passed"] > 300_000_000, "more than the object stores of both nodes, 100 MB each"
    order = np.argsort(rows["position"])
    np.testing.assert_array_equal(rows["position"][order], np.arange(120))
    np.testing.assert_array_equal(rows["levels"][order], whole.levels)
    np.testing.assert_array_equal(rows["label"][order], whole.labels)
    np.testing.assert_allclose(rows["nats"][order], -whole.log_likelihood(), atol=1e-4)


def test_scoring_outlives_a_node_and_a_bad_picture(python: Path, engine: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(100):
        pixels = np.random.default_rng(k).integers(0, 256, (6, 5), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{k:03}.png")
    (pictures / "050.png").write_bytes(b"no picture")
    paths = sorted(pictures.iterdir())
    batch = {"bytes": np.array([path.read_bytes() for path in paths], object), "path": np.array(paths, object)}
    wanted = Scorer(engine, threads=1)(batch)
    rows = on_cluster(python, "score", engine, tmp_path)
    order = np.argsort(rows["path"])
    assert [Path(path).name for path in rows["path"][order]] == [path.name for path in paths]
    np.testing.assert_allclose(rows["nats"][order], wanted["nats"], rtol=1e-5)
    np.testing.assert_array_equal(rows["label"][order], wanted["label"])
    assert np.flatnonzero(rows["error"][order] != "").tolist() == [50]
    assert rows["error"][order][50] == wanted["error"][50].replace(str(paths[50]), rows["path"][order][50])


def test_the_page_runs(python: Path, tmp_path: Path) -> None:
    """docs/scaling.md: its Python as it stands, in order, of fewer images."""
    page = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    draw, score = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "pictures").mkdir()
    for k in range(8):
        pixels = np.random.default_rng(k).integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{k}.png")
    (tmp_path / "pictures" / "9.png").write_bytes(b"no picture")
    start = """
import ray
ray.init(num_cpus=3, object_store_memory=100_000_000, include_dashboard=False)
"""
    check = """
import numpy as np
drawn = sorted(ray.data.read_parquet("images").take_all(), key=lambda row: row["position"])
scored = sorted(ray.data.read_parquet("scores").take_all(), key=lambda row: row["path"])
np.savez("out.npz", levels=[row["levels"] for row in drawn], errors=[row["error"] for row in scored],
         nats=[row["nats"] for row in scored], names=[row["path"] for row in scored])
"""
    code = start + draw + score + check
    for many, few in {"10_000_000": "20", "1_000_000": "2", "max_size=64": "max_size=2"}.items():
        assert many in code
        code = code.replace(many, few)
    run(python, "-c", code, cwd=tmp_path)
    with np.load(tmp_path / "out.npz") as out, Sampler.load("zoo:mnist-conditional", 1) as sampler:
        np.testing.assert_array_equal(out["levels"], sampler.sample(list(range(10)), count=2, seed=1).levels)
        assert [Path(name).name for name in out["names"]] == [f"{k}.png" for k in (*range(8), 9)]
        assert (out["errors"] != "").tolist() == [False] * 8 + [True]
        assert np.isfinite(out["nats"]).tolist() == [True] * 8 + [False]
