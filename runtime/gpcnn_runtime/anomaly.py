"""Anomalies: three scores that tell unusual pictures from usual ones, and thresholds calibrated on usual ones.

- `likelihood`: -log p(x), in nats. Simple pictures of another kind may score better than usual ones, and pass.
- `ratio`: log q(x) - log p(x), in nats, q a background model (Ren et al. 2019, arXiv 1906.02845): what both models find
  easy cancels.
- `typicality`: |-log p(x) - mean over usual pictures|, in nats (Nalisnick et al. 2019, arXiv 1906.02994, for one
  picture): too likely is unusual, too.

Larger is more unusual in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.system.files import write_atomic
from gpcnn_deploy.text import counted
from gpcnn_runtime.scores import Binarization

Method = Literal["likelihood", "ratio", "typicality"]
SCHEMA = 1
MAX_FILE_BYTES = 1 << 16


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A calibrated threshold, and all that scores must share with it to be compared.

    Attributes:
        schema: version of this layout.
        method: which score.
        engine_digest: SHA-256 of the engine.
        background_digest: SHA-256 of the background engine; None except for `ratio`.
        label: the label that pictures are scored under; None for the mixture of all, or a model without labels.
        binarization: how pixels become levels.
        mean_nats: mean of -log p(x) over the calibration pictures, in nats; the centre of `typicality`.
        threshold: scores above it are anomalies; nats.
        quantile: share of usual pictures that is expected above it.
        pictures: how many it was calibrated on.
    """

    schema: int = SCHEMA
    method: Method
    engine_digest: str
    background_digest: str | None = None
    label: int | None = None
    binarization: Binarization = "nearest"
    mean_nats: float
    threshold: float
    quantile: float
    pictures: int


def anomaly_scores(
    method: Method,
    nats: npt.NDArray[np.float64],
    background_nats: npt.NDArray[np.float64] | None = None,
    mean_nats: float | None = None,
) -> npt.NDArray[np.float64]:
    """How unusual pictures are: float64 [N], nats, larger is more unusual.

    Args:
        method: which score.
        nats: -log p(x), float64 [N].
        background_nats: -log q(x), float64 [N], for `ratio`.
        mean_nats: the mean of -log p(x) over usual pictures, for `typicality`.

    Raises:
        UsageError: the method needs an argument that is missing.
    """
    if method == "likelihood":
        return nats
    if method == "ratio":
        if background_nats is None:
            raise UsageError("the likelihood ratio needs the scores of a background model")
        return nats - background_nats
    if mean_nats is None:
        raise UsageError("typicality needs the mean over usual pictures: calibrate first")
    return np.abs(nats - mean_nats)


def calibrate(scores: npt.NDArray[np.float64], quantile: float) -> float:
    """The threshold above which a new usual picture lies with a probability of at most `quantile`.

    It is the k-th smallest of the N scores, k = ⌈(N + 1)(1 - quantile)⌉: the bound holds on average over draws of the
    calibration pictures, whatever the distribution.

    Raises:
        UsageError: a quantile outside (0, 1).
        DataError: too few pictures for the quantile.
    """
    if not 0 < quantile < 1:
        raise UsageError(f"quantile is {quantile:g}: expected above 0 and below 1, such as 0.01")
    rank = math.ceil((len(scores) + 1) * (1 - quantile) - 1e-9)
    if rank > len(scores):
        needed = math.ceil(1 / quantile - 1e-9) - 1
        raise DataError(
            f"a quantile of {quantile:g} needs at least {counted(needed, 'usual picture')}, and "
            f"has {len(scores)}: add pictures, or choose a larger --quantile"
        )
    return float(np.sort(scores)[rank - 1])


def save_threshold(path: Path, threshold: Threshold) -> None:
    """Write a threshold as JSON, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, msgspec.json.format(msgspec.json.encode(threshold), indent=2) + b"\n")


def load_threshold(path: Path) -> Threshold:
    """Read what `save_threshold` wrote.

    Raises:
        DataError: missing, not of this layout, of a newer one, or holding numbers that no calibration gives.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file: make one with gpcnn-score --calibrate")
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if len(content) > MAX_FILE_BYTES:
            raise msgspec.DecodeError("it is too large")
        threshold = msgspec.json.decode(content, type=Threshold)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: is no threshold of gpcnn-score --calibrate ({error}): calibrate anew") from error
    if threshold.schema != SCHEMA:
        raise DataError(f"{path}: layout {threshold.schema}, this version reads {SCHEMA}: calibrate anew")
    if not (math.isfinite(threshold.threshold) and math.isfinite(threshold.mean_nats)):
        raise DataError(f"{path}: holds numbers that are not finite: calibrate anew")
    return threshold


def auroc(
    usual: Sequence[float] | npt.NDArray[np.float64], unusual: Sequence[float] | npt.NDArray[np.float64]
) -> float:
    """Area under the receiver operating characteristic: the probability that an unusual score is the larger one.

    Of one usual and one unusual score, drawn at random; ties count half. 0.5 is chance, 1 is perfect.

    Raises:
        UsageError: one side is empty, or holds nan.
    """
    low, high = np.asarray(usual, np.float64), np.asarray(unusual, np.float64)
    if not (low.size and high.size) or np.isnan(low).any() or np.isnan(high).any():
        raise UsageError("AUROC needs at least one usual and one unusual score, none of them nan")
    ordered = np.sort(low)
    below, up_to = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + up_to).mean() / (2 * low.size))
