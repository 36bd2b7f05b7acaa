"""A spec is right or refused, by name, value and what was expected."""

from __future__ import annotations

import msgspec
import pytest

from gpcnn_deploy.errors import SpecError
from gpcnn_deploy.spec import ModelSpec

BAD = [
    ({"height": 0}, "height is 0: expected 1 to"),
    ({"height": 2048, "width": 2048}, "height × width"),
    ({"channels": 2}, "channels is 2: expected 1"),
    ({"levels": 1}, "levels is 1: expected 2 to 256"),
    ({"levels": 257}, "levels is 257"),
    ({"features": 0}, "features is 0"),
    ({"features": 5000}, "features is 5000"),
    ({"layers": 0}, "layers is 0"),
    ({"layers": 513}, "layers is 513"),
    ({"head_features": 0}, "head_features is 0"),
    ({"kernel_size": 4}, "kernel_size is 4: expected an odd number"),
    ({"kernel_size": 1}, "kernel_size is 1"),
    ({"first_kernel_size": 65}, "first_kernel_size is 65"),
    ({"conditioning_size": 3}, "conditioning is none"),
    ({"conditioning": "label"}, "conditioning_size"),
    ({"input_size": 3}, "input is values"),
    ({"input": "categorical"}, "input_size (categorical) is 0: expected 1 to"),
    ({"input": "categorical", "input_size": 3, "levels": 4097}, "levels is 4097: expected 2 to 4096"),
    ({"input_size": 3, "levels": 300}, "levels is 300: expected 2 to 256"),
    ({"conditioning": "embedding", "conditioning_size": 2_000_000}, "conditioning_size"),
    ({"mixtures": 3}, "head is categorical: expected 0"),
    ({"head": "mixture"}, "mixtures is 0: expected 1 to 128"),
    ({"head": "mixture", "mixtures": 129}, "mixtures is 129"),
    ({"head": "mixture", "mixtures": 5, "levels": 300}, "levels is 300: expected 2 to 256"),
    ({"head": "mixture", "mixtures": 5, "input": "categorical", "input_size": 3}, "expected values, whose order"),
    ({"architecture": "pixelcnn", "conditioning": "embedding", "conditioning_size": 2}, "expected none or label"),
    ({"architecture": "pixelcnn", "head": "mixture", "mixtures": 5}, "architecture is pixelcnn: expected categorical"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_wrong_dimension_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ModelSpec(**{"height": 8, "width": 8} | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_wrong_dimension_is_refused_in_json_too(change: dict[str, object], message: str) -> None:
    text = msgspec.json.encode({"height": 8, "width": 8} | change)
    with pytest.raises((SpecError, msgspec.ValidationError)) as caught:
        msgspec.json.decode(text, type=ModelSpec)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ['{"height":8,"width":8,"feature":3}', '{"height":8}', '{"height":8.5,"width":8}'])
def test_unknown_missing_and_mistyped_fields_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=ModelSpec)


def test_json_keeps_every_dimension() -> None:
    spec = ModelSpec(
        height=3, width=5, channels=3, levels=17, features=6, layers=2, first_kernel_size=5, kernel_size=7,
        head_features=9, conditioning="embedding", conditioning_size=4, input="categorical", input_size=8,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ModelSpec) == spec
    assert (spec.image_shape, spec.subpixels) == ((3, 3, 5), 45)
    mixture = msgspec.structs.replace(spec, input="values", input_size=0, head="mixture", mixtures=10)
    assert msgspec.json.decode(msgspec.json.encode(mixture), type=ModelSpec) == mixture
    assert (spec.head_outputs, mixture.head_outputs) == (3 * 17, 100)
    assert msgspec.structs.replace(mixture, channels=1).head_outputs == 30
