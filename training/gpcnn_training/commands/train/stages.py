"""`gpcnn-train --model vqvae`, or `vqvae2`: first the codes, then their prior; either stage alone, and each resumed."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import click
import msgspec
import torch
from lightning_fabric import Fabric

from gpcnn_deploy.commands.command import say, write_json
from gpcnn_deploy.errors import InterruptedRun
from gpcnn_deploy.pictures.levels import save_png
from gpcnn_deploy.spec import VqvaeSpec, grids_in_words, layers_in_words
from gpcnn_deploy.system.files import check_file
from gpcnn_deploy.text import counted
from gpcnn_training.architectures import make_network
from gpcnn_training.checkpoint import load_codes, load_vqvae, save_vqvae
from gpcnn_training.commands.train.places import note
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.commands.train.stages_begun import begin, go_on
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.evaluation.likelihood import bits_per_dim
from gpcnn_training.model import parameter_count
from gpcnn_training.runs import (
    CHECKPOINT,
    CODES,
    CODES_STATE,
    RECONSTRUCTIONS,
    SAMPLES,
    STATE,
    checkpoint_path,
)
from gpcnn_training.trainer.compute import threads_set
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.interrupt import Interrupt
from gpcnn_training.trainer.settings import duration
from gpcnn_training.trainer.state import load_state
from gpcnn_training.vqvae.code_data import code_data
from gpcnn_training.vqvae.pictures import reconstruct
from gpcnn_training.vqvae.plan import Plan
from gpcnn_training.vqvae.prior import PriorTrainer
from gpcnn_training.vqvae.sheets import drawn_sheet, reconstructed_sheet
from gpcnn_training.vqvae.state import read_codes_state
from gpcnn_training.vqvae.trainer import CodesTrainer
from gpcnn_training.vqvae_network import Vqvae


class StagesReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` writes about a finished run; None for what a stage alone does not give.

    Attributes:
        run: the folder.
        checkpoint: the VQ-VAE's file; the codes' with `--stage codes`.
        samples: sheet of drawn pictures.
        reconstructions: sheet of test pictures and what becomes of them.
        steps, seconds: of the stage that was trained last.
        test_psnr: of the test pictures, in dB.
        test_perplexity: of their codes.
        test_nats_per_image: negative log-likelihood of their codes.
        test_bits_per_code: the same in bits a code.
        test_images: how many test pictures.
        parameters: of prior, encoder, codebook and decoder.
        compute: how the stage was computed.
    """

    run: str
    checkpoint: str
    samples: str | None = None
    reconstructions: str
    steps: int
    seconds: float
    test_psnr: float
    test_perplexity: float
    test_nats_per_image: float | None = None
    test_bits_per_code: float | None = None
    test_images: int
    parameters: int
    compute: str


def run_stages(request: TrainRequest, fabric: Fabric, stack: contextlib.ExitStack) -> int:
    """Do what was asked; returns the exit code.

    Raises:
        GpcnnError: the request, the data, a checkpoint or the output folder is at fault.
    """
    if request.resume is None:
        run, plan, codes, data = begin(request, fabric, stack)
    else:
        run, plan, codes, data = go_on(request, fabric, stack)
    if codes is not None:
        code = _train_codes(codes, request)
        if code:
            return code
    if request.stage == "codes":
        _finish_codes(run, data, request, codes)
        return 0
    return _train_prior(run, plan, data, request, fabric)


def only_pictures(request: TrainRequest, checkpoint: Path, device: torch.device) -> int:
    """`--epochs 0`: draw a sheet of pictures from a VQ-VAE's checkpoint.

    Raises:
        GpcnnError: as `run_stages`.
    """
    path = (request.out or checkpoint_path(checkpoint).parent) / SAMPLES
    check_file(path, "--out")
    prior, pictures, header = load_vqvae(checkpoint)
    seed = header.seed if request.seed is None else request.seed
    sheet, count = drawn_sheet(prior.to(device), pictures.to(device), seed)
    save_png(path, sheet)
    click.echo(f"{count} samples of {checkpoint_path(checkpoint)}\nsamples     {path}")
    return 0


def _train_codes(trainer: CodesTrainer, request: TrainRequest) -> int:
    data, spec = trainer.data, trainer.spec
    size = f"{spec.height}×{spec.width}" + (" RGB" if spec.channels == 3 else "")
    click.echo(
        f"{data.name}: {len(trainer.train_images):,} training, {len(trainer.validation_images):,} validation and "
        f"{counted(len(data.test_pixels), 'test picture')}, {size}\n"
        f"codes: {grids_in_words(spec)} of {spec.codes}, encoder and decoder of {counted(spec.features, 'feature')}, "
        f"{parameter_count(trainer.network):,} weights\n"
        f"training on {trainer.device} with {trainer.compute.describe()} for {trainer.settings.limits()}, in "
        f"{trainer.run}; Ctrl-C saves",
        err=True,
    )
    for line in data.notes:
        click.echo(line, err=True)
    if trainer.step:
        click.echo(f"going on at step {trainer.step:,}, {trainer.progress:.0%} of the way", err=True)
    with Interrupt() as interrupt, Display("codes") as display:
        ended = trainer.train(display, lambda: interrupt.requested)
    if not ended:
        return _interrupted(trainer.run, trainer.step, request, interrupt)
    return 0


def _interrupted(run: Path, step: int, request: TrainRequest, interrupt: Interrupt) -> int:
    go_on = f"gpcnn-train --resume {shlex.quote(str(run))}"
    if request.stage is not None:
        go_on += f" --stage {request.stage}"
    if request.device != "auto":
        go_on += f" --device {request.device}"
    click.echo(f"\ninterrupted at step {step}, saved in {run}; go on with:\n  {go_on}", err=True)
    return interrupt.exit_code if interrupt.requested else InterruptedRun.exit_code


def _finish_codes(run: Path, data: DataSet, request: TrainRequest, trainer: CodesTrainer | None) -> None:
    """Reconstruct the test pictures by the best codes, which is what the prior will be trained on."""
    pictures, header = load_codes(run / CODES)
    found = reconstruct(pictures, data.test_pixels[: request.test_images])
    sheet = run / RECONSTRUCTIONS
    save_png(sheet, reconstructed_sheet(pictures, data.test_pixels))
    report = StagesReport(
        run=str(run),
        checkpoint=str(run / CODES),
        reconstructions=str(sheet),
        steps=header.step,
        seconds=trainer.seconds if trainer else 0.0,
        test_psnr=found.psnr,
        test_perplexity=found.perplexity,
        test_images=len(found.codes),
        parameters=_weights(pictures),
        compute=trainer.compute.describe() if trainer else "",
    )
    write_json(request.json_path, report)
    say(
        request.json_path,
        f"trained codes, {counted(header.step, 'step')} ({header.epoch:.1f} epochs)\n"
        f"{_psnr_in_words(report, pictures.spec)}\n"
        f"pictures    {sheet}: test pictures, and what becomes of them\n"
        f"codes       {run / CODES}\n"
        f"next        gpcnn-train --resume {shlex.quote(str(run))}   trains the prior",
    )


def _weights(pictures: Vqvae) -> int:
    """Of encoder, codebooks and decoder."""
    return parameter_count(pictures) + sum(codebook.numel() for codebook in pictures.codebooks.values())


def _psnr_in_words(report: StagesReport, spec: VqvaeSpec) -> str:
    codes = spec.codes * spec.code_levels
    return (
        f"test PSNR   {report.test_psnr:.2f} dB, perplexity {report.test_perplexity:.0f} of {codes} codes "
        f"({counted(report.test_images, 'test picture')})"
    )


def _train_prior(run: Path, plan: Plan, data: DataSet, request: TrainRequest, fabric: Fabric) -> int:
    pictures, codes = load_codes(run / CODES)
    coded = code_data(pictures.to(fabric.device), data)
    settings = plan.settings
    if plan.shared and settings.time_limit is not None:
        spent = read_codes_state(run).seconds if (run / CODES_STATE).is_file() else 0.0
        settings = msgspec.structs.replace(settings, time_limit=max(1.0, settings.time_limit - spent))
    restored = load_state(run) if (run / STATE).is_file() else None
    if restored is None:
        torch.manual_seed(settings.seed)
        network = make_network(plan.spec)
    else:
        network = restored.model
    trainer = PriorTrainer(
        run,
        network,
        coded,
        pictures,
        codes,
        settings,
        fabric,
        restored,
        precision=plan.precision,
        compiling=plan.compiling,
        note=note(fabric),
    )
    spec = trainer.spec
    kind = (
        f"conditional on {counted(len(data.class_names), 'class', 'classes')}" if data.class_names else "unconditional"
    )
    if spec.code_levels == 2:
        kind += "; then conditional on the top codes"
    click.echo(
        f"prior: {layers_in_words(spec)}, {parameter_count(network):,} weights, {kind}\n"
        f"training on {trainer.device} with {trainer.compute.describe()} for {settings.limits()}, in {run}; "
        "Ctrl-C saves",
        err=True,
    )
    if trainer.progress >= 1:
        click.echo("that is reached already; to train on, give a larger limit, which counts from step 0", err=True)
    elif trainer.step:
        click.echo(f"going on at step {trainer.step:,}, {trainer.progress:.0%} of the way", err=True)
    with Interrupt() as interrupt, Display("prior") as display:
        ended = trainer.train(display, lambda: interrupt.requested)
    if not ended:
        return _interrupted(run, trainer.step, request, interrupt)
    _finish_prior(trainer, data, request)
    return 0


def _finish_prior(trainer: PriorTrainer, data: DataSet, request: TrainRequest) -> None:
    """Score and draw with the best checkpoint, which is what will be exported."""
    run = trainer.run
    prior, pictures, header = load_vqvae(run / CHECKPOINT)
    prior, pictures = prior.to(trainer.device), pictures.to(trainer.device)
    with threads_set(trainer.compute.threads):
        with Display("scoring the test pictures") as display:
            nll = trainer.score(prior, test=request.test_images, on_progress=display.update)
        found = reconstruct(pictures, data.test_pixels[: request.test_images])
        header = msgspec.structs.replace(
            header, test_nll=nll, test_images=len(found.codes), psnr=found.psnr, perplexity=found.perplexity
        )
        save_vqvae(run / CHECKPOINT, prior, pictures, header)
        trainer.record_test(nll, len(found.codes))
        sheet, _ = drawn_sheet(prior, pictures, trainer.settings.seed)
        save_png(run / SAMPLES, sheet)
        save_png(run / RECONSTRUCTIONS, reconstructed_sheet(pictures, data.test_pixels))
    report = StagesReport(
        run=str(run),
        checkpoint=str(run / CHECKPOINT),
        samples=str(run / SAMPLES),
        reconstructions=str(run / RECONSTRUCTIONS),
        steps=trainer.step,
        seconds=trainer.seconds,
        test_psnr=found.psnr,
        test_perplexity=found.perplexity,
        test_nats_per_image=nll,
        test_bits_per_code=bits_per_dim(nll, prior.spec),
        test_images=len(found.codes),
        parameters=parameter_count(prior) + _weights(pictures),
        compute=trainer.compute.describe(),
    )
    write_json(request.json_path, report)
    say(
        request.json_path,
        f"trained the prior {counted(trainer.step, 'step')} ({trainer.epoch:.1f} epochs) in "
        f"{duration(trainer.seconds)}; the "
        f"best is of step {header.step:,}\n"
        f"{_psnr_in_words(report, pictures.spec)}\n"
        f"test NLL    {nll:.2f} nats a picture's codes, {report.test_bits_per_code:.4f} bits a code\n"
        f"samples     {report.samples}\n"
        f"pictures    {report.reconstructions}: test pictures, and what becomes of them\n"
        f"checkpoint  {report.checkpoint}\n"
        f"next        gpcnn-export {shlex.quote(report.checkpoint or '')}",
    )
