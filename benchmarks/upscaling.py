"""A sheet of test pictures made small, what a model draws of them, and the pictures themselves.

    python -m benchmarks.upscaling --engine model.gpcnn --data emoji --image-size 64 -o sheet.png

Each row is one picture: small (with its pixels as blocks), drawn several times, and the original as the model has it.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from gpcnn_deploy.commands.command import Command, data_dir_option
from gpcnn_deploy.commands.outputs import OUTPUT_EITHER
from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.pictures.levels import grid, levels_from_pixels, pixels_from_levels, save_png
from gpcnn_deploy.pictures.maps import enlarged, made_small, values_of_pixels
from gpcnn_deploy.preparation import Preparation
from gpcnn_runtime.commands.options import batch_size_option, seed_option, threads_option
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.commands.train.image_size import IMAGE_SIZE
from gpcnn_training.data.sources import load_data


@click.command(cls=Command)
@click.option("--engine", type=click.Path(path_type=Path), required=True, help="A model that enlarges.")
@click.option("--data", default="emoji", show_default=True, help="Whose test pictures.")
@data_dir_option
@click.option("--image-size", type=IMAGE_SIZE, help="As in training.  [default: that of the data]")
@click.option("--pictures", type=click.IntRange(1, 1000), default=8, show_default=True, help="Rows of the sheet.")
@click.option("--count", type=click.IntRange(1, 100), default=3, show_default=True, help="Images drawn of each.")
@click.option("-o", "--output", type=OUTPUT_EITHER, default="upscaling.png", show_default=True, help="The sheet.")
@seed_option
@threads_option
@batch_size_option
def main(
    engine: Path,
    data: str,
    data_dir: Path | None,
    image_size: tuple[int, int] | None,
    pictures: int,
    count: int,
    output: Path,
    seed: int,
    threads: int | None,
    batch_size: int,
) -> None:
    """Draw a sheet: small, drawn, original."""
    preparation = None if image_size is None else Preparation(image_size=image_size, resampling="area")
    test = load_data(data, data_dir, preparation).test_pixels
    with Sampler.load(engine, threads, batch_size) as sampler:
        spec = sampler.metadata.spec
        if spec.map_kind != "picture":
            raise UsageError(f"{engine} enlarges no pictures: expected a model of gpcnn-train --model upscale")
        if test.shape[1:] != spec.image_shape:
            raise DataError(f"{data}: pictures of {list(test.shape[1:])}, the model draws {list(spec.image_shape)}")
        chosen = test[np.linspace(0, len(test), min(pictures, len(test)), endpoint=False, dtype=np.int64)]
        small = made_small(chosen, spec.map_height, spec.map_width)
        drawn = sampler.sample(seed=seed, count=count, map=values_of_pixels(small)).pixels()
        original = pixels_from_levels(levels_from_pixels(chosen, spec.levels), spec.levels)
    rows = [
        enlarged(small, spec.height, spec.width)[:, None],
        drawn.reshape(-1, count, *spec.image_shape),
        original[:, None],
    ]
    save_png(output, grid(np.concatenate(rows, axis=1).reshape(-1, *spec.image_shape), count + 2))
    click.echo(f"{output}: {len(chosen)} rows: small, {count} drawn, original")


if __name__ == "__main__":
    main()
