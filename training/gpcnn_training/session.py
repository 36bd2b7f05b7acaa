"""One call of `gpcnn-train`, from a checked request to the last line it prints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import torch

from gpcnn_deploy.errors import CheckpointError, DataError, InterruptedRun, TrainingError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.checkpoint import load_checkpoint
from gpcnn_training.data import NAMES, load_data
from gpcnn_training.device import resolve_device, threads_set
from gpcnn_training.display import Display
from gpcnn_training.evaluation import bits_per_dim, draw_samples
from gpcnn_training.interrupt import Interrupt
from gpcnn_training.model import GatedPixelCNN, parameter_count
from gpcnn_training.presets import OWN_DATA, PRESETS
from gpcnn_training.quantize import quantization_for
from gpcnn_training.runs import CHECKPOINT, SAMPLES, checkpoint_path, make_run_folder, newest_run
from gpcnn_training.schedule import Settings, duration
from gpcnn_training.train import Trainer, resumed
from gpcnn_training.training_state import read_state


@dataclass(frozen=True)
class Request:
    """The flags of `gpcnn-train`; None where one was not given."""

    data: str | None = None
    data_dir: Path | None = None
    model: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    layers: int | None = None
    features: int | None = None
    levels: int | None = None
    seed: int | None = None
    device: str = "auto"
    out: Path | None = None
    resume: Path | None = None
    test_images: int | None = None


_LOGITS_OF_A_BATCH = 1 << 26  # float32 numbers, 256 MiB: larger images get smaller batches by default
_ONLY_NEW = ("model", "batch_size", "layers", "features", "levels", "seed", "out")
_ONLY_TRAINING = ("max_steps", "time_limit", "batch_size", "learning_rate", "layers", "features", "levels")


def run(request: Request) -> int:
    """Do what was asked; returns the exit code.

    Raises:
        GpcnnError: the request, the data, a checkpoint or the output folder is at fault.
    """
    device = resolve_device(request.device)
    if request.epochs == 0:
        return _only_samples(request, device)
    try:
        return _train(_go_on(request, device) if request.resume else _start(request, device), request)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"{device} has not enough memory: try a smaller --batch-size, --features or --layers"
        ) from error


def _start(request: Request, device: torch.device) -> Trainer:
    name = request.data or "digits"
    data = load_data(name, request.data_dir)
    preset = PRESETS.get(name, OWN_DATA)
    model = request.model or "conditional"
    if model == "conditional" and not data.class_names:
        raise DataError(f"{name}: has no labels: add them, or train with --model unconditional")
    channels, height, width = data.image_shape
    spec = ModelSpec(
        height=height,
        width=width,
        channels=channels,
        levels=request.levels or preset.levels,
        features=request.features or preset.features,
        layers=request.layers or preset.layers,
        head_features=preset.head_features,
        conditioning="label" if model == "conditional" else "none",
        conditioning_size=len(data.class_names) if model == "conditional" else 0,
    )
    stepwise = request.epochs is not None or request.max_steps is not None
    time_limit = request.time_limit
    if time_limit is None and not stepwise and device.type == "cpu":
        time_limit = preset.cpu_time_limit
    settings = Settings(
        data=name if name in NAMES else str(Path(name).resolve()),
        data_dir=str(request.data_dir.resolve()) if request.data_dir else None,
        batch_size=request.batch_size
        or max(1, min(preset.batch_size, _LOGITS_OF_A_BATCH // (spec.subpixels * spec.levels))),
        learning_rate=request.learning_rate or preset.learning_rate,
        seed=request.seed or 0,
        epochs=request.epochs if stepwise else preset.epochs,
        max_steps=request.max_steps,
        time_limit=time_limit,
    )
    torch.manual_seed(settings.seed)
    network = GatedPixelCNN(spec)
    folder = make_run_folder(f"{data.name}-{model}", request.out)
    quantization = quantization_for(channels, spec.levels)
    return Trainer(folder, network, data, quantization, settings, device)


def _go_on(request: Request, device: torch.device) -> Trainer:
    assert request.resume is not None
    _refuse(request, _ONLY_NEW, f"--resume goes on with {request.resume} as it was begun")
    if not request.resume.exists():
        raise CheckpointError(f"{request.resume}: no such run: name a run folder, or the checkpoint in it")
    folder = request.resume if request.resume.is_dir() else request.resume.parent
    state = read_state(folder)
    settings = state.settings
    if request.epochs or request.max_steps or request.time_limit:
        settings = msgspec.structs.replace(
            settings, epochs=request.epochs, max_steps=request.max_steps, time_limit=request.time_limit
        )
    if request.learning_rate is not None:
        settings = msgspec.structs.replace(settings, learning_rate=request.learning_rate)
    data_dir = request.data_dir or (Path(settings.data_dir) if settings.data_dir else None)
    return resumed(folder, load_data(request.data or settings.data, data_dir), settings, device)


def _only_samples(request: Request, device: torch.device) -> int:
    """`--epochs 0`: draw a sheet of samples from a checkpoint that is there."""
    _refuse(request, _ONLY_TRAINING, "--epochs 0 trains nothing, it only draws samples")
    checkpoint = request.resume
    if checkpoint is None:
        checkpoint = newest_run(prefix=_prefix(request))
    elif request.data or request.model:
        raise UsageError(f"--epochs 0 draws from {checkpoint} as it is: leave out --data and --model, or --resume")
    model, header = load_checkpoint(checkpoint)
    path = (request.out or checkpoint_path(checkpoint).parent) / SAMPLES
    count = draw_samples(path, model.to(device), header.seed if request.seed is None else request.seed)
    click.echo(f"{count} samples of {checkpoint_path(checkpoint)}\nsamples     {path}")
    return 0


def _prefix(request: Request) -> str:
    """How the names of the runs begin that `--data` and `--model` ask for."""
    if request.data is None:
        if request.model is not None:
            raise UsageError("--epochs 0 with --model needs --data too, or a run with --resume")
        return ""
    name = request.data if request.data in NAMES else Path(request.data).resolve().stem
    return f"{name}-{request.model or ''}"


def _refuse(request: Request, flags: tuple[str, ...], reason: str) -> None:
    given = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(request, flag) is not None]
    if given:
        raise UsageError(f"{reason}: leave out {', '.join(given)}")


def _train(trainer: Trainer, request: Request) -> int:
    _announce(trainer, request)
    go_on = f"gpcnn-train --resume {shlex.quote(str(trainer.run))}"
    if request.device != "auto":
        go_on += f" --device {request.device}"
    with Interrupt() as interrupt, Display("training") as display:
        ended = trainer.train(display, lambda: interrupt.requested)
    try:
        if not ended:
            raise KeyboardInterrupt
        with threads_set(trainer.threads), Display("scoring the test images") as display:
            nll = trainer.test(request.test_images, display.update)
        scored = min(request.test_images or len(trainer.data.test_pixels), len(trainer.data.test_pixels))
        trainer.save(nll, scored)
        with threads_set(trainer.threads):
            draw_samples(trainer.run / SAMPLES, trainer.model, trainer.settings.seed)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted at step {trainer.step}, saved in {trainer.run}; go on with:\n  {go_on}", err=True)
        return InterruptedRun.exit_code
    of = f" of {len(trainer.data.test_pixels):,}" if scored < len(trainer.data.test_pixels) else ""
    checkpoint = trainer.run / CHECKPOINT
    click.echo(
        f"trained {trainer.step:,} steps ({trainer.epoch:.1f} epochs) in {duration(trainer.seconds)}\n"
        f"test NLL    {nll:.2f} nats/image, {bits_per_dim(nll, trainer.spec):.4f} bits/dim "
        f"({scored:,}{of} test images)\n"
        f"samples     {trainer.run / SAMPLES}\n"
        f"checkpoint  {checkpoint}\n"
        f"next        gpcnn-export {shlex.quote(str(checkpoint))} --format onnx"
    )
    return 0


def _announce(trainer: Trainer, request: Request) -> None:
    data, spec, settings = trainer.data, trainer.spec, trainer.settings
    size = f"{spec.height}×{spec.width}" + (" RGB" if spec.channels == 3 else "")
    binarized = ", binarized anew each epoch" if trainer.quantization == "stochastic-binary" else ""
    classes = f"conditional on {len(data.class_names)} classes" if spec.conditioning == "label" else "unconditional"
    place = str(trainer.device)
    if trainer.device.type == "cpu":
        place += " with 1 thread" if trainer.threads == 1 else f" with {trainer.threads} threads"
    click.echo(
        f"{data.name}: {len(data.train_pixels):,} training and {len(data.test_pixels):,} test images, {size}, "
        f"{spec.levels} levels{binarized}\n"
        f"model: {spec.layers} layers × {spec.features} features, {parameter_count(trainer.model):,} weights, "
        f"{classes}\n"
        f"training on {place} for {settings.limits()}, in {trainer.run}; Ctrl-C saves",
        err=True,
    )
    by_default = request.resume is None and request.time_limit is None and settings.time_limit is not None
    if by_default:
        click.echo("train longer, and better, with for example --time-limit 1h", err=True)
    if trainer.progress >= 1:
        click.echo("that is reached already; to train on, give a larger limit, which counts from step 0", err=True)
    elif trainer.step:
        click.echo(f"going on at step {trainer.step:,}, {trainer.progress:.0%} of the way", err=True)
