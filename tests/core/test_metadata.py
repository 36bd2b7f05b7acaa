"""Engine metadata survives the way over JSON; foreign, damaged, newer and contradictory ones are refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import SCHEMA, EngineMetadata, ParityReport, decode_metadata, encode_metadata
from gpcnn_deploy.spec import ModelSpec

METADATA = EngineMetadata(
    role="sampler",
    spec=ModelSpec(height=4, width=5, conditioning="label", conditioning_size=3),
    class_names=("cat", "dog", "1"),
    window=2,
    parameters=10,
    checkpoint_digest="ab" * 32,
    tools={"torch": "2.13.0"},
    parity=ParityReport(images=4, identical=4, near_ties=0, log_prob_error=1e-6, log_prob_tolerance=1e-3),
)


def changed(**change: object) -> str:
    return json.dumps(json.loads(encode_metadata(METADATA)) | change)


def test_json_keeps_everything() -> None:
    assert decode_metadata(encode_metadata(METADATA), "x") == METADATA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("not json", "damaged"),
        ("[]", "damaged"),
        ('{"schema": "one"}', "damaged"),
        ('{"schema": 1}', "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"schema": 1, "x": "' + "y" * (1 << 20) + '"}', "expected at most"),
        (changed(schema=SCHEMA + 1), "pip install --upgrade"),
        ('{"schema": 99, "layout": "unknown"}', "pip install --upgrade"),
        (changed(role="oracle"), "damaged"),
        (changed(window=0), "window is 0; expected 1 to 5"),
        (changed(window=6), "window is 6"),
        (changed(window=None), "window is None"),
        (changed(class_names=["a"]), "1 class names for 3 classes"),
        (changed(spec={"height": 4, "width": 5, "levels": 1}), "levels is 1"),
        (changed(spec={"height": 10**9, "width": 5}), "height is 1000000000"),
    ],
)
def test_bad_metadata_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(EngineError) as caught:
        decode_metadata(text, "model.onnx")
    assert str(caught.value).startswith("model.onnx: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_by_name_and_by_number() -> None:
    found = {text: METADATA.label_number(text) for text in ("cat", "dog", "0", "2", "1")}
    assert found == {"cat": 0, "dog": 1, "0": 0, "2": 2, "1": 2}  # a class named "1" goes before number 1


@pytest.mark.parametrize("text", ["3", "-1", "Cat", "", "²", "1.0", "99999999999999999999"])
def test_unknown_labels_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="0 cat, 1 dog, 2 1"):
        METADATA.label_number(text)


def test_an_unconditional_model_takes_no_label() -> None:
    spec = msgspec.structs.replace(METADATA.spec, conditioning="none", conditioning_size=0)
    metadata = msgspec.structs.replace(METADATA, spec=spec, class_names=())
    with pytest.raises(UsageError, match="leave --label out"):
        metadata.label_number("0")
