"""The runtime alone, in an environment with only `[cpu]`, on every Python 3.10+ found: `make test-pythons`.

An engine is exported here; each Python then installs the package with its `cpu` extra, draws on that engine, and must
give the same levels, without torch or onnx anywhere in its environment.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_training.model import GatedPixelCNN

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SPEC = ModelSpec(height=12, width=10, levels=4, layers=3, features=8, conditioning="label", conditioning_size=3)


def find_pythons() -> dict[str, Path]:
    """Interpreters by version: on the PATH, or where pyenv keeps them."""
    found: dict[str, Path] = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
        for candidate in map(str, filter(None, candidates)):
            answer = subprocess.run(
                [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
            )
            if answer.returncode == 0 and answer.stdout.strip() == f"({version.replace('.', ', ')})":
                found[version] = Path(candidate)
                break
    return found


def draw(python: Path, folder: Path, engine: Path) -> np.ndarray:
    """Levels that a fresh environment of this Python draws."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    binaries = folder / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", f"{ROOT}[cpu]"], check=True)
    packages = subprocess.run([binaries / "pip", "list"], capture_output=True, text=True, check=True).stdout
    heavy = [name for name in ("torch", "onnx", "onnxscript", "safetensors") if f"\n{name} " in packages]
    if heavy:
        raise SystemExit(f"Python {python}: the cpu extra brought {', '.join(heavy)}")
    out = folder / "drawn.npz"
    command = [binaries / "gpcnn-sample", "--engine", engine, "--label", "all", "--count", "4"]
    subprocess.run([*command, "--output-format", "npz", "-o", out], check=True)
    return np.load(out)["levels"]


def main() -> None:
    """Compare every Python with the first one."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    pythons = find_pythons()
    if not pythons:
        raise SystemExit("no Python 3.10 or newer was found")
    with tempfile.TemporaryDirectory(prefix="gpcnn-pythons-") as name:
        folder = Path(name)
        torch.manual_seed(0)
        engine = folder / "model.onnx"
        engine.write_bytes(draft_engine(GatedPixelCNN(SPEC).eval(), "sampler").content)
        levels = {version: draw(python, folder / version, engine) for version, python in pythons.items()}
    first = next(iter(levels))
    for version, drawn in levels.items():
        if not np.array_equal(drawn, levels[first]):
            raise SystemExit(f"Python {version} draws other images than Python {first}")
    print(f"Python {', '.join(levels)}: {len(levels[first])} equal images each, from the cpu extra alone.")
    if missing := [version for version in VERSIONS if version not in levels]:
        print(f"Python {', '.join(missing)}: not tried, because none is on the PATH or in ~/.pyenv/versions.")


if __name__ == "__main__":
    sys.exit(main())
