"""TensorBoard files of a run: the curves of `metrics.jsonl`, sheets of samples, and the graph of the network."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpcnn_training.network import Network


class Board:
    """A run's event files; `tensorboard --logdir runs` shows them."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Write into `folder`; what it shows of steps after `first_step`, which will be trained anew, is dropped.

        Raises:
            Exception: whatever TensorBoard raises for a folder that cannot be written or a name that is not UTF-8.
        """
        from torch.utils.tensorboard import SummaryWriter

        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        self._hook = threading.excepthook
        threading.excepthook = self._thread_failed
        new = not folder.exists()
        try:
            self._writer = SummaryWriter(str(folder), purge_step=None if new else first_step + 1)
        except BaseException:
            threading.excepthook = self._hook
            raise

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """The writing thread keeps an error for the next call, which raises it: no traceback beside it."""
        if not type(failure.thread).__module__.startswith("tensorboard"):
            self._hook(failure)

    def scalars(self, step: int, **values: float) -> None:
        """Add a point to each curve; `train_nats_per_image` becomes the curve `nats_per_image/train`."""
        for name, value in values.items():
            part, _, rest = name.partition("_")
            tag = f"{rest}/{part}" if part in ("train", "validation", "test") else name
            self._writer.add_scalar(tag, value, step)

    def samples(self, step: int, sheet: npt.NDArray[np.uint8]) -> None:
        """Add a sheet of samples: uint8 [rows, columns] or [rows, columns, 3]."""
        self._writer.add_image("samples", sheet, step, dataformats="HW" if sheet.ndim == 2 else "HWC")

    def graph(self, model: Network, levels_NCHW: Tensor, condition: Tensor | None) -> None:
        """Add the graph of the network, traced on a batch."""
        inputs = (levels_NCHW,) if condition is None else (levels_NCHW, condition)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            self._writer.add_graph(model, inputs)

    def flush(self) -> None:
        """Have everything on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook
