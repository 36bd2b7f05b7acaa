"""What to say where the packages of the extra `train` are not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gpcnn_deploy.errors import MissingExtraError

_PACKAGES = {
    "torch": "torch",
    "safetensors": "safetensors",
    "lightning_fabric": "lightning-fabric",
    "pooch": "pooch",
    "tensorboard": "tensorboard",
}


@contextlib.contextmanager
def train_extra(purpose: str) -> Iterator[None]:
    """Name the package and the extra if an import in the block finds a package of the extra missing.

    Raises:
        MissingExtraError: in place of a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name in _PACKAGES:
            raise MissingExtraError(_PACKAGES[error.name], "train", purpose) from error
        raise
