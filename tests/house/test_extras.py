"""What `pip` takes on devices that are not here: the extras of pyproject.toml, evaluated for their environments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
JETPACK_6 = {"python_version": "3.10", "platform_machine": "aarch64", "sys_platform": "linux"}
JETPACK_7 = {"python_version": "3.12", "platform_machine": "aarch64", "sys_platform": "linux"}
DESKTOP = {"python_version": "3.10", "platform_machine": "x86_64", "sys_platform": "linux"}


def extra(name: str) -> list[Requirement]:
    """The requirements of an extra, read without a TOML library: Python 3.10 has none."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.search(rf"^{name} = \[(.*?)\]( #.*)?$", text, re.MULTILINE | re.DOTALL)
    assert listed is not None, name
    return [
        Requirement(found)
        for found in re.findall(r'^\s*"([^"]+)"|(?<=, )"([^"]+)"', listed[1], re.MULTILINE)
        for found in found
        if found
    ]


def accepted(environment: dict[str, str]) -> SpecifierSet:
    """Which versions of cuda-python `plan` accepts in an environment."""
    together = SpecifierSet()
    for requirement in extra("plan"):
        here = requirement.marker is None or requirement.marker.evaluate(environment)
        if requirement.name == "cuda-python" and here:
            together &= requirement.specifier
    return together


@pytest.mark.parametrize(
    ("environment", "fits", "refused"),
    [
        (JETPACK_6, ["12.6.2.post1"], ["12.9.10", "13.2.0", "13.4.4"]),  # CUDA 12.6
        (JETPACK_7, ["12.9.10", "13.0.3", "13.2.0"], ["12.6.0", "14.0.0"]),  # CUDA 13.0 or 13.2: the user says which
        (DESKTOP, ["12.6.2.post1", "12.9.10", "13.4.4"], ["12.6.0", "14.0.0"]),
    ],
    ids=["JetPack 6", "JetPack 7", "desktop"],
)
def test_cuda_python_fits_the_cuda_of_the_device(
    environment: dict[str, str], fits: list[str], refused: list[str]
) -> None:
    versions = accepted(environment)
    assert [version for version in fits if version in versions] == fits
    assert [version for version in refused if version in versions] == []


def test_the_docs_pin_what_the_extra_accepts() -> None:
    """Every `cuda-python==…` of docs/tensorrt.md can be installed with the extra `plan`."""
    pins = set(re.findall(r"cuda-python==([\d.]+)\.\*", (ROOT / "docs" / "tensorrt.md").read_text("utf-8")))
    assert {"12.6", "13.0", "13.2"} <= pins
    for pin in pins:
        environment = JETPACK_6 if pin.startswith("12.6") else JETPACK_7
        newest = {"12.6": "12.6.2.post1", "12": "12.9.10"}.get(pin, f"{pin}.0")
        assert newest in accepted(environment), pin
