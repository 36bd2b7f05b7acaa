"""ONNX Runtime with the full forward per pixel: what an exported network gives without a sampler of its own.

    python -m benchmarks.onnx_raster STEP.onnx IMAGES.npz --threads T --limit SECONDS

answers as `gpcnn_training.baseline` does; the batch is split over threads as the runtime splits it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.baseline import BaselineReport
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.system.machine import peak_rss_mb
from gpcnn_runtime.engines.base import Request, StepEngine
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.sampler import split


@click.command(cls=Command)
@click.argument("engine_path", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1), default=1)
@click.option("--limit", type=float, default=60.0)
def main(engine_path: Path, images: Path, threads: int, limit: float) -> None:
    """Draw the noise of IMAGES in raster order, or its first pixels within the limit."""
    begin = time.perf_counter()
    engine = load_engine(engine_path)
    load_ms = (time.perf_counter() - begin) * 1e3
    assert isinstance(engine, StepEngine)
    with np.load(images, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    batch, _, height, width = arrays["noise"].shape
    requests = [_request(engine, arrays, slice(*part)) for part in split(batch, threads, batch)]
    with ThreadPoolExecutor(len(requests)) as pool:

        def draw(count: int) -> tuple[float, npt.NDArray[np.int32]]:
            begin = time.perf_counter()
            parts = list(pool.map(lambda request: raster(engine, request, count), requests))
            return time.perf_counter() - begin, np.concatenate(parts)

        draw(1)
        pixels = height * width
        timed = max(1, min(pixels, int(limit / draw(1)[0])))
        seconds, drawn = draw(timed)
    equal = (drawn == arrays["image"]).reshape(batch, -1, pixels)[:, :, :timed].all(axis=(1, 2))
    report = BaselineReport(
        seconds=(seconds * pixels / timed,),
        extrapolated=timed < pixels,
        pixels_timed=timed,
        pixels=pixels,
        passes=arrays["noise"][0].size,
        threads=min(threads, batch),
        identical=int(equal.sum()),
        near_ties=0,
        divergence=None if equal.all() else f"image {int(np.argmin(equal))}",
        peak_rss_mb=peak_rss_mb(),
        load_ms=load_ms,
        library=f"{engine.info.runtime} {engine.info.version}",
        checkpoint_digest=engine.metadata.checkpoint_digest,
    )
    click.echo(msgspec.json.encode(report).decode())


def raster(engine: StepEngine, request: Request, pixels: int) -> npt.NDArray[np.int32]:
    """The first `pixels` pixels, one evaluation of the whole network for each sub-pixel; int32 [N, C, H, W]."""
    image = request.start()
    channels, _, width = image[0].shape
    with engine.open(request) as batch:
        for pixel in range(pixels):
            i, j = divmod(pixel, width)
            for c in range(channels):
                batch.place(image)
                batch.advance(1)
                drawn, _ = batch.read()
                image[:, c, i, j] = drawn[:, c, i, j]
    return image


def _request(engine: StepEngine, arrays: dict[str, Any], part: slice) -> Request:
    noise = np.ascontiguousarray(arrays["noise"][part])
    condition = arrays["condition"][part] if "condition" in arrays else None
    conditioning = engine.metadata.spec.conditioning
    return Request(
        noise,
        np.zeros(noise.shape, np.int32),
        np.zeros(noise.shape, np.bool_),
        label=condition if conditioning == "label" else None,
        embedding=condition if conditioning == "embedding" else None,
    )


if __name__ == "__main__":
    main()
