"""`~` at the beginning of a path: behind `=`, as in `--data=~/photos`, no shell puts the home folder for it."""

from __future__ import annotations

import os


def at_home(text: str) -> str:
    """The path with the home folder put for its `~` or `~user`; as it is where there is none, or it begins otherwise.

    A file whose name begins so is `./~name`.
    """
    return os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111
