"""The training loop: one device, AdamW, a schedule in steps or time; all that is needed to go on is saved as it runs.

Step t is a function of the settings, the data and the state after step t-1: which images a batch holds and how they are
binarized comes from streams keyed by seed and step. So an interrupted run ends in the same weights as any other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gpcnn_deploy.errors import CheckpointError, TrainingError
from gpcnn_training.checkpoint import Header, save_checkpoint, tool_versions
from gpcnn_training.dataset import DataSet
from gpcnn_training.device import fastest_threads, make_fabric, threads_set
from gpcnn_training.display import Display
from gpcnn_training.evaluation import bits_per_dim, negative_log_likelihood
from gpcnn_training.metrics import Metrics
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.quantize import Quantization, stream, to_levels
from gpcnn_training.runs import CHECKPOINT, METRICS
from gpcnn_training.schedule import Settings
from gpcnn_training.training_state import Moments, TrainingState, load_state, restore_optimizer, save_state

MAX_GRADIENT_NORM = 1.0  # of the loss in nats a sub-pixel
WEIGHT_DECAY = 0.1
STEPS_BETWEEN_REPORTS = 10
SECONDS_BETWEEN_SAVES = 60.0
QUICK_TEST_SUBPIXELS = 240_000  # scored at every save (of MNIST, 306 images); the whole test set at the end

_ORDER, _BINARIZATION = 1 << 62, 2 << 62  # apart from each other and from the streams that samples are drawn from


class Trainer:
    """A run: its model, its optimizer, and how far it has come.

    Attributes:
        model: the network, on the device.
        settings: limits, learning rate, seed.
        batch_size: images a step; fewer than the settings say if there are no more.
        step: optimizer steps taken.
        seconds: time trained, over all sessions.
        threads: CPU threads to compute with.
    """

    def __init__(
        self,
        run: Path,
        model: GatedPixelCNN,
        data: DataSet,
        quantization: Quantization,
        settings: Settings,
        device: torch.device,
        step: int = 0,
        seconds: float = 0.0,
        moments: Moments | None = None,
        threads: int | None = None,
    ) -> None:
        """Train `model` in the folder `run`.

        `step`, `seconds`, `moments` and `threads` say where a resumed run stands; a new run on a CPU finds out how many
        threads are fastest.
        """
        self.run, self.data, self.settings, self.quantization = run, data, settings, quantization
        self.spec, self.device, self.step, self.seconds = model.spec, device, step, seconds
        self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=WEIGHT_DECAY)
        if moments:
            restore_optimizer(self._optimizer, model, moments, step)
        self._fabric = make_fabric(device)
        self._network, self._fabric_optimizer = self._fabric.setup(model, self._optimizer)
        self.batch_size = min(settings.batch_size, len(data.train_pixels))
        self._steps_per_epoch = len(data.train_pixels) // self.batch_size
        self._metrics = Metrics(run / METRICS, step)
        self._data_digest = data.digest()
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._pending: list[tuple[int, float, Tensor]] = []  # step, learning rate, [loss, gradient norm]
        self._reported_at, self._quick_test = time.monotonic(), ""
        if threads is None:
            threads = fastest_threads(self._rehearse) if device.type == "cpu" else torch.get_num_threads()
        self.threads = threads

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, self.settings.progress(self.step, self._steps_per_epoch, self.seconds))

    @property
    def epoch(self) -> float:
        """Passes over the training images, a fraction included."""
        return round(self.step / self._steps_per_epoch, 4)

    def train(self, display: Display, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train until the run's limits are reached or `stop` says so; saves on the way and at the end.

        Returns:
            True when the limits were reached.

        Raises:
            TrainingError: the loss or its gradient is not finite; the last save stays.
            OutputError: the run folder cannot be written.
        """
        with threads_set(self.threads):
            return self._train(display, stop)

    def _train(self, display: Display, stop: Callable[[], bool]) -> bool:
        began = time.monotonic() - self.seconds
        self._reported_at = saved_at = time.monotonic()
        while self.progress < 1.0 and not stop():
            self._take_step()
            self.seconds = time.monotonic() - began
            if self.step % STEPS_BETWEEN_REPORTS == 0:
                self._report(display)
            if time.monotonic() - saved_at >= SECONDS_BETWEEN_SAVES:
                self._report(display)
                self.save()
                nll = self.test(max(1, QUICK_TEST_SUBPIXELS // self.spec.subpixels))
                self._quick_test = f"test {nll:.2f}"
                saved_at = self._reported_at = time.monotonic()
        self._report(display)
        self.save()
        return self.progress >= 1.0

    def save(self, test_nll: float | None = None, test_images: int = 0) -> None:
        """Write the state (first, so that it is never older than the checkpoint) and the checkpoint."""
        header = Header(
            spec=self.spec,
            class_names=self.data.class_names if self.spec.conditioning == "label" else (),
            data=self.data.name,
            quantization=self.quantization,
            step=self.step,
            epoch=self.epoch,
            seed=self.settings.seed,
            test_nll=test_nll,
            test_images=test_images,
            versions=tool_versions(),
        )
        state = TrainingState(
            checkpoint=header,
            settings=self.settings,
            seconds=self.seconds,
            data_digest=self._data_digest,
            threads=self.threads,
        )
        save_state(self.run, self.model, self._optimizer, state)
        save_checkpoint(self.run / CHECKPOINT, self.model, header)

    def test(self, images: int | None = None, on_progress: Callable[[float], None] | None = None) -> float:
        """Score the first so many test images (None: all of them) and record it; returns nats an image."""
        pixels, labels = self.data.test_pixels[:images], self.data.test_labels[:images]
        nll = negative_log_likelihood(self.model, pixels, labels, self.quantization, on_progress)
        self._metrics.write(**self._row("test", nll), test_images=len(pixels))
        return nll

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """Levels [N, C, H, W] and labels [N] of the step at hand."""
        epoch, position = divmod(self.step, self._steps_per_epoch)
        if self._order[0] != epoch:
            order = stream(self.settings.seed, _ORDER + epoch).permutation(len(self.data.train_pixels))
            self._order = (epoch, order)
        chosen = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        random = stream(self.settings.seed, _BINARIZATION + self.step)
        levels = to_levels(self.data.train_pixels[chosen], self.spec.levels, self.quantization, random)
        labels = None
        if self.spec.conditioning == "label":
            labels = torch.from_numpy(self.data.train_labels[chosen]).to(self.device)
        return torch.from_numpy(levels).to(self.device), labels

    def _take_step(self) -> None:
        rate = self.settings.learning_rate_at(self.progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._fabric_optimizer.zero_grad()
        loss = self._backward()
        norm = self._fabric.clip_gradients(
            self._network, self._fabric_optimizer, max_norm=MAX_GRADIENT_NORM, error_if_nonfinite=False
        )
        assert norm is not None
        self._fabric_optimizer.step()
        self.step += 1
        self._pending.append((self.step, rate, torch.stack([loss, norm])))

    def _backward(self) -> Tensor:
        """The loss of the step at hand, in nats a sub-pixel; its gradient is left in the weights."""
        levels, labels = self._batch()
        loss = functional.cross_entropy(self._network(levels, labels).float(), levels)
        self._fabric.backward(loss)
        return loss.detach()

    def _rehearse(self) -> None:
        """The work of a step, without taking it."""
        self._backward()
        self._fabric_optimizer.zero_grad()

    def _report(self, display: Display) -> None:
        """Look at the losses since the last report: refuse any that is not finite, show and record their mean."""
        if not self._pending:
            return
        values = torch.stack([value for _, _, value in self._pending]).double().cpu().numpy()
        for (step, rate, _), (loss, norm) in zip(self._pending, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingError(
                    f"training broke down at step {step} and learning rate {rate:.2g} (loss {loss:.4g}, gradient norm "
                    f"{norm:.4g}); {self.run} keeps what was saved before: start anew with --learning-rate "
                    f"{self.settings.learning_rate / 3:.1g}"
                )
        nll = float(values[:, 0].mean()) * self.spec.subpixels
        now = time.monotonic()
        speed = len(self._pending) * self.batch_size / max(1e-9, now - self._reported_at)
        rate = self._pending[-1][1]
        self._metrics.write(**self._row("train", nll), learning_rate=rate, images_per_second=round(speed, 1))
        text = f"{nll:.2f} nats/image  {bits_per_dim(nll, self.spec):.4f} bits/dim  {speed:.0f} images/s"
        display.update(self.progress, f"{text}  {self._quick_test}".rstrip())
        self._pending, self._reported_at = [], now

    def _row(self, what: str, nll: float) -> dict[str, float]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 2),
            f"{what}_nats_per_image": nll,
            f"{what}_bits_per_dim": bits_per_dim(nll, self.spec),
        }


def resumed(run: Path, data: DataSet, settings: Settings, device: torch.device) -> Trainer:
    """Go on with the run in the folder `run`, under `settings`.

    Raises:
        CheckpointError: the run has no usable state, or `data` are not what it was trained on.
    """
    model, moments, state = load_state(run)
    if data.digest() != state.data_digest:
        raise CheckpointError(
            f"{run}: was not trained on this {data.name}, its images or classes differ: start a new run"
        )
    header = state.checkpoint
    return Trainer(
        run,
        model,
        data,
        header.quantization,
        settings,
        device,
        step=header.step,
        seconds=state.seconds,
        moments=moments,
        threads=state.threads,
    )
