"""Names that people import from the top of the packages: each resolves, and costs nothing until it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

PACKAGES = ("gpcnn_deploy", "gpcnn_runtime", "gpcnn_export", "gpcnn_training")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    listed = {name for names in module._MODULES.values() for name in names}
    assert set(module.__all__) == listed | {"__version__"}
    for name in module.__all__:
        value = getattr(module, name)
        assert name == "__version__" or value.__name__ == name

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_shadowed_by_a_module(package: str) -> None:
    """A submodule that was imported takes its package's attribute of the same name."""
    module = importlib.import_module(package)
    for name in module.__all__:
        assert importlib.util.find_spec(f"{package}.{name}") is None, f"{package}.{name} is a module, too"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    heavy = ("numpy", "torch", "onnx", "onnxruntime", "click", "msgspec", "PIL", "rich")
    code = f"import sys, {package}; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
