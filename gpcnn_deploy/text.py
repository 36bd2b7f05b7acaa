"""Text that any output can hold: names of files may be any bytes, and error lines must not grow without bound."""

from __future__ import annotations

from typing import Any, TypeVar

Value = TypeVar("Value")

MAX_LINE = 1000
_TAIL = 300  # of a line that is cut: how to mend it stands at the end


def printable(text: str) -> str:
    """The text with control characters, and bytes that are not UTF-8, escaped as `\\x1b` and `\\udcff`."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def valid(text: str) -> str:
    """The text with bytes that are not UTF-8 escaped as `\\udcff`: what any file and any reader can hold."""
    return text if text.isascii() else "".join(map(_escaped_sign, text))


def bounded(line: str, most: int = MAX_LINE) -> str:
    """The line, or its beginning and its end with `…` between them, `most` characters in all."""
    if len(line) <= most:
        return line
    tail = min(_TAIL, most // 2)
    return f"{line[: most - tail - 3]} … {line[-tail:]}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """How many there are: `1 image`, `2 images`, `1,000 classes`; `many` where that is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def spanned(low: object, high: object) -> str:
    """`0 to 9`, or `9` where both ends are one: what numbers there are, or may be."""
    return f"{low}" if low == high else f"{low} to {high}"


def json_bytes(value: Any) -> bytes:
    """JSON for people and other programs: valid UTF-8, in which bytes of names that are not UTF-8 are escaped text."""
    import msgspec  # here and below, so that --help is quick

    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_escaped(msgspec.to_builtins(value)))


def exact_json(value: Any) -> str:
    """JSON that `read_exact_json` reads as it was, names that are not UTF-8 included (as ASCII escapes)."""
    import json

    import msgspec

    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), sort_keys=True)


def read_exact_json(text: str | bytes, layout: type[Value]) -> Value:
    """The value of JSON that `exact_json` wrote.

    Raises:
        msgspec.DecodeError: it is none, or of another layout.
    """
    import json

    import msgspec

    try:
        return msgspec.json.decode(text, type=layout)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        if b"\\ud" not in (text if isinstance(text, bytes) else text.encode("utf-8", "replace")).lower():
            raise
        try:  # a lone half of a pair, which stands for a byte that is not UTF-8
            value = json.loads(text)
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")  # no other half of a pair
            return msgspec.convert(value, layout)
        except (ValueError, RecursionError):
            raise error from None


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, dict):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    return value


def _escaped_sign(sign: str) -> str:
    return sign.encode("unicode_escape").decode() if "\ud800" <= sign <= "\udfff" else sign
