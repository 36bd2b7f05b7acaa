"""One call of `gpcnn-evaluate`: a checkpoint's test likelihood and the class consistency of its samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import numpy as np

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.class_names import same_names
from gpcnn_deploy.errors import CheckpointError, DataError, TrainingError, UsageError, lacks_memory
from gpcnn_deploy.spec import Conditioning, ModelSpec, Quantization, grids_in_words
from gpcnn_deploy.system.machine import of_memory
from gpcnn_training.checkpoint import checkpoint_digest, checkpoint_header, load_checkpoint, load_vqvae
from gpcnn_training.data.conditions import Conditions, conditions_of
from gpcnn_training.data.dataset import DataSet, Labels, Pixels
from gpcnn_training.data.names import NAMES, data_name
from gpcnn_training.data.sources import load_data
from gpcnn_training.evaluation.class_consistency import ClassConsistency, class_consistency
from gpcnn_training.evaluation.likelihood import (
    bits_per_dim,
    mixture_negative_log_likelihood,
    negative_log_likelihood,
)
from gpcnn_training.network import Network
from gpcnn_training.runs import checkpoint_path, newest_run
from gpcnn_training.trainer.compute import limit_threads, threads_set
from gpcnn_training.trainer.device import resolve_device
from gpcnn_training.trainer.display import Display
from gpcnn_training.vqvae.code_data import codes_to_score
from gpcnn_training.vqvae.pictures import reconstruct
from gpcnn_training.vqvae_network import Vqvae

DRAWS = 4


@dataclass(frozen=True)
class EvaluateRequest:
    """The flags of `gpcnn-evaluate`; None where one was not given."""

    checkpoint: Path | None = None
    data: str | None = None
    data_dir: Path | None = None
    test_images: int | None = None
    binarization: Literal["stochastic", "fixed", "both"] | None = None
    draws: int | None = None
    mixture: bool = False
    samples: int | None = None
    seed: int | None = None
    temperature: float | None = None
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            object.__setattr__(self, "data", data_name(self.data))


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and sample standard deviation (n - 1) over the draws; of a single one there is no deviation."""

    mean: float
    std: float | None


class Likelihood(msgspec.Struct, frozen=True, kw_only=True):
    """Negative log-likelihood of the test images under one protocol.

    Attributes:
        draws: of each draw, in nats an image.
        nats_per_image: over the draws.
        nats_per_pixel: the same divided by height × width.
        bits_per_dim: the same in bits, divided by channels × height × width.
    """

    draws: tuple[float, ...]
    nats_per_image: Spread
    nats_per_pixel: Spread
    bits_per_dim: Spread


class Protocol(Likelihood, frozen=True, kw_only=True):
    """How the test images became levels, and their likelihood: p(x | y) of a conditional model, else p(x).

    Attributes:
        protocol: how pixels became levels, in words.
        mixture: p(x) = mean over y of p(x | y) of a model conditional on labels; None if it was not asked for.
    """

    protocol: str
    mixture: Likelihood | None = None


class Reconstructions(msgspec.Struct, frozen=True, kw_only=True):
    """How the test pictures come back from their codes.

    Attributes:
        psnr: in dB, of the mean squared error of all pixels of all pictures.
        perplexity: of the codes; of two levels, of the vectors of both codebooks.
        codes: how many there are to choose from.
        grid: (rows, columns) of the codes of a picture; of two levels, of their sheet.
    """

    psnr: float
    perplexity: float
    codes: int
    grid: tuple[int, int]


class Evaluation(Protocol, frozen=True, kw_only=True):
    """The result: the likelihood as in training or as asked for, and what else was asked for.

    Attributes:
        checkpoint: path of the file.
        checkpoint_digest: its SHA-256.
        step: optimizer steps that it was trained.
        epoch: passes over the training images.
        data: name of the data set.
        test_images: how many test images were scored: the first ones.
        all_test_images: how many there are.
        conditioning: what the likelihood is given: `none`, `label`, …
        own_code: the embedding is the code that the autoencoder gives the picture.
        own_map: the map is the picture itself, made small.
        fixed: the same images binarized at 0.5, with `--binarization both`; None otherwise.
        class_consistency: of samples; None if none were asked for.
        reconstruction: of a VQ-VAE, whose likelihood is that of codes: how the test pictures come back from them.
    """

    checkpoint: str
    checkpoint_digest: str
    step: int
    epoch: float
    data: str
    test_images: int
    all_test_images: int
    conditioning: Conditioning = "none"
    own_code: bool = False
    own_map: bool = False
    fixed: Protocol | None = None
    class_consistency: ClassConsistency | None = None
    reconstruction: Reconstructions | None = None


def evaluate(request: EvaluateRequest) -> Evaluation:
    """Do what was asked; progress is shown on stderr.

    Raises:
        GpcnnError: the request, the data or the checkpoint is at fault.
    """
    device = resolve_device(request.device)
    limit_threads()
    path = newest_run() if request.checkpoint is None else checkpoint_path(request.checkpoint)
    if request.checkpoint is None:
        click.echo(f"Evaluating {path}, the newest run.", err=True)
    model, pictures, header = _load(path)
    spec = header.spec
    protocols = _protocols(request, header)
    _check_samples(request, header)
    _check_mixture(request, header)
    data = _data(request, path, header)
    try:
        with _threads(request.threads):
            model = model.to(device)
            reconstruction, everything = None, len(data.test_pixels)
            if pictures is not None:
                reconstruction, data = _through_codes(pictures.to(device), data, request.test_images)
            pixels, labels = data.test_pixels[: request.test_images], data.test_labels[: request.test_images]
            _, given = conditions_of(data, spec, model.encoder is not None)
            conditions = None if given is None else given[: request.test_images]
            results: list[Protocol] = []
            with Display("scoring the test images") as display:

                def progress(share: float) -> None:
                    display.update((len(results) + share) / len(protocols))

                for quantization, draws in protocols:
                    results.append(
                        _under(model, pixels, conditions, labels, quantization, draws, request.mixture, progress)
                    )
            if not all(math.isfinite(score) for result in results for score in result.draws):
                raise CheckpointError(f"{path}: its log-probabilities are not finite: take another, or train it anew")
            consistency = None
            if request.samples is not None:
                with _Tasks() as tasks:
                    consistency = class_consistency(
                        model,
                        data,
                        header.quantization,
                        request.samples,
                        request.seed or 0,
                        request.test_images,
                        tasks.update,
                        1.0 if request.temperature is None else request.temperature,
                    )
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise TrainingError(
            f"{device} has not enough memory{of_memory()} for {spec.height}×{spec.width} images: try another --device"
        ) from error
    return Evaluation(
        checkpoint=str(path),
        checkpoint_digest=checkpoint_digest(path),
        step=header.step,
        epoch=header.epoch,
        data=data.name,
        test_images=len(pixels),
        all_test_images=everything,
        conditioning=spec.conditioning,
        own_code=model.encoder is not None,
        own_map=spec.map_kind == "picture",
        fixed=results[1] if len(results) > 1 else None,
        class_consistency=consistency,
        reconstruction=reconstruction,
        **msgspec.structs.asdict(results[0]),
    )


def _load(path: Path) -> tuple[Network, Vqvae | None, Header]:
    """The model of a checkpoint, and of a VQ-VAE its encoder, codebook and decoder."""
    if checkpoint_header(path).vqvae is not None:
        return load_vqvae(path)
    model, header = load_checkpoint(path)
    return model, None, header


def _through_codes(pictures: Vqvae, data: DataSet, count: int | None) -> tuple[Reconstructions, DataSet]:
    """How test pictures come back from their codes, and the codes as images to score."""
    with Display("reconstructing the test pictures") as display:
        found = reconstruct(pictures, data.test_pixels[:count], display.update)
    spec = pictures.spec
    reconstructions = Reconstructions(
        psnr=found.psnr, perplexity=found.perplexity, codes=spec.codes * spec.code_levels, grid=spec.grid
    )
    return reconstructions, codes_to_score(found.codes, data)


def spread(scores: list[float], unit: float) -> Spread:
    """Mean and standard deviation of scores in nats an image, times what one of these is in another unit."""
    std = float(np.std(scores, ddof=1)) * unit if len(scores) > 1 else None
    return Spread(mean=float(np.mean(scores)) * unit, std=std)


def _under(
    model: Network,
    pixels: Pixels,
    conditions: Conditions,
    labels: Labels,
    quantization: Quantization,
    draws: int,
    mixture: bool,
    progress: Callable[[float], None],
) -> Protocol:
    """The likelihood under one protocol, with that of the mixture over the labels if it is asked for."""
    scores: list[float] = []
    mixed: list[float] = []

    def share(part: float) -> None:
        progress((len(scores) + part) / draws)

    for draw in range(draws):
        if mixture:
            given, mean = mixture_negative_log_likelihood(model, pixels, labels, quantization, share, draw)
            mixed.append(mean)
        else:
            given = negative_log_likelihood(model, pixels, conditions, quantization, share, draw)
        scores.append(given)
    return Protocol(
        protocol=_in_words(model.spec, quantization, draws),
        mixture=Likelihood(**_figures(mixed, model.spec)) if mixed else None,
        **_figures(scores, model.spec),
    )


def _figures(scores: list[float], spec: ModelSpec) -> dict[str, Any]:
    """Fields of a `Likelihood` of scores in nats an image."""
    return {
        "draws": tuple(scores),
        "nats_per_image": spread(scores, 1),
        "nats_per_pixel": spread(scores, 1 / (spec.height * spec.width)),
        "bits_per_dim": spread(scores, bits_per_dim(1.0, spec)),
    }


def _protocols(request: EvaluateRequest, header: Header) -> list[tuple[Quantization, int]]:
    """How pixels become levels and how often they are drawn, for each set of figures."""
    spec, quantization = header.spec, header.quantization
    if request.binarization is not None:
        if spec.levels != 2 or spec.channels != 1:
            colours = "RGB" if spec.channels == 3 else "grey"
            raise UsageError(
                f"--binarization {request.binarization} goes with grey images of 2 levels, this model's are {colours} "
                f"of {spec.levels}: leave it out"
            )
        quantization = "nearest" if request.binarization == "fixed" else "stochastic-binary"
    if quantization == "stochastic-binary":
        protocols: list[tuple[Quantization, int]] = [(quantization, request.draws or DRAWS)]
        return [*protocols, ("nearest", 1)] if request.binarization == "both" else protocols
    if request.draws is not None:
        raise UsageError(
            f"--draws {request.draws} goes with stochastic binarization: here pixels are rounded, leave it out"
        )
    return [(quantization, 1)]


def _check_mixture(request: EvaluateRequest, header: Header) -> None:
    if request.mixture and header.spec.conditioning != "label":
        unconditional = header.spec.conditioning == "none"
        what = "unconditional: its figure is that of p(x) already" if unconditional else "not conditioned on labels"
        raise UsageError(f"--mixture averages over the labels, but this model is {what}; leave it out")


def _in_words(spec: ModelSpec, quantization: Quantization, draws: int) -> str:
    if quantization == "codes":
        return f"codes that the encoder gives, {grids_in_words(spec)} of {spec.levels} to a picture"
    if quantization == "stochastic-binary":
        of = f"mean ± standard deviation of {draws} draws" if draws > 1 else "1 draw"
        return f"stochastic binarization (a pixel is 1 with probability value/255), {of} from fixed seeds"
    if spec.levels == 2:
        return "fixed binarization at 0.5 (a pixel is 1 from 128 up), not the published split"
    if spec.levels == 256:
        return "8-bit pixels as they are, 256 levels"
    return f"pixels rounded to the nearest of {spec.levels} levels"


def _check_samples(request: EvaluateRequest, header: Header) -> None:
    spec = header.spec
    if request.samples is not None and header.vqvae is not None:
        raise UsageError(
            f"--samples {request.samples} needs a classifier of what is drawn, which are codes here: leave it out"
        )
    if request.samples is None:
        if request.seed is not None:
            raise UsageError(f"--seed {request.seed} goes with --samples: the test images need none")
        if request.temperature is not None:
            raise UsageError(f"--temperature {request.temperature} goes with --samples: test images are scored at 1")
        return
    if spec.conditioning != "label":
        kinds = {"none": "unconditional", "embedding": "conditioned on an embedding", "map": "conditioned on a map"}
        what = "an autoencoder" if header.encoder is not None else kinds[spec.conditioning]
        if spec.map_kind == "picture":
            what = "one that enlarges pictures"
        raise UsageError(
            f"--samples {request.samples} measures how samples fit their label, but this model is {what}: leave it out"
        )
    if request.samples % spec.conditioning_size:
        raise UsageError(
            f"--samples {request.samples}: expected a multiple of {spec.conditioning_size}, equally many of each class"
        )


def _data(request: EvaluateRequest, path: Path, header: Header) -> DataSet:
    """The data set, which must be of the model's size and classes."""
    if request.data is None and header.data not in NAMES:
        raise UsageError(
            f"{path} was trained on '{header.data}', which is none of {', '.join(NAMES)}: name its file or folder "
            "with --data"
        )
    name = request.data or header.data
    data, spec = load_data(name, request.data_dir, header.preparation), header.spec
    for note in data.notes:
        click.echo(note, err=True)
    if data.image_shape != header.pictures.image_shape:
        raise DataError(
            f"{name}: images are {'×'.join(map(str, data.image_shape))}, the model's "
            f"{'×'.join(map(str, header.pictures.image_shape))} (channels × height × width): name the data that it was "
            "trained on"
        )
    if spec.conditioning == "label" and not same_names(data.class_names, header.class_names):
        raise DataError(
            f"{name}: its classes ({_some(data.class_names)}) are not the model's ({_some(header.class_names)}): "
            "name the data that it was trained on"
        )
    conditions_of(data, spec, header.encoder is not None)  # refuses data without them
    return data


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "none"


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
    else:
        with threads_set(threads):
            yield


class _Tasks(contextlib.ExitStack):
    """A display for each task in turn."""

    task = ""

    def update(self, task: str, share: float) -> None:
        if task != self.task:
            self.close()
            self.task, self.display = task, self.enter_context(Display(task))
        self.display.update(share)
