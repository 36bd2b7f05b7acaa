"""Wheels: one made for this machine by zig is installed where there is no compiler, and draws."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from contract_models import SPECS, contract

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "runtime" / "native"))
import build as native  # noqa: E402

pytestmark = pytest.mark.slow

DRAW = """
import sys
sys.path.insert(0, sys.argv[1])
from contract_models import SPECS, hash_words, recipe_file, recipe_inputs
from gpcnn_runtime.engines.native.library import LIBRARY, NativeModel
for name, spec in SPECS.items():
    print(hash_words(NativeModel(recipe_file(spec), name).draw(**recipe_inputs(spec))[0]))
print(LIBRARY)
"""


def make_wheel(folder: Path, target: str) -> Path:
    """A wheel for a target of `native.TARGETS`."""
    for package in ("hatchling", "ziglang"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[cross]'")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    environment = {**os.environ, "GPCNN_BUILD_TARGET": target}
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True, env=environment)
    (wheel,) = folder.glob(f"*{native.TARGETS[target].wheel}.whl")
    return wheel


def test_a_wheel_draws_where_no_compiler_is(tmp_path: Path) -> None:
    here = native.host()
    if not here.wheel:
        pytest.skip("wheels are not made for this kind of machine")
    wheel = make_wheel(tmp_path, here.name)
    (library,) = (name for name in zipfile.ZipFile(wheel).namelist() if "engines/native/lib/" in name)
    assert library == f"gpcnn_runtime/engines/native/lib/{here.library}"
    environment = {"PATH": str(tmp_path / "venv" / "bin")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, env=environment)
    command = [python, "-c", DRAW, ROOT / "tests" / "helpers"]
    drawn = subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
    *hashes, place = drawn.stdout.split()
    assert hashes == [contract()["hashes"][name]["image"] for name in SPECS]
    assert Path(place).is_relative_to(tmp_path)
    # C source needs the kernel's sources, and no torch.
    command = [python.with_name("gpcnn-export"), "zoo:mnist-conditional", "--format", "c", "--static", "-o", "c"]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "c" / "gpcnn.c").stat().st_size > 50_000


@pytest.mark.parametrize("target", ["arm64-linux", "arm64-macos", "x86-64-windows"])
def test_a_wheel_for_another_machine_holds_its_library_alone(tmp_path: Path, target: str) -> None:
    wheel = zipfile.ZipFile(make_wheel(tmp_path, target))
    (name,) = (name for name in wheel.namelist() if "engines/native/lib/" in name)
    content = wheel.read(name)
    kinds = {"arm64-linux": b"\x7fELF\x02", "arm64-macos": b"\xcf\xfa\xed\xfe", "x86-64-windows": b"MZ"}
    assert content.startswith(kinds[target])
    assert len(content) < 500_000
    assert b"gpcnn_draw" in content


def test_the_install_fails_where_the_library_cannot_be_compiled(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    for setting, reason in [
        ({"CC": "no-such-compiler"}, "CC=no-such-compiler is no GCC, Clang or zig that runs: correct it, or unset CC"),
        ({"GPCNN_BUILD_TARGET": "pdp11"}, "GPCNN_BUILD_TARGET is 'pdp11': expected none, or one of x86-64-linux,"),
    ]:
        command = [sys.executable, "-m", "pip", "wheel", *options, ROOT]
        done = subprocess.run(command, env={**os.environ, **setting}, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert reason in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))
