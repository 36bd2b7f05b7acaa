"""The judge of gpcnn-verify: near-ties are told from defects, and nothing that cannot be compared passes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from small_engines import model_of

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.commands.verify.judge import prepare
from gpcnn_export.commands.verify.judgement import judge
from gpcnn_export.commands.verify.protocol import INPUTS, Prepared, Verdict, VerifyJob
from gpcnn_export.proof.parity import compare, compare_in_parts, feeds
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.sampling import sample_jacobi, score

SPEC = ModelSpec(height=4, width=5, levels=3, features=6, layers=2, head_features=8)
HEADER = Header(spec=SPEC, data="none", quantization="nearest")
NOT_SCORED = Prepared(data=None, data_images=0, data_skipped="none here")
IMAGES = 4
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def model() -> GatedPixelCNN:
    return random_model(SPEC)


def random_model(spec: ModelSpec, encoder: EncoderSpec | None = None) -> GatedPixelCNN:
    return model_of(spec, 3, 2.5, encoder)


def job(precision: Any = "fp32", **change: Any) -> VerifyJob:
    fields = {
        "checkpoint": "c",
        "spec": SPEC,
        "class_names": (),
        "precision": precision,
        "checkpoint_digest": "d",
        "encoder": False,
        "images": IMAGES,
        "seed": 0,
        "data": None,
        "data_dir": None,
        "test_images": 5,
    }
    return VerifyJob(**(fields | change))


def request_of(model: GatedPixelCNN) -> Arrays:
    fed = zip(INPUTS, feeds(model.spec, IMAGES), strict=True)
    return {f"{inputs}.{name}": array for inputs, feed in fed for name, array in feed.items()}


def draw(model: GatedPixelCNN, request: Arrays) -> Arrays:
    """What a perfect engine draws."""
    drawn = {}
    for inputs in INPUTS:
        u, known, mask = (torch.from_numpy(request[f"{inputs}.{name}"]) for name in ("noise", "known", "mask"))
        image, _ = sample_jacobi(model, u, None, known, mask, float(request[f"{inputs}.temperature"]))
        drawn[f"{inputs}.graph.image"] = image.numpy()
        drawn[f"{inputs}.graph.log_prob"] = score(model, image).numpy()
    return drawn


def verdict(model: GatedPixelCNN, request: Arrays, drawn: Arrays, precision: Any = "fp32") -> Verdict:
    return judge(job(precision), NOT_SCORED, model, HEADER, "d", request, drawn)


def tie(model: GatedPixelCNN, request: Arrays, offset: float) -> tuple[Arrays, Arrays]:
    """Image 2 has u `offset` above the first CDF step of its first sub-pixel, and the engine takes it to be below."""
    with torch.no_grad():
        logits = model(torch.zeros(1, *SPEC.image_shape, dtype=torch.int32))
    step = float(torch.softmax(logits.double(), 1)[0, 0, 0, 0, 0])
    request["samples.noise"][2, 0, 0, 0] = step + offset
    drawn = draw(model, request)
    assert drawn["samples.graph.image"][2, 0, 0, 0] == 1
    # From there on, the engine's image is right again, given that sub-pixel.
    known, mask = np.zeros((1, *SPEC.image_shape), np.int32), np.zeros((1, *SPEC.image_shape), np.bool_)
    mask[0, 0, 0, 0] = True
    u = torch.from_numpy(request["samples.noise"][2:3])
    image, _ = sample_jacobi(model, u, None, torch.from_numpy(known), torch.from_numpy(mask))
    drawn["samples.graph.image"][2:3] = image.numpy()
    drawn["samples.graph.log_prob"][2:3] = score(model, image).numpy()
    return request, drawn


def test_a_near_tie_is_explained_with_its_size_and_passes(model: GatedPixelCNN) -> None:
    found = verdict(model, *tie(model, request_of(model), 4e-6))
    first = found.first_divergence
    assert first is not None
    assert (first.cause, first.inputs, first.strategy, first.image) == ("near-tie", "samples", "graph", 2)
    assert (first.row, first.column, first.channel, first.engine, first.eager) == (0, 0, 0, 0, 1)
    assert first.distance == pytest.approx(4e-6, rel=0.05)
    assert first.u - first.cdf_step == pytest.approx(first.distance, abs=1e-12)
    assert found.proven
    assert (found.rows[0].identical, found.rows[0].explained) == (IMAGES - 1, 1)
    assert found.reached.near_tie == pytest.approx(4e-6, rel=0.05)


@pytest.mark.parametrize(
    ("offset", "precision", "cause"),
    [(3e-5, "fp32", "defect"), (4e-6, "fp16", "near-tie"), (3e-5, "fp16", "rounding"), (0.03, "fp16", "defect")],
)
def test_farther_off_it_is_rounding_of_fp16_or_a_defect(
    model: GatedPixelCNN, offset: float, precision: str, cause: str
) -> None:
    found = verdict(model, *tie(model, request_of(model), offset), precision)
    assert found.first_divergence is not None
    assert found.first_divergence.cause == cause
    line = "not eager PyTorch's: 1 of 12 images, and no rounding error explains it"
    assert found.failures == ((line,) if cause == "defect" else ())


def test_a_defect_comes_before_a_near_tie(model: GatedPixelCNN) -> None:
    request, drawn = tie(model, request_of(model), 4e-6)
    drawn["completions.graph.image"] = drawn["completions.graph.image"].copy()
    free = np.argwhere(~request["completions.mask"][1])[-1]
    place = (1, *free)
    drawn["completions.graph.image"][place] = (drawn["completions.graph.image"][place] + 1) % SPEC.levels
    first = verdict(model, request, drawn).first_divergence
    assert first is not None
    assert (first.cause, first.inputs, first.image) == ("defect", "completions", 1)
    assert (first.channel, first.row, first.column) == tuple(free)


@pytest.mark.parametrize(
    ("spoil", "failure"),
    [
        (lambda d: d["samples.graph.image"].__setitem__((0, 0, 0, 0), 3), "samples (graph): the engine drew levels"),
        (lambda d: d["scores.graph.image"].__iadd__(1).__imod__(3), "scores (graph): the engine changed known"),
        (lambda d: d["scores.graph.log_prob"].__setitem__((1, 0, 0, 0), np.nan), "no log-probabilities that are all"),
        (lambda d: d["scores.graph.log_prob"].__setitem__((1, 0, 0, 0), -np.inf), "no log-probabilities that are all"),
        (lambda d: d["scores.graph.log_prob"].__iadd__(4e-4), "log-probabilities are off by up to 4.0"),
    ],
)
def test_nothing_that_is_wrong_passes(model: GatedPixelCNN, spoil: Any, failure: str) -> None:
    request = request_of(model)
    drawn = draw(model, request)
    assert verdict(model, request, drawn).proven
    spoil(drawn)
    found = verdict(model, request, drawn)
    assert not found.proven
    assert any(line.startswith(failure) for line in found.failures), found.failures


def test_parts_are_compared_as_the_whole(model: GatedPixelCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = feeds(SPEC, 7)[0]
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.logits.bias[0] += 5  # type: ignore[index]
    u, known, mask = (torch.from_numpy(feed[name]) for name in ("noise", "known", "mask"))
    image = sample_jacobi(other, u, None, known, mask)[0]
    log_prob = score(other, image).numpy()
    whole = compare(model, feed, image.numpy(), log_prob)
    assert len(whole.divergences) > 2
    monkeypatch.setattr("gpcnn_export.proof.parity._IMAGES_AT_ONCE", 3)
    parts = compare_in_parts(model, feed, image.numpy(), log_prob)
    assert [str(one) for one in parts.divergences] == [str(one) for one in whole.divergences]
    for name in ("images", "drawn", "agreeing"):
        assert getattr(parts, name) == getattr(whole, name)
    assert parts.eager_nats == pytest.approx(whole.eager_nats, rel=1e-6)


def test_an_autoencoder_scores_images_given_their_own_codes() -> None:
    spec = ModelSpec(height=8, width=8, levels=17, features=4, layers=2, conditioning="embedding", conditioning_size=3)
    header = Header(spec=spec, data="digits", quantization="nearest")
    model = random_model(spec, EncoderSpec(features=(2, 3, 4)))
    prepared, arrays = prepare(job(spec=spec), model, header)
    assert (prepared.data, prepared.data_images, prepared.data_skipped) == ("digits", 5, None)
    with torch.no_grad():
        codes = model.embed(torch.from_numpy(arrays["data.levels"]))
    np.testing.assert_array_equal(arrays["data.embedding"], codes.numpy())
    prepared, arrays = prepare(job(spec=spec), random_model(spec), header)
    assert prepared.data_skipped is not None
    assert "has no array 'embeddings'" in prepared.data_skipped
    assert not any(name.startswith("data.") for name in arrays)
    with pytest.raises(DataError, match="has no array 'embeddings'"):
        prepare(job(spec=spec, data="digits"), random_model(spec), header)
