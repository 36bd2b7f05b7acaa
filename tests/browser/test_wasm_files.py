"""The page's WebAssembly modules are committed; here, that they are what the C sources give."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "runtime" / "browser"
MODULES = ("gpcnn.wasm", "gpcnn-relaxed.wasm")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpcnn_native_build", ROOT / "runtime" / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpcnn_native_build"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_were_compiled_from_these_sources(build: ModuleType) -> None:
    record = json.loads((BROWSER / "wasm.json").read_text("utf-8"))
    assert record == {"compiler": build.ZIG, "sources": build.sources_digest()}, "the C sources changed: make web"


@pytest.mark.browser
def test_compiling_anew_gives_the_same_bytes(build: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the compiler is missing: pip install ziglang")
    build.build_browser(tmp_path)
    for name in (*MODULES, "wasm.json"):
        assert (tmp_path / name).read_bytes() == (BROWSER / name).read_bytes(), f"{name} is another: make web"
