"""A missing optional package is named as pip knows it, with what needs it and the extra that brings it."""

from __future__ import annotations

import sys

import pytest

from gpcnn_deploy.commands.extras import require, required
from gpcnn_deploy.errors import MissingExtraError


@pytest.mark.parametrize(
    ("module", "package"),
    [("onnxruntime", "onnxruntime"), ("safetensors.torch", "safetensors"), ("cuda.bindings.runtime", "cuda-python")],
)
def test_a_module_that_cannot_be_imported_is_named_by_its_package(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    message = rf"^drawing needs the package '{package}', which is not .*: pip install 'gpcnn-deploy\[some\]'$"
    with pytest.raises(MissingExtraError, match=message):
        require("drawing", "some", "json", module)
    require("drawing", "some", "json")


def test_a_package_that_is_there_and_broken_is_named_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "gpcnn_broken.py").write_text("from json import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="'gpcnn_broken'"):
        require("drawing", "some", "gpcnn_broken")


@pytest.mark.parametrize("module", ["safetensors", "lightning_fabric", "pooch"])
def test_each_package_of_the_extra_is_named_as_pip_knows_it(module: str) -> None:
    name = module.replace("_", "-")
    message = rf"^training needs the package '{name}', .*: pip install 'gpcnn-deploy\[train\]'$"
    with pytest.raises(MissingExtraError, match=message), required("training", "train"):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)


def test_another_missing_module_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'gpcnn_nonsense'"), required("training", "train"):
        import gpcnn_nonsense  # type: ignore[import-not-found]  # noqa: F401
