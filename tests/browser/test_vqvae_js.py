"""A VQ-VAE in gpcnn.js in Node: codes and pictures of the native engine in Python, and files that are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_vqvae import PRIOR, SPEC, models

from gpcnn_deploy.model_file import read_model_file, tensor_shapes
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime import Sampler, complete, score

Node = Callable[..., list[Any]]
RELAXED = "--experimental-wasm-relaxed-simd"
GREY = VqvaeSpec(height=6, width=4, channels=1, codes=9, downsample=2, code_size=3, features=4, blocks=0)
LARGE = VqvaeSpec(height=48, width=32, channels=3, codes=9, downsample=16, code_size=7, features=9, blocks=2)
SPECS = {"colour": SPEC, "grey": GREY, "16 times as large": LARGE}


def write(path: Path, spec: VqvaeSpec = SPEC) -> Path:
    model, pictures = models(spec, PRIOR)
    path.write_bytes(draft_model_file(model, ("a", "b & 'ü'"), pictures=pictures).content)
    return path


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_codes_and_pictures_are_those_of_python(node: Node, tmp_path: Path, spec: VqvaeSpec, relaxed: bool) -> None:
    """19 images are three batches."""
    if relaxed and not node({"method": "simd"}, flags=(RELAXED,))[0][1]:
        pytest.skip("this CPU or this Node has no relaxed SIMD that fuses")
    file = write(tmp_path / "model.gpcnn", spec)
    call = {"file": str(file), "relaxed": relaxed}
    given = {"labels": ["b & 'ü'", "a"], "count": 19, "seed": 6}
    found, about = node({**call, "method": "draw", "given": given}, {**call, "method": "about"}, flags=(RELAXED,))
    with Sampler.load(file, reproducible=not relaxed) as sampler:
        ours = sampler.sample([1, 0], 6, 19)
    assert ours.pictures is not None
    assert found["levels"] == ours.levels.ravel().tolist()
    assert found["shape"] == [38, 1, 3, 2]
    pictures = np.reshape(found["pictures"], ours.pictures.shape)
    assert np.abs(pictures - ours.pictures.astype(int)).max() <= 1
    assert len({one.tobytes() for one in pictures}) > 10
    assert {0, 255} <= set(found["pictures"])
    assert about["metadata"]["vqvae"]["downsample"] == spec.downsample
    assert (about["spec"]["height"], about["spec"]["levels"]) == (3, 9), "what it draws are codes"


def test_hashes_completions_and_scores_are_those_of_codes(node: Node, tmp_path: Path) -> None:
    file = write(tmp_path / "model.gpcnn")
    codes, mask = np.random.default_rng(3).integers(0, 9, (1, 3, 2)), np.zeros((3, 2), bool)
    mask[0] = True
    levels = codes.ravel().tolist()
    given = {"levels": levels, "mask": mask.ravel().astype(int).tolist(), "count": 3, "candidates": 2, "seed": 2}
    call = {"file": str(file), "relaxed": False}
    completed, scored, digests, about = node(
        {**call, "method": "complete", "given": given},
        {**call, "method": "score", "given": {"levels": levels}},
        {**call, "method": "digests", "given": {"levels": levels}},
        {**call, "method": "about"},
    )
    with Sampler.load(file, reproducible=True) as sampler:
        ours = complete(sampler, codes, mask, count=3, candidates=2, seed=2)
        assert completed["levels"] == ours.levels.ravel().tolist()
        assert ours.pictures is not None
        difference = np.reshape(completed["pictures"], ours.pictures.shape) - ours.pictures.astype(int)
        assert np.abs(difference).max() <= 1
        assert scored["nats"] == pytest.approx(score(sampler, codes[None]).nats[0], rel=1e-6)
    assert scored.get("pictures") is None
    assert digests == [hashlib.sha256(codes.astype(np.uint8).tobytes()).hexdigest()]
    assert about["pictureSpec"] == {"height": 12, "width": 8, "channels": 3, "levels": 256}


def test_damaged_files_are_refused(node: Node, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gpcnn").read_bytes()
    metadata, weights = read_model_file(tmp_path / "whole.gpcnn")
    nan = (0xFFFFFFFF).to_bytes(4, "little")
    codebook = weights["pictures.codebook"].tobytes()
    assert whole.count(codebook) == 1
    assert list(tensor_shapes(metadata.spec, metadata.vqvae))[-1] == "pictures.encoder.out.weight"

    def changed(old: bytes, new: bytes) -> bytes:
        assert whole.count(old) == 1
        assert len(old) == len(new)
        return whole.replace(old, new)

    broken = {
        "short": whole[:-4],
        "long": whole + b"0000",
        "nan in the decoder": changed(codebook, nan + codebook[4:]),
        "nan in the encoder": whole[:-4] + nan,
        "nan in the prior": changed(bytes(weights["head.logits.bias"].tobytes()), nan * 9),
        "another codebook": changed(b'"pictures.codebook"', b'"pictures.codebooo"'),
        "another shape": changed(b'"pictures.codebook":{"dtype":"F32","shape":[9,5]',
                                 b'"pictures.codebook":{"dtype":"F32","shape":[5,9]'),
        "another downsample": changed(rb"\"downsample\":4", rb"\"downsample\":8"),
        "no number": changed(rb"\"downsample\":4", rb"\"downsample\":[").replace(b"[,", b"0,"),
        "another size": changed(rb"\"channels\":3", rb"\"channels\":2"),
        "taller than its codes": changed(rb"\"height\":12", rb"\"height\":16"),
        "other codes": changed(rb"\"levels\":9", rb"\"levels\":8"),
    }  # fmt: skip
    calls = []
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        calls.append({"method": "about", "file": str(tmp_path / name)})
    for name, found in zip(broken, node(*calls), strict=True):
        assert "export" in found["error"], (name, json.dumps(found)[:200])
        assert "\n" not in found["error"]
