"""The training loop: any number of processes, a schedule in steps or time; what is needed to go on is saved as it runs.

Step t is a function of the settings, the data and the state after step t-1: which images a batch holds and how they are
binarized comes from streams keyed by seed and step. So an interrupted run ends in the same weights as any other, and
several processes, each with its part of the batch, compute what one computes, up to the order of sums.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.errors import CheckpointError, OutputError, TrainingError, UsageError
from gpcnn_deploy.spec import Quantization
from gpcnn_deploy.text import bounded, counted
from gpcnn_deploy.units import units_of
from gpcnn_training.checkpoint import checkpoint_header, save_checkpoint, tool_versions
from gpcnn_training.conditionals import conditionals
from gpcnn_training.data.conditions import conditions_of, data_digest
from gpcnn_training.data.dataset import DataSet
from gpcnn_training.data.quantize import stream, to_levels
from gpcnn_training.evaluation.likelihood import bits_per_dim, negative_log_likelihood, sample_sheet
from gpcnn_training.network import Network
from gpcnn_training.runs import CHECKPOINT, LAST, METRICS, TENSORBOARD
from gpcnn_training.trainer.board import Board
from gpcnn_training.trainer.compute import (
    CompileChoice,
    Compute,
    PrecisionChoice,
    autocast,
    choose,
    prepared,
    threads_set,
)
from gpcnn_training.trainer.device import local_processes
from gpcnn_training.trainer.display import Display
from gpcnn_training.trainer.metrics import Metrics
from gpcnn_training.trainer.optimizer import make_optimizer, restore_moments
from gpcnn_training.trainer.settings import Settings
from gpcnn_training.trainer.state import Restored, TrainingState, save_state

STEPS_BETWEEN_REPORTS = 10
SECONDS_BETWEEN_SAVES = 60.0
SHEETS_OF_A_RUN = 10  # of samples, in TensorBoard
VALIDATION_SUBPIXELS = 240_000  # scored at every save: of MNIST, 306 images

_NO_BOARD = "TensorBoard shows nothing more of this run"

_ORDER, _BINARIZATION = 1 << 62, 2 << 62  # apart from each other and from the streams that samples are drawn from
_DROPOUT = 5 << 61


class Trainer:
    """A run: its model, its optimizer, and how far it has come.

    Attributes:
        model: the network, on the device, with the weights of the last step.
        settings: limits, learning rate, seed.
        batch_size: images a step, of all processes together; fewer than the settings say if there are no more.
        step: optimizer steps taken.
        seconds: time trained, over all sessions.
        compute: how a step is computed.
        best_nll: the lowest validation NLL so far, in nats an image; None before the first.
    """

    def __init__(
        self,
        run: Path,
        model: Network,
        data: DataSet,
        quantization: Quantization,
        settings: Settings,
        fabric: Fabric,
        restored: Restored | None = None,
        precision: PrecisionChoice = "auto",
        compiling: CompileChoice = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Train `model` in the folder `run`.

        `restored` says where a resumed run stands; a new run finds out how to compute fastest, as far as `precision`
        and `compiling` leave it open.

        Raises:
            UsageError: the batch cannot be shared by the processes.
            TrainingError: compiling was asked for and fails.
            DataError: the data have not what the model is conditioned on.
        """
        self.run, self.data, self.settings, self.quantization = run, data, settings, quantization
        self.spec, self.device = model.spec, fabric.device
        self.train_images, self.validation_images = hold_out(data, self.spec.subpixels)
        self.batch_size = min(settings.batch_size, len(self.train_images))
        self._fabric = fabric
        if self.batch_size % fabric.world_size:
            raise UsageError(
                f"--batch-size {self.batch_size} cannot be shared by "
                f"{counted(fabric.world_size, 'process', 'processes')}: "
                f"expected a multiple, such as {-(-self.batch_size // fabric.world_size) * fabric.world_size}"
            )
        self.step = restored.state.checkpoint.step if restored else 0
        self.seconds = restored.state.seconds if restored else 0.0
        # The checkpoint itself says how good it is: a run may have been killed between two files.
        there = restored is not None and (run / CHECKPOINT).is_file()
        self.best_nll = checkpoint_header(run / CHECKPOINT).validation_nll if there else None
        self._steps_per_epoch = len(self.train_images) // self.batch_size
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._pending: list[tuple[int, float, Tensor]] = []  # step, learning rate, [loss, gradient norm]
        self._reported_at, self._validation = time.monotonic(), ""
        self._data_digest = data_digest(data, model.spec, model.encoder is not None)
        self._conditions, self._test_conditions = conditions_of(data, model.spec, model.encoder is not None)
        self._sheets = -1  # of samples so far, in tenths of the run
        self._note = note
        self._whole = True  # weights, moments and step belong together

        self.model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = restored.average if restored else model
        average.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = AveragedModel(average, multi_avg_fn=self._follow)
        self._average.n_averaged += 1  # what follows is no first copy
        self.model.leave_out(settings.dropout)  # the average is scored whole
        self._optimizer = make_optimizer(model, settings)
        before = restored.state.compute if restored else None
        if before and (before.device, before.processes) == (self.device.type, fabric.world_size):
            self.compute = before
        else:
            self.compute = self._choose(precision, compiling, note)
        if restored and restored.moments:
            restore_moments(self._optimizer, model, restored.moments, self.step)
        self._network, self._fabric_optimizer = fabric.setup(prepared(model, self.compute), self._optimizer)
        self._metrics = Metrics(run / METRICS, self.step) if fabric.is_global_zero else None
        self._metrics_failed = False
        self._board: Board | None = None
        if fabric.is_global_zero:
            with self._beside("TensorBoard shows nothing of this run"):
                self._board = Board(run / TENSORBOARD, self.step)

    @property
    def average(self) -> Network:
        """The network with the moving average of the weights: what is evaluated and exported."""
        model = self._average.module
        assert isinstance(model, Network)
        return model

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self._fabric.world_size

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
            OutputError: the run folder cannot be written at the end; on the way, that is told, and tried again.
        """
        with threads_set(self.compute.threads):
            try:
                return self._train(display, stop)
            except (TrainingError, OutputError, KeyboardInterrupt):
                raise
            except BaseException:  # no memory, a driver, a bug: what was learned is kept
                self._rescue()
                raise

    def _train(self, display: Display, stop: Callable[[], bool]) -> bool:
        if self.step == 0:
            self._show_graph()
        began = time.monotonic() - self.seconds
        self._reported_at = saved_at = time.monotonic()
        stopping = self._agreed(began, stop)
        while self.progress < 1.0 and not stopping:
            self._take_step()
            report = self.step % STEPS_BETWEEN_REPORTS == 0
            if self._fabric.world_size == 1 or report:
                stopping = self._agreed(began, stop)
                saving = self.seconds + began - saved_at >= SECONDS_BETWEEN_SAVES
                if report or saving:
                    self._report(display)
                if saving:
                    self._save_if_possible()
                    saved_at = self._reported_at = time.monotonic()
        self._report(display)
        self._save_on_the_way()
        if self._fabric.world_size > 1:
            self._fabric.barrier()  # no process ends, and ends the others, before the first one has saved
        return self.progress >= 1.0

    def _agreed(self, began: float, stop: Callable[[], bool]) -> bool:
        """Set `seconds` and return whether to stop: by the first process's clock and wish, since all do the same."""
        state = (time.monotonic() - began, stop())
        if self._fabric.world_size > 1:
            state = self._fabric.broadcast(state)
        self.seconds = state[0]
        return state[1]

    def _save_if_possible(self) -> None:
        try:
            self._save_on_the_way()
        except OutputError as error:
            self._note(f"Warning: {error}; training goes on, and the next try is in a minute")

    def _rescue(self) -> None:
        """Save what there is before the run ends by an error, if it is sound."""
        if not self._fabric.is_global_zero or not self._whole or self.step == 0:
            return
        with contextlib.suppress(Exception):  # the error that ends the run is the one to be told
            if all(bool(torch.isfinite(value).all()) for _, _, value in self._pending):
                self.save(best=not (self.run / CHECKPOINT).exists())

    @contextlib.contextmanager
    def _beside(self, lost: str) -> Iterator[None]:
        """TensorBoard is a side channel: what it raises is told, and it is given up; the run goes on."""
        try:
            yield
        except Exception as error:
            board, self._board = self._board, None
            if board is not None:
                with contextlib.suppress(Exception):
                    board.close()
            reason = bounded(" ".join(str(error).split()) or type(error).__name__, 200)
            self._note(f"Warning: {lost} ({reason}); training goes on")

    def _save_on_the_way(self) -> None:
        if not self._fabric.is_global_zero:
            return
        nll = self.score(self.average, self.validation_images)
        self._write(validation_nats_per_image=nll, validation_bits_per_dim=bits_per_dim(nll, self.spec))
        self._validation = f"validation {nll:.2f}"
        best = self.best_nll is None or nll <= self.best_nll
        self.save(nll, best)
        if best:
            self.best_nll = nll
        sheets = int(self.progress * SHEETS_OF_A_RUN)
        with self._beside(_NO_BOARD):
            if self._board is not None and sheets > self._sheets:
                self._sheets = sheets
                self._board.samples(self.step, self._sheet())
            if self._board is not None:
                self._board.flush()

    def header(self, validation_nll: float | None = None) -> Header:
        """What a checkpoint of now says about itself."""
        return Header(
            spec=self.spec,
            encoder=None if self.model.encoder is None else self.model.encoder.spec,
            class_names=self.data.class_names if self.spec.conditioning == "label" else (),
            data=self.data.name,
            quantization=self.quantization,
            preparation=self.data.preparation,
            step=self.step,
            epoch=self.epoch,
            seed=self.settings.seed,
            ema=self.settings.ema,
            validation_nll=validation_nll,
            versions=tool_versions(),
        )

    def save(self, validation_nll: float | None = None, best: bool = True) -> None:
        """Write the state (first, so that it is never older than a checkpoint) and the checkpoints.

        Args:
            validation_nll: of the moving average now, in nats an image.
            best: whether no earlier one was lower.
        """
        header = self.header(validation_nll)
        state = TrainingState(
            checkpoint=header,
            settings=self.settings,
            seconds=self.seconds,
            data_digest=self._data_digest,
            compute=self.compute,
        )
        save_state(self.run, self.model, self.average, self._optimizer, state)
        self._save_checkpoint(self.run / LAST, header)
        if best:
            self._save_checkpoint(self.run / CHECKPOINT, header)

    def _save_checkpoint(self, path: Path, header: Header) -> None:
        save_checkpoint(path, self.average, header)

    def _sheet(self) -> npt.NDArray[np.uint8]:
        """Samples for TensorBoard."""
        return sample_sheet(self.average, self.settings.seed, self.data, most=20)[0]

    def score(
        self,
        model: Network,
        images: npt.NDArray[np.int64] | None = None,
        test: int | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> float:
        """Nats an image, of these training images, or else of the first `test` test images (None: all of them)."""
        data = self.data
        if images is None:
            pixels, given = data.test_pixels[:test], self._test_conditions
            conditions = None if given is None else given[:test]
        else:
            pixels, given = data.train_pixels[images], self._conditions
            conditions = None if given is None else given[images]
        return negative_log_likelihood(model, pixels, conditions, self.quantization, on_progress)

    def record_test(self, nll: float, images: int) -> None:
        """Record the final figure in `metrics.jsonl` and close the curves."""
        self._write(test_nats_per_image=nll, test_bits_per_dim=bits_per_dim(nll, self.spec), test_images=images)
        with self._beside(_NO_BOARD):
            if self._board is not None:
                self._board.close()

    def _write(self, **values: float) -> None:
        where = {"step": self.step, "epoch": self.epoch, "seconds": round(self.seconds, 2)}
        if self._metrics is not None:
            try:
                self._metrics.write(**where, **values)
                self._metrics_failed = False
            except OutputError as error:
                if not self._metrics_failed:  # told once
                    self._note(f"Warning: {error}; training goes on")
                self._metrics_failed = True
        with self._beside(_NO_BOARD):
            if self._board is not None:
                self._board.scalars(self.step, **values)

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """Levels [N, C, H, W] and conditions of this process's share of the step at hand."""
        epoch, position = divmod(self.step, self._steps_per_epoch)
        if self._order[0] != epoch:
            order = stream(self.settings.seed, _ORDER + epoch).permutation(len(self.train_images))
            self._order = (epoch, self.train_images[order])
        chosen = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        random = stream(self.settings.seed, _BINARIZATION + self.step)
        levels = self._levels(chosen, random)
        mine = slice(self._fabric.global_rank, None, self._fabric.world_size)
        given = None
        if self._conditions is not None:
            given = torch.from_numpy(self._conditions[chosen[mine]]).to(self.device)
        return torch.from_numpy(levels[mine]).to(self.device), given

    def _levels(self, chosen: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Levels of these training images."""
        return to_levels(self.data.train_pixels[chosen], self.spec.levels, self.quantization, random)

    def _take_step(self) -> None:
        rate = self.settings.learning_rate_at(self.progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._fabric_optimizer.zero_grad()
        loss = self._loss(self._network, self.compute)
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._network, self._fabric_optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
        )
        assert norm is not None
        self._whole = False
        self._fabric_optimizer.step()
        self.step += 1
        self._average.update_parameters(self.model)
        self._whole = True
        self._pending.append((self.step, rate, torch.stack([loss.detach(), norm])))

    def _loss(self, network: torch.nn.Module, compute: Compute) -> Tensor:
        """The loss of the step at hand, in nats a sub-pixel."""
        levels, given = self._batch()
        if self.settings.dropout:  # what is left out is of seed, step and process, too
            torch.manual_seed(
                int(stream(self.settings.seed, _DROPOUT + self.step).integers(1 << 62)) + self._fabric.global_rank
            )
        with autocast(self.device, compute):
            outputs = network(levels, given)
        if self.spec.head == "categorical":
            return functional.cross_entropy(outputs.float(), levels)
        return -conditionals(self.spec, outputs.float(), levels).log_probability(levels).mean()

    def _follow(self, average: Sequence[Tensor], now: Sequence[Tensor], count: object) -> None:
        """One step of the moving average."""
        decay = self.settings.ema_decay_at(self.step)
        torch._foreach_lerp_(list(average), list(now), 1.0 - decay)

    def _choose(self, precision: PrecisionChoice, compiling: CompileChoice, note: Callable[[str], None]) -> Compute:
        networks: dict[bool, torch.nn.Module] = {}

        def rehearse(compute: Compute) -> None:
            """The work of a step, without taking it."""
            network = networks.setdefault(compute.compiled, prepared(self.model, compute))
            self._fabric.backward(self._loss(network, compute))
            self._optimizer.zero_grad()

        share = self.batch_size // self._fabric.world_size
        compute = choose(
            rehearse,
            share,
            self.device,
            local_processes(self._fabric),
            precision,
            compiling,
            lambda speed: self.settings.seconds_expected(self._steps_per_epoch, share / speed),
            note,
        )
        compute = msgspec.structs.replace(compute, device=self.device.type, processes=self._fabric.world_size)
        return compute if self._fabric.world_size == 1 else self._fabric.broadcast(compute)

    def _show_graph(self) -> None:
        with self._beside(_NO_BOARD):
            if self._board is not None:
                levels, given = self._batch()
                self._board.graph(self.average, levels[:1], None if given is None else given[:1])

    def _report(self, display: Display) -> None:
        """Look at the losses since the last report: refuse any that is not finite, show and record their mean."""
        if not self._pending:
            return
        stacked = torch.stack([value for _, _, value in self._pending])
        if self._fabric.world_size > 1:
            reduced = self._fabric.all_reduce(stacked, reduce_op="mean")
            assert isinstance(reduced, Tensor)
            stacked = reduced
        values = stacked.cpu().double().numpy()
        for (step, rate, _), (loss, norm) in zip(self._pending, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                good = self.run / CHECKPOINT
                raise TrainingError(
                    f"training broke down at step {step} and learning rate {rate:.2g} (loss {loss:.4g}, gradient norm "
                    f"{norm:.4g}); {good if good.exists() else self.run} keeps what was saved before: start anew with "
                    f"--learning-rate {self.settings.learning_rate / 3:.1g}"
                )
        nll = float(values[:, 0].mean()) * self.spec.subpixels
        now = time.monotonic()
        speed = len(self._pending) * self.batch_size / max(1e-9, now - self._reported_at)
        self._write(
            train_nats_per_image=nll,
            train_bits_per_dim=bits_per_dim(nll, self.spec),
            learning_rate=self._pending[-1][1],
            images_per_second=round(speed, 1),
        )
        units = units_of(self.quantization == "codes")
        bits = f"{bits_per_dim(nll, self.spec):.4f} bits/{units.dim}"
        text = f"{nll:.2f} nats/{units.image}  {bits}  {speed:.0f} images/s"
        display.update(self.progress, f"{text}  {self._validation}".rstrip())
        self._pending, self._reported_at = [], now


def hold_out(data: DataSet, subpixels: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of the images to train on, and of those held out to choose the best checkpoint by: one in fifty.

    A data set with validation images of its own has those held out, and at most so many of them, evenly spread, looked
    at. A single training image is both.
    """
    count, most = len(data.train_pixels), max(1, VALIDATION_SUBPIXELS // subpixels)
    if data.validation:
        first = count - data.validation
        looked_at = np.linspace(first, count, min(data.validation, most), endpoint=False, dtype=np.int64)
        return np.arange(first), looked_at
    held = min(count // 50, most)
    if held == 0:
        return np.arange(count), np.arange(count)[-max(1, count // 4) :]
    validation = np.linspace(0, count, held, endpoint=False, dtype=np.int64)
    return np.setdiff1d(np.arange(count), validation), validation


def resumed(
    run: Path,
    restored: Restored,
    data: DataSet,
    settings: Settings,
    fabric: Fabric,
    note: Callable[[str], None] = lambda text: None,
) -> Trainer:
    """Go on with the run in the folder `run`, whose state is `restored`, under `settings`.

    Raises:
        CheckpointError: `data` are not what it was trained on.
    """
    state = restored.state
    if data_digest(data, restored.model.spec, restored.model.encoder is not None) != state.data_digest:
        raise CheckpointError(
            f"{run}: was not trained on this {data.name}, its images or classes differ: start a new run"
        )
    return Trainer(run, restored.model, data, state.checkpoint.quantization, settings, fabric, restored, note=note)


def final_header(header: Header, nll: float, images: int) -> Header:
    """A checkpoint's header with its test figure."""
    return msgspec.structs.replace(header, test_nll=nll, test_images=images)
