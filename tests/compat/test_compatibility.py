"""ONNX engines in other people's runtimes: which form runs where, and that its images are those of ONNX Runtime.

`make test-compat` installs the runtimes into `build/compat`. docs/compatibility.md is the table of what this finds;
`build/compat/times.json` has the times.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from small_engines import EMBEDDED, LABELLED, PLAIN, model_of

from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.parity import feeds, request_of
from gpcnn_export.source import read_source
from gpcnn_training.model import GatedPixelCNN

pytestmark = pytest.mark.compat

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PLACE = Path(os.environ.get("GPCNN_COMPAT", ROOT / "build" / "compat"))
KINDS = ("samples", "completions", "scores")
SPECS = {"label": LABELLED, "rgb": PLAIN, "embedding": EMBEDDED}
ZOO = "zoo:mnist-conditional"
LOG_PROB = 1e-4


@dataclass(frozen=True)
class Form:
    """What is exported: the role, the window (None: the whole row), whether shapes are fixed."""

    role: Literal["step", "sampler"]
    window: int | None = None
    static: bool = False

    def __str__(self) -> str:
        return f"{self.role}{'' if self.window is None else f'-{self.window}'}{'-static' if self.static else ''}"


STEP, STEP_STATIC = Form("step"), Form("step", static=True)
ROW, ROW_STATIC = Form("sampler"), Form("sampler", static=True)
PIXEL, PIXEL_STATIC = Form("sampler", 1), Form("sampler", 1, static=True)
FORMS = (STEP, STEP_STATIC, ROW, ROW_STATIC, PIXEL, PIXEL_STATIC)

# What a runtime says of the forms that it refuses; it draws with the others.
SCAN = "num_scan_outputs can't be negative"
REFUSED: dict[str, dict[Form, str]] = {
    "onnxruntime": {},
    "web": {},
    "openvino": {ROW: SCAN, PIXEL: SCAN},
    "opencv": dict.fromkeys((ROW, PIXEL, ROW_STATIC, PIXEL_STATIC), "error: (-2"),
    "tract": {
        **dict.fromkeys((ROW, ROW_STATIC, PIXEL_STATIC), "Unimplemented(Loop)"),
        PIXEL: "Impossible to unify",
    },
    "emx": {
        STEP: "does not support dynamic dims",
        **dict.fromkeys((ROW, PIXEL), "in Scan expansion. Hint: export with static shapes"),
        **dict.fromkeys((ROW_STATIC, PIXEL_STATIC), "Unsupported op Loop"),
    },
    "reference": {},
}
CASES = [(runtime, form) for runtime in REFUSED for form in FORMS]


@functools.cache
def model(name: str) -> GatedPixelCNN:
    return read_source(Path(ZOO)).model if name == ZOO else model_of(SPECS[name], scale=1.5)


@functools.cache
def engine(name: str, form: Form, batch: int | None) -> bytes:
    spec = model(name).spec
    window = None if form.role == "step" else form.window or spec.width
    return draft_engine(model(name), form.role, window, batch=batch).content


@functools.cache
def expected(name: str, count: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """What the product draws: images and log-probabilities of each kind."""
    with draft_engine(model(name), "sampler", 1).load() as free:
        results = [free.run(request_of(feed)) for feed in feeds(model(name).spec, count)]
    return tuple((result.levels, result.log_prob) for result in results)


def command(runtime: str) -> list[str]:
    """How to start a runtime; skips where it is not installed."""
    if runtime == "web":
        if shutil.which("node") is None:
            pytest.skip("node is not installed")
        if not (PLACE / "node_modules" / "onnxruntime-web").is_dir():
            pytest.skip(f"onnxruntime-web is not in {PLACE}: npm could not install it; make test-compat")
        script = PLACE / "web.mjs"  # beside node_modules
        shutil.copy(HERE / "web.mjs", script)
        return ["node", str(script)]
    if runtime in ("onnxruntime", "reference"):  # what this package's own development has
        return [sys.executable, str(HERE / "runtimes.py"), runtime]
    python = PLACE / "bin" / "python"
    module = {"opencv": "cv2", "emx": "emx_onnx_cgen"}.get(runtime, runtime)
    if not python.exists() or subprocess.run([python, "-c", f"import {module}"], check=False).returncode:
        pytest.skip(f"{module} is not in {PLACE}: pip could not install it; make test-compat")
    if runtime == "emx" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return [str(python), str(HERE / "runtimes.py"), runtime]


def prepare(folder: Path, name: str, form: Form, count: int, repeats: int) -> Path:
    folder.mkdir()
    (folder / "engine.onnx").write_bytes(engine(name, form, count if form.static else None))
    (folder / "repeats").write_text(str(repeats))
    for kind, feed in zip(KINDS, feeds(model(name).spec, count), strict=True):
        for port, array in feed.items():
            np.save(folder / f"{kind}.{port}.npy", array)
    return folder


def run(runtime: str, folders: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command(runtime), *map(str, folders)], capture_output=True, text=True, check=False)


def check(folder: Path, name: str, count: int) -> None:
    for kind, (levels, log_prob) in zip(KINDS, expected(name, count), strict=True):
        found = np.load(folder / f"{kind}.image.npy")
        assert np.array_equal(found, levels), (name, kind)
        error = np.abs(np.load(folder / f"{kind}.log_prob.npy") - log_prob).max()
        assert error < LOG_PROB, (name, kind, error)


@pytest.mark.parametrize(("runtime", "form"), CASES, ids=[f"{runtime}-{form}" for runtime, form in CASES])
def test_a_runtime_draws_the_same_images_or_refuses(tmp_path: Path, runtime: str, form: Form) -> None:
    command(runtime)
    words = REFUSED[runtime].get(form)
    names = list(SPECS) if words is None else ["label"]
    folders = [prepare(tmp_path / name, name, form, 2, 0) for name in names]
    done = run(runtime, folders)
    if words is not None:
        assert done.returncode != 0, "it runs now: docs/compatibility.md should say so"
        assert words in done.stdout + done.stderr
        return
    assert done.returncode == 0, done.stderr
    for folder, name in zip(folders, names, strict=True):
        check(folder, name, 2)


TIMED = [
    *[("onnxruntime", form) for form in (STEP_STATIC, ROW_STATIC, PIXEL_STATIC)],
    *[("web", form) for form in (STEP_STATIC, ROW_STATIC, PIXEL_STATIC)],
    *[("openvino", form) for form in (STEP_STATIC, ROW_STATIC, PIXEL_STATIC)],
    *[("opencv", STEP_STATIC), ("tract", STEP), ("emx", STEP_STATIC)],
]


@pytest.mark.parametrize(("runtime", "form"), TIMED, ids=[f"{runtime}-{form}" for runtime, form in TIMED])
def test_the_zoos_digits_are_equal_and_take_so_long(tmp_path: Path, runtime: str, form: Form) -> None:
    command(runtime)
    folder = prepare(tmp_path / "zoo", ZOO, form, 1, 3)
    done = run(runtime, [folder])
    assert done.returncode == 0, done.stderr
    check(folder, ZOO, 1)
    milliseconds = float((folder / "ms").read_text())
    assert milliseconds > 0
    notes = PLACE / "times.json"
    times = json.loads(notes.read_text()) if notes.exists() else {}
    times[f"{runtime} {form}"] = {"ms": round(milliseconds, 1), "bytes": (folder / "engine.onnx").stat().st_size}
    notes.write_text(json.dumps(times, indent=1, sort_keys=True) + "\n")
