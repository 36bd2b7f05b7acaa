"""docs/engines.md, by which people write clients: fields of the metadata, inputs and outputs with their types."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from gpcnn_deploy import ports
from gpcnn_deploy.metadata import EncoderParity, EngineMetadata, ParityReport
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import ModelSpec

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text("utf-8")


def section(title: str) -> str:
    found = re.search(rf"^##+ {title}.*?(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[0]


@pytest.mark.parametrize("record", [EngineMetadata, ModelSpec, ParityReport, EncoderParity, Preparation])
def test_every_field_is_described(record: type[msgspec.Struct]) -> None:
    named = set(re.findall(r"`(\w+)`", section("Metadata")))
    assert set(record.__struct_fields__) - named == set()


def shape(port: ports.Port) -> str:
    """As the page writes it; an image is told by its rank."""
    if len(port.shape) == 4:
        return "[N, C, H, W]"
    if not port.shape:
        return "scalar"
    return f"[{', '.join('N' if length == 'N' else 'E' for length in port.shape)}]"


@pytest.mark.parametrize("role", ["sampler", "step", "encoder"])
def test_every_port_is_described(role: str) -> None:
    text = section(f"`{role}`") + (section("`sampler`") if role == "step" else "")
    missing = []
    for conditioning in ("label", "embedding"):
        spec = ModelSpec(height=2, width=3, conditioning=conditioning, conditioning_size=7)
        for way, table in (("in", ports.inputs(role, spec)), ("out", ports.outputs(role, spec))):
            for name, port in table.items():
                row = f"| {way} | `{name}` | {port.dtype} | {shape(port)} |"
                said = f"`{name}` {port.dtype} {shape(port)}"
                if row not in text and said not in text:
                    missing.append(row)
    assert missing == []
