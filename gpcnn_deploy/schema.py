"""Versioned JSON: checkpoints, engines and plans carry a `schema` number, and a reader refuses a newer one by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from gpcnn_deploy.errors import GpcnnError, SpecError
from gpcnn_deploy.text import read_exact_json

Layout = TypeVar("Layout", bound=msgspec.Struct)


class _SchemaOnly(msgspec.Struct):
    schema: int


def decode_versioned(
    text: str | bytes,
    layout: type[Layout],
    newest: int,
    written: str,
    error: type[GpcnnError],
    damaged: Callable[[Exception], GpcnnError],
) -> Layout:
    """Decode JSON whose field `schema` says which version of its layout it has; the number is looked at first.

    Args:
        text: the JSON.
        layout: what it should be.
        newest: highest schema that this version reads.
        written: who wrote which schema, for the message, such as `model.onnx: written with metadata`.
        error: raised for a newer schema.
        damaged: makes the error for JSON that is none, or not of this layout.

    Raises:
        GpcnnError: `error`, or what `damaged` makes.
    """
    try:
        schema = read_exact_json(text, _SchemaOnly).schema
        if schema > newest:
            raise error(
                f"{written} schema {schema}, this version reads up to {newest}: pip install --upgrade gpcnn-deploy"
            )
        return read_exact_json(text, layout)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, SpecError) as reason:
        raise damaged(reason) from reason
