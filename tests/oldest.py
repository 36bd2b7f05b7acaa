"""The oldest dependencies that pyproject.toml allows, read from it: `make test-oldest`.

A fresh environment of the oldest Python gets the package with its `cpu` extra, each dependency at its lower bound. The
tests that need neither PyTorch nor onnx run in it, and so do the commands, which must draw, complete and score as they
do here. A second environment trains and exports with the lower bounds of `train` and `export`, but for PyTorch: it has
the one that is installed here.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from packaging.requirements import Requirement
from pythons import ROOT, SPEC, find_pythons

from gpcnn_export.onnx_engine import draft_engine
from gpcnn_training.model import GatedPixelCNN

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALL = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
HEAVY = {"torch", "onnx", "safetensors", "small_engines", "small_plans", "tensorrt_double", "hypothesis"}
HEAVY |= {"gpcnn_training", "gpcnn_export", "benchmarks"}

SPLIT_STREAMS = """
import click.testing
init = click.testing.CliRunner.__init__
if "mix_stderr" in init.__code__.co_varnames:  # before click 8.2
    init.__defaults__ = (*init.__defaults__[:-1], False)
"""
"""A plugin of pytest: the runner of click's commands tells output and errors apart, as newer versions always do."""


def lower_bounds(texts: list[str], leave_out: tuple[str, ...] = ()) -> list[str]:
    """Pins of requirements: `numpy>=1.23` becomes `numpy==1.23`.

    Raises:
        SystemExit: a dependency has no lower bound.
    """
    pins = []
    for requirement in map(Requirement, texts):
        if requirement.name in (PROJECT["name"], *leave_out) or (
            requirement.marker and not requirement.marker.evaluate()
        ):
            continue
        least = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
        if len(least) != 1:
            raise SystemExit(f"pyproject.toml: {requirement}: expected one lower bound, such as >=1.0")
        pins.append(f"{requirement.name}=={least[0]}")
    return pins


def light_tests() -> Iterator[Path]:
    """Test files of core and runtime that import nothing heavy and take no fixture of conftest.py."""
    for path in sorted([*(ROOT / "tests/core").rglob("test_*.py"), *(ROOT / "tests/runtime").rglob("test_*.py")]):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        arguments = {
            argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args
        }
        fixtures = {"make", "sampler_path", "step_path"}
        if not {name.partition(".")[0] for name in imported} & HEAVY and not arguments & fixtures:
            yield path


def results(binaries: Path, engine: Path, folder: Path) -> dict[str, np.ndarray]:
    """What the commands of an environment draw, complete and score."""
    folder.mkdir()

    def run(command: str, *arguments: object) -> None:
        line = [str(binaries / command), *map(str, arguments)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}\n{done.stdout}{done.stderr}")

    draw = ("gpcnn-sample", "--engine", engine, "--label", "all", "--output-format")
    run(*draw, "npz", "--count", 4, "-o", "drawn.npz")
    run(*draw, "png", "-o", "pictures")
    first = sorted((folder / "pictures").iterdir())[0]
    complete = ("gpcnn-sample", "--engine", engine, "--complete", first, "--rows", 5, "--count", 3)
    run(*complete, "--output-format", "npz", "-o", "completed.npz")
    run("gpcnn-score", "pictures", "--engine", engine, "--csv", "scores.csv")
    run("gpcnn-inspect", engine)
    run("gpcnn-doctor")
    found = {}
    for name in ("drawn", "completed"):
        with np.load(folder / f"{name}.npz") as arrays:
            found |= {f"{name}.{key}": arrays[key] for key in arrays.files}
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as rows:
        found["scores.nats"] = np.array([float(row["nats"]) for row in csv.DictReader(rows)])
    return found


def try_runtime(python: Path, folder: Path) -> None:
    """The `cpu` extra on the oldest Python: its tests, and its commands against those of this environment."""
    torch.manual_seed(0)
    engine = folder / "model.onnx"
    engine.write_bytes(draft_engine(GatedPixelCNN(SPEC).eval(), "sampler", 3).content)
    binaries = folder / "environment" / "bin"
    pins = lower_bounds([*PROJECT["dependencies"], *EXTRAS["cpu"]])
    subprocess.run([python, "-m", "venv", binaries.parent], check=True)
    subprocess.run([binaries / "python", *INSTALL, *pins, f"{ROOT}[cpu]", "pytest>=8"], check=True)
    print(f"{python.resolve().name} with {', '.join(pins)}", flush=True)
    (folder / "split_streams.py").write_text(SPLIT_STREAMS)
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-p", "split_streams"]
    tests = [binaries / "python", "-m", "pytest", *options, *light_tests()]
    if subprocess.run(tests, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)}).returncode:
        raise SystemExit(f"tests fail with {', '.join(pins)}")
    old = results(binaries, engine, folder / "old")
    new = results(Path(sys.executable).parent, engine, folder / "new")
    if old.keys() != new.keys():
        raise SystemExit(f"other arrays come out: {sorted(old.keys() ^ new.keys())}")
    for key, array in new.items():
        same = np.allclose(old[key], array, rtol=0, atol=1e-4) if array.dtype.kind == "f" else (old[key] == array).all()
        if not same:
            raise SystemExit(f"{key} is another with the oldest dependencies than with those installed here")
    print(f"Equal to what the dependencies installed here give: {', '.join(new)}.", flush=True)


def try_export(folder: Path) -> None:
    """Training and export on this Python and its PyTorch, everything else of their extras at its lower bound."""
    binaries = folder / "bin"
    pins = lower_bounds([*EXTRAS["train"], *EXTRAS["export"]], leave_out=("torch",))
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([binaries / "python", *INSTALL, "--no-deps", *pins], check=True)
    found = [str(path) for path in map(Path, sys.path) if path.name == "site-packages" or ROOT in (path, path.parent)]
    query = [binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    (Path(own) / "rest.pth").write_text("\n".join(found))  # searched behind the pins
    print(f"{Path(sys.executable).resolve().name}, torch {torch.__version__} with {', '.join(pins)}", flush=True)
    for module, *arguments in (
        (
            "gpcnn_training.commands.train.cli",
            "--data",
            "digits",
            "--max-steps",
            "3",
            "--layers",
            "2",
            "--features",
            "8",
        ),
        ("gpcnn_export.commands.export.cli", "--graph", "step", "-o", "step.onnx"),
        ("gpcnn_export.commands.export.cli", "--window", "4"),
        ("gpcnn_runtime.commands.sample.cli", "--label", "all"),
    ):
        line = [binaries / "python", "-c", f"from {module} import main; main()", *arguments]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{module} {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    print("Trained, exported both graphs, proved them, and drew.")


def main() -> None:
    """Try both sides."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    least = PROJECT["requires-python"].removeprefix(">=")
    python = find_pythons().get(least)
    if python is None:
        raise SystemExit(f"Python {least}, the oldest that pyproject.toml allows, was not found")
    with tempfile.TemporaryDirectory(prefix="gpcnn-oldest-") as name:
        (Path(name) / "runtime").mkdir()
        try_runtime(python, Path(name) / "runtime")
        try_export(Path(name) / "export")


if __name__ == "__main__":
    main()
