"""Completions: what is known stays, the rest equals eager PyTorch's, and the order is that of the likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from small_engines import EMBEDDED, LABELLED, PLAIN, Make, model_of

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.completions import Completions, complete, known_first
from gpcnn_runtime.inputs.masks import keep_outside, keep_rows, read_mask
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.sampling import sample_raster, score

H, W = LABELLED.height, LABELLED.width
LEVELS = np.random.default_rng(7).integers(0, LABELLED.levels, LABELLED.image_shape).astype(np.int32)
SCATTERED = np.random.default_rng(8).random((H, W)) < 0.5
MASKS = {
    "rows": keep_rows(LABELLED, 3),
    "last pixel": np.arange(H * W).reshape(H, W) < H * W - 1,
    "box": keep_outside(LABELLED, "1,2,3,2"),
    "corner": keep_outside(LABELLED, "0,0,2,1"),
    "lower rows": ~keep_rows(LABELLED, 3),
    "scattered": SCATTERED,
}


def eager(
    spec: ModelSpec, levels: npt.NDArray[Any], kept: npt.NDArray[np.bool_], drawn: Completions, **more: Any
) -> Any:
    """What eager PyTorch draws for the labels and noise streams that the completions name, and its log p."""
    uniforms = np.concatenate([noise(spec, more.get("seed", 0), 1, int(k)) for k in drawn.positions])
    n = len(drawn)
    labels = None if drawn.labels is None else torch.from_numpy(drawn.labels)
    images = sample_raster(
        model_of(spec),
        torch.from_numpy(uniforms),
        labels,
        torch.from_numpy(np.repeat(levels[None], n, 0)),
        torch.from_numpy(np.repeat(np.broadcast_to(kept, spec.image_shape)[None], n, 0).copy()),
        more.get("temperature", 1.0),
    )
    return images.numpy(), score(model_of(spec), images, labels).numpy()


@pytest.fixture(scope="module")
def sampler(make: Make) -> Iterator[Sampler]:
    with Sampler.load(make(LABELLED, 2), threads=2, batch_size=7) as loaded:
        yield loaded


@pytest.mark.parametrize("window", [1, 2, W, None])
@pytest.mark.parametrize("kind", MASKS)
def test_known_pixels_stay_and_the_rest_is_what_eager_draws(make: Make, window: int | None, kind: str) -> None:
    mask = MASKS[kind]
    with Sampler.load(make(LABELLED, window)) as engine:
        done = complete(engine, LEVELS, mask, labels=1, count=5, candidates=2, seed=3, temperature=0.9)
    assert done.levels.shape == (5, 1, H, W)
    kept = np.broadcast_to(mask, LEVELS.shape)
    for image in done.levels:
        np.testing.assert_array_equal(image[kept], LEVELS[kept])
    images, log_prob = eager(LABELLED, LEVELS, mask, done, seed=3, temperature=0.9)
    np.testing.assert_array_equal(done.levels, images)
    np.testing.assert_allclose(done.log_prob, log_prob, atol=1e-4)
    assert (done.drawn, done.depth) == (10, LABELLED.levels)
    np.testing.assert_array_equal(done.original, LEVELS)
    np.testing.assert_array_equal(done.mask, kept)


@pytest.mark.parametrize("window", [1, 3, PLAIN.width, None])
def test_colour_is_kept_and_drawn_pixel_by_pixel_or_channel_by_channel(make: Make, window: int | None) -> None:
    levels = np.random.default_rng(1).integers(0, PLAIN.levels, PLAIN.image_shape)
    channels = np.random.default_rng(2).random(PLAIN.image_shape) < 0.5
    with Sampler.load(make(PLAIN, window)) as engine:
        for mask in (keep_outside(PLAIN, "1,1,3,2"), channels):
            done = complete(engine, levels, mask, count=3)
            kept = np.broadcast_to(mask, PLAIN.image_shape)
            assert (done.levels[:, kept] == levels[kept]).all()
            np.testing.assert_array_equal(done.levels, eager(PLAIN, levels, mask, done)[0])
            assert done.labels is None


def test_an_embedding(make: Make) -> None:
    vector = np.arange(5) / 5
    levels, mask = np.ones(EMBEDDED.image_shape, np.int32), keep_rows(EMBEDDED, 2)
    with Sampler.load(make(EMBEDDED, 2)) as engine:
        done = complete(engine, levels, mask, embedding=vector, count=3, candidates=2)
        alone = engine.sample(embedding=vector, first=int(done.positions[2]), known=levels, mask=done.mask)
        np.testing.assert_array_equal(alone.levels[0], done.levels[2])
        with pytest.raises(UsageError, match="2 embeddings: an image is completed under one"):
            complete(engine, levels, mask, embedding=[vector, vector])


@pytest.mark.parametrize("rank_by", ["image", "known"])
def test_the_best_come_first_and_none_better_is_left_out(sampler: Sampler, rank_by: Any) -> None:
    mask = MASKS["box"]
    done = complete(sampler, LEVELS, mask, labels=2, count=4, candidates=9, seed=5, rank_by=rank_by)
    every = sampler.sample(2, 5, 36, known=LEVELS, mask=done.mask)
    value = every.log_likelihood() if rank_by == "image" else every.log_prob[:, done.mask].sum(1, dtype=np.float64)
    best = np.argsort(-value, kind="stable")[:4]
    assert done.positions.tolist() == best.tolist()
    np.testing.assert_array_equal(done.levels, every.levels[best])
    got = done.log_likelihood() if rank_by == "image" else done.known_log_likelihood()
    np.testing.assert_allclose(got, value[best], rtol=1e-5)
    assert (np.diff(got) <= 0).all()
    assert len(set(best.tolist())) == 4 != len(set(range(4)) & set(best.tolist()))  # a choice was made


def test_the_two_rankings_differ(sampler: Sampler) -> None:
    orders = [
        complete(sampler, LEVELS, SCATTERED, labels=2, count=5, candidates=9, rank_by=rank_by).positions.tolist()
        for rank_by in ("image", "known")
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("labels", [None, [2, 0]])
@pytest.mark.parametrize("rank_by", ["image", "known"])
@pytest.mark.parametrize("count", [1, 3])
def test_more_candidates_are_never_worse(sampler: Sampler, labels: Any, rank_by: Any, count: int) -> None:
    before = np.full(count, -np.inf)
    improved = 0
    for candidates in (1, 2, 5, 11, 30):
        done = complete(
            sampler, LEVELS, SCATTERED, labels=labels, count=count, candidates=candidates, seed=1, rank_by=rank_by
        )
        value = done.log_likelihood() if rank_by == "image" else done.known_log_likelihood()
        assert (value >= before - 1e-4).all()
        improved += int((value > before + 1e-4).any())
        before = value
    assert improved >= 2  # the first, and a real one


def test_batches_and_threads_change_nothing(make: Make) -> None:
    """Blocks of candidates end within a batch, and after many of them."""
    results = []
    for threads, batch_size in ((1, 64), (3, 1), (2, 5)):
        with Sampler.load(make(LABELLED, 2), threads, batch_size) as engine:
            seen: list[int] = []
            results.append(complete(engine, LEVELS, SCATTERED, count=3, candidates=13, progress=seen.append))
            assert sum(seen) == results[-1].drawn == 3 * 13 * 3
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].positions, other.positions)
        np.testing.assert_array_equal(results[0].levels, other.levels)
        np.testing.assert_array_equal(results[0].labels, other.labels)
        np.testing.assert_allclose(results[0].log_prob, other.log_prob, atol=1e-5)


def test_without_a_label_a_known_beginning_chooses_the_most_likely_one(sampler: Sampler) -> None:
    """log p(known | label) by eager PyTorch, which needs nothing that is drawn."""
    chosen = set()
    for seed in range(8):
        levels = np.random.default_rng(seed).integers(0, LABELLED.levels, LABELLED.image_shape).astype(np.int32)
        images = torch.from_numpy(np.repeat(levels[None], 3, 0))
        best = int(score(model_of(LABELLED), images, torch.arange(3))[:, 0, :4].sum((1, 2)).argmax())
        done = complete(sampler, levels, keep_rows(LABELLED, 4), count=3, candidates=2)
        told = complete(sampler, levels, keep_rows(LABELLED, 4), count=3, candidates=2, labels=best)
        assert done.labels is not None
        assert done.labels.tolist() == [best] * 3
        np.testing.assert_array_equal(done.levels, told.levels)
        np.testing.assert_array_equal(done.positions, told.positions)
        assert done.drawn == 6
        chosen.add(best)
    assert len(chosen) > 1


def test_without_a_label_what_is_known_around_a_gap_chooses_it_for_each_candidate(sampler: Sampler) -> None:
    mask = MASKS["box"]
    done = complete(sampler, LEVELS, mask, count=6, seed=2)
    # Candidate k under label j of 3 has noise stream 3 k + j.
    every = sampler.sample([0, 1, 2] * 6, 2, known=LEVELS, mask=done.mask)
    fit = every.log_prob[:, done.mask].sum(1).reshape(6, 3)
    winners = fit.argmax(1) + 3 * np.arange(6)
    best = winners[np.argsort(-every.log_likelihood()[winners], kind="stable")]
    assert done.positions.tolist() == best.tolist()
    assert done.labels is not None
    assert done.labels.tolist() == (best % 3).tolist()
    assert len(set(done.labels.tolist())) > 1
    assert done.drawn == 18


def test_labels_named_and_repeated(sampler: Sampler) -> None:
    one = complete(sampler, LEVELS, SCATTERED, labels=["bag, red", 0, 2, "boot"])
    two = complete(sampler, LEVELS, SCATTERED, labels=[2, 0])
    np.testing.assert_array_equal(one.levels, two.levels)
    assert one.drawn == two.drawn == 8
    assert one.labels is not None
    assert set(one.labels.tolist()) <= {0, 2}


@pytest.mark.parametrize(("kind", "first"), [(kind, kind in ("rows", "last pixel")) for kind in MASKS])
def test_which_known_pixels_guide(sampler: Sampler, kind: str, first: bool) -> None:
    assert known_first(MASKS[kind][None]) == first
    done = complete(sampler, LEVELS, MASKS[kind], labels=0, count=1)
    assert done.guided() == first


def test_a_known_red_guides_the_green_of_its_pixel() -> None:
    mask = np.zeros((3, 1, 2), np.bool_)
    mask[0, 0, 0] = True
    assert known_first(mask)
    mask[0, 0, 1] = True  # the next pixel's red comes after the first one's green and blue
    assert not known_first(mask)


def test_known_pixels_below_a_gap_do_not_guide_it_but_rank_it(sampler: Sampler) -> None:
    mask = MASKS["box"]
    other = LEVELS.copy()
    other[:, 4:] = (other[:, 4:] + 1) % LABELLED.levels
    a, b = (complete(sampler, levels, mask, labels=0, count=8) for levels in (LEVELS, other))
    for position in range(8):
        images = [run.levels[run.positions.tolist().index(position)] for run in (a, b)]
        np.testing.assert_array_equal(images[0][:, :4], images[1][:, :4])
    assert a.positions.tolist() != b.positions.tolist()


def test_the_sheet_shows_original_hole_and_completions_in_order(sampler: Sampler) -> None:
    done = complete(sampler, LEVELS, MASKS["box"], labels=0, count=3)
    sheet = done.sheet()
    assert sheet.shape == (H + 4, 5 * (W + 2) + 2)
    shown = [sheet[2 : 2 + H, 2 + k * (W + 2) : 2 + k * (W + 2) + W] for k in range(5)]
    np.testing.assert_array_equal(shown[0], LEVELS[0] * 85)
    mask = MASKS["box"]
    np.testing.assert_array_equal(shown[1][mask], LEVELS[0][mask] * 85)
    assert set(shown[1][~mask].tolist()) == {112, 176}  # no level has these greys
    for picture, image in zip(shown[2:], done.levels, strict=True):
        np.testing.assert_array_equal(picture, image[0] * 85)


def test_a_large_sheet_has_rows(sampler: Sampler) -> None:
    assert complete(sampler, LEVELS, MASKS["box"], labels=0, count=19).sheet().shape == (
        3 * (H + 2) + 2,
        10 * (W + 2) + 2,
    )


def test_distinct(sampler: Sampler) -> None:
    done = complete(sampler, LEVELS, MASKS["last pixel"], labels=0, count=50)
    assert done.distinct() == len({int(image[0, -1, -1]) for image in done.levels}) <= LABELLED.levels


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"levels": LEVELS[0]}, r"levels has shape \[6, 5\]: expected \[1, 6, 5\]"),
        ({"levels": LEVELS * 1.0}, "levels has dtype float64: expected integers 0 to 3"),
        ({"levels": LEVELS + 4}, "levels holds 4 to 7: expected 0 to 3"),
        ({"levels": LEVELS - 1}, "levels holds -1 to 2"),
        ({"mask": SCATTERED.T}, r"mask has shape \[5, 6\]: expected \[1, 6, 5\] or \[6, 5\]"),
        ({"mask": SCATTERED * 1}, "mask has dtype int64: expected bool, true to keep a pixel"),
        ({"mask": np.ones((H, W), np.bool_)}, "the mask keeps every pixel: nothing is left to draw"),
        ({"mask": np.zeros((H, W), np.bool_)}, "the mask keeps no pixel"),
        ({"count": 0}, "count is 0: expected at least 1"),
        ({"candidates": 0}, "candidates is 0: expected at least 1"),
        ({"candidates": -2}, "candidates is -2"),
        ({"count": 2**40, "candidates": 2**40}, r"images in one call: expected at most 2\*\*63 - 1"),
        ({"labels": "sock"}, "unknown label 'sock'"),
        ({"labels": []}, "no labels"),
        ({"seed": -1}, "seed is -1"),
        ({"temperature": 0}, "temperature is 0"),
        ({"rank_by": "beauty"}, "rank_by is 'beauty': expected one of image, known"),
        ({"mask": MASKS["rows"], "rank_by": "known"}, "everything known comes before what is drawn"),
        ({"strategy": "raster"}, "strategy raster needs a step engine"),
        ({"embedding": [1.0]}, "not conditioned on an embedding"),
    ],
)
def test_refused(sampler: Sampler, arguments: dict[str, Any], match: str) -> None:
    whole = {"levels": LEVELS, "mask": SCATTERED, **arguments}
    with pytest.raises(UsageError, match=match) as caught:
        complete(sampler, whole.pop("levels"), whole.pop("mask"), **whole)
    assert "\n" not in str(caught.value)


def test_masks_of_rows_and_boxes() -> None:
    for rows in range(1, H):
        mask = keep_rows(LABELLED, rows)
        assert mask[:rows].all()
        assert not mask[rows:].any()
    mask = keep_outside(LABELLED, "1, 2,3,4")  # X counts columns, W too
    drawn = {(i, j) for i in range(2, 6) for j in range(1, 4)}
    assert {(i, j) for i, j in np.argwhere(~mask).tolist()} == drawn


@pytest.mark.parametrize("value", range(256))
def test_a_mask_is_white_from_128_on(tmp_path: Path, value: int) -> None:
    grey = np.zeros((H, W), np.uint8)
    grey[0, 0], grey[1, 2] = 255, value
    Image.fromarray(grey).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", PLAIN_GREY)
    assert not mask[0, 0]
    assert mask[1, 2] == (value < 128)
    assert mask.sum() == H * W - 1 - (value >= 128)


PLAIN_GREY = ModelSpec(height=H, width=W, channels=3, levels=2)
"""A mask is grey whatever the model's channels and levels are."""


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.eye(5, dtype=np.uint8) * 255).save(path)
    with pytest.raises(DataError, match="is 5×5 8-bit grey"):
        read_mask(path, LABELLED)
    assert read_mask(path, LABELLED, resize=True).shape == (H, W)
    Image.fromarray(~SCATTERED).save(path)  # 1 bit
    np.testing.assert_array_equal(read_mask(path, LABELLED), SCATTERED)
    for value, word in ((0, "black"), (127, "black"), (255, "white")):
        Image.fromarray(np.full((H, W), value, np.uint8)).save(path)
        with pytest.raises(UsageError, match=f"is {word} everywhere: expected white"):
            read_mask(path, LABELLED)
