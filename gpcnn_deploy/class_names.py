"""Names of classes: in which order they stand, and which of them are one name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CLASSES = 10_000
_FILE_NAME_LENGTH = 40  # signs, of up to four bytes each: file systems take 255 bytes


def normalized(name: str) -> str:
    """Unicode NFC: the form in which names are kept and compared. File systems and keyboards differ in theirs."""
    return unicodedata.normalize("NFC", name)


def same_names(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether two lists of class names are the same, in the same order."""
    return tuple(map(normalized, some)) == tuple(map(normalized, others))


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Key to sort names by: digits in them count as numbers, so that "2" comes before "10"."""
    parts = re.split(r"([0-9]+)", normalized(name))
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], name


def are_numbers(names: Iterable[str]) -> bool:
    """Whether every class is named by a number: a label then is that name, never a position in the list."""
    return all(name.isascii() and name.isdigit() for name in names)


def label_in_words(number: int, names: tuple[str, ...]) -> str:
    """A label as people are shown it: `3` where classes are named by numbers, else `3 cat`."""
    name = names[number]
    return name if are_numbers(names) or name == str(number) else f"{number} {name}"


def label_of_file(number: int, names: tuple[str, ...], file_names: tuple[str, ...] | None = None) -> int | None:
    """The model's label for a label number of a data file; None if the model has no such class.

    Args:
        number: as the file has it.
        names: the model's class names.
        file_names: the file's own class names; without them a number is the name of a class where all classes are
            named by numbers, and else a position in `names`.
    """
    if file_names is not None or are_numbers(names):
        if file_names is not None and not 0 <= number < len(file_names):
            return None
        name = str(number) if file_names is None else normalized(file_names[number])
        return next((k for k, own in enumerate(names) if normalized(own) == name), None)
    return number if 0 <= number < len(names) else None


def in_file_name(name: str) -> str:
    """A class name as part of a file name: what some file system refuses becomes `_`."""
    plain = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in normalized(name))
    return plain[:_FILE_NAME_LENGTH]
