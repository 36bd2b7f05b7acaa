"""The kernel on other CPUs, under qemu-user: images of eager PyTorch, log-probabilities with the same bits.

    make test-targets

compiles one program for each target with ziglang. Every target belongs to one of two classes: with fused multiply-add
or without. Within a class all bits are equal, and `reproducible` gives those of the second class everywhere.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contract_models import (
    IMAGES,
    SEED,
    SPECS,
    contract,
    eager_condition,
    hash_words,
    recipe_file,
    recipe_inputs,
    recipe_weights,
)

from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_cached

NATIVE = Path(__file__).parents[2] / "runtime" / "native"
sys.path.insert(0, str(NATIVE))
import build as native  # noqa: E402

pytestmark = pytest.mark.slow

MACHINES = {
    "x86-64-v2": ("x86-64-linux", ["-cpu", "Nehalem"], "x86-64-v2"),
    "x86-64-v3": ("x86-64-linux", ["-cpu", "max"], "x86-64-v3"),
    "arm64": ("arm64-linux", [], "arm64"),
    "armv7": ("armv7-linux", [], "armv7"),
    "riscv64": ("riscv64-linux", [], "riscv64"),
    "i386": ("i386-linux", [], "i386"),
    "ppc64le": ("ppc64le-linux", [], "ppc64le"),
}
Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Target → the program of hashes for it, compiled once."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip(f"ziglang, which compiles for other CPUs, is not installed: pip install '{native.ZIG}'")
    folder = tmp_path_factory.mktemp("targets")
    made: dict[str, Path] = {}
    arrays, entries = [], []
    for k, spec in enumerate(SPECS.values()):
        content = recipe_file(spec)
        arrays.append(f"static const unsigned char model_{k}[] = {{{','.join(map(str, content))}}};")
        entries.append(f"{{model_{k}, sizeof model_{k}}}")
    most = max(spec.subpixels for spec in SPECS.values())
    arrays.append(f"enum {{ SEED = {SEED}, IMAGES = {IMAGES}, MOST_SUBPIXELS = {most} }};")
    arrays.append("static const struct { const unsigned char *bytes; size_t size; } MODELS[] =")
    (folder / "models.h").write_text("\n".join(arrays) + f" {{{', '.join(entries)}}};\n")

    def compile_for(target: str) -> Path:
        if target not in made:
            sources, program = [NATIVE / "tests" / "hash_images.c"], folder / target
            made[target] = native.build_program(
                sources,
                program,
                native.TARGETS[target],
                native.find_zig(),
                cache=folder / "cache",
                flags=["-I", str(folder)],
                libc=False,
            )
        return made[target]

    return compile_for


@pytest.fixture(scope="module")
def eager_images() -> list[str]:
    """Hashes of the images that eager PyTorch draws."""
    hashes = []
    for spec in SPECS.values():
        model = GatedPixelCNN(spec).eval()
        model.load_state_dict({name: torch.from_numpy(array) for name, array in recipe_weights(spec).items()})
        inputs = {name: torch.from_numpy(array) for name, array in recipe_inputs(spec).items()}
        given = eager_condition(spec, recipe_inputs(spec))
        condition = None if given is None else torch.from_numpy(given)
        levels, _ = sample_cached(model, inputs["noise"], condition)
        hashes.append(hash_words(levels.numpy()))
    return hashes


@pytest.mark.parametrize("machine", MACHINES)
def test_images_and_bits(build: Build, eager_images: list[str], machine: str) -> None:
    target, options, name = MACHINES[machine]
    qemu = shutil.which(native.TARGETS[target].qemu)
    if qemu is None:
        pytest.skip(f"{native.TARGETS[target].qemu} is not installed: apt-get install qemu-user-static")
    done = subprocess.run([qemu, *options, build(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    written = contract()["hashes"]
    assert len(lines) == 4 * len(SPECS)
    for k, spec in enumerate(SPECS):
        for best, reproducible in (lines[4 * k : 4 * k + 2], lines[4 * k + 2 : 4 * k + 4]):  # two windows
            assert best[0] == reproducible[0] == eager_images[k] == written[spec]["image"]
            fused = best[2] == f"{name}, fused multiply-add"
            assert fused or best[2].startswith(name)
            assert fused == (machine not in ("x86-64-v2", "armv7", "i386"))
            assert best[1] == written[spec]["fused" if fused else "unfused"]
            assert reproducible[1] == written[spec]["unfused"]
