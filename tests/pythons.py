"""The runtime alone, in fresh environments, on every Python 3.10+ found: `make test-pythons`.

An ONNX engine and a model file of the same weights are made here. Each Python installs the package with no extra, which
compiles the native engine, and draws from the model file and from the zoo; then it adds the extra `cpu`, and draws on
the ONNX engine. All must give the same levels, without torch or onnx anywhere in the environment.
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
from gpcnn_export.checkpoint_to_native import draft_model_file
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


HEAVY = ("torch", "onnx", "onnxscript", "safetensors")


def install(folder: Path, extras: str, absent: tuple[str, ...]) -> None:
    """Install the package with these extras, and look that nothing absent came along."""
    binaries = folder / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", f"{ROOT}{extras}"], check=True)
    packages = subprocess.run([binaries / "pip", "list"], capture_output=True, text=True, check=True).stdout
    if heavy := [name for name in absent if f"\n{name} " in packages]:
        raise SystemExit(f"{folder.name}: {f'the extra {extras}' if extras else 'the base'} brought {', '.join(heavy)}")


def sample(folder: Path, name: str, *arguments: str | Path) -> np.ndarray:
    """Levels that gpcnn-sample draws there, in a folder without an engine."""
    out = folder / f"{name}.npz"
    command = [folder / "bin" / "gpcnn-sample", *arguments, "--label", "all", "--count", "4"]
    subprocess.run([*command, "--output-format", "npz", "-o", out], check=True, cwd=folder)
    return np.load(out)["levels"]


def draw(python: Path, folder: Path, model_file: Path, engine: Path) -> dict[str, np.ndarray]:
    """Levels that a fresh environment of this Python draws: from the zoo, a model file, and an ONNX engine."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    install(folder, "", (*HEAVY, "onnxruntime"))
    drawn = {"zoo": sample(folder, "zoo"), "model": sample(folder, "native", "--engine", model_file)}
    install(folder, "[cpu]", HEAVY)
    if not np.array_equal(sample(folder, "onnx", "--engine", engine), drawn["model"]):
        raise SystemExit(f"Python {folder.name}: the ONNX engine draws other images than the native engine")
    return drawn


def main() -> None:
    """Compare every Python with the first one."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    pythons = find_pythons()
    if not pythons:
        raise SystemExit("no Python 3.10 or newer was found")
    with tempfile.TemporaryDirectory(prefix="gpcnn-pythons-") as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = GatedPixelCNN(SPEC).eval()
        model_file, engine = folder / "model.gpcnn", folder / "model.onnx"
        model_file.write_bytes(draft_model_file(model).content)
        engine.write_bytes(draft_engine(model, "sampler").content)
        levels = {version: draw(python, folder / version, model_file, engine) for version, python in pythons.items()}
    first = next(iter(levels))
    for version, drawn in levels.items():
        for name, images in drawn.items():
            if not np.array_equal(images, levels[first][name]):
                raise SystemExit(f"Python {version} draws other images ({name}) than Python {first}")
    count = sum(map(len, levels[first].values()))
    print(f"Python {', '.join(levels)}: {count} equal images each, from the base alone and with the cpu extra.")
    if missing := [version for version in VERSIONS if version not in levels]:
        print(f"Python {', '.join(missing)}: not tried, because none is on the PATH or in ~/.pyenv/versions.")


if __name__ == "__main__":
    sys.exit(main())
