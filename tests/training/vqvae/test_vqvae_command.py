"""gpcnn-train --model vqvae: both stages, each alone, resumed; what cannot be is refused and leaves nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result

import gpcnn_runtime.commands.inspect.cli
import gpcnn_training.commands.evaluate.cli
import gpcnn_training.trainer.display
from gpcnn_deploy.checkpoint_header import CodesHeader
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_training.checkpoint import load_checkpoint, load_codes, load_vqvae
from gpcnn_training.commands.train.cli import main
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.own_arrays import load_npz
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.trainer.device import make_fabric
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.state import load_state
from gpcnn_training.vqvae.code_data import code_data
from gpcnn_training.vqvae.pictures import reconstruct
from gpcnn_training.vqvae.prior import PriorTrainer
from gpcnn_training.vqvae.state import load_codes_state
from gpcnn_training.vqvae.trainer import CodesTrainer
from gpcnn_training.vqvae_network import Vqvae

CPU = torch.device("cpu")
SMALL = ("--layers", "1", "--features", "4", "--head-features", "4", "--coder-features", "4", "--codes", "5")
STEPS = ("--batch-size", "8", "--compile", "off", "--precision", "fp32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    random = np.random.default_rng(2)
    labels = np.arange(60) % 2
    patches = np.kron(random.integers(0, 256, (60, 2, 2, 3)), np.ones((1, 4, 4, 1)))
    np.savez("my.npz", images=patches.astype(np.uint8), labels=labels, class_names=["even", "odd"])


def run(*arguments: object, command: Any = main) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def tensors(path: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def test_one_command_trains_both_stages_and_its_figures_can_be_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpcnn_training.trainer.display, "_SECONDS_BETWEEN_LINES", 0.0)
    augmented = ("--mirror", "--shift", 1, "--dropout", 0.1)
    result = run(
        "--data", "my.npz", "--model", "vqvae", "--max-steps", 6, *SMALL, *STEPS, *augmented, "--json", "r.json"
    )
    assert result.exit_code == 0, result.output
    assert "nats/picture's codes  " in result.stderr
    assert "bits/code  " in result.stderr
    assert not {"nats/image", "bits/dim"} & set(result.stderr.split())
    report = json.loads(Path("r.json").read_text())
    checkpoint = Path("runs/my-vqvae/checkpoint.safetensors")
    assert report["checkpoint"] == str(checkpoint)
    for file in ("samples.png", "reconstructions.png", "codes.safetensors", "metrics.jsonl", "codes-metrics.jsonl"):
        assert (checkpoint.parent / file).stat().st_size > 0
    prior, pictures, header = load_vqvae(checkpoint)
    assert header.vqvae == pictures.spec == VqvaeSpec(height=8, width=8, channels=3, codes=5, features=4)
    assert (header.class_names, header.quantization, header.test_images) == (("even", "odd"), "codes", 6)
    assert prior.spec.image_shape == (1, 2, 2)
    assert (prior.spec.levels, prior.spec.conditioning_size, prior.spec.input) == (5, 2, "categorical")
    assert header.psnr == report["test_psnr"] == reconstruct(pictures, load_npz(Path("my.npz")).test_pixels).psnr
    result = run(checkpoint, "--data", "my.npz", "--json", "e.json", command=gpcnn_training.commands.evaluate.cli.main)
    assert result.exit_code == 0, result.output
    found = json.loads(Path("e.json").read_text())
    assert found["reconstruction"]["psnr"] == report["test_psnr"]
    result = run(checkpoint, "--data", "my.npz", command=gpcnn_training.commands.evaluate.cli.main)
    assert "nats/picture's codes" in result.stdout
    assert "bits/code" in result.stdout
    assert "pixel" not in result.stdout.replace("pixels", "")
    assert "bits/dim" not in result.stdout
    assert np.isclose(found["nats_per_image"]["mean"], report["test_nats_per_image"], rtol=1e-6)
    metrics = [json.loads(line) for line in Path("runs/my-vqvae/codes-metrics.jsonl").read_text().splitlines()]
    assert all(1 <= row["train_perplexity"] <= 5 for row in metrics if "train_perplexity" in row)
    drawn = run("--epochs", 0, "--resume", "runs/my-vqvae", "--out", "again")
    assert drawn.exit_code == 0, drawn.output
    assert Path("again/samples.png").read_bytes() == Path("runs/my-vqvae/samples.png").read_bytes()


def test_stages_are_trained_alone_and_a_prior_anew_on_the_codes_of_another_run() -> None:
    result = run("--data", "my.npz", "--model", "vqvae", "--stage", "codes", "--max-steps", 4, *SMALL, *STEPS)
    assert result.exit_code == 0, result.output
    one = Path("runs/my-vqvae")
    assert not (one / "checkpoint.safetensors").exists()
    codes = (one / "codes.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"first stage of a VQ-VAE, .* gpcnn-train --resume runs/my-vqvae"):
        load_checkpoint(one / "codes.safetensors")
    with pytest.raises(CheckpointError, match=r"first stage of a VQ-VAE, .* gpcnn-train --resume runs/my-vqvae"):
        load_checkpoint(one)
    for path in (one, one / "codes.safetensors"):
        shown = run(path, "--json", "i.json", command=gpcnn_runtime.commands.inspect.cli.main)
        assert shown.exit_code == 0, shown.output
        found, header = json.loads(Path("i.json").read_text()), load_codes(one / "codes.safetensors")[1]
        assert (found["kind"], found["psnr"], found["perplexity"]) == ("codes", header.psnr, header.perplexity)
        assert (found["vqvae"]["codes"], found["vqvae"]["height"], found["step"]) == (5, 8, header.step)
        words = " ".join(shown.stdout.split())
        for fact in ("first stage of a VQ-VAE", "gpcnn-train --resume runs/my-vqvae trains", "8×8 RGB, of 2×2",
                     "5 vectors of 64 numbers", "4 features, 2 residual blocks", f"{header.psnr:.2f} dB"):  # fmt: skip
            assert fact in words
    result = run("--resume", one)
    assert result.exit_code == 0, result.output
    shown = run(one, "--json", "i.json", command=gpcnn_runtime.commands.inspect.cli.main)
    assert json.loads(Path("i.json").read_text())["kind"] == "checkpoint"
    assert (one / "codes.safetensors").read_bytes() == codes
    smaller = ("--layers", 2, "--features", 3, "--optimizer", "muon")
    arguments = ("--data", "my.npz", "--model", "vqvae", "--stage", "prior", "--max-steps", 3, *smaller, *STEPS)
    for source in (one, one / "checkpoint.safetensors"):
        result = run(*arguments, "--init", source, "--out", "other")
        assert result.exit_code == 0, result.output
        prior, pictures, _ = load_vqvae(Path("other"))
        assert prior.spec.layers == 2
        first = load_codes(one / "codes.safetensors")[0].state_dict()
        assert all(torch.equal(tensor, first[name]) for name, tensor in pictures.state_dict().items())
        result = run("--resume", "other", "--max-steps", 5)
        assert result.exit_code == 0, result.output
        assert json.loads(Path("other/metrics.jsonl").read_text().splitlines()[-1])["step"] == 5
        Path("other").rename(f"other-{source.name}")


def codes_trainer(folder: str, data: DataSet, steps: int = 12) -> CodesTrainer:
    Path(folder).mkdir()
    torch.manual_seed(3)
    network = Vqvae(VqvaeSpec(height=8, width=8, channels=3, codes=5, features=4, code_size=3))
    settings = Settings(data="my.npz", batch_size=8, learning_rate=3e-3, max_steps=steps, mirror=True, shift=1)
    return CodesTrainer(Path(folder), network, data, settings, CPU, precision="fp32", compiling="off")


def stop_after(steps: int) -> Any:
    looks = iter(range(steps + 1))
    return lambda: next(looks, None) == steps


def test_codes_that_were_interrupted_end_as_if_they_had_not_been() -> None:
    data = load_npz(Path("my.npz"))
    with Display("", silent=True) as display:
        assert codes_trainer("whole", data).train(display)
        assert not codes_trainer("parts", data).train(display, stop_after(5))
        restored = load_codes_state(Path("parts"))
        assert restored.state.codes.step == 5
        assert not restored.state.ended
        again = CodesTrainer(Path("parts"), restored.network, data, restored.state.settings, CPU, restored)
        assert again.train(display)
    whole, parts = (tensors(f"{name}/codes-state.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    other = copy.deepcopy(restored)
    changed = DataSet("my", data.train_pixels[::-1], data.train_labels, data.test_pixels, data.test_labels, ("a", "b"))
    with pytest.raises(CheckpointError, match="its images or classes differ"):
        CodesTrainer(Path("parts"), other.network, changed, other.state.settings, CPU, other)


def test_a_prior_that_was_interrupted_ends_as_if_it_had_not_been_dropout_and_moves_included() -> None:
    data = load_npz(Path("my.npz"))
    torch.manual_seed(4)
    pictures = Vqvae(VqvaeSpec(height=8, width=8, channels=3, codes=5, features=4, code_size=3)).eval()
    coded = code_data(pictures, data)
    header = CodesHeader(vqvae=pictures.spec, data="my")
    spec = ModelSpec(height=2, width=2, levels=5, layers=2, features=4, head_features=4, conditioning="label",
                     conditioning_size=2, input="categorical", input_size=3)  # fmt: skip
    settings = Settings(data="my.npz", batch_size=8, learning_rate=3e-3, max_steps=9, mirror=True, shift=1, dropout=0.4)

    def trainer(folder: str, restored: Any = None) -> PriorTrainer:
        Path(folder).mkdir(exist_ok=True)
        torch.manual_seed(3)
        network = GatedPixelCNN(spec) if restored is None else restored.model
        return PriorTrainer(Path(folder), network, coded, pictures, header, settings, make_fabric(CPU), restored,
                            precision="fp32", compiling="off")  # fmt: skip

    with Display("", silent=True) as display:
        assert trainer("whole").train(display)
        torch.manual_seed(99)
        assert not trainer("parts").train(display, stop_after(4))
        torch.manual_seed(7)
        assert trainer("parts", load_state(Path("parts"))).train(display)
    whole, parts = (tensors(f"{name}/training-state.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    scored = trainer("whole", load_state(Path("whole")))
    assert scored.score(scored.average) == scored.score(scored.average)  # the average leaves nothing out
    other = code_data(Vqvae(pictures.spec), data)
    with pytest.raises(CheckpointError, match="codes of other pictures or of another encoder"):
        PriorTrainer(Path("whole"), GatedPixelCNN(spec), other, pictures, header, settings, make_fabric(CPU),
                     load_state(Path("whole")))  # fmt: skip


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("height is 8: expected a multiple of 16", ("--downsample", 16)),
        ("downsample is 3: expected 2, 4, 8 or 16", ("--downsample", 3)),
        ("--levels is not of a VQ-VAE, --codes says how many", ("--levels", 4)),
        ("--input is not of a VQ-VAE", ("--input", "values")),
        ("--head is not of a VQ-VAE", ("--head", "mixture")),
        ("--stage prior needs codes", ("--stage", "prior")),
        ("--init gives a VQ-VAE its codes: add --stage prior", ("--init", "my.npz")),
        ("--devices: a VQ-VAE trains in one process", ("--devices", 2)),
        ("--codes is of a VQ-VAE: leave it out, or add --model vqvae", ("--codes", 4, "--model", "conditional")),
        ("--mirror is of a VQ-VAE", ("--mirror", "--model", "unconditional")),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(message: str, arguments: tuple[object, ...]) -> None:
    result = run("--data", "my.npz", "--model", "vqvae", "--max-steps", 2, *arguments)
    assert result.exit_code in (1, 2), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("runs").exists()
