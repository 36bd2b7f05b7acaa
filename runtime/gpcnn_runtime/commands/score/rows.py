"""What `gpcnn-score` tells of each picture and of all together, and the files that it goes to, row by row."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from gpcnn_deploy.commands.command import STDOUT
from gpcnn_deploy.errors import OutputError
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.system.files import atomic_path, is_stream
from gpcnn_deploy.system.lock import held
from gpcnn_deploy.text import json_bytes
from gpcnn_runtime.anomaly import Method
from gpcnn_runtime.engines.report import EngineReport
from gpcnn_runtime.scores import Binarization

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from typing_extensions import Self


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One picture.

    Attributes:
        picture: its name.
        error: why it has no score; it then has nothing else.
        nats: -log p(x), in nats.
        bits_per_dim: the same in bits a sub-pixel.
        label: the most likely label, where the model has labels and was not told one.
        class_name: of that label.
        posterior: p(label | x) under a uniform prior.
        label_nats: -log p(x | label) in nats, under every label.
        given_label: the model's label for the class that an .npz gives the picture; None for one that it has not.
        background_nats: -log q(x) under the background model, in nats.
        anomaly_score: in nats, larger is more unusual.
        anomalous: whether that is above the threshold.
        heatmap: where the picture of its surprise is.
        psnr: of a VQ-VAE, how well the picture comes back from its codes, in dB; larger is better.
    """

    picture: str
    error: str | None = None
    nats: float | None = None
    bits_per_dim: float | None = None
    label: int | None = None
    class_name: str | None = None
    posterior: float | None = None
    label_nats: list[float] | None = None
    given_label: int | None = None
    background_nats: float | None = None
    anomaly_score: float | None = None
    anomalous: bool | None = None
    heatmap: str | None = None
    psnr: float | None = None

    @property
    def surprise(self) -> float:
        """What pictures are ranked by: the anomaly score, or else nats."""
        return self.anomaly_score if self.anomaly_score is not None else self.nats or 0.0


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the scores of a run have in common.

    Attributes:
        engine: what scored.
        background: the background model, or None.
        class_names: one per label.
        preparation: how pictures of other sizes and modes were made fit, as in training; None if none was.
        label: what all pictures were scored under, or None.
        own_code: each picture was scored under the code that the autoencoder gives it.
        own_map: each picture was scored given itself made small.
        of_codes: the model is a VQ-VAE: nats are those of a picture's codes, and dimensions are codes.
        binarization: how pixels became levels.
        method: which anomaly score the rows have, or None.
        threshold: above it, pictures are anomalous; nats.
    """

    engine: EngineReport
    background: EngineReport | None = None
    class_names: tuple[str, ...] = ()
    preparation: Preparation | None = None
    label: int | None = None
    own_code: bool = False
    own_map: bool = False
    of_codes: bool = False
    binarization: Binarization = "nearest"
    method: Method | None = None
    threshold: float | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All pictures together.

    Attributes:
        pictures: how many were scored.
        errors: how many could not be read.
        prepared: how many did not fit, and were prepared as in training.
        mean_nats, std_nats: of -log p(x), in nats an image; None where nothing was scored.
        mean_bits_per_dim: in bits a sub-pixel.
        anomalies: how many are above the threshold; None without one.
        label_accuracy: share of the pictures with a label whose most likely label is theirs.
        seconds: wall-clock time.
    """

    pictures: int
    errors: int
    prepared: int = 0
    mean_nats: float | None = None
    std_nats: float | None = None
    mean_bits_per_dim: float | None = None
    anomalies: int | None = None
    label_accuracy: float | None = None
    seconds: float


class CsvRows:
    """A CSV file that grows with each row, so that an interrupted run keeps what it has; `-` is standard output."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._fields = ["picture", "nats", "bits_per_dim", *(["psnr"] if head.of_codes else [])]
        if head.class_names and head.label is None:
            self._fields += ["label", "class_name", "posterior", "given_label"]
        if head.background is not None:
            self._fields.append("background_nats")
        if head.method is not None:
            self._fields.append("anomaly_score")
        if head.threshold is not None:
            self._fields.append("anomalous")
        self._fields += ["heatmap", "error"]
        self._labels = head.class_names if head.label is None else ()
        self._stream: TextIO | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._path == STDOUT:
            self._stream = sys.stdout
        else:
            if self._path.is_dir():
                raise OutputError(f"cannot write {self._path}: it is a folder; name a file with --csv")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if not is_stream(self._path):  # rows of two processes would mix
                    lock = self._path.with_name(f".{self._path.name[:50]}.lock")
                    self._stack.enter_context(held(lock, self._path))
                self._stream = self._path.open("w", encoding="utf-8", newline="")
            except OSError as error:
                self._stack.close()
                raise self._failed(error) from error
        self._write([*self._fields, *(f"nats_{name}" for name in self._labels)])
        return self

    def add(self, row: Row) -> None:
        """Write one row.

        Raises:
            OutputError: the file cannot be written.
        """
        values: list[Any] = [getattr(row, field) for field in self._fields]
        self._write([*("" if value is None else value for value in values), *(row.label_nats or [])])

    def _write(self, cells: Sequence[Any]) -> None:
        assert self._stream is not None
        try:
            csv.writer(self._stream, lineterminator="\n").writerow(cells)
            self._stream.flush()
        except OSError as error:
            if self._path == STDOUT:
                raise
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"cannot write {self._path}: {reason}; free space, or name another file with --csv")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self._stream is not None and self._path != STDOUT:
                self._stream.close()


class JsonRows:
    """One JSON object, written row by row: what `Head` has, `pictures`, `summary`. Whole or not at all; `-` streams."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path, self._head = path, head
        self._stream: TextIO | None = None
        self._whole: AbstractContextManager[Path] | None = None
        self._between = ""

    def __enter__(self) -> Self:
        if self._path == STDOUT:
            self._stream = sys.stdout
        else:
            self._whole = atomic_path(self._path)
            self._stream = self._whole.__enter__().open("w", encoding="utf-8")
        self._stream.write(_json(self._head)[:-1] + ',\n"pictures": [\n')
        return self

    def add(self, row: Row) -> None:
        """Write one row."""
        assert self._stream is not None
        self._stream.write(self._between + _json(row))
        self._between = ",\n"

    def finish(self, summary: Summary) -> None:
        """Write the end.

        Raises:
            OutputError: the file cannot be written.
        """
        assert self._stream is not None
        self._stream.write(f'\n],\n"summary": {_json(summary)}}}\n')
        self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._whole is not None and self._stream is not None:
            self._stream.close()
            self._whole.__exit__(kind, error, trace)


def _json(value: msgspec.Struct) -> str:
    return json_bytes(value).decode()
