"""Training learns, stops where it should, goes on as if it had never stopped, and never saves what is broken."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from gpcnn_deploy.errors import CheckpointError, OutputError, TrainingError
from gpcnn_deploy.spec import ModelSpec, Quantization
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.quantize import quantization_for, stream, to_levels
from gpcnn_training.data.sources import load_data
from gpcnn_training.evaluation.likelihood import bits_per_dim, draw_samples, negative_log_likelihood
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.trainer.compute import Compute, fastest_threads, threads_set
from gpcnn_training.trainer.device import make_fabric
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.state import load_state
from gpcnn_training.trainer.trainer import Trainer, hold_out
from gpcnn_training.trainer.trainer import resumed as resumed_on

CPU = torch.device("cpu")


def spec_of(data: DataSet, **change: Any) -> ModelSpec:
    c, h, w = data.image_shape
    return ModelSpec(
        **{"height": h, "width": w, "channels": c, "levels": 4, "layers": 2, "features": 8, "head_features": 8}
        | {"conditioning": "label", "conditioning_size": len(data.class_names)}
        | change
    )


def trainer_of(run: Path, data: DataSet, quantization: Quantization = "nearest", **change: Any) -> Trainer:
    settings = Settings(**{"data": data.name, "batch_size": 8, "learning_rate": 1e-2, "seed": 3} | change)
    run.mkdir(exist_ok=True)
    torch.manual_seed(settings.seed)
    levels = 2 if quantization == "stochastic-binary" else 4
    model = GatedPixelCNN(spec_of(data, levels=levels))
    trainer = Trainer(run, model, data, quantization, settings, make_fabric(CPU), precision="fp32", compiling="off")
    trainer.compute = Compute(threads=1)  # whatever was faster just now: runs are compared with each other
    return trainer


def resumed(run: Path, data: DataSet, settings: Settings) -> Trainer:
    return resumed_on(run, load_state(run), data, settings, make_fabric(CPU))


def train(trainer: Trainer, steps: int | None = None) -> bool:
    with Display("training") as display:
        return trainer.train(display, lambda: trainer.step == steps)


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_training_learns_what_the_label_says(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=150)
    before = trainer.score(trainer.average)
    assert train(trainer)
    after = trainer.score(trainer.average)
    assert before == pytest.approx(30 * math.log(4), rel=0.2)
    # Within a stripe two of four levels remain for the dark pixels, one or two for the light ones.
    assert after < 0.45 * before
    model, header = load_checkpoint(tmp_path / "run")
    swapped = negative_log_likelihood(model, stripes.test_pixels, 1 - stripes.test_labels, header.quantization)
    assert swapped > after + 3


@pytest.mark.parametrize("quantization", ["nearest", "stochastic-binary"])
@pytest.mark.parametrize("stop", [1, 13, 20])
def test_a_resumed_run_ends_as_one_that_never_stopped(
    tmp_path: Path, stripes: DataSet, quantization: Quantization, stop: int
) -> None:
    through = trainer_of(tmp_path / "through", stripes, quantization, max_steps=21)
    assert train(through)
    first = trainer_of(tmp_path / "run", stripes, quantization, max_steps=21)
    assert not train(first, stop)
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1].step == stop
    second = resumed(tmp_path / "run", stripes, first.settings)
    assert (second.step, second.seconds) == (stop, first.seconds)
    assert train(second)
    for expected, found in ((through.model, second.model), (through.average, second.average)):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor), name
    assert not torch.equal(second.model.head.logits.weight, second.average.head.logits.weight)
    last = [tmp_path / name / "last.safetensors" for name in ("through", "run")]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_a_run_keeps_its_number_of_threads(tmp_path: Path, stripes: DataSet) -> None:
    """Another number would add up in another order, and end in other weights."""
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    trainer.compute = Compute(threads=2)
    used = []
    trainer.model.register_forward_hook(lambda *_: used.append(torch.get_num_threads()))
    train(trainer, 2)
    assert used == [2, 2]
    assert torch.get_num_threads() == 1
    assert resumed(tmp_path / "run", stripes, trainer.settings).compute == Compute(threads=2)


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_fastest_number_of_threads_is_found(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seconds = {threads: 0.02 if threads == best else 0.06 for threads in (1, 2, 4)}
    with threads_set(4):
        assert fastest_threads(lambda: time.sleep(seconds[torch.get_num_threads()])) == best
        assert torch.get_num_threads() == 4
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        assert fastest_threads(lambda: pytest.fail("OMP_NUM_THREADS decides")) == 4


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"processes": 2}])
def test_a_run_that_goes_on_elsewhere_finds_out_anew(change: dict[str, Any], tmp_path: Path, stripes: DataSet) -> None:
    """What was fastest on a GPU may not even work on a CPU."""
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    trainer.compute = msgspec.structs.replace(Compute(threads=1, precision="bf16", compiled=True), **change)
    trainer.save()
    found = resumed(tmp_path / "run", stripes, trainer.settings).compute
    assert (found.device, found.processes, found.compiled) == ("cpu", 1, False)
    assert found.images_per_second


def test_digits_resume_on_the_real_data(tmp_path: Path) -> None:
    digits = load_data("digits")
    through = trainer_of(tmp_path / "through", digits, max_steps=6)
    first = trainer_of(tmp_path / "run", digits, max_steps=6)
    assert train(through)
    assert not train(first, 3)
    second = resumed(tmp_path / "run", digits, first.settings)
    assert train(second)
    for name, tensor in through.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_metrics_after_the_resumed_step_are_written_anew(tmp_path: Path, stripes: DataSet) -> None:
    """A run that was killed after its last save has rows beyond it, the last one perhaps cut short."""
    run = tmp_path / "run"
    trainer = trainer_of(run, stripes, max_steps=30)
    train(trainer, 10)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 20, "train_nats_per_image": 1}\n{"step": 30, "tra')
    train(resumed(run, stripes, trainer.settings))
    trained = [row for row in rows(run) if "train_nats_per_image" in row]
    assert [row["step"] for row in trained] == [10, 20, 30]
    assert trained[1]["train_nats_per_image"] != 1
    for row in trained:
        assert row["train_bits_per_dim"] == pytest.approx(row["train_nats_per_image"] / 30 / math.log(2))


def test_other_data_are_refused_on_resume(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    train(trainer, 2)
    stripes.test_pixels[0, 0, 0, 0] ^= 1
    with pytest.raises(CheckpointError, match="was not trained on this stripes"):
        resumed(tmp_path / "run", stripes, trainer.settings)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_damaged_state_is_refused(tmp_path: Path, stripes: DataSet, share: float) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    train(trainer, 2)
    path = tmp_path / "run" / "training-state.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"training-state\.safetensors: not a checkpoint, or a damaged one"):
        resumed(tmp_path / "run", stripes, trainer.settings)


def test_a_state_whose_moments_are_missing_is_refused(tmp_path: Path, stripes: DataSet) -> None:
    from gpcnn_training.checkpoint import read_tensors, write_tensors
    from gpcnn_training.trainer.state import TrainingState

    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    train(trainer, 2)
    path = tmp_path / "run" / "training-state.safetensors"
    state, tensors = read_tensors(path, TrainingState)
    del tensors["exp_avg.head.hidden.weight"]
    write_tensors(path, tensors, state)
    with pytest.raises(CheckpointError, match="optimizer moments do not fit"):
        resumed(tmp_path / "run", stripes, trainer.settings)


def test_broken_weights_stop_the_run_and_are_not_saved(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=40)
    train(trainer, 10)
    before = files(tmp_path / "run")
    with torch.no_grad():
        trainer.model.head.logits.bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"at step 11 and learning rate .*loss nan.*--learning-rate 0\.003"):
        train(trainer)
    assert files(tmp_path / "run") == before


def test_an_infinite_gradient_stops_the_run_though_the_loss_is_finite(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=40)
    train(trainer, 10)
    before = files(tmp_path / "run")
    trainer.model.head.logits.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"at step 11 .*gradient norm (inf|nan)"):
        train(trainer, 11)
    assert files(tmp_path / "run") == before


def test_a_run_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=4)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a file in its place")
    with pytest.raises(OutputError, match="cannot write"):
        train(trainer)


def test_every_image_is_seen_once_an_epoch_in_an_order_that_changes(tmp_path: Path, stripes: DataSet) -> None:
    stripes.train_pixels[:, 0, 0, 0] = np.arange(32) * 8
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=8)
    trainer.spec = msgspec.structs.replace(trainer.spec, levels=256)
    orders = []
    for step in range(8):
        trainer.step = step
        levels, labels = trainer._batch()
        assert labels is not None
        images = (levels[:, 0, 0, 0] // 8).tolist()
        assert labels.tolist() == stripes.train_labels[images].tolist()
        orders += images
    assert sorted(orders[:32]) == sorted(orders[32:]) == list(range(32))
    assert orders[:32] != orders[32:]


def test_each_image_is_binarized_anew_each_epoch(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, "stochastic-binary", max_steps=8, batch_size=32)
    drawn: list[Any] = []
    for epoch in range(2):
        trainer.step = epoch
        levels, _ = trainer._batch()
        drawn.append(levels.numpy()[np.argsort(trainer._order[1])])
    assert 0.05 < (drawn[0] != drawn[1]).mean() < 0.5


def test_a_time_limit_ends_the_run_and_anneals_it(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=10**9, time_limit=1.5)
    began = time.monotonic()
    assert train(trainer)
    assert 1.5 <= time.monotonic() - began < 4
    rates = [row["learning_rate"] for row in rows(tmp_path / "run") if "learning_rate" in row]
    assert max(rates) > 0.9e-2
    assert rates[-1] < 0.2e-2
    assert rates[-1] == min(rates[2:])


def test_the_schedule_follows_the_limit_that_comes_first() -> None:
    settings = Settings(data="x", batch_size=1, learning_rate=1.0, epochs=10, max_steps=50, time_limit=100)
    assert settings.progress(step=20, steps_per_epoch=4, seconds=10) == pytest.approx(0.5)
    assert settings.progress(step=20, steps_per_epoch=100, seconds=10) == pytest.approx(0.4)
    assert settings.progress(step=20, steps_per_epoch=100, seconds=90) == pytest.approx(0.9)
    rates = [settings.learning_rate_at(k / 1000) for k in range(1001)]
    peak = rates.index(max(rates))
    assert 0 < rates[0] < 0.05
    assert 20 <= peak <= 40
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_binarization_is_random_with_the_right_mean_and_fixed_at_black_and_white() -> None:
    assert quantization_for(1, 2) == "stochastic-binary"
    assert {quantization_for(1, 3), quantization_for(3, 2)} == {"nearest"}
    pixels = np.tile(np.array([0, 64, 200, 255], np.uint8), (40_000, 1))
    drawn = to_levels(pixels, 2, "stochastic-binary", stream(1, 2))
    assert drawn.mean(0) == pytest.approx([0, 64 / 255, 200 / 255, 1], abs=0.012)
    assert drawn[:, 0].max() == 0
    assert drawn[:, 3].min() == 1
    assert np.array_equal(drawn, to_levels(pixels, 2, "stochastic-binary", stream(1, 2)))
    assert not np.array_equal(drawn, to_levels(pixels, 2, "stochastic-binary", stream(1, 3)))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-24])
def test_black_stays_black_and_white_white_at_the_ends_of_the_noise(uniform: float) -> None:
    class Constant:
        def random(self, shape: tuple[int, ...], kind: type[np.float32]) -> Any:
            return np.full(shape, uniform, kind)

    pixels = np.array([0, 255], np.uint8)
    assert to_levels(pixels, 2, "stochastic-binary", Constant()).tolist() == [0, 1]  # type: ignore[arg-type]


def test_the_test_figure_does_not_depend_on_how_images_are_batched(
    stripes: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN(spec_of(stripes, levels=2)).double()
    arguments = (model, stripes.test_pixels, stripes.test_labels, "stochastic-binary")
    whole = negative_log_likelihood(*arguments)  # type: ignore[arg-type]
    monkeypatch.setattr("gpcnn_training.evaluation.likelihood._SUBPIXELS_AT_ONCE", 70)
    assert negative_log_likelihood(*arguments) == pytest.approx(whole, abs=1e-9)  # type: ignore[arg-type]
    assert bits_per_dim(whole, model.spec) == pytest.approx(whole / (30 * math.log(2)))


def test_samples_are_those_of_the_seed(tmp_path: Path, stripes: DataSet) -> None:
    from PIL import Image

    from gpcnn_deploy.philox import noise
    from gpcnn_deploy.pictures.levels import grid, pixels_from_levels
    from gpcnn_training.sampling import sample_raster

    torch.manual_seed(0)
    model = GatedPixelCNN(spec_of(stripes))
    assert draw_samples(tmp_path / "x.png", model, seed=5) == 16
    labels = torch.arange(16) % 2
    levels = sample_raster(model, torch.from_numpy(noise(model.spec, 5, 16)), labels)
    sheet = grid(pixels_from_levels(levels.numpy(), 4), 2)
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.asarray(image), sheet.repeat(6, 0).repeat(6, 1))


def test_images_held_out_are_not_trained_on_and_the_best_checkpoint_is_the_one_they_like_most(tmp_path: Path) -> None:
    digits = load_data("digits")
    train_on, held = hold_out(digits, 64)
    assert len(held) == 1497 // 50
    assert sorted([*train_on, *held]) == list(range(1497))
    trainer = trainer_of(tmp_path / "run", digits, max_steps=20)
    assert trainer.batch_size * trainer._steps_per_epoch <= len(train_on)
    seen = set()
    for step in range(trainer._steps_per_epoch):
        trainer.step = step
        trainer._batch()
        seen |= set(trainer._order[1].tolist())
    assert not seen & set(held.tolist())
    trainer.step = 0
    train(trainer, 10)
    best, header = load_checkpoint(tmp_path / "run")
    assert header.validation_nll == trainer.best_nll == pytest.approx(trainer.score(best, held), abs=1e-4)
    trainer.best_nll -= 1000.0  # as if it had been better before
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    train(trainer)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1].step == 20
    assert resumed(tmp_path / "run", digits, trainer.settings).best_nll == header.validation_nll


def test_the_average_follows_the_weights_by_its_decay(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=30, ema=0.6)
    weight = trainer.model.head.logits.weight
    expected = weight.detach().clone()
    assert torch.equal(trainer.average.head.logits.weight, expected)
    for step in range(1, 13):
        train(trainer, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
        assert torch.allclose(trainer.average.head.logits.weight, expected, atol=1e-6), step
    assert torch.equal(
        load_checkpoint(tmp_path / "run" / "last.safetensors")[0].head.logits.weight, trainer.average.head.logits.weight
    )


def test_without_an_average_the_weights_themselves_are_saved(tmp_path: Path, stripes: DataSet) -> None:
    trainer = trainer_of(tmp_path / "run", stripes, max_steps=5, ema=0.0)
    train(trainer)
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(trainer.average.state_dict()[name], weight), name


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 1e-2), ("rmsprop", 3e-3)])
def test_other_optimizers_train_and_resume_as_adamw_does(
    tmp_path: Path, stripes: DataSet, optimizer: str, rate: float
) -> None:
    through = trainer_of(tmp_path / "through", stripes, max_steps=40, optimizer=optimizer, learning_rate=rate)
    before = through.score(through.average)
    train(through)
    assert through.score(through.average) < 0.9 * before
    first = trainer_of(tmp_path / "run", stripes, max_steps=40, optimizer=optimizer, learning_rate=rate)
    train(first, 7)
    second = resumed(tmp_path / "run", stripes, first.settings)
    train(second)
    for name, tensor in through.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_tensorboard_shows_curves_samples_and_graph(tmp_path: Path, stripes: DataSet) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    trainer = trainer_of(run, stripes, max_steps=30)
    train(trainer, 20)
    train(resumed(run, stripes, trainer.settings))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    curve = events.Scalars("nats_per_image/train")
    trained = [row for row in rows(run) if "train_nats_per_image" in row]
    assert [point.step for point in curve] == [10, 20, 30]
    assert [point.value for point in curve] == pytest.approx([row["train_nats_per_image"] for row in trained], rel=1e-6)
    assert {"nats_per_image/validation", "learning_rate"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["samples"]
    assert events.Tags()["graph"]


def test_digits_are_what_the_source_says() -> None:
    digits = load_data("digits")
    assert (len(digits.train_pixels), len(digits.test_pixels)) == (1497, 300)
    levels = to_levels(digits.train_pixels, 17, "nearest", stream(0))
    assert np.array_equal(np.unique(levels), np.arange(17))
    assert (digits.train_pixels[levels == 16] == 255).all()
    # The first image of the source is a test image; its first row as published.
    assert to_levels(digits.test_pixels[:1], 17, "nearest", stream(0))[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert np.bincount(np.concatenate([digits.train_labels, digits.test_labels])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
