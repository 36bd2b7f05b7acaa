"""The zoo: trained models that come with the package, each with a card. `zoo:NAME` stands for an engine's path.

    python -m gpcnn_runtime.zoo.catalogue

lists them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.model_file import SUFFIX
from gpcnn_deploy.schema import decode_versioned
from gpcnn_deploy.system.files import sha256

if TYPE_CHECKING:
    from gpcnn_runtime.zoo.card import Card

MAX_CARD_BYTES = 1 << 20
PREFIX = "zoo:"
FOLDER = Path(__file__).parent / "models"
DEFAULT = "mnist-conditional"


def names() -> list[str]:
    """Names of the models there are."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> Card:
    """The card of a model.

    Raises:
        UsageError: there is no such model; the message lists those there are.
        EngineError: its card is damaged, or of a newer schema.
    """
    from gpcnn_runtime.zoo.card import CARD_SCHEMA, Card  # what draws needs no card

    if name not in (known := names()):
        there = f"there are: {', '.join(PREFIX + each for each in known)}" if known else "the zoo is empty"
        raise UsageError(f"{PREFIX}{name}: no such model in the zoo; {there}")
    path = FOLDER / f"{name}.json"
    again = "install gpcnn-deploy anew"
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}): {again}") from error
    if len(text) > MAX_CARD_BYTES:
        raise EngineError(f"{path}: more than {MAX_CARD_BYTES} bytes; this is no card: {again}")

    def damaged(error: Exception) -> EngineError:
        return EngineError(f"{path}: the card is damaged ({error}): {again}")

    card = decode_versioned(text, Card, CARD_SCHEMA, f"{path}: written with card", EngineError, damaged)
    if card.name != name or file_names(name)[0] not in card.files or set(card.files) - set(file_names(name)):
        raise EngineError(f"{path}: is not the card of {name}, with its files: {again}")
    return card


def file_names(name: str) -> tuple[str, str]:
    """(engine, encoder) of a model; only an autoencoder has the second."""
    return f"{name}{SUFFIX}", f"{name}.encoder.onnx"


def resolve_engine(given: str | Path) -> Path:
    """The path that an engine's name stands for: of `zoo:NAME`, that of a file which is as its card says; else itself.

    Raises:
        UsageError: there is no such model in the zoo.
        EngineError: a file of the model is missing or was changed, or its card is damaged.
    """
    text = str(given)
    if not text.startswith(PREFIX):
        return Path(given)
    name = text[len(PREFIX) :]
    check_files(read_card(name))
    return FOLDER / file_names(name)[0]


def check_files(card: Card) -> None:
    """Refuse files that are not those that the card describes.

    Raises:
        EngineError: names the first that is missing or was changed.
    """
    for file, digest in sorted(card.files.items()):
        path = FOLDER / file
        try:
            found = sha256(path)
        except OSError as error:
            raise EngineError(f"{path}: cannot be read ({error.strerror}): install gpcnn-deploy anew") from error
        if found != digest:
            raise EngineError(
                f"{path}: its digest {found[:12]}… is not the {digest[:12]}… of its card: it was changed or exchanged; "
                "install gpcnn-deploy anew"
            )


def engine_name(path: Path) -> str:
    """How people name an engine: `zoo:NAME` for one of the zoo, else its path."""
    return f"{PREFIX}{path.stem}" if path.parent == FOLDER else str(path)


def main() -> None:
    """List the models."""
    with contextlib.suppress(BrokenPipeError):  # whoever reads has gone
        for name in names():
            print(f"{PREFIX}{name}  {read_card(name).about}", flush=True)


if __name__ == "__main__":
    main()
