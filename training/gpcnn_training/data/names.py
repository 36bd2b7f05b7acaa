"""What people write behind `--data`: names of data sets in the spellings that are about, or paths."""

from __future__ import annotations

from pathlib import Path

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.system.home import at_home

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "emoji")

_SPELLINGS = {
    "fashion": "fashion-mnist",
    "fashionmnist": "fashion-mnist",
    "fmnist": "fashion-mnist",
    "cifar": "cifar10",
}


def check_data(text: str) -> None:
    """Refuse a name of no data set, and a path where nothing is.

    Raises:
        UsageError: there is none.
    """
    name = data_name(text)
    try:
        there = name in NAMES or Path(name).exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise no_such_data(name)


def no_such_data(name: str) -> UsageError:
    """`--data` names nothing that is there."""
    return UsageError(
        f"--data {name}: no such file or folder; expected {', '.join(NAMES)}, or the path of an .npz file or picture "
        "folder"
    )


def data_name(text: str) -> str:
    """The name of a data set as `NAMES` has it, or a path with the home folder put for its `~`.

    Any file or folder that is there goes before another spelling of a name: `cifar`, `MNIST`, `fashion_mnist`.
    """
    if text in NAMES:
        return text
    text = at_home(text)
    try:
        there = Path(text).exists()
    except (OSError, ValueError):
        there = False
    if not there:
        plain = "".join(sign for sign in text.lower() if sign.isalnum())
        for name in NAMES:
            if plain == name.replace("-", ""):
                return name
        if plain in _SPELLINGS:
            return _SPELLINGS[plain]
    return text
