"""A VQ-VAE-2's engines in gpcnn-sample and gpcnn-score: both levels of codes are kept, drawn and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_vqvae import PRIOR_2, SPEC_2, engines_in

import gpcnn_runtime.commands.sample.cli
import gpcnn_runtime.commands.score.cli
from gpcnn_deploy.code_sheet import split_sheet
from gpcnn_export.proof.pictures import check_pictures
from gpcnn_runtime import Sampler
from gpcnn_training.checkpoint import load_vqvae
from gpcnn_training.vqvae.pictures import decode, encode

PIXELS = check_pictures(SPEC_2, 8)
ENGINES = ("model.gpcnn", "model.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines_in(tmp_path_factory.mktemp("vqvae2"), PIXELS, SPEC_2, PRIOR_2, 2)


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in made.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)


def run(command: Any, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("engine", ENGINES)
def test_a_completion_keeps_the_codes_of_each_level_whose_pixels_are_all_known(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    options = ("--rows", 10, "--count", 3, "--label", "b", "--output-format", "npz", "-o", "c.npz")
    run(gpcnn_runtime.commands.sample.cli.main, "--engine", engine, "--complete", "5.png", *options)
    with np.load("c.npz") as arrays:
        codes, drawn, kept, mask = (arrays[name] for name in ("levels", "pictures", "kept", "mask"))
    top, bottom = split_sheet(PRIOR_2, mask)
    assert np.array_equal(top[0].all(1), [True, True, False, False])  # a top code stands for 4×4 pixels
    assert np.array_equal(bottom[0].all(1), np.arange(8) < 5)  # a bottom code for 2×2
    own = encode(pictures, PIXELS[5:6])
    assert (codes[:, mask] == own[:, mask]).all()
    assert np.array_equal(kept, np.broadcast_to(np.arange(16)[:, None] < 10, (3, 16, 8)))
    assert (drawn[:, :, :10] == PIXELS[5, :, :10]).all()
    decoded = decode(pictures, codes.astype(np.int32)).astype(int)
    assert np.abs(decoded[:, :, 10:] - drawn[:, :, 10:]).max() <= 1
    box = ("--box", "0,4,8,4", "--candidates", 4, "--rank-by", "known")
    run(gpcnn_runtime.commands.sample.cli.main, "--engine", engine, "--complete", "5.png", *box)


@pytest.mark.parametrize("engine", ENGINES)
def test_images_like_a_picture_have_a_share_of_the_codes_of_both_levels(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    own = encode(pictures, PIXELS[3:4])
    options = ("--like", "3.png", "--count", 30, "--vary", 0.25, "--output-format", "npz", "-o", "l.npz")
    run(gpcnn_runtime.commands.sample.cli.main, "--engine", engine, *options)
    with np.load("l.npz") as arrays:
        codes, back = arrays["levels"], arrays["reconstruction"]
    assert np.abs(decode(pictures, own).astype(int) - back).max() <= 1
    for level, ours in zip(split_sheet(PRIOR_2, codes), split_sheet(PRIOR_2, own), strict=True):
        assert 0.65 <= (level == ours).mean() < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_nats_of_the_codes_of_both_levels(engine: str) -> None:
    _, pictures, _ = load_vqvae(Path("my.safetensors"))
    options = ("--engine", engine, "--label", "b", "--json", "s.json", "--heatmap", "heat")
    run(gpcnn_runtime.commands.score.cli.main, "2.png", *options)
    (row,) = json.loads(Path("s.json").read_text())["pictures"]
    with Sampler.load(engine) as sampler:
        log_prob = sampler.score(encode(pictures, PIXELS[2:3]), 1)
    assert np.isclose(row["nats"], -log_prob.sum(), rtol=1e-5)
    assert np.isclose(row["bits_per_dim"], row["nats"] / 40 / np.log(2))
    with Image.open(row["heatmap"]) as heat:
        assert heat.size == (28 * (3 * 8 + 8), 28 * (16 + 4))  # the picture, then a panel for each level of codes
