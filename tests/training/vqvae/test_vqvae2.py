"""A VQ-VAE-2: two codebooks that learn, a prior of two networks that is causal as one, and both stages by command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from small_vqvae import PRIOR_2, SPEC_2, models

from gpcnn_deploy.checkpoint_header import CODES_KEY
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_training.checkpoint import load_vqvae
from gpcnn_training.code_pyramid import CodePyramid
from gpcnn_training.commands.train.cli import main
from gpcnn_training.model import parameter_count
from gpcnn_training.sampling import sample_cached, sample_jacobi, sample_raster, score
from gpcnn_training.trainer.optimizer import hidden_weights
from gpcnn_training.vqvae.codebook import averages_of
from gpcnn_training.vqvae.pictures import as_numbers, decode, encode
from gpcnn_training.vqvae.state import load_codes_state
from gpcnn_training.vqvae_network import Vqvae

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 8), np.uint8)
SMALL = ("--layers", "2", "--features", "4", "--head-features", "4", "--coder-features", "4", "--codes", "5",
         "--map-features", "3")  # fmt: skip
STEPS = ("--batch-size", "8", "--compile", "off", "--precision", "fp32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    random = np.random.default_rng(2)
    patches = np.kron(random.integers(0, 256, (60, 4, 2, 3)), np.ones((1, 4, 4, 1)))
    np.savez("my.npz", images=patches.astype(np.uint8), labels=np.arange(60) % 2, class_names=["even", "odd"])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_both_levels_are_the_nearest_of_their_codebooks_and_the_picture_needs_both() -> None:
    _, network = models(SPEC_2, PRIOR_2)
    codes = encode(network, PIXELS)
    assert codes.shape == (7, 1, 10, 4)
    with torch.no_grad():
        features = network.encoder(as_numbers(PIXELS))
        top = torch.cdist(network.top_vectors(features).permute(0, 2, 3, 1).reshape(-1, 5), network.top_codebook)
    assert np.array_equal(codes[:, 0, :2].reshape(-1), top.argmin(1).numpy())
    back = decode(network, codes)
    for place in ((0, 0), (1, 3), (2, 0), (9, 3)):  # of both levels, their first and their last
        other = codes.copy()
        other[:, 0, place[0], place[1]] = (other[:, 0, place[0], place[1]] + 1) % 9
        assert (decode(network, other) != back).any(axis=(1, 2, 3)).all()


def test_gradients_reach_every_weight_and_each_codebook_follows_its_own_vectors() -> None:
    torch.manual_seed(4)
    network = Vqvae(SPEC_2)
    coded = network(as_numbers(PIXELS))
    ((coded.pictures - as_numbers(PIXELS)).square().mean() + coded.commitment).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in network.parameters())
    before = {name: codebook.clone() for name, codebook in network.codebooks.items()}
    assert list(before) == ["top_codebook", "codebook"]
    averages = averages_of(network)
    for level, (name, codebook) in enumerate(network.codebooks.items()):
        averages[name].update(codebook, coded.vectors[level], coded.codes[level], 1, 0, level=level)
        flat = coded.vectors[level].detach().permute(0, 2, 3, 1).reshape(-1, 5)
        assert not torch.equal(codebook, before[name])
        assert float(torch.cdist(codebook, flat).min(1).values.max()) < 0.5  # at step 0 all begin at vectors
    draws = [averages_of(network)["codebook"] for _ in range(2)]
    books = [network.codebook.clone() for _ in draws]
    for level, (average, book) in enumerate(zip(draws, books, strict=True)):
        average.update(book, coded.vectors[1], coded.codes[1], 1, 0, level=level)
    assert not torch.equal(books[0], books[1])  # each level draws by its own stream


def test_every_schedule_draws_the_same_sheet() -> None:
    model, _ = models(SPEC_2, PRIOR_2)
    u, label = torch.from_numpy(noise(PRIOR_2, 3, 4)), torch.tensor([0, 1, 1, 0])
    known, mask = torch.randint(0, 9, u.shape), torch.rand(u.shape) < 0.3
    for given in ((None, None), (known, mask)):
        raster = sample_raster(model, u, label, *given)
        assert torch.equal(raster, sample_jacobi(model, u, label, *given)[0])
        for window in (1, 2, 4):
            sheet, log_prob = sample_cached(model, u, label, *given, window=window)
            assert torch.equal(raster, sheet)
            assert torch.allclose(log_prob, score(model, sheet, label), atol=1e-5)


def test_muon_takes_the_hidden_weights_of_both_networks_and_dropout_reaches_them() -> None:
    model, _ = models(SPEC_2, PRIOR_2)
    assert isinstance(model, CodePyramid)
    names = hidden_weights(model)
    of_one = {name.removeprefix("top.") for name in names if name.startswith("top.")}
    assert of_one == hidden_weights(model.top)
    assert {f"bottom.{name}" for name in of_one} == {name for name in names if name.startswith("bottom.")}
    sheet = torch.zeros(2, 1, 10, 4, dtype=torch.int64)
    model.train()
    model.leave_out(0.5)
    assert not torch.equal(model(sheet, torch.tensor([0, 1])), model(sheet, torch.tensor([0, 1])))
    model.eval()
    assert torch.equal(model(sheet, torch.tensor([0, 1])), model(sheet, torch.tensor([0, 1])))


def test_one_command_trains_both_stages_and_goes_on_with_either() -> None:
    augmented = ("--mirror", "--shift", 1, "--dropout", 0.1, "--optimizer", "muon")
    result = run(
        "--data", "my.npz", "--model", "vqvae2", "--downsample", 2, "--max-steps", 6, *SMALL, *STEPS, *augmented,
        "--json", "r.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "codes: 4×2 and 8×4 of 5," in result.stderr
    assert "prior: two networks of 2 layers × 4 features" in result.stderr
    report = json.loads(Path("r.json").read_text())
    one = Path("runs/my-vqvae2")
    prior, pictures, header = load_vqvae(one)
    expected = VqvaeSpec(height=16, width=8, channels=3, codes=5, downsample=2, features=4, code_levels=2)
    assert header.vqvae == pictures.spec == expected
    assert (prior.spec.image_shape, prior.spec.code_levels, prior.spec.map_features) == ((1, 10, 4), 2, 3)
    books = pictures.codebook.numel() + pictures.top_codebook.numel()
    assert report["parameters"] == parameter_count(prior) + parameter_count(pictures) + books
    metrics = [json.loads(line) for line in (one / "codes-metrics.jsonl").read_text().splitlines()]
    assert all(1 <= row["train_perplexity"] <= 10 for row in metrics if "train_perplexity" in row)
    assert set(load_codes_state(one).averages) == {"codebook", "top_codebook"}
    result = run("--resume", one, "--max-steps", 8)
    assert result.exit_code == 0, result.output
    assert "going on at step 6" in result.stderr
    drawn = run("--epochs", 0, "--resume", one, "--out", "again")
    assert drawn.exit_code == 0, drawn.output
    assert Path("again/samples.png").read_bytes() == (one / "samples.png").read_bytes()
    arguments = ("--data", "my.npz", "--stage", "prior", "--max-steps", 2, "--layers", 1, "--features", 4, *STEPS)
    result = run(*arguments, "--model", "vqvae2", "--init", one, "--out", "other")
    assert result.exit_code == 0, result.output
    result = run(*arguments, "--model", "vqvae", "--init", one, "--out", "third")
    assert result.exit_code == 2
    assert f"--init {one}: is of --model vqvae2: name that model" in result.stderr
    assert not Path("third").exists()


def test_a_state_without_the_averages_of_the_top_codebook_is_refused() -> None:
    command: tuple[Any, ...] = ("--data", "my.npz", "--model", "vqvae2", "--downsample", 2, "--stage", "codes", *SMALL,
                                *STEPS, "--ema", 0)  # fmt: skip
    result = run(*command, "--max-steps", 6, "--out", "whole")
    assert result.exit_code == 0, result.output
    state = safetensors.torch.load_file("whole/codes-state.safetensors")
    damaged = {name: tensor for name, tensor in state.items() if name != "top_codebook.uses"}
    header = safetensors.safe_open("whole/codes-state.safetensors", "pt").metadata()
    assert list(header) == [CODES_KEY]
    safetensors.torch.save_file(damaged, "whole/codes-state.safetensors", header)
    with pytest.raises(CheckpointError, match="the codebook's averages do not fit it"):
        load_codes_state(Path("whole"))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("height is 16: expected a multiple of 32, 4 times the downsampling, for two levels", ("--downsample", 8)),
        ("--levels is not of a VQ-VAE, --codes says how many", ("--levels", 4)),
        ("--downsample is of a VQ-VAE: leave it out, or add --model vqvae or vqvae2",
         ("--downsample", 2, "--model", "conditional")),
        ("--map-features is not of a VQ-VAE, it has no map", ("--map-features", 2, "--model", "vqvae")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_leaves_nothing(message: str, arguments: tuple[object, ...]) -> None:
    before = set(Path().iterdir())
    result = run("--data", "my.npz", "--model", "vqvae2", "--max-steps", 2, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert set(Path().iterdir()) == before
