"""Eager PyTorch as the baseline of a benchmark, in a process of its own; see `gpcnn_deploy.baseline`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpcnn_deploy.baseline import BaselineReport
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import CheckpointError
from gpcnn_deploy.system.machine import peak_rss_mb
from gpcnn_deploy.text import exact_json

if TYPE_CHECKING:
    from torch import Tensor

    from gpcnn_training.network import Network

    Timed = tuple[tuple[float, ...], int, Tensor]
    """Seconds of each run for a whole image, pixels drawn in a run, and what was drawn."""


FEWEST_PIXELS = 3
"""Pixels that a naive run is timed on at least, whatever the limit: one alone may be disturbed by other programs."""


@click.command(cls=Command)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("request", type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Most threads that PyTorch uses.")
@click.option("--limit", type=float, default=math.inf, help="Seconds after which a naive run is extrapolated.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Most runs, within the limit.")
@click.option("--window", type=click.IntRange(1), help="Cached, that many columns at a time.  [default: naive]")
def main(checkpoint: Path, request: Path, threads: int, limit: float, runs: int, window: int | None) -> None:
    """Draw the noise of REQUEST with the model of CHECKPOINT, and compare with the images of REQUEST."""
    require("the eager PyTorch baseline (--checkpoint)", "train", "torch", "safetensors.torch")
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    begin = time.perf_counter()
    model, digest = _load(checkpoint)
    load_ms = (time.perf_counter() - begin) * 1e3
    with np.load(request, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    noise, image, condition = tensors["noise"], tensors["image"], tensors.get("condition")
    _check(checkpoint, model, noise, condition)
    torch.set_num_threads(_fastest(model, noise, condition))
    if window is None:
        seconds, timed, drawn = _naive(model, noise, condition, limit, runs)
    else:
        seconds, timed, drawn = _cached(model, noise, condition, limit, runs, window)
    peak, pixels = peak_rss_mb(), noise.shape[2] * noise.shape[3]
    report = BaselineReport(
        seconds=seconds,
        extrapolated=timed < pixels,
        pixels_timed=timed,
        pixels=pixels,
        passes=noise[0].numel() if window is None else None,
        threads=torch.get_num_threads(),
        **_verdict(model, noise, image, condition, drawn, timed),
        peak_rss_mb=peak,
        load_ms=load_ms,
        library=f"PyTorch {torch.__version__}",
        checkpoint_digest=digest,
    )
    click.echo(exact_json(report))


def _load(path: Path) -> tuple[Network, str]:
    """The model of a checkpoint or of a model file, and the digest of the checkpoint."""
    import torch

    from gpcnn_deploy.model_file import SUFFIX, read_model_file
    from gpcnn_training.checkpoint import build_model, checkpoint_digest, load_checkpoint

    if path.suffix.lower() != SUFFIX:
        return load_checkpoint(path)[0], checkpoint_digest(path)
    metadata, weights = read_model_file(path)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    return build_model(path, metadata.spec, None, tensors).eval(), metadata.checkpoint_digest


def _fastest(model: Network, noise: Tensor, condition: Tensor | None) -> int:
    """Threads for an honest baseline: on a busy machine one thread can be many times faster than two."""
    from gpcnn_training.sampling import sample_raster
    from gpcnn_training.trainer.compute import fastest_threads

    return fastest_threads(lambda: sample_raster(model, noise, condition, pixels=1))


def _check(checkpoint: Path, model: Network, noise: Tensor, condition: Tensor | None) -> None:
    spec, kinds = model.spec, {1: "label", 2: "embedding", 4: "map"}
    found = (tuple(noise.shape[1:]), "none" if condition is None else kinds[condition.ndim])
    expected = (spec.image_shape, spec.conditioning)
    if found != expected:
        raise CheckpointError(
            f"{checkpoint}: draws images [C, H, W] = {list(expected[0])}, condition: {expected[1]}; the engine draws "
            f"{list(found[0])}, condition: {found[1]}: name the checkpoint that the engine was made from"
        )


def _naive(model: Network, noise: Tensor, condition: Tensor | None, limit: float, runs: int) -> Timed:
    """The full network once per sub-pixel: every pass costs the same, so part of a run tells the whole."""
    from gpcnn_training.sampling import sample_raster

    pixels = noise.shape[2] * noise.shape[3]
    sample_raster(model, noise, condition, pixels=1)  # allocates
    trials, _ = _time(lambda: sample_raster(model, noise, condition, pixels=1), 2, limit)
    affordable = limit / min(trials)
    timed = min(pixels, max(FEWEST_PIXELS, int(affordable)))

    def draw() -> Tensor:
        return sample_raster(model, noise, condition, pixels=timed)

    seconds, drawn = _time(draw, 1 if timed < pixels else runs, limit)
    return tuple(second * pixels / timed for second in seconds), timed, drawn


def _cached(model: Network, noise: Tensor, condition: Tensor | None, limit: float, runs: int, window: int) -> Timed:
    """Row and column caches, a window at a time: whole images always, as its cost depends on what is drawn."""
    from gpcnn_training.sampling import sample_cached

    def draw() -> Tensor:
        return sample_cached(model, noise, condition, window=window)[0]

    seconds, drawn = _time(draw, runs, limit)
    return seconds, noise.shape[2] * noise.shape[3], drawn


def _time(draw: Callable[[], Tensor], runs: int, limit: float) -> tuple[tuple[float, ...], Tensor]:
    """Seconds of up to `runs` runs that end within the limit, at least one, and what the last one drew."""
    seconds: list[float] = []
    while True:
        begin = time.perf_counter()
        drawn = draw()
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == runs or sum(seconds) + seconds[-1] > limit:
            return tuple(seconds), drawn


def _verdict(
    model: Network, noise: Tensor, image: Tensor, condition: Tensor | None, drawn: Tensor, timed: int
) -> dict[str, Any]:
    """Hold the engine's images against what was drawn here, and prove the rest of them by one forward pass each."""
    import torch

    from gpcnn_training.conditionals import conditionals
    from gpcnn_training.divergence import NEAR_TIE, first_divergences

    identical, near_ties, divergence = 0, 0, None
    for k in range(len(noise)):
        levels, u, mine = image[k : k + 1], noise[k : k + 1], drawn[k : k + 1]
        with torch.no_grad():
            outputs = model(levels, None if condition is None else condition[k : k + 1])
        given = conditionals(model.spec, outputs, levels)
        found = first_divergences(given, levels, u, torch.zeros_like(levels, dtype=torch.bool))
        parted = (levels != mine).flatten(2)[0, :, :timed].T.nonzero()
        if found:
            distance, text = found[0].margin, str(found[0]).replace("image 0", f"image {k}")
        elif len(parted):  # the loop, whose batch rounds differently, parts where the forward pass of one does not
            pixel, channel = parted[0].tolist()
            distance = float(given.margin(mine, u).flatten(2)[0, channel, pixel])
            text = f"image {k}, pixel {pixel}, channel {channel}: {distance:.2e} from the CDF step"
        else:
            identical += 1
            continue
        if distance <= NEAR_TIE:
            near_ties += 1
        else:
            divergence = divergence or text
    return {"identical": identical, "near_ties": near_ties, "divergence": divergence}


if __name__ == "__main__":
    main()
