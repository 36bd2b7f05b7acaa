"""Images a second in training, by way of computing: `python -m benchmarks.training_speed --threads 2`.

The same steps on the same weights in one run, taken in turn, so that a busy machine treats all alike; medians.
The baseline is what PyTorch does by itself: eager, float32, its own memory format.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from gpcnn_deploy.commands.command import Command, json_option, write_json
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.machine import machine_facts
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.trainer.compute import Compute, autocast, prepared, threads_set

BASELINE = "eager fp32, contiguous"


@click.command(cls=Command)
@click.option("--layers", type=click.IntRange(1), default=12, show_default=True)
@click.option("--features", type=click.IntRange(1), default=32, show_default=True)
@click.option("--kernel-size", type=click.IntRange(3), default=3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=50, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=torch.get_num_threads(), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@json_option
def main(
    layers: int, features: int, kernel_size: int, batch_size: int, threads: int, rounds: int, json_path: Path | None
) -> None:
    """Measure training steps of 28×28 binary images, conditional on 10 labels."""
    spec = ModelSpec(
        height=28,
        width=28,
        layers=layers,
        features=features,
        kernel_size=kernel_size,
        conditioning="label",
        conditioning_size=10,
    )
    steps = {BASELINE: _step(spec, batch_size, Compute(threads=threads), torch.contiguous_format)}
    for compiled in (False, True):
        for precision in ("fp32", "bf16"):
            compute = Compute(threads=threads, precision=precision, compiled=compiled)
            name = f"{'compiled' if compiled else 'eager'} {precision}, channels last"
            steps[name] = _step(spec, batch_size, compute, torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with threads_set(threads):
        for step in steps.values():  # compiles
            step()
            step()
        for _ in range(rounds):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"way": name, "images_per_s": batch_size / time_, "speedup": median[BASELINE] / time_}
        for name, time_ in median.items()
    ]
    table = Table("way", "images/s", "× eager fp32", title=f"{layers} layers × {features}, batch {batch_size}")
    for row in rows:
        table.add_row(str(row["way"]), f"{row['images_per_s']:.0f}", f"{row['speedup']:.2f}")
    Console(stderr=True).print(table)
    write_json(json_path, {"machine": machine_facts(), "torch": torch.__version__, "threads": threads, "rows": rows})


def _step(spec: ModelSpec, batch: int, compute: Compute, memory: torch.memory_format) -> Callable[[], None]:
    torch.manual_seed(0)
    model = GatedPixelCNN(spec).to(memory_format=memory)  # type: ignore[call-overload]
    network = prepared(model, compute)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    levels = torch.randint(spec.levels, (batch, *spec.image_shape))
    labels = torch.randint(10, (batch,))

    def step() -> None:
        with autocast(torch.device("cpu"), compute):
            logits = network(levels, labels)
        optimizer.zero_grad()
        functional.cross_entropy(logits.float(), levels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
