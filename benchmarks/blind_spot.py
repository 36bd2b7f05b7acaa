"""What a pixel depends on, in a PixelCNN of 2016 and in a Gated PixelCNN of as many layers: the blind spot.

    python -m benchmarks.blind_spot -o docs/blind-spot.png

Each cell is a pixel, and its shade is the gradient that one pixel's logits have by it: the mean over random weights and
random images, in float64, on a logarithmic scale. Without any, the gradient is 0 exactly.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.commands.outputs import OUTPUT_FILE
from gpcnn_deploy.spec import Architecture, ModelSpec
from gpcnn_deploy.system.files import write_atomic
from gpcnn_training.architectures import make_network
from gpcnn_training.network import Network

ROWS, COLUMNS, PIXEL = 14, 23, (12, 11)
_TITLES: dict[Architecture, str] = {"pixelcnn": "PixelCNN (2016)", "gated": "Gated PixelCNN"}
_SEEN, _BLIND, _LATER, _ITSELF = "#005f73", "#ee9b00", "#e5e5e5", "#9b2226"
_MODELS = 8


def spec_of(architecture: Architecture) -> ModelSpec:
    """Of a grey picture, with 14 layers of kernel 3: enough to reach its edges."""
    return ModelSpec(
        height=ROWS,
        width=COLUMNS,
        levels=4,
        features=8,
        layers=14,
        first_kernel_size=3,
        head_features=16,
        architecture=architecture,
    )


def gradient(model: Network, levels_NCHW: torch.Tensor, pixel: tuple[int, int]) -> npt.NDArray[np.float64]:
    """|d logits at `pixel` / d level| [H, W], summed over images, channels and logits that are weighted at random."""
    levels = levels_NCHW.double().requires_grad_()
    logits = model(levels)[..., pixel[0], pixel[1]]
    (logits * torch.randn_like(logits)).sum().backward()
    assert levels.grad is not None
    return levels.grad.abs().sum((0, 1)).numpy()


def dependence(architecture: Architecture) -> npt.NDArray[np.float64]:
    """`gradient` of PIXEL, the mean over networks of random weights."""
    spec = spec_of(architecture)
    total = np.zeros((ROWS, COLUMNS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(_MODELS):
            model = make_network(spec).double().eval()
            total += gradient(model, torch.randint(spec.levels, (8, *spec.image_shape)), PIXEL)
    return total / _MODELS


def draw(path: Path) -> dict[Architecture, tuple[int, int]]:
    """Write the picture as a PNG; returns how many of the earlier pixels each network sees, and how many there are."""
    mpl.use("Agg")
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    counts: dict[Architecture, tuple[int, int]] = {}
    for axes, (architecture, title) in zip(figure.subplots(1, 2), _TITLES.items(), strict=True):
        found = dependence(architecture)
        earlier = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) < PIXEL[0] * COLUMNS + PIXEL[1]
        counts[architecture] = int((found > 0).sum()), int(earlier.sum())
        _panel(axes, found, earlier)
        axes.set_title(f"{title}: sees {counts[architecture][0]} of {counts[architecture][1]} earlier pixels")
    figure.legend(
        handles=[
            Patch(color=_ITSELF, label="the pixel that is drawn"),
            Patch(color=_SEEN, label="earlier pixels that it depends on"),
            Patch(color=_BLIND, label="the blind spot: earlier, and never seen"),
            Patch(color=_LATER, label="later pixels"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    write_atomic(path, content.getvalue())
    return counts


def _panel(axes: Axes, found: npt.NDArray[np.float64], earlier: npt.NDArray[np.bool_]) -> None:
    picture = np.empty((ROWS, COLUMNS, 3))
    picture[:] = to_rgb(_LATER)
    picture[earlier] = to_rgb(_BLIND)
    seen = found > 0
    strength = np.log(found[seen])
    shade = 0.35 + 0.65 * (strength - strength.min()) / max(float(np.ptp(strength)), 1e-9)
    picture[seen] = 1 - shade[:, None] * (1 - np.asarray(to_rgb(_SEEN)))
    picture[PIXEL] = to_rgb(_ITSELF)
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks(np.arange(COLUMNS + 1) - 0.5, labels=[])
    axes.set_yticks(np.arange(ROWS + 1) - 0.5, labels=[])
    axes.grid(color="white", linewidth=0.8)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


@click.command(cls=Command)
@click.option("-o", "--output", type=OUTPUT_FILE, default="blind-spot.png", show_default=True, help="The picture.")
def main(output: Path) -> None:
    """Draw which pixels a pixel depends on, in either network."""
    for architecture, (seen, earlier) in draw(output).items():
        click.echo(f"{_TITLES[architecture]}: sees {seen} of {earlier} earlier pixels")
    click.echo(output)


if __name__ == "__main__":
    main()
