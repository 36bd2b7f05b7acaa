"""A VQ-VAE-2 in every engine: codes of both levels, their log-probabilities and the pictures are eager PyTorch's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from small_vqvae import PRIOR_2, SPEC_2, models, save

import gpcnn_export.commands.export.cli
import gpcnn_export.commands.verify.cli
import gpcnn_runtime.commands.inspect.cli
import gpcnn_runtime.commands.sample.cli
from gpcnn_deploy.code_sheet import join_sheet, split_sheet
from gpcnn_deploy.errors import EngineError, ParityError
from gpcnn_deploy.model_file import read_model_file
from gpcnn_deploy.philox import noise
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.checkpoint_to_onnx import make_engine
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.parity import draw_on, prove
from gpcnn_export.proof.pictures import check_pictures, prove_codes, prove_pictures
from gpcnn_runtime import Sampler
from gpcnn_runtime.engines.native.library import instruction_sets
from gpcnn_runtime.engines.native.load import native_engine
from gpcnn_runtime.engines.native.picture_encoder import PictureEncoder
from gpcnn_training.checkpoint import load_vqvae
from gpcnn_training.vqvae.pictures import encode


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save(Path("my.safetensors"), spec=SPEC_2, prior=PRIOR_2)


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("window", "batch"), [(1, None), (4, None), (Schedule(4, 1, 3), None), (2, 5)])
def test_one_call_of_the_graph_draws_both_levels_and_the_picture(window: Any, batch: int | None) -> None:
    model, pictures = models(SPEC_2, PRIOR_2)
    with draft_engine(model, "sampler", window, pictures=pictures, batch=batch).load() as engine:
        parity = prove(model, draw_on(engine), (5,))
        assert (parity.images, parity.identical + parity.near_ties) == (15, 15)
        assert prove_pictures(model, pictures, engine).pixel_error <= 1
        samples = Sampler(engine).sample([0, 1], seed=5, count=3)
    assert samples.pictures is not None
    assert samples.pictures.shape == (6, 3, 16, 8)
    top, _ = split_sheet(PRIOR_2, samples.levels)
    assert len({one.tobytes() for one in top}) > 1


@pytest.mark.parametrize(
    ("downsample", "blocks", "features", "code_size"), [(2, 0, 3, 2), (4, 2, 17, 33), (8, 1, 32, 16)]
)
def test_the_native_engine_draws_them_with_every_instruction_set(
    downsample: int, blocks: int, features: int, code_size: int
) -> None:
    spec = VqvaeSpec(height=8 * downsample, width=4 * downsample, channels=3 if blocks else 1, codes=9,
                     downsample=downsample, code_size=code_size, features=features, blocks=blocks,
                     code_levels=2)  # fmt: skip
    model, pictures = models(spec, PRIOR_2)
    file = draft_model_file(model, pictures=pictures)
    for name in instruction_sets():
        for reproducible in (False, True):
            path = Path("model.gpcnn")
            with native_engine(path, file.content, reproducible=reproducible, instructions=name) as engine:
                parity = prove(model, draw_on(engine), (1, 5))
                assert (parity.images, parity.identical + parity.near_ties) == (18, 18)
                assert prove_pictures(model, pictures, engine).pixel_error <= 1


def test_a_top_code_changes_bottom_codes_on_all_sides_and_a_bottom_code_only_later_ones() -> None:
    model, pictures = models(SPEC_2, PRIOR_2)
    file = draft_model_file(model, pictures=pictures)
    known = np.random.default_rng(1).integers(0, 9, (1, 1, 10, 4), np.int32)
    changed_by = np.zeros((40, 40), bool)
    with Sampler(file.load()) as sampler:
        before = sampler.score(known, 0).ravel()
        for place in range(40):
            for other in range(1, 9):
                image = known.copy()
                image.reshape(-1)[place] = (image.reshape(-1)[place] + other) % 9
                changed_by[place] |= sampler.score(image, 0).ravel() != before
    assert not np.triu(changed_by.T, 1).any()  # an earlier code never depends on a later one
    rows = np.arange(32) // 4
    for place in range(8):  # m reaches two top codes up and to the left, which is four bottom codes; from there all on
        assert changed_by[place, 8:][rows >= 2 * (place // 2) - 4].all()


def test_a_step_iterates_both_levels_at_once_to_the_same_sheet_and_picture() -> None:
    model, pictures = models(SPEC_2, PRIOR_2)
    decoder = draft_engine(model, "decoder", pictures=pictures)
    step = draft_engine(model, "step", pictures=pictures, decoder=decoder)
    with step.load() as engine, Sampler(draft_model_file(model, pictures=pictures).load()) as native:
        parity = prove(model, draw_on(engine), (4,))
        assert (parity.images, parity.identical + parity.near_ties) == (12, 12)
        assert prove_pictures(model, pictures, engine).pixel_error <= 1
        sampler = Sampler(engine)
        found = [one.sample([0, 1], seed=6, count=2) for one in (sampler, native)]
        raster = sampler.sample([0, 1], seed=6, count=2, strategy="raster")
    assert np.array_equal(found[0].levels, found[1].levels)
    assert np.array_equal(found[0].levels, raster.levels)


def test_known_top_codes_stay_and_the_bottom_codes_are_drawn_under_them() -> None:
    model, pictures = models(SPEC_2, PRIOR_2)
    top = np.random.default_rng(3).integers(0, 9, (6, 1, 4, 2), np.int32)
    known = join_sheet(PRIOR_2, top, np.zeros((6, 1, 8, 4), np.int32))
    mask = join_sheet(PRIOR_2, np.ones((1, 4, 2), bool), np.zeros((1, 8, 4), bool))
    found = []
    for engine in (draft_model_file(model, pictures=pictures).load(), draft_engine(model, "sampler", 2).load()):
        with Sampler(engine) as sampler:
            found.append(sampler.sample([1], seed=2, count=6, known=known, mask=mask))
    assert np.array_equal(found[0].levels, found[1].levels)
    kept, drawn = split_sheet(PRIOR_2, found[0].levels)
    assert np.array_equal(kept, top)
    alone = draft_engine(model.bottom, "sampler", 2)  # type: ignore[union-attr]
    _, u = split_sheet(PRIOR_2, noise(PRIOR_2, 2, 6))
    with alone.load() as engine:
        feed = {"noise": u, "known": np.zeros(u.shape, np.int32), "mask": np.zeros(u.shape, bool), "map": top,
                "temperature": np.array(1, np.float32)}  # fmt: skip
        levels, log_prob = draw_on(engine)(feed)
    assert np.array_equal(levels, drawn)
    assert np.allclose(log_prob, split_sheet(PRIOR_2, found[0].log_prob)[1], atol=1e-5)


def test_encoders_give_the_codes_of_eager_pytorch_top_codes_first(checkpoint: Path) -> None:
    _, pictures, _ = load_vqvae(checkpoint)
    pixels = check_pictures(SPEC_2, 40)
    eager = encode(pictures, pixels)
    assert eager.shape == (40, 1, 10, 4)
    assert len({one.tobytes() for one in split_sheet(PRIOR_2, eager)[0]}) > 5
    with draft_engine(models(SPEC_2, PRIOR_2)[0], "encoder", pictures=pictures).load_encoder() as encoder:
        assert np.array_equal(encoder.encode(pixels), eager)
    assert run(gpcnn_export.commands.export.cli.main, checkpoint).exit_code == 0
    metadata, weights = read_model_file(Path("model.gpcnn"))
    assert np.array_equal(PictureEncoder(metadata, weights).encode(pixels), eager)


def test_another_top_codebook_is_found_by_the_proofs() -> None:
    model, pictures = models(SPEC_2, PRIOR_2)
    _, other = models(SPEC_2, PRIOR_2)
    with torch.no_grad():
        other.top_codebook.copy_(other.top_codebook.flip(0))
    file = draft_model_file(model, pictures=pictures)
    with file.load() as engine, pytest.raises(ParityError, match="pictures differ from eager PyTorch's by up to"):
        prove_pictures(model, other, engine)
    with (
        draft_engine(model, "encoder", pictures=pictures).load_encoder() as encoder,
        pytest.raises(ParityError, match="further than the nearest"),
    ):
        prove_codes(other, encoder.encode)


def test_commands_export_draw_inspect_and_verify_it_in_both_forms(checkpoint: Path) -> None:
    np.savez("my.npz", images=np.moveaxis(check_pictures(SPEC_2, 60), 1, 3), labels=np.arange(60) % 2,
             class_names=["a", "b"])  # fmt: skip
    for options in ((), ("--format", "onnx", "--window", 2)):
        result = run(gpcnn_export.commands.export.cli.main, checkpoint, *options)
        assert result.exit_code == 0, result.output
        assert "Pictures of the same codes: " in result.stdout
    for engine in ("model.gpcnn", "model.onnx"):
        result = run(gpcnn_runtime.commands.inspect.cli.main, engine)
        assert "16×8 RGB, of 4×2 and 8×4 codes" in result.stdout
        assert "two networks of 3 layers × 5 features" in result.stdout
        options = ("--label", "a,b", "--count", 4, "--output-format", "npz", "-o", f"{engine}.npz")
        result = run(gpcnn_runtime.commands.sample.cli.main, "--engine", engine, *options)
        assert result.exit_code == 0, result.output
        options = ("--checkpoint", checkpoint, "--data", "my.npz", "--images", 8, "--json", "v.json")
        result = run(gpcnn_export.commands.verify.cli.main, engine, *options)
        assert result.exit_code == 0, result.output
        assert json.loads(Path("v.json").read_text())["proven"]
    with np.load("model.gpcnn.npz") as native, np.load("model.onnx.npz") as onnx:
        assert native["levels"].shape == (8, 1, 10, 4)
        assert np.array_equal(native["levels"], onnx["levels"])
        assert np.abs(native["pictures"].astype(int) - onnx["pictures"]).max() <= 1
    result = run(gpcnn_export.commands.export.cli.main, "model.gpcnn", "-o", "again.onnx", "--window", 2)
    assert result.exit_code == 0, result.output


def test_a_file_whose_two_levels_contradict_each_other_is_refused(checkpoint: Path) -> None:
    content = make_engine(checkpoint, "sampler", window=1).content
    assert content.count(b'"code_levels":2') == 2
    file = draft_model_file(load_vqvae(checkpoint)[0], ("a", "b"), pictures=load_vqvae(checkpoint)[1]).content
    wrong = file.replace(b'\\"code_levels\\":2', b'\\"code_levels\\":1', 1)
    for broken in (wrong, file[:-4], file + bytes(4)):
        with pytest.raises(EngineError):
            native_engine(Path("model.gpcnn"), broken)
