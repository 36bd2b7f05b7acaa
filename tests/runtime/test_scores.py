"""Scores are log-likelihoods: equal to eager PyTorch's, summing to 1 over all images, with Bayes' rule over labels."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from small_engines import EMBEDDED, LABELLED, PLAIN, Make, model_of

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.base import Result
from gpcnn_runtime.engines.onnxruntime.engine import OnnxSampler
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import score, to_levels
from gpcnn_training.data import quantize
from gpcnn_training.sampling import score as eager_score

TINY = {"features": 4, "layers": 2, "first_kernel_size": 3, "head_features": 5}
TWO_BY_TWO = ModelSpec(height=2, width=2, levels=2, **TINY)
LABELS = ModelSpec(height=2, width=2, levels=2, conditioning="label", conditioning_size=3, **TINY)
THREE_LEVELS = ModelSpec(height=2, width=2, levels=3, **TINY)
COLOUR = ModelSpec(height=1, width=2, channels=3, levels=2, conditioning="label", conditioning_size=3, **TINY)


def all_images(spec: ModelSpec) -> npt.NDArray[np.int32]:
    every = itertools.product(range(spec.levels), repeat=spec.subpixels)
    return np.array(list(every), np.int32).reshape(-1, *spec.image_shape)


def some_images(spec: ModelSpec, count: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng(5).integers(0, spec.levels, (count, *spec.image_shape), np.int32)


def eager(spec: ModelSpec, levels: npt.NDArray[np.int32], label: int | None = None) -> npt.NDArray[np.float32]:
    condition = None if label is None else torch.full((len(levels),), label)
    return eager_score(model_of(spec), torch.from_numpy(levels), condition).numpy()


@pytest.mark.parametrize("spec", [TWO_BY_TWO, LABELS, THREE_LEVELS, COLOUR], ids=["grey", "labels", "levels", "colour"])
def test_probabilities_of_all_images_sum_to_one(make: Make, spec: ModelSpec) -> None:
    """For the eager model, for the step and for a sampler of every window."""
    images = all_images(spec)
    labels = [None] if spec.conditioning == "none" else list(range(spec.conditioning_size))
    for label in labels:
        total = np.exp(eager(spec, images, label).sum(axis=(1, 2, 3), dtype=np.float64)).sum()
        assert abs(total - 1) < 1e-5
    for window in (None, *range(1, spec.width + 1)):
        with Sampler.load(make(spec, window), threads=1, batch_size=1024) as sampler:
            for label in labels:
                scores = score(sampler, images, label)
                assert abs(np.exp(-scores.nats).sum() - 1) < 1e-5
                assert np.ptp(scores.nats) > 0.5  # no uniform model, which any mask would leave normalized
            assert abs(np.exp(-score(sampler, images).nats).sum() - 1) < 1e-5


@pytest.mark.parametrize("spec", [LABELLED, PLAIN], ids=["labelled", "colour"])
@pytest.mark.parametrize("window", [None, 1, 2, 5])
def test_scores_are_eager_pytorchs(make: Make, spec: ModelSpec, window: int | None) -> None:
    levels = some_images(spec, 7)
    label = 1 if spec.conditioning == "label" else None
    with Sampler.load(make(spec, window), threads=2, batch_size=2) as sampler:
        log_prob = sampler.score(levels, label)
        scores = score(sampler, levels, label, per_pixel=True)
    expected = eager(spec, levels, label)
    np.testing.assert_allclose(log_prob, expected, rtol=0, atol=1e-4)
    assert log_prob.dtype == np.float32
    assert scores.log_prob is not None
    np.testing.assert_array_equal(scores.log_prob, log_prob)
    np.testing.assert_allclose(scores.nats, -expected.sum(axis=(1, 2, 3), dtype=np.float64), atol=1e-3)
    np.testing.assert_allclose(scores.bits_per_dim(), scores.nats / spec.subpixels / math.log(2))
    assert (scores.label_nats, scores.posterior()) == (None, None)


def test_one_label_for_each_image(sampler_path: Path, step_path: Path) -> None:
    levels, labels = some_images(LABELLED, 3), [2, 0, 2]
    expected = np.concatenate([eager(LABELLED, levels[k : k + 1], label) for k, label in enumerate(labels)])
    for path in (sampler_path, step_path):
        with Sampler.load(path) as sampler:
            np.testing.assert_allclose(sampler.score(levels, labels), expected, rtol=0, atol=1e-4)
            np.testing.assert_allclose(sampler.score(levels, np.array(labels)), expected, rtol=0, atol=1e-4)


def test_posterior_is_bayes_rule(sampler_path: Path) -> None:
    """By hand: p(y|x) = p(x|y) / Σ p(x|y'), p(x) = mean of p(x|y)."""
    levels = some_images(LABELLED, 4)
    with Sampler.load(sampler_path, threads=2, batch_size=3) as sampler:
        scores = score(sampler, levels, per_pixel=True)
    likelihood = np.array(
        [[math.exp(eager(LABELLED, levels[n : n + 1], y).sum(dtype=np.float64)) for y in range(3)] for n in range(4)]
    )
    posterior = scores.posterior()
    assert posterior is not None
    assert scores.label_nats is not None
    np.testing.assert_allclose(np.exp(-scores.label_nats), likelihood, rtol=1e-3)
    np.testing.assert_allclose(posterior, likelihood / likelihood.sum(axis=1, keepdims=True), rtol=1e-3)
    np.testing.assert_allclose(np.exp(-scores.nats), likelihood.mean(axis=1), rtol=1e-3)


def test_posterior_of_known_likelihoods() -> None:
    """Far below the range of exp: -log p = 1000, 1000 + log 3, 1000 + log 6 are weights 6 : 2 : 1."""
    from gpcnn_runtime.scores import Scores

    label_nats = np.array([[1000, 1000 + math.log(3), 1000 + math.log(6)]])
    posterior = Scores(np.array([0.0]), label_nats, None, 4).posterior()
    np.testing.assert_allclose(posterior, [[6 / 9, 2 / 9, 1 / 9]], rtol=1e-12)


@pytest.mark.parametrize("spec", [LABELS, COLOUR], ids=["grey", "colour"])
def test_pixels_of_a_mixture_follow_its_chain_rule(make: Make, spec: ModelSpec) -> None:
    """Each term is log of p(x_≤i) / p(x_<i), both summed by hand over all images that share those pixels."""
    images = all_images(spec)
    with Sampler.load(make(spec, 1), threads=1, batch_size=1024) as sampler:
        scores = score(sampler, images, per_pixel=True)
    with Sampler.load(make(spec, 1), threads=1, batch_size=len(images)) as sampler:  # one label at a time
        in_blocks = score(sampler, images, per_pixel=True)
    np.testing.assert_allclose(in_blocks.log_prob, scores.log_prob, atol=1e-6)
    np.testing.assert_allclose(in_blocks.nats, scores.nats, atol=1e-6)
    assert scores.log_prob is not None
    np.testing.assert_allclose(scores.log_prob.sum(axis=(1, 2, 3)), -scores.nats, atol=1e-9)
    probability = np.exp(-scores.nats)
    in_order = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    found = scores.log_prob.transpose(0, 2, 3, 1).reshape(len(images), -1)
    for i in range(spec.subpixels):
        for n in range(0, len(images), 5):
            before = (in_order[:, :i] == in_order[n, :i]).all(axis=1)
            now = before & (in_order[:, i] == in_order[n, i])
            assert abs(found[n, i] - math.log(probability[now].sum() / probability[before].sum())) < 1e-5


def test_batches_and_threads_change_nothing(sampler_path: Path) -> None:
    levels = some_images(LABELLED, 9)
    found = []
    for threads, batch in ((1, 64), (2, 1), (3, 4)):
        with Sampler.load(sampler_path, threads=threads, batch_size=batch) as sampler:
            found.append(score(sampler, levels))
    for other in found[1:]:
        np.testing.assert_allclose(other.nats, found[0].nats, atol=1e-4)


@pytest.mark.parametrize("role", ["sampler", "step"])
def test_eight_threads_share_one_sampler(sampler_path: Path, step_path: Path, role: str) -> None:
    """Each scores and draws in turn, again and again; every result is what one thread alone gets."""
    levels = some_images(LABELLED, 5)

    def work(sampler: Sampler, number: int) -> list[npt.NDArray[np.generic]]:
        label = number % 3
        return [sampler.score(np.roll(levels, number, 0), label), sampler.sample(label, seed=number, count=3).levels]

    with Sampler.load(step_path if role == "step" else sampler_path, threads=2, batch_size=2) as sampler:
        alone = [work(sampler, number) for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            shared = list(pool.map(lambda number: work(sampler, number), range(24)))
    for one, other in zip(alone, shared, strict=True):
        for expected, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_levels_that_do_not_fit(sampler_path: Path, make: Make) -> None:
    levels = some_images(LABELLED, 2)
    with Sampler.load(sampler_path) as sampler:
        for wrong in (levels[0], levels[:, :, :5], levels[:0], np.zeros((2, 3, 6, 5), np.int32)):
            with pytest.raises(UsageError, match=r"levels have shape .*: expected \[N, 1, 6, 5\]"):
                sampler.score(wrong, 0)
        with pytest.raises(UsageError, match="outside 0 to 3"):
            sampler.score(levels + 4, 0)
        with pytest.raises(UsageError, match="known has dtype float64"):
            sampler.score(levels.astype(float), 0)
        with pytest.raises(UsageError, match="3 conditions for 2 images: expected 1, or one for each image"):
            sampler.score(levels, [0, 1, 2])
        with pytest.raises(UsageError, match="choose with --label"):
            sampler.score(levels)
        with pytest.raises(UsageError, match="unknown label '7'"):
            score(sampler, levels, 7)
    with Sampler.load(make(PLAIN, 2)) as sampler, pytest.raises(UsageError, match="is unconditional"):
        score(sampler, some_images(PLAIN, 1), 0)


def test_embeddings_are_scored_by_the_sampler_alone(make: Make) -> None:
    levels = some_images(EMBEDDED, 2)
    vectors = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    expected = eager_score(model_of(EMBEDDED), torch.from_numpy(levels), torch.from_numpy(vectors)).numpy()
    with Sampler.load(make(EMBEDDED, 2)) as sampler:
        np.testing.assert_allclose(sampler.score(levels, embedding=vectors), expected, rtol=0, atol=1e-4)
        with pytest.raises(UsageError, match="is conditioned on an embedding, without which it has no likelihood"):
            score(sampler, levels)


@pytest.mark.parametrize("wrong", ["levels", "log_prob"])
def test_an_engine_that_scores_other_images_is_found_out(
    sampler_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    honest = OnnxSampler.run

    def run(self: OnnxSampler, *arguments: object) -> Result:
        result = honest(self, *arguments)  # type: ignore[arg-type]
        levels, log_prob = result.levels.copy(), result.log_prob.copy()
        if wrong == "levels":
            levels[0, 0, 0, 0] ^= 1
        else:
            log_prob[0, 0, 0, 0] = np.nan
        return Result(levels, log_prob, None)

    monkeypatch.setattr(OnnxSampler, "run", run)
    with Sampler.load(sampler_path) as sampler, pytest.raises(EngineError, match="does not score the images"):
        sampler.score(some_images(LABELLED, 1), 0)


def test_stochastic_levels_are_those_of_the_evaluation_in_training() -> None:
    spec = ModelSpec(height=6, width=5)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 6, 5), np.uint8)
    for number, picture in enumerate(pixels):
        expected = quantize.to_levels(picture, 2, "stochastic-binary", quantize.stream(2016, number))
        np.testing.assert_array_equal(to_levels(picture, spec, "stochastic", 2016, number), expected)
        np.testing.assert_array_equal(to_levels(picture, spec), picture > 127)
    with pytest.raises(UsageError, match="stochastic binarization is for grey models with 2 levels"):
        to_levels(pixels[0], LABELLED, "stochastic")
    with pytest.raises(UsageError, match="seed is -1"):
        to_levels(pixels[0], spec, "stochastic", -1)
