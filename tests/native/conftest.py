"""Small model files, and C programs compiled for the tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import encode_model_file, tensor_shapes
from gpcnn_deploy.spec import ModelSpec

NATIVE = Path(__file__).parents[2] / "runtime" / "native"

MakeFile = Callable[..., bytes]


def weights_metadata(spec: ModelSpec) -> EngineMetadata:
    names = tuple(f"class {k}, ä" for k in range(spec.conditioning_size)) if spec.conditioning == "label" else ()
    return EngineMetadata(
        role="weights", spec=spec, class_names=names, parameters=1, checkpoint_digest="0" * 64, tools={"tool": "1"}
    )


@pytest.fixture(scope="session")
def model_file() -> MakeFile:
    """Spec, seed → the bytes of a model file with random weights, large enough that pixels depend on each other."""

    def make(spec: ModelSpec, seed: int = 0) -> bytes:
        draw = np.random.default_rng(seed)
        weights = {}
        for name, shape in tensor_shapes(spec).items():
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 16
            weights[name] = (draw.standard_normal(shape) * 1.5 / np.sqrt(fan_in)).astype(np.float32)
        return encode_model_file(weights_metadata(spec), weights)

    return make


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Sources below runtime/native, compiled with the system's C compiler into a program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here: cc, gcc and clang are missing")
    folder = tmp_path_factory.mktemp("c")

    def make(name: str, sources: list[str], *flags: str) -> Path:
        program = folder / name
        command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", str(NATIVE / "include")]
        command += [*(str(NATIVE / source) for source in sources), *flags, "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return program

    return make
