"""Options that several commands of the runtime share, so that they are named and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Labels that a shell offers; imported only when it asks."""
    from gpcnn_runtime.commands import shell_labels

    return shell_labels.complete_labels(ctx, param, incomplete)


engine_option = click.option(
    "--engine",
    "engine_path",
    type=click.Path(path_type=Path),
    help="Engine file (.gpcnn, .onnx or .plan), or zoo:NAME for a model that comes with the package.  [default: the "
    "newest of model.gpcnn, model.onnx and model.plan]",
)
label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL[,LABEL…]",
    help="A number or class name, several of them, or 'all'.",
    shell_complete=complete_labels,
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed draws the same images."
)
strategy_option = click.option(
    "--strategy",
    type=click.Choice(["jacobi", "raster"]),
    default="jacobi",
    show_default=True,
    help="Schedule of a step engine; 'raster' is the slow reference.",
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt", "nv-tensorrt-rtx"]),
    default="auto",
    show_default=True,
    help="What ONNX Runtime runs an .onnx engine on.",
)
fallback_option = click.option(
    "--no-fallback",
    is_flag=True,
    help="Fail where a .plan cannot run, rather than run the .gpcnn or .onnx beside it on the CPU.",
)
reproducible_option = click.option(
    "--reproducible",
    is_flag=True,
    help="Of a .gpcnn engine: log-probabilities with the same bits on every machine, a little more slowly.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Parts computed at the same time.  [default: the cores there are, as far as memory is there for them]",
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Most images of one part."
)
resize_option = click.option(
    "--resize", is_flag=True, help="Convert pictures of another size, mode or depth; another aspect is stretched."
)
invert_option = click.option("--invert", is_flag=True, help="Swap dark and light of the pictures read.")

like_option = click.option(
    "--like",
    "likes",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    help="Draw from the code that an autoencoder gives this picture; may be repeated.",
)

# What `gpcnn-sample --complete` takes.
complete_option = click.option(
    "--complete",
    "picture",
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    help="Keep a part of this picture and draw the rest; needs one of --mask, --rows and --box.",
)
mask_option = click.option(
    "--mask",
    "mask_path",
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    help="What to draw: a grey picture of the image's size, white (128 and more) is drawn, black is kept.",
)
rows_option = click.option("--rows", type=int, help="What to draw: all but this many rows at the top.")
box_option = click.option(
    "--box", metavar="X,Y,W,H", help="What to draw: W×H image pixels, from column X and row Y, counted from 0."
)
candidates_option = click.option(
    "--candidates",
    type=int,
    default=1,
    show_default=True,
    help="Completions drawn for each one shown; the best are shown.",
)
rank_by_option = click.option(
    "--rank-by",
    type=click.Choice(["image", "known"]),
    default="image",
    show_default=True,
    help="The best completion is the most likely image, or the one that fits the known pixels best.",
)
