"""The first stage of a VQ-VAE: encoder, codebook and decoder learn to give pictures back.

The loss is the mean squared error over the variance of the training pictures, and the commitment loss (arXiv
1711.00937, equation 3). As in `gpcnn_training.trainer`, step t is a function of the settings, the data and the state
after step t-1.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gpcnn_deploy.checkpoint_header import CODES_KEY, CodesHeader, read_header
from gpcnn_deploy.errors import CheckpointError, OutputError, TrainingError
from gpcnn_training.checkpoint import save_codes, tool_versions
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.quantize import stream
from gpcnn_training.runs import CODES, CODES_METRICS
from gpcnn_training.trainer.compute import (
    CompileChoice,
    Compute,
    PrecisionChoice,
    autocast,
    choose,
    prepared,
    threads_set,
)
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.metrics import Metrics
from gpcnn_training.trainer.optimizer import restore_moments
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.trainer import SECONDS_BETWEEN_SAVES, STEPS_BETWEEN_REPORTS, hold_out
from gpcnn_training.vqvae.codebook import averages_of, perplexity
from gpcnn_training.vqvae.pictures import as_numbers, decibels, moved, reconstruct
from gpcnn_training.vqvae.state import CodesState, RestoredCodes, save_codes_state
from gpcnn_training.vqvae_network import Coded, Vqvae

COMMITMENT = 0.25
"""β of equation 3."""
RESTARTING = 0.9
"""Share of a run in which dead codes are restarted; after it, the codebook settles."""
ALONE, ALONE_UNTIL = 0.25, 0.1
"""Share of the pictures that the top codes of a VQ-VAE-2 must give back alone, and until which share of a run.

Without it, the bottom codes can learn to do without the top ones, which then all become the same."""
_ORDER, _MOVES, _ALONE = 5 << 60, 6 << 60, 7 << 60  # apart from the streams of the second stage


class _Figures(NamedTuple):
    step: int
    rate: float
    figures: Tensor  # mean squared error from -1 to 1, commitment, gradient norm
    counts: Tensor


class CodesTrainer:
    """A run's first stage.

    Attributes:
        network: on the device, with the weights of the last step.
        average: with the moving average of the weights: what is evaluated and kept.
        settings: limits, learning rate, seed.
        step: optimizer steps taken.
        seconds: time trained, over all sessions.
        compute: how a step is computed.
        best: the highest PSNR of the validation pictures so far, in dB; None before the first.
    """

    def __init__(
        self,
        run: Path,
        network: Vqvae,
        data: DataSet,
        settings: Settings,
        device: torch.device,
        restored: RestoredCodes | None = None,
        precision: PrecisionChoice = "auto",
        compiling: CompileChoice = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Train `network` in the folder `run`; `restored` says where a resumed run stands.

        Raises:
            TrainingError: compiling was asked for and fails.
            CheckpointError: `data` are not what a resumed run was trained on.
        """
        self.run, self.data, self.settings, self.device = run, data, settings, device
        self.spec = network.spec
        self._data_digest = data.digest()
        if restored and restored.state.data_digest != self._data_digest:
            raise CheckpointError(
                f"{run}: was not trained on this {data.name}, its images or classes differ: start a new run"
            )
        h, w = self.spec.grid
        self.train_images, self.validation_images = hold_out(data, h * w)
        self.batch_size = min(settings.batch_size, len(self.train_images))
        self.step = restored.state.codes.step if restored else 0
        self.seconds = restored.state.seconds if restored else 0.0
        there = restored is not None and (run / CODES).is_file()
        self.best = read_header(run / CODES, CodesHeader, CODES_KEY)[0].psnr if there else None
        self._steps_per_epoch = len(self.train_images) // self.batch_size
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._pending: list[_Figures] = []
        self._note = note
        self._variance = max(1e-6, float(as_numbers(data.train_pixels[self.train_images]).var()))
        self._validation = ""

        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = restored.average if restored else copy.deepcopy(network)
        self.average: Vqvae = average.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average.eval()
        self._averages = restored.averages if restored else averages_of(self.network)
        for averages in self._averages.values():
            averages.uses, averages.sums = averages.uses.to(device), averages.sums.to(device)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        before = restored.state.compute if restored else None
        self.compute = before if before and before.device == device.type else self._choose(precision, compiling)
        if restored and restored.moments:
            restore_moments(self._optimizer, self.network, restored.moments, self.step)
        self._forward = prepared(self.network, self.compute)
        self._metrics = Metrics(run / CODES_METRICS, self.step)
        self._reported_at = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return min(1.0, self.settings.progress(self.step, self._steps_per_epoch, self.seconds))

    @property
    def epoch(self) -> float:
        """Passes over the training pictures, a fraction included."""
        return round(self.step / self._steps_per_epoch, 4)

    def train(self, display: Display, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train until the limits are reached or `stop` says so; saves on the way and at the end.

        Returns:
            True when the limits were reached.

        Raises:
            TrainingError: the loss or its gradient is not finite; the last save stays.
            OutputError: the run folder cannot be written at the end; on the way, that is told, and tried again.
        """
        with threads_set(self.compute.threads):
            began = time.monotonic() - self.seconds
            self._reported_at = saved_at = time.monotonic()
            while self.progress < 1.0 and not stop():
                self._take_step()
                self.seconds = time.monotonic() - began
                saving = self.seconds + began - saved_at >= SECONDS_BETWEEN_SAVES
                if saving or self.step % STEPS_BETWEEN_REPORTS == 0:
                    self._report(display)
                if saving:
                    with self._tried_again():
                        self._save()
                    saved_at = self._reported_at = time.monotonic()
            self._report(display)
            self._save()
        return self.progress >= 1.0

    @contextlib.contextmanager
    def _tried_again(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self._note(f"Warning: {error}; training goes on, and the next try is in a minute")

    def _batch(self) -> Tensor:
        """Pictures float [N, C, H, W] of the step at hand."""
        epoch, position = divmod(self.step, self._steps_per_epoch)
        if self._order[0] != epoch:
            order = stream(self.settings.seed, _ORDER + epoch).permutation(len(self.train_images))
            self._order = (epoch, self.train_images[order])
        chosen = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        random = stream(self.settings.seed, _MOVES + self.step)
        pixels = moved(self.data.train_pixels[chosen], self.settings.mirror, self.settings.shift, random)
        return as_numbers(pixels).to(device=self.device, memory_format=torch.channels_last)

    def _with_bottom(self) -> Tensor:
        """1 for pictures whose bottom codes the decoder is told at the step at hand, 0 for the others, float [N]."""
        alone = stream(self.settings.seed, _ALONE + self.step).random(self.batch_size) < ALONE
        told = ~alone if self.progress < ALONE_UNTIL else np.ones(self.batch_size, np.bool_)
        return torch.from_numpy(told.astype(np.float32)).to(self.device)

    def _loss(self, forward: Callable[..., Coded], compute: Compute) -> tuple[Tensor, Tensor, Coded]:
        """(loss, mean squared error, what the network made of the pictures) of the step at hand."""
        pictures = self._batch()
        with autocast(self.device, compute):
            coded = forward(pictures) if self.spec.code_levels == 1 else forward(pictures, self._with_bottom())
        error = functional.mse_loss(coded.pictures.float(), pictures)
        return error / self._variance + COMMITMENT * coded.commitment, error, coded

    def _take_step(self) -> None:
        rate = self.settings.learning_rate_at(self.progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss, error, coded = self._loss(self._forward, self.compute)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self._optimizer.step()
        restart = self.progress < RESTARTING
        levels = zip(self.network.codebooks.items(), coded.vectors, coded.codes, strict=True)
        for level, ((name, codebook), vectors, codes) in enumerate(levels):
            self._averages[name].update(codebook, vectors, codes, self.settings.seed, self.step, restart, level)
        self.step += 1
        decay = self.settings.ema_decay_at(self.step)
        ours, theirs = list(self.average.state_dict().values()), list(self.network.state_dict().values())
        torch._foreach_lerp_(ours, theirs, 1.0 - decay)
        counts = torch.cat([torch.bincount(codes.reshape(-1), minlength=self.spec.codes) for codes in coded.codes])
        figures = torch.stack([error.detach(), coded.commitment.detach(), norm])
        self._pending.append(_Figures(self.step, rate, figures, counts))

    def _choose(self, precision: PrecisionChoice, compiling: CompileChoice) -> Compute:
        networks: dict[bool, torch.nn.Module] = {}

        def rehearse(compute: Compute) -> None:
            network = networks.setdefault(compute.compiled, prepared(self.network, compute))
            self._loss(network, compute)[0].backward()  # type: ignore[no-untyped-call]
            self._optimizer.zero_grad()

        return msgspec.structs.replace(
            choose(
                rehearse,
                self.batch_size,
                self.device,
                1,
                precision,
                compiling,
                lambda speed: self.settings.seconds_expected(self._steps_per_epoch, self.batch_size / speed),
                self._note,
            ),
            device=self.device.type,
        )

    def _report(self, display: Display) -> None:
        """Look at the figures since the last report: refuse any that is not finite, show and record their mean."""
        if not self._pending:
            return
        values = torch.stack([one.figures for one in self._pending]).cpu().double().numpy()
        for one, (error, _, norm) in zip(self._pending, values, strict=True):
            if not (math.isfinite(error) and math.isfinite(norm)):
                raise TrainingError(
                    f"training broke down at step {one.step} and learning rate {one.rate:.2g} (error {error:.4g}, "
                    f"gradient norm {norm:.4g}); {self.run} keeps what was saved before: start anew with "
                    f"--learning-rate {self.settings.learning_rate / 3:.1g}"
                )
        psnr = decibels(float(values[:, 0].mean()) * 127.5**2)
        used = perplexity(torch.stack([one.counts for one in self._pending]).sum(0))
        now = time.monotonic()
        speed = len(self._pending) * self.batch_size / max(1e-9, now - self._reported_at)
        self._write(
            train_psnr=psnr,
            train_perplexity=used,
            commitment=float(values[:, 1].mean()),
            learning_rate=self._pending[-1].rate,
            images_per_second=round(speed, 1),
        )
        codes = self.spec.codes * self.spec.code_levels
        text = f"{psnr:.2f} dB  perplexity {used:.0f} of {codes}  {speed:.0f} images/s"
        display.update(self.progress, f"{text}  {self._validation}".rstrip())
        self._pending, self._reported_at = [], now

    def _save(self) -> None:
        """Measure the moving average; write the state (first, so that it is never older) and the best network."""
        found = reconstruct(self.average, self.data.train_pixels[self.validation_images])
        self._write(validation_psnr=found.psnr, validation_perplexity=found.perplexity)
        self._validation = f"validation {found.psnr:.2f} dB"
        header = CodesHeader(
            vqvae=self.spec,
            data=self.data.name,
            preparation=self.data.preparation,
            step=self.step,
            epoch=self.epoch,
            seed=self.settings.seed,
            psnr=found.psnr,
            perplexity=found.perplexity,
            versions=tool_versions(),
        )
        state = CodesState(
            codes=header,
            settings=self.settings,
            seconds=self.seconds,
            ended=self.progress >= 1.0,
            data_digest=self._data_digest,
            compute=self.compute,
        )
        save_codes_state(self.run, self.network, self.average, self._averages, self._optimizer, state)
        if self.best is None or found.psnr >= self.best:
            save_codes(self.run / CODES, self.average, header)
            self.best = found.psnr

    def _write(self, **values: float) -> None:
        where = {"step": self.step, "epoch": self.epoch, "seconds": round(self.seconds, 2)}
        with self._tried_again():
            self._metrics.write(**where, **values)
