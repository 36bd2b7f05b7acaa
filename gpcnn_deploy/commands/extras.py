"""Optional packages: which one is missing, for what, and the extra that brings it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from gpcnn_deploy.errors import MissingExtraError

_NAMES = {"lightning_fabric": "lightning-fabric", "cuda": "cuda-python"}
"""What pip calls a package, where that differs from its module."""

_OPTIONAL = {"torch", "safetensors", "lightning_fabric", "pooch", "tensorboard", "onnx", "onnxscript", "onnxruntime"}


def require(purpose: str, extra: str, *modules: str) -> None:
    """Find out that modules can be imported, before they are.

    Raises:
        MissingExtraError: the first that cannot; it names `purpose` and `extra`.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise _missing(module, extra, purpose) from error


@contextlib.contextmanager
def required(purpose: str, extra: str) -> Iterator[None]:
    """As `require`, of whatever optional module the block finds missing, however deep.

    Raises:
        MissingExtraError: in place of a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name in _OPTIONAL:
            raise _missing(error.name, extra, purpose) from error
        raise


def _missing(module: str, extra: str, purpose: str) -> MissingExtraError:
    top = module.partition(".")[0]
    return MissingExtraError(_NAMES.get(top, top), extra, purpose)
