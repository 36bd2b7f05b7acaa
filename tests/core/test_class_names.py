"""Labels mean what their names say."""

from __future__ import annotations

import msgspec
import pytest

from gpcnn_deploy.class_names import in_file_name, label_of_file, natural_order, same_names
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.spec import ModelSpec

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def metadata(*names: str) -> EngineMetadata:
    spec = ModelSpec(height=2, width=2, conditioning="label", conditioning_size=len(names))
    return EngineMetadata(
        role="step", spec=spec, class_names=names, parameters=1, checkpoint_digest="", tools={}, window=None
    )


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["10", "2", "1", "class 10", "class 9", "b", "a", "", "x2y10", "x2y9", "01"]
    expected = ["", "01", "1", "2", "10", "a", "b", "class 9", "class 10", "x2y9", "x2y10"]
    assert sorted(names, key=natural_order) == expected


def test_a_class_that_is_named_by_a_number_is_meant_by_it() -> None:
    engine = metadata("1", "2", "3")
    assert [engine.label_number(text) for text in ("1", "2", "3")] == [0, 1, 2]
    with pytest.raises(UsageError, match=r"unknown label '0': expected one of 1, 2, 3$"):
        engine.label_number("0")
    assert engine.label_words(0) == "1"
    mixed = metadata("cat", "0")
    assert [mixed.label_number(text) for text in ("cat", "0", "1")] == [0, 1, 1]
    assert mixed.label_words(1) == "1 0"


def test_a_name_is_the_same_in_every_unicode_form() -> None:
    assert metadata("tea", COMPOSED).label_number(DECOMPOSED) == 1
    assert metadata("tea", DECOMPOSED).label_number(COMPOSED) == 1
    assert same_names(("tea", COMPOSED), ["tea", DECOMPOSED])
    assert not same_names(("tea", COMPOSED), [DECOMPOSED, "tea"])


@pytest.mark.parametrize(
    ("number", "names", "file_names", "label"),
    [
        (1, ("1", "2", "3"), None, 0),
        (0, ("1", "2", "3"), None, None),
        (3, ("0", "1", "2"), None, None),
        (1, ("cat", "dog"), None, 1),
        (2, ("cat", "dog"), None, None),
        (0, ("cat", "dog"), ("dog", "cat"), 1),
        (1, ("tea", COMPOSED), ("tea", DECOMPOSED), 1),
        (0, ("cat", "dog"), ("emu",), None),
        (7, ("cat", "dog"), ("cat",), None),
        (-1, ("cat", "dog"), ("cat", "dog"), None),
        (-1, ("cat", "dog"), None, None),
    ],
)
def test_labels_of_a_file_become_those_of_the_model(
    number: int, names: tuple[str, ...], file_names: tuple[str, ...] | None, label: int | None
) -> None:
    assert label_of_file(number, names, file_names) == label


def test_names_in_file_names_are_plain_and_bounded() -> None:
    assert in_file_name("bag, red") == "bag__red"
    assert in_file_name("../../etc") == ".._.._etc"
    assert in_file_name("a\x1b:|\n*") == "a_____"
    assert in_file_name(DECOMPOSED) == COMPOSED
    assert len(in_file_name("x" * 300)) == 40


def test_metadata_without_a_preparation_is_read_as_before() -> None:
    from gpcnn_deploy.metadata import decode_metadata, encode_metadata

    old = msgspec.json.decode(encode_metadata(metadata("a", "b")))
    del old["preparation"]
    assert decode_metadata(msgspec.json.encode(old), "x").preparation is None
