"""gpcnn.js in Node: the contract vectors, and the images and numbers of the native engine in Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_engines import ENLARGED, LABELLED, MAPPED, PLAIN

from gpcnn_deploy.pictures.levels import compact
from gpcnn_deploy.pictures.maps import some_maps
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler, complete, score
from gpcnn_training.checkpoint import load_checkpoint

Node = Callable[..., list[Any]]
MakeModel = Callable[[ModelSpec], Path]
RELAXED = "--experimental-wasm-relaxed-simd"
"""A flag that Node needs before version 21."""
CONTRACT = Path(__file__).parents[1] / "contract"
GREY = ModelSpec(height=5, width=7, levels=256, features=5, layers=2, head_features=6)
CATEGORIES = ModelSpec(
    height=4, width=5, levels=700, features=6, layers=2, head_features=6, input="categorical", input_size=5
)
MIXED = ModelSpec(
    height=4, width=5, channels=3, levels=256, features=6, layers=2, head_features=6, head="mixture", mixtures=10
)
SPECS = {"labels": LABELLED, "colour": PLAIN, "256 levels": GREY, "700 categories": CATEGORIES, "mixture": MIXED}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def labels_of(spec: ModelSpec) -> list[int] | None:
    return [2, 0] if spec.conditioning == "label" else None


def tolerance_of(spec: ModelSpec) -> dict[str, float]:
    """Of log-probabilities that are rounded in another way; those of narrow logistics move by 1,000 times as much."""
    return {"atol": 2e-5, "rtol": 0} if spec.head == "categorical" else {"atol": 5e-3, "rtol": 1e-5}


def picture(spec: ModelSpec, seed: int = 5) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(0, spec.levels, spec.image_shape)


def flat(array: Any) -> list[Any]:
    return np.asarray(array).ravel().tolist()


def test_noise_vectors(node: Node, model_file: MakeModel) -> None:
    vectors = json.loads((CONTRACT / "noise.json").read_text())["vectors"]
    calls = []
    for vector in vectors:
        c, h, w = vector["shape"]
        file = str(model_file(ModelSpec(height=h, width=w, channels=c, features=2, layers=1, head_features=2)))
        given = {"seed": vector["seed"], "first": vector["image"], "count": 1}
        calls.append({"method": "noise", "file": file, "given": given})
    for vector, found in zip(vectors, node(*calls), strict=True):
        assert [round(uniform * 2**24) for uniform in found] == vector["noise"], vector["seed"]
        assert all((uniform * 2**24).is_integer() for uniform in found)


def test_sample_vectors(node: Node, tmp_path: Path) -> None:
    contract = json.loads((CONTRACT / "samples.json").read_text())
    calls, cases = [], []
    for model in contract["models"]:
        network, _ = load_checkpoint(CONTRACT / model["checkpoint"])
        file = tmp_path / f"{model['checkpoint']}.gpcnn"
        file.write_bytes(draft_model_file(network).content)
        for case in model["cases"]:
            given = {name: case[name] for name in ("known", "mask", "temperature", "embedding") if name in case}
            given["noise"] = [n / 2**24 for n in case["noise"]]
            if "label" in case:
                given["labels"] = case["label"]
            else:
                given["count"] = case["shape"][0]
            calls.append({"method": "draw", "file": str(file), "given": given})
            cases.append(case)
    for case, found in zip(cases, node(*calls), strict=True):
        assert found["shape"] == case["shape"]
        assert found["levels"] == case["image"], case["name"]
        np.testing.assert_allclose(found["logProb"], case["log_prob"], atol=contract["log_prob_tolerance"])


@every_spec
def test_images_and_bits_are_those_of_the_native_engine(node: Node, model_file: MakeModel, spec: ModelSpec) -> None:
    """Without fused multiply-add, log-probabilities are equal bit for bit; 70 images are nine batches."""
    file, labels = model_file(spec), labels_of(spec)
    given = {"seed": str(2**64 - 1), "first": 7, "count": 70, "temperature": 0.8}
    if labels:
        given |= {"labels": labels, "count": 35}
    found, digests = node(
        {"method": "draw", "file": str(file), "given": given, "relaxed": False},
        {"method": "digests", "file": str(file), "given": {"levels": flat(picture(spec))}},
    )
    with Sampler.load(file, reproducible=True) as sampler:
        drawn = sampler.sample(labels, 2**64 - 1, int(given["count"]), temperature=0.8, first=7)
    assert found["levels"] == flat(drawn.levels)
    assert found["logProb"] == flat(drawn.log_prob)
    assert found.get("labels") == (None if drawn.labels is None else drawn.labels.tolist())
    assert digests == [hashlib.sha256(compact(picture(spec), spec.levels).tobytes()).hexdigest()]


@every_spec
def test_relaxed_simd_draws_the_same_images(node: Node, model_file: MakeModel, spec: ModelSpec) -> None:
    file, labels = str(model_file(spec)), labels_of(spec)
    given = {"seed": 3, "count": 20, **({"labels": labels} if labels else {})}
    (_, relaxed), *_ = node({"method": "simd"}, flags=(RELAXED,))
    if not relaxed:
        pytest.skip("this CPU or this Node has no relaxed SIMD that fuses")
    plain, fused, about = node(
        {"method": "draw", "file": file, "given": given, "relaxed": False},
        {"method": "draw", "file": file, "given": given, "relaxed": True},
        {"method": "about", "file": file},
        flags=(RELAXED,),
    )
    assert plain["levels"] == fused["levels"]
    np.testing.assert_allclose(plain["logProb"], fused["logProb"], **tolerance_of(spec))
    assert "fused" in about["instructions"], "the faster kernel is the default where it can run"


@every_spec
@pytest.mark.parametrize("rank_by", ["image", "known"])
@pytest.mark.parametrize("kept", ["upper rows", "scattered"])
def test_completions_are_those_of_python(
    node: Node, model_file: MakeModel, spec: ModelSpec, rank_by: Any, kept: str
) -> None:
    file, levels = model_file(spec), picture(spec)
    mask = np.zeros(spec.image_shape[1:], bool)
    if kept == "upper rows":
        mask[:2] = True
    else:
        mask[np.random.default_rng(1).random(mask.shape) < 0.4] = True
    given = {"levels": flat(levels), "mask": flat(mask.astype(int)), "count": 3, "candidates": 4, "seed": 9}
    (found,) = node({"method": "complete", "file": str(file), "given": {**given, "rankBy": rank_by}, "relaxed": False})
    if kept == "upper rows" and rank_by == "known":
        assert "rank by image" in found["error"]
        return
    with Sampler.load(file, reproducible=True) as sampler:
        ours = complete(sampler, levels, mask, count=3, candidates=4, seed=9, rank_by=rank_by)
    assert found["levels"] == flat(ours.levels)
    assert found["positions"] == ours.positions.tolist()
    assert found.get("labels") == (None if ours.labels is None else ours.labels.tolist())
    assert (found["guided"], found["drawn"]) == (ours.guided(), ours.drawn)


@pytest.mark.parametrize(("spec", "label"), [*((spec, None) for spec in SPECS.values()), (LABELLED, 1)])
def test_scores_are_those_of_python(node: Node, model_file: MakeModel, spec: ModelSpec, label: int | None) -> None:
    file, levels = model_file(spec), picture(spec)
    (found,) = node({"method": "score", "file": str(file), "given": {"levels": flat(levels), "label": label}})
    with Sampler.load(file) as sampler:
        ours = score(sampler, levels[None], label, per_pixel=True)
    assert ours.log_prob is not None
    np.testing.assert_allclose(found["nats"], ours.nats[0], rtol=1e-6)
    np.testing.assert_allclose(found["bitsPerDim"], ours.bits_per_dim()[0], rtol=1e-6)
    np.testing.assert_allclose(found["logProb"], ours.log_prob.ravel(), **tolerance_of(spec))
    posterior = ours.posterior()
    if posterior is None:
        assert found.get("posterior") is None
        return
    assert ours.label_nats is not None
    np.testing.assert_allclose(found["posterior"], posterior[0], atol=1e-5)
    np.testing.assert_allclose(found["labelNats"], ours.label_nats[0], rtol=1e-6)


def test_rows_come_as_they_are_drawn_and_can_stop_it(node: Node, model_file: MakeModel) -> None:
    given = {"labels": [1], "count": 10, "seed": 4}
    call = {"file": str(model_file(LABELLED))}
    drawn, rows, stopped, stopped_at_the_end_of_a_batch = node(
        {**call, "method": "draw", "given": given},
        {**call, "method": "rows", "given": given},
        {**call, "method": "rows", "given": {**given, "stopAt": 2}},
        {**call, "method": "rows", "given": {**given, "stopAt": 5}},
    )
    levels = np.reshape(drawn["levels"], drawn["shape"])
    assert [(row, first) for row, first, _ in rows] == [(row, first) for first in (0, 5) for row in range(6)]
    for row, first, found in rows:
        np.testing.assert_array_equal(found, levels[first : first + len(found), 0, row])
    assert stopped["cancelled"]
    assert stopped_at_the_end_of_a_batch["cancelled"]


def test_what_a_model_says_of_itself(node: Node, model_file: MakeModel) -> None:
    (about,) = node({"method": "about", "file": str(model_file(LABELLED))})
    assert about["classNames"] == ["boot", "3", "bag, red"]
    assert about["spec"]["firstKernelSize"] == 5
    assert about["metadata"]["role"] == "weights"


@pytest.mark.parametrize(
    ("method", "given", "match"),
    [
        ("draw", {}, "this model draws by label: name one of boot, 3, bag, red"),
        ("draw", {"label": 3}, "unknown label '3': expected one of boot, 3, bag, red"),
        ("draw", {"label": "shoe"}, "unknown label 'shoe'"),
        ("draw", {"label": 0, "seed": -1}, "seed is -1: expected a whole number from 0 to 2**64 - 1"),
        ("draw", {"label": 0, "seed": str(2**64)}, "seed is 18446744073709551616"),
        ("draw", {"label": 0, "seed": 1.5}, "seed is 1.5"),
        ("draw", {"label": 0, "seed": ""}, "seed is : expected"),
        ("draw", {"label": 0, "count": 0}, "count is 0: expected a whole number, at least 1"),
        ("draw", {"label": 0, "temperature": 0}, "temperature is 0: expected above 0"),
        ("draw", {"label": 0, "noise": [0.5]}, "noise has 1 numbers: expected 30"),
        ("draw", {"label": 0, "mask": [1] * 30}, "levels has undefined numbers: expected 30"),
        ("score", {"levels": [4] * 30}, "levels holds 4: expected whole numbers from 0 to 3"),
        ("score", {"levels": [0.5] * 30}, "levels holds 0.5"),
        ("score", {"levels": [0] * 29}, "levels has 29 numbers: expected 30"),
        ("complete", {"levels": [0] * 30, "mask": [1] * 30}, "the mask keeps every pixel"),
        ("complete", {"levels": [0] * 30, "mask": [0] * 30}, "the mask keeps no pixel"),
        ("complete", {"levels": [0] * 30, "mask": [1] * 7}, "mask has 7 numbers: expected 30"),
        ("complete", {"levels": [0] * 30, "mask": [1, 0] * 15, "candidates": 0}, "candidates is 0"),
    ],
)
def test_a_wrong_request_is_one_line(
    node: Node, model_file: MakeModel, method: str, given: dict[str, Any], match: str
) -> None:
    file = str(model_file(LABELLED))
    wrong, right = node(
        {"method": method, "file": file, "given": given}, {"method": "draw", "file": file, "given": {"label": "boot"}}
    )
    assert match in wrong["error"]
    assert "\n" not in wrong["error"]
    assert right["shape"] == [1, 1, 6, 5], "the model goes on"


def test_damaged_files_are_refused(node: Node, model_file: MakeModel, tmp_path: Path) -> None:
    whole = model_file(PLAIN).read_bytes()
    at = whole.index(b"schema") + 10
    broken = {
        "empty": b"",
        "short": whole[:-4],
        "long": whole + b"0000",
        "nan": whole[:-4] + b"\xff\xff\xff\x7f",
        "text": b"x" * 5000,
        "newer": whole[:at].replace(b'schema\\":1', b'schema\\":9') + whole[at:],
    }
    calls = []
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        calls.append({"method": "about", "file": str(tmp_path / name)})
    for name, found in zip(broken, node(*calls), strict=True):
        assert "export" in found["error"], name
    assert broken["newer"] != whole


def test_sha256(node: Node) -> None:
    """Every length around the ends of blocks, against Node's own."""
    lengths = [*range(0, 130), 1000]
    calls = [{"method": "sha256", "given": [(7 * k + 3) % 256 for k in range(length)]} for length in lengths]
    for ours, theirs in node(*calls):
        assert ours == theirs


def test_without_simd_it_says_so(node: Node, model_file: MakeModel) -> None:
    """V8 has no SIMD on a CPU without SSE 4.1."""
    flags = ("--no-enable-sse4-1",)
    (simd, _), *_ = node({"method": "simd"}, flags=flags)
    if simd:
        pytest.skip("this Node has SIMD whatever the CPU: the flag takes it from V8 on x86 alone")
    (found,) = node({"method": "about", "file": str(model_file(PLAIN))}, flags=flags)
    assert found["error"] == "this browser has no WebAssembly SIMD, which the engine needs: use a newer one"


@pytest.mark.parametrize("spec", [MAPPED, ENLARGED], ids=["categories", "a small picture"])
def test_maps_are_drawn_completed_and_scored_as_in_python(node: Node, model_file: MakeModel, spec: ModelSpec) -> None:
    file = model_file(spec)
    maps = some_maps(spec, 9, np.random.default_rng(2))
    levels, mask = picture(spec), np.zeros(spec.image_shape[1:], bool)
    mask[:2] = True
    one = flat(maps[0])
    drawn, completed, scored, about, *refused = node(
        {"method": "draw", "file": str(file), "given": {"count": 9, "seed": 4, "map": flat(maps)}, "relaxed": False},
        {"method": "complete", "file": str(file), "given": {"levels": flat(levels), "mask": flat(mask.astype(int)),
                                                            "map": one}, "relaxed": False},
        {"method": "score", "file": str(file), "given": {"levels": flat(levels), "map": one}, "relaxed": False},
        {"method": "about", "file": str(file)},
        {"method": "draw", "file": str(file), "given": {}},
        {"method": "draw", "file": str(file), "given": {"map": one[:-1]}},
        {"method": "draw", "file": str(file), "given": {"map": [*one[:-1], spec.map_categories or "none"]}},
    )  # fmt: skip
    with Sampler.load(file, reproducible=True) as sampler:
        expected = sampler.sample(seed=4, map=maps)
        assert drawn["levels"] == flat(expected.levels)
        assert drawn["logProb"] == flat(expected.log_prob)
        assert len({image.tobytes() for image in expected.levels}) > 5
        assert completed["levels"] == flat(complete(sampler, levels, mask, map=maps[0]).levels)
        assert scored["nats"] == pytest.approx(score(sampler, levels[None], map=maps[:1]).nats[0], abs=1e-3)
    planes, rows, columns = spec.map_shape
    assert (about["spec"]["conditioning"], about["spec"]["conditioningSize"]) == ("map", planes)
    sizes = [about["spec"][name] for name in ("mapHeight", "mapWidth", "mapFeatures", "mapCategories")]
    assert sizes == [rows, columns, spec.map_features, spec.map_categories]
    assert f"draws from a map of {planes} × {rows} × {columns} numbers" in refused[0]["error"]
    assert f"map has {len(one) - 1} numbers: expected {len(one)}" in refused[1]["error"]
    assert "map holds" in refused[2]["error"]
