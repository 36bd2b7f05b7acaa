"""Names of files may be any bytes: JSON holds them all the same, and its readers read it."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.schema import decode_versioned
from gpcnn_deploy.text import bounded, counted, exact_json, json_bytes, printable, read_exact_json, spanned, valid

BYTES = b"caf\xe9"
NAME = os.fsdecode(BYTES)


class Named(msgspec.Struct):
    schema: int = 1
    name: str = ""
    more: dict[str, list[str]] = {}


def test_json_for_others_is_valid_and_shows_the_bytes() -> None:
    value = Named(name=NAME, more={NAME: ["日本", NAME]})
    content = json_bytes(value)
    shown = "caf\\udce9"
    assert json.loads(content.decode()) == {"schema": 1, "name": shown, "more": {shown: ["日本", shown]}}
    assert msgspec.json.decode(content, type=Named).name == shown
    assert json_bytes(Named(name="é")) == msgspec.json.encode(Named(name="é"))


def test_json_of_our_own_brings_the_bytes_back() -> None:
    value = Named(name=NAME, more={NAME: ["日本", NAME]})
    text = exact_json(value)
    text.encode()
    assert read_exact_json(text, Named) == value
    assert read_exact_json(text.encode(), Named) == value
    assert os.fsencode(read_exact_json(text, Named).name) == BYTES

    def damaged(error: Exception) -> CheckpointError:
        return CheckpointError(str(error))

    assert decode_versioned(text, Named, 1, "x", CheckpointError, damaged) == value


@pytest.mark.parametrize("text", ['{"name": 3}', '{"name": "\\ud800', "[", b"\xff"])
def test_what_is_no_such_json_is_refused(text: str | bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        read_exact_json(text, Named)


def test_lines_are_bounded_and_keep_their_end() -> None:
    assert bounded("short") == "short"
    line = bounded("begin " + "x" * 56_000 + " end")
    assert (len(line), line[:6], line[-4:]) == (1000, "begin ", " end")


def test_printable_and_valid() -> None:
    assert printable("a\x1b[0m" + NAME) == "a\\x1b[0mcaf\\udce9"
    assert valid("日本\n" + NAME) == "日本\ncaf\\udce9"


def test_counts_and_ranges_are_said_as_people_say_them() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [spanned(0, 9), spanned(-1, -1), spanned("nan", "nan")] == ["0 to 9", "-1", "nan"]
