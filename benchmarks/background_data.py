"""Training data of a background model: MNIST with pixels replaced at random (Ren et al. 2019, arXiv 1906.02845).

    python -m benchmarks.background_data --data-dir DIR -o background.npz
    gpcnn-train --data background.npz --model unconditional

A model of such pictures knows what is common to all of them (mostly ground, strokes of some width), and little of what
makes a digit.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.system.files import atomic_path


@click.command(cls=Command)
@click.option("--data", default="mnist", show_default=True, help="As gpcnn-train has it.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where its files lie.  [default: download them]")
@click.option("--rate", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share of pixels replaced.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("background.npz"), show_default=True)
def main(data: str, data_dir: Path | None, rate: float, seed: int, output: Path) -> None:
    """Write an .npz of mutated pictures, for gpcnn-train --model unconditional."""
    from gpcnn_training.data.sources import load_data

    source, random = load_data(data, data_dir), np.random.default_rng(seed)
    with atomic_path(output) as path, path.open("wb") as stream:
        np.savez_compressed(
            stream,
            images=mutate(source.train_pixels, rate, random).transpose(0, 2, 3, 1),
            test_images=mutate(source.test_pixels, rate, random).transpose(0, 2, 3, 1),
        )
    click.echo(f"Wrote {output}: {len(source.train_pixels)} pictures, {rate:g} of their pixels replaced.")


def mutate(pixels: npt.NDArray[np.uint8], rate: float, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Each pixel, independently with probability `rate`, becomes a uniform value 0..255; same shape."""
    replaced = random.random(pixels.shape, np.float32) < rate
    return np.where(replaced, random.integers(0, 256, pixels.shape, np.uint8), pixels)


if __name__ == "__main__":
    main()
