"""The example clients in JavaScript and C++ draw the images of gpcnn-sample, and keep to the contract vectors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_engines import LABELLED, PLAIN, engine_bytes

from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.commands.sample.cli import main as sample

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "runtime" / "clients"
CONTRACT = ROOT / "tests" / "contract"
SEED, LABEL, POSITION = 2**64 - 1, 1, 1

Client = Callable[[list[str]], subprocess.CompletedProcess[str]]


def node_folder(folder: Path) -> Path:
    """draw.mjs beside a node_modules that has onnxruntime-node."""
    modules = Path(os.environ.get("GPCNN_NODE_MODULES", ROOT / "node_modules"))
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (modules / "onnxruntime-node").is_dir():
        pytest.skip("npm install onnxruntime-node, and name its node_modules in GPCNN_NODE_MODULES")
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(CLIENTS / "draw.mjs", folder)
    return folder


def javascript(folder: Path) -> list[str]:
    return ["node", str(node_folder(folder) / "draw.mjs")]


def cpp(folder: Path) -> list[str]:
    headers = os.environ.get("GPCNN_ONNXRUNTIME_INCLUDE")
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    if headers is None:
        pytest.skip(
            "the headers of ONNX Runtime are in its releases, and in no package of PyPI, npm or Debian 12: name their "
            "folder in GPCNN_ONNXRUNTIME_INCLUDE"
        )
    import onnxruntime

    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-O1", "-isystem", headers, str(CLIENTS / "draw.cpp")]
    command += [str(library), f"-Wl,-rpath,{library.parent}", "-o", str(folder / "draw")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name that programs ask for
    return [str(folder / "draw")]


@pytest.fixture(params=[javascript, cpp], ids=["javascript", "cpp"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    start = request.param(tmp_path)

    def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
        return subprocess.run([*start, *arguments], capture_output=True, text=True, check=False, env=environment)

    return run


@pytest.mark.parametrize("spec", [LABELLED, PLAIN], ids=["label", "rgb"])
def test_a_client_draws_what_gpcnn_sample_draws(client: Client, tmp_path: Path, spec: ModelSpec) -> None:
    engine, out, picture = tmp_path / "model.onnx", tmp_path / "out.npz", tmp_path / "picture"
    engine.write_bytes(engine_bytes(spec, 2))
    label = ["--label", str(LABEL)] if spec.conditioning == "label" else []
    arguments = ["--engine", str(engine), "--seed", str(SEED), "--count", "2", "--output-format", "npz", "-o", str(out)]
    drawn = CliRunner().invoke(sample, arguments + label)
    assert drawn.exit_code == 0, drawn.output
    with np.load(out) as arrays:
        levels = arrays["levels"][POSITION]
    done = client([str(engine), str(picture), str(SEED), str(LABEL if label else 0), str(POSITION)])
    assert done.returncode == 0, done.stderr
    kind, size, most, data = picture.read_bytes().split(b"\n", 3)
    assert (kind, most) == (b"P6" if spec.channels == 3 else b"P5", b"255")
    assert size == f"{spec.width} {spec.height}".encode()
    values = np.rint(levels * (255 / (spec.levels - 1))).astype(np.uint8).transpose(1, 2, 0)
    assert data == values.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["x"], "expected a number"), (["0", "99"], "label"), (["18446744073709551616"], "expected a number")],
)
def test_a_client_refuses_in_one_line(client: Client, tmp_path: Path, arguments: list[str], words: str) -> None:
    engine, picture = tmp_path / "model.onnx", tmp_path / "picture"
    engine.write_bytes(engine_bytes(LABELLED, 2))
    done = client([str(engine), str(picture), *arguments])
    assert done.returncode == 1
    assert done.stderr.startswith("draw: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not picture.exists()


def test_javascript_keeps_the_contract(tmp_path: Path) -> None:
    from gpcnn_export.checkpoint_to_onnx import make_engine

    folder = node_folder(tmp_path)
    shutil.copy(Path(__file__).with_name("contract.mjs"), folder)
    samples: dict[str, Any] = json.loads((CONTRACT / "samples.json").read_text())
    for model in samples["models"]:
        engine = make_engine(CONTRACT / model["checkpoint"], "sampler", window=2)
        (folder / model["checkpoint"]).with_suffix(".onnx").write_bytes(engine.content)
    done = subprocess.run(
        ["node", "contract.mjs", str(CONTRACT), str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    noises = json.loads((CONTRACT / "noise.json").read_text())["vectors"]
    assert json.loads(done.stdout) == {
        "noise": len(noises),
        "samples": sum(len(model["cases"]) for model in samples["models"]),
    }


def test_clients_stay_short() -> None:
    for path in (CLIENTS / "draw.mjs", CLIENTS / "draw.cpp"):
        assert len(path.read_text().splitlines()) < 150
