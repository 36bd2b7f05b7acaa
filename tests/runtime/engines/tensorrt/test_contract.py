"""What we use of TensorRT exists, with the signatures we use.

The real TensorRT-RTX is asked itself. TensorRT 10.13, 10.16 and 11.4 need libraries of 2 GB: the names that their
Python bindings offer were recorded (`record_api.py`).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpcnn_runtime.engines.tensorrt.library as compat

pytest.importorskip("tensorrt_rtx")
SOURCE = Path(compat.__file__)
RECORDED = json.loads((Path(__file__).parents[3] / "helpers" / "recorded_api.json").read_text())
# Names that only TensorRT-RTX has, behind a test of the flavour.
ONLY_RTX = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "DynamicShapesKernelSpecializationStrategy",
    "IRuntimeCache",
}
# Variables of the compat module → the class that they hold.
HOLDS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "error": "ParserError",
    "tensor": "ITensor",
}
ONLY_RTX_MEMBERS = {"cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"} | {
    "create_runtime_cache",
    "set_runtime_cache",
}


def used() -> list[tuple[str, ...]]:
    """Dotted names of the module (`trt.A.B`) and members of its objects (`A.member`) that the compat module uses."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        dotted = ast.unparse(node)
        if node.attr.startswith("__"):
            continue
        if re.fullmatch(r"(trt|rtx)(\.\w+)+", dotted):
            found.add(tuple(dotted.split(".")[1:]))
        elif (owner := ast.unparse(node.value)) in HOLDS:
            found.add((HOLDS[owner], node.attr))
    return sorted(found)


def test_the_list_is_not_empty() -> None:
    names = used()
    assert ("BuilderFlag", "TF32") in names
    assert ("IExecutionContext", "execute_async_v3") in names
    assert len(names) > 50


@pytest.mark.parametrize("name", used(), ids=".".join)
def test_exists_in_tensorrt_rtx(name: tuple[str, ...]) -> None:
    import tensorrt_rtx

    if name[-1] in ONLY_RTX_MEMBERS:
        name = ("IRuntimeConfig", name[-1])  # `config` is this one, too
    found = tensorrt_rtx
    for part in name:
        found = getattr(found, part)


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("name", used(), ids=".".join)
def test_exists_in_tensorrt(name: tuple[str, ...], version: str) -> None:
    if name[0] in ONLY_RTX or name[-1] in ONLY_RTX_MEMBERS:
        assert name[0] not in RECORDED[version] or name[-1] not in RECORDED[version][name[0]]
        return
    assert name[0] in RECORDED[version]
    for member in name[1:]:
        assert member in RECORDED[version][name[0]]


def test_nothing_but_the_compat_module_imports_tensorrt() -> None:
    root = SOURCE.parents[1]
    files = [
        path for folder in ("gpcnn_deploy", "training", "export", "runtime") for path in (root / folder).rglob("*.py")
    ]
    for path in files:
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
        touched = {name for name in names if re.match(r"tensorrt(_rtx|_lean|_dispatch)?(\.|$)", name)}
        assert not touched or path == SOURCE, (path, touched)


def test_importing_our_packages_imports_no_tensorrt() -> None:
    code = (
        "import sys, gpcnn_runtime.engines.tensorrt.library, gpcnn_runtime.engines.tensorrt.load\n"
        "import gpcnn_export.onnx_to_plan\n"
        "print([name for name in ('tensorrt', 'tensorrt_rtx', 'cuda', 'torch', 'onnx') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_package_of_type_stubs_is_no_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    if importlib.util.find_spec("tensorrt").origin is not None:  # type: ignore[union-attr]
        pytest.skip("tensorrt itself is installed")
    assert not compat.is_installed("tensorrt")
    assert compat.is_installed("tensorrt-rtx")


def test_types_against_stubs_made_from_tensorrt_rtx(tmp_path: Path) -> None:
    """mypy over the compat module, with stubs that stubgen reads off the real bindings."""
    pytest.importorskip("mypy")
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mypy.stubgen import main; main()",
            "--inspect-mode",
            "-m",
            "tensorrt_rtx_bindings.tensorrt_rtx",
            "-o",
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    stub = parsable((tmp_path / "tensorrt_rtx_bindings" / "tensorrt_rtx.pyi").read_text())
    # stubgen does not see the buffer protocol.
    stub = stub.replace(
        "class IHostMemory:\n", "class IHostMemory:\n    def __buffer__(self, flags: int) -> memoryview: ...\n"
    )
    for name, text in {"tensorrt": stub, "tensorrt_rtx": "from tensorrt import *\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.pyi").write_text(text)
    config = tmp_path / "mypy.ini"
    config.write_text(
        f"[mypy]\nmypy_path = {tmp_path}:{SOURCE.parents[3]}:{SOURCE.parents[4]}\n"
        "check_untyped_defs = True\nstrict_optional = False\n"
        f"namespace_packages = True\nexplicit_package_bases = True\ncache_dir = {tmp_path / 'cache'}\n"
    )

    def errors(path: Path) -> list[str]:
        run = [sys.executable, "-m", "mypy", "--config-file", config, "--no-error-summary", path]
        lines = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
        return [line for line in lines if path.name in line and ": error:" in line]

    assert errors(SOURCE) == []
    # The check has teeth: a misspelt member, a wrong argument and a forgotten one are each found.
    broken = tmp_path / "broken_compat.py"
    source = SOURCE.read_text()
    for right, wrong in (
        ("execute_async_v3(stream)", "execute_async_v4(stream)"),
        ("set_input_shape(name, shape)", "set_input_shape(shape, name)"),
        ("trt.OnnxParser(network, self._log)", "trt.OnnxParser(network)"),
        ("BuilderFlag.TF32", "BuilderFlag.FP16"),
    ):
        assert right in source
        broken.write_text(source.replace(right, wrong))
        assert len(errors(broken)) == 1, right


def parsable(stub: str) -> str:
    """Without the few signatures that are no Python, such as a default before a parameter that has none."""
    lines = stub.splitlines()
    for _ in range(20):
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError as error:
            number = (error.lineno or 1) - 1
            line = lines[number]
            lines[number] = line[: len(line) - len(line.lstrip())] + "..."
    return "\n".join(lines)
