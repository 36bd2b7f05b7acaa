"""Versioned JSON: checkpoints, engines and plans carry a `schema` number, and a reader refuses a newer one by name.

A spec's later fields are written only where they are not the default. So an earlier version still reads the files of
every model that it knows, and a model that it does not know is refused by the name of a field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from gpcnn_deploy.errors import GpcnnError, SpecError
from gpcnn_deploy.spec import LATER_FIELDS, LATER_FIELDS_OF_VQVAE
from gpcnn_deploy.text import read_exact_json

Layout = TypeVar("Layout", bound=msgspec.Struct)

_LATER = ("vqvae", "psnr", "perplexity", "picture_parity", "codes_parity")
"""Fields beside a spec that the first version had not."""


class _SchemaOnly(msgspec.Struct):
    schema: int


def written(record: msgspec.Struct) -> dict[str, Any]:
    """What a file holds of a record: plain values, keys in order, each spec without later fields that say nothing."""
    plain: dict[str, Any] = msgspec.to_builtins(record, order="sorted")
    _shorten_specs(plain)
    return {name: value for name, value in plain.items() if value is not None or name not in _LATER}


def _shorten_specs(plain: dict[str, Any]) -> None:
    for key, value in plain.items():
        if not isinstance(value, dict):
            continue
        later = {"spec": LATER_FIELDS, "vqvae": LATER_FIELDS_OF_VQVAE}.get(key)
        if later is not None:
            plain[key] = {name: x for name, x in value.items() if name not in later or x != later[name]}
        else:
            _shorten_specs(value)


def decode_versioned(
    text: str | bytes,
    layout: type[Layout],
    newest: int,
    by: str,
    error: type[GpcnnError],
    damaged: Callable[[Exception], GpcnnError],
) -> Layout:
    """Decode JSON whose field `schema` says which version of its layout it has; the number is looked at first.

    Args:
        text: the JSON.
        layout: what it should be.
        newest: highest schema that this version reads.
        by: who wrote which schema, for the message, such as `model.onnx: written with metadata`.
        error: raised for a newer schema.
        damaged: makes the error for JSON that is none, or not of this layout.

    Raises:
        GpcnnError: `error`, or what `damaged` makes.
    """
    try:
        schema = read_exact_json(text, _SchemaOnly).schema
        if schema > newest:
            raise error(f"{by} schema {schema}, this version reads up to {newest}: pip install --upgrade gpcnn-deploy")
        return read_exact_json(text, layout)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, SpecError) as reason:
        raise damaged(reason) from reason
