"""A VQ-VAE-2 in gpcnn.js in Node: sheets of codes and pictures of the native engine in Python, and refused files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_vqvae import SPEC_2, models, prior_of

from gpcnn_deploy.model_file import read_model_file
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import Conditioning, VqvaeSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler, complete, score

Node = Callable[..., list[Any]]
RELAXED = "--experimental-wasm-relaxed-simd"
GREY = VqvaeSpec(
    height=24, width=12, channels=1, codes=300, downsample=2, code_size=3, features=4, blocks=0, code_levels=2
)
LARGE = VqvaeSpec(
    height=64, width=32, channels=3, codes=9, downsample=16, code_size=7, features=9, blocks=2, code_levels=2
)
SPECS: dict[str, tuple[VqvaeSpec, Conditioning]] = {
    "colour": (SPEC_2, "label"),
    "grey, 300 codes": (GREY, "none"),
    "16 times as large": (LARGE, "label"),
}


def write(path: Path, spec: VqvaeSpec = SPEC_2, conditioning: Conditioning = "label") -> Path:
    model, pictures = models(spec, prior_of(spec, conditioning))
    names = ("a", "b & 'ü'") if conditioning == "label" else None
    path.write_bytes(draft_model_file(model, names, pictures=pictures).content)
    return path


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize(("spec", "conditioning"), SPECS.values(), ids=SPECS)
def test_sheets_and_pictures_are_those_of_python(
    node: Node, tmp_path: Path, spec: VqvaeSpec, conditioning: Conditioning, relaxed: bool
) -> None:
    """19 images of each label are several batches; without fused multiply-add, log-probabilities have equal bits."""
    if relaxed and not node({"method": "simd"}, flags=(RELAXED,))[0][1]:
        pytest.skip("this CPU or this Node has no relaxed SIMD that fuses")
    file, labels = write(tmp_path / "model.gpcnn", spec, conditioning), conditioning == "label"
    call = {"file": str(file), "relaxed": relaxed}
    given = {"count": 19, "seed": str(2**64 - 1), "first": 3, "temperature": 0.9, "window": 2}
    given |= {"labels": ["b & 'ü'", "a"]} if labels else {}
    found, about = node({**call, "method": "draw", "given": given}, {**call, "method": "about"}, flags=(RELAXED,))
    with Sampler.load(file, reproducible=not relaxed) as sampler:
        ours = sampler.sample([1, 0] if labels else None, 2**64 - 1, 19, temperature=0.9, first=3)
    assert ours.pictures is not None
    assert found["shape"] == list(ours.levels.shape)
    assert found["levels"] == ours.levels.ravel().tolist()
    if not relaxed:
        assert found["logProb"] == ours.log_prob.ravel().tolist()
    pictures = np.reshape(found["pictures"], ours.pictures.shape)
    assert np.abs(pictures - ours.pictures.astype(int)).max() <= 1
    assert len({one.tobytes() for one in pictures}) > 10
    rows, columns = spec.grid
    told = about["spec"]
    assert (told["height"], told["width"], told["levels"], told["codeLevels"]) == (rows, columns, spec.codes, 2)
    assert told["conditioning"] == conditioning
    assert about["pictureSpec"] == {
        "height": spec.height, "width": spec.width, "channels": spec.channels, "levels": 256
    }  # fmt: skip


def test_the_noise_is_that_of_the_sheet(node: Node, tmp_path: Path) -> None:
    file = str(write(tmp_path / "model.gpcnn"))
    (found,) = node({"method": "noise", "file": file, "given": {"seed": 5, "first": 2, "count": 3}})
    assert found == noise(prior_of(SPEC_2), 5, 3, first=2).ravel().tolist()


def test_rows_of_the_sheet_come_as_they_are_drawn_and_can_stop_it(node: Node, tmp_path: Path) -> None:
    file = str(write(tmp_path / "model.gpcnn"))
    given = {"labels": [1], "count": 10, "seed": 4}
    drawn, rows, stopped, above = node(
        {"file": file, "method": "draw", "given": given},
        {"file": file, "method": "rows", "given": given},
        {"file": file, "method": "rows", "given": {**given, "stopAt": 4}},
        {"file": file, "method": "rows", "given": {**given, "stopAt": 1}},
    )
    levels = np.reshape(drawn["levels"], drawn["shape"])
    assert [(row, first) for row, first, _ in rows] == [(row, first) for first in (0, 5) for row in range(10)]
    for row, first, found in rows:
        np.testing.assert_array_equal(found, levels[first : first + len(found), 0, row])
    assert stopped["cancelled"]
    assert above["cancelled"]


@pytest.mark.parametrize("kept", ["top codes", "scattered"])
def test_completions_and_scores_are_those_of_sheets(node: Node, tmp_path: Path, kept: str) -> None:
    file, shape = write(tmp_path / "model.gpcnn"), (1, *SPEC_2.grid)
    codes, mask = np.random.default_rng(3).integers(0, SPEC_2.codes, shape), np.zeros(SPEC_2.grid, bool)
    if kept == "top codes":
        mask[:2] = True
    else:
        mask[np.random.default_rng(1).random(mask.shape) < 0.4] = True
    levels = codes.ravel().tolist()
    given = {"levels": levels, "mask": mask.ravel().astype(int).tolist(), "count": 3, "candidates": 2, "seed": 2}
    call = {"file": str(file), "relaxed": False}
    completed, scored = node(
        {**call, "method": "complete", "given": given}, {**call, "method": "score", "given": {"levels": levels}}
    )
    with Sampler.load(file, reproducible=True) as sampler:
        ours = complete(sampler, codes, mask, count=3, candidates=2, seed=2)
        assert completed["levels"] == ours.levels.ravel().tolist()
        assert completed["positions"] == ours.positions.tolist()
        assert (completed["guided"], completed["drawn"]) == (ours.guided(), ours.drawn)
        assert ours.labels is not None
        assert completed["labels"] == ours.labels.tolist()
        assert ours.pictures is not None
        difference = np.reshape(completed["pictures"], ours.pictures.shape) - ours.pictures.astype(int)
        assert np.abs(difference).max() <= 1
        scores = score(sampler, codes[None])
    assert scored["nats"] == pytest.approx(scores.nats[0], rel=1e-6)
    posterior = scores.posterior()
    assert posterior is not None
    np.testing.assert_allclose(scored["posterior"], posterior[0], atol=1e-5)


def test_damaged_files_are_refused(node: Node, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gpcnn").read_bytes()
    _, weights = read_model_file(tmp_path / "whole.gpcnn")
    nan = (0xFFFFFFFF).to_bytes(4, "little")

    def changed(old: bytes, new: bytes, times: int = 1) -> bytes:
        assert whole.count(old) == times
        assert len(old) == len(new)
        return whole.replace(old, new)

    def spoiled(name: str) -> bytes:
        data = weights[name].tobytes()
        return changed(data, nan + data[4:])

    broken = {
        "short": whole[:-4],
        "long": whole + b"0000",
        "nan in the top codebook": spoiled("pictures.top_codebook"),
        "nan in the top prior": spoiled("top.head.logits.weight"),
        "nan in the bottom prior": spoiled("bottom.map_network.read.weight"),
        "another tensor of pictures": changed(b'"pictures.top_codebook"', b'"pictures.top_codebooo"'),
        "another tensor of the top prior": changed(b'"top.head.logits.bias"', b'"top.head.logits.bia_"'),
        "another level": changed(b'"top.head.logits.bias"', b'"tip.head.logits.bias"'),
        "one level of pictures": changed(rb"3,\"code_levels\":2", rb"3,\"code_levels\":1"),
        "one level of codes": changed(rb"1,\"code_levels\":2", rb"1,\"code_levels\":1"),
        "three levels": changed(rb"\"code_levels\":2", rb"\"code_levels\":3", times=2),
        "half a row": changed(rb"\"height\":10", rb"\"height\":11"),
        "more rows": changed(rb"\"height\":10", rb"\"height\":15"),
        "an odd width": changed(rb"\"width\":4", rb"\"width\":5"),
        "no features of the map": changed(rb"\"map_features\"", rb"\"mop_features\""),
        "a map of other features": changed(rb"\"map_features\":3", rb"\"map_features\":4"),
    }
    calls = []
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        calls.append({"method": "about", "file": str(tmp_path / name)})
    for name, found in zip(broken, node(*calls), strict=True):
        assert "export" in found["error"], (name, json.dumps(found)[:200])
        assert "\n" not in found["error"]
