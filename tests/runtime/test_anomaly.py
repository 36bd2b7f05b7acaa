"""AUROC, thresholds and the three scores, against hand calculation and against simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_runtime.anomaly import anomaly_scores, auroc, calibrate


@pytest.mark.parametrize(
    ("usual", "unusual", "area"),
    [
        ([1, 2, 3], [4, 5], 1.0),
        ([4, 5], [1, 2, 3], 0.0),
        ([1, 3], [2, 4], 0.75),
        ([1, 1], [1, 1, 1], 0.5),
        ([1, 2], [2], 0.75),
        ([0.0], [float("inf")], 1.0),
    ],
)
def test_auroc_by_hand(usual: list[float], unusual: list[float], area: float) -> None:
    assert auroc(usual, unusual) == area


def test_auroc_is_the_share_of_pairs_in_order_with_ties_half() -> None:
    random = np.random.default_rng(0)
    usual, unusual = random.integers(0, 20, 150), random.integers(3, 25, 90)
    pairs = [(low < high) + 0.5 * (low == high) for low, high in itertools.product(usual, unusual)]
    assert auroc(usual.astype(float), unusual.astype(float)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_is_the_area_under_the_curve() -> None:
    random = np.random.default_rng(1)
    usual, unusual = random.normal(0, 1, 500), random.normal(1, 2, 400)
    cuts = np.sort(np.concatenate([usual, unusual, [np.inf, -np.inf]]))[::-1]
    false = np.array([(usual >= cut).mean() for cut in cuts])
    true = np.array([(unusual >= cut).mean() for cut in cuts])
    area = float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())
    assert auroc(usual, unusual) == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize(("usual", "unusual"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0])])
def test_auroc_of_nothing(usual: list[float], unusual: list[float]) -> None:
    with pytest.raises(UsageError, match="at least one usual and one unusual score, none of them nan"):
        auroc(usual, unusual)


def test_the_scores() -> None:
    nats, background = np.array([10.0, 20.0, 30.0]), np.array([11.0, 15.0, 40.0])
    assert anomaly_scores("likelihood", nats).tolist() == [10, 20, 30]
    assert anomaly_scores("ratio", nats, background).tolist() == [-1, 5, -10]
    assert anomaly_scores("typicality", nats, mean_nats=22.0).tolist() == [12, 2, 8]
    with pytest.raises(UsageError, match="needs the scores of a background model"):
        anomaly_scores("ratio", nats)
    with pytest.raises(UsageError, match="needs the mean over usual pictures"):
        anomaly_scores("typicality", nats)


def test_the_threshold_is_an_order_statistic() -> None:
    scores = np.random.default_rng(0).permutation(99).astype(float)  # 0 .. 98
    assert calibrate(scores, 0.01) == 98  # of 99 pictures the largest: rank 99 of 100
    assert calibrate(scores, 0.1) == 89
    assert calibrate(scores, 0.5) == 49
    with pytest.raises(DataError, match=r"a quantile of 0\.01 needs at least 99 usual pictures, and has 98"):
        calibrate(scores[:98], 0.01)
    with pytest.raises(DataError, match="needs at least 1 usual picture, and has 0"):
        calibrate(scores[:0], 0.5)
    for quantile in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="expected above 0 and below 1"):
            calibrate(scores, quantile)


def test_no_more_usual_pictures_are_flagged_than_promised() -> None:
    """Averaged over 4,000 calibrations on 60 pictures: 5 % within four standard errors, whatever the distribution."""
    random, rate = np.random.default_rng(0), []
    for _ in range(4000):
        scores = random.gamma(0.5, size=260)
        rate.append((scores[60:] > calibrate(scores[:60], 0.05)).mean())
    mean, error = np.mean(rate), np.std(rate) / np.sqrt(len(rate))
    assert mean <= 0.05 + 4 * error
    assert mean >= 3 / 61 - 4 * error  # and not far fewer: 61 · 0.05 is cut to 3 of 61
