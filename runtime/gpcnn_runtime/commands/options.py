"""Options that several commands of the runtime share, so that they are named and behave alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from gpcnn_deploy.commands.paths import ENTRY, PATH
from gpcnn_deploy.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem


def complete_labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Labels that a shell offers; imported only when it asks."""
    from gpcnn_runtime.commands import shell_labels

    return shell_labels.complete_labels(ctx, param, incomplete)


engine_option = click.option(
    "--engine",
    "engine_path",
    type=PATH,
    help="Engine file (.gpcnn, .onnx or .plan), or zoo:NAME for a model that comes with the package.  [default: the "
    "newest of model.gpcnn, model.onnx and model.plan here]",
)
label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL[,LABEL…]",
    help="What to draw: a number or class name, several of them, or 'all'.",
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
    help="How a step engine draws: 'jacobi' repeats the whole image until nothing changes; 'raster' goes pixel by "
    "pixel, which is slow, and the reference.",
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
    help="For a .plan: fail if it cannot run. Without this, the .gpcnn or .onnx beside it runs on the CPU.",
)
reproducible_option = click.option(
    "--reproducible",
    is_flag=True,
    help="For a .gpcnn: give log-probabilities the same bits on every machine. This is a little slower.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="How many parts are computed at the same time.  [default: the cores there are, if memory suffices]",
)
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Most images of one part. Fewer need less memory.",
)
positions_option = click.option(
    "--positions",
    metavar="START:STOP",
    help="Draw only the images from position START up to, but without, STOP, counted from 0. Each is the image that "
    "the whole run would draw.",
)
shard_option = click.option(
    "--shard",
    metavar="NUMBER/SHARDS",
    help="Do only this part of the work: 2/8 is the second of eight. Each part can run on another machine.",
)
resize_option = click.option(
    "--resize",
    is_flag=True,
    help="Convert pictures of another size, mode or depth. A picture of another aspect is stretched.",
)
invert_option = click.option("--invert", is_flag=True, help="Swap dark and light of the pictures that are read.")

like_option = click.option(
    "--like",
    "likes",
    multiple=True,
    type=PATH,
    metavar="PICTURE",
    help="Draw pictures like this one. Needs the engine of an autoencoder or a VQ-VAE. May be repeated.",
)

vary_option = click.option(
    "--vary",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="What share of the codes --like draws anew. Needs the engine of a VQ-VAE.  [default: 0.5]",
)

embedding_option = click.option(
    "--embedding",
    "embeddings",
    multiple=True,
    type=ENTRY,
    metavar="FILE[:ROW]",
    help="Draw under the vectors of an .npy or .npz file, or under one row of it. Needs a model that is conditioned on "
    "embeddings. May be repeated.",
)
map_option = click.option(
    "--map",
    "maps",
    multiple=True,
    type=ENTRY,
    metavar="FILE[:ROW]",
    help="Draw under this map: a picture of its size, or an .npy or .npz with one map or several, or one of them. "
    "Needs a model that was trained with maps. May be repeated.",
)
upscale_option = click.option(
    "--upscale",
    "small",
    multiple=True,
    type=PATH,
    metavar="PICTURE",
    help="Enlarge this small picture. Needs a model of gpcnn-train --model upscale. May be repeated.",
)
interpolate_option = click.option(
    "--interpolate",
    "ways",
    multiple=True,
    metavar="A,B",
    help="Draw images on the way from A to B, all with the same noise: two labels, two vectors (FILE:ROW), or two "
    "pictures of an autoencoder. May be repeated, for a row each.",
)
spherical_option = click.option(
    "--spherical", is_flag=True, help="For --interpolate: go along a great circle in place of a line."
)

Decorated = TypeVar("Decorated", bound=Callable[..., object])


def loading_options(command: Decorated) -> Decorated:
    """What says how an engine is loaded, and how many images it draws at a time."""
    for option in (batch_size_option, threads_option, reproducible_option, fallback_option, provider_option):
        command = option(command)
    return command


def check_fallback(no_fallback: bool, *engines: Path) -> None:
    """Refuse `--no-fallback` where nothing could fall back.

    Raises:
        UsageError: none of the engines is a plan.
    """
    from gpcnn_runtime.inspection import PLANS

    if no_fallback and not any(engine.suffix.lower() in PLANS for engine in engines):
        named = " and ".join(map(str, engines))
        none = "is none" if len(engines) == 1 else "are none"
        raise UsageError(f"--no-fallback is for plans (.plan), and {named} {none}: leave it out, nothing else runs it")


@contextlib.contextmanager
def smaller_batches(batch_size: int) -> Iterator[None]:
    """Advise smaller ones where there is not enough memory.

    Raises:
        EngineError: in place of a MemoryError.
    """
    try:
        yield
    except MemoryError:
        from gpcnn_deploy.system.machine import of_memory

        smaller = f"try --batch-size {max(1, batch_size // 2)}, or --threads 1"
        raise EngineError(f"not enough memory{of_memory()}: {smaller}") from None


# What `gpcnn-sample --complete` takes.
complete_option = click.option(
    "--complete",
    "picture",
    type=PATH,
    metavar="PICTURE",
    help="Keep a part of this picture and draw the rest. Say which part with --rows, --box or --mask.",
)
mask_option = click.option(
    "--mask",
    "mask_path",
    type=PATH,
    metavar="PICTURE",
    help="What to draw, as a grey picture of the image's size: white (128 and more) is drawn, black is kept.",
)
rows_option = click.option("--rows", type=int, help="What to draw: everything below this many rows.")
box_option = click.option(
    "--box", metavar="X,Y,W,H", help="What to draw: W×H image pixels, from column X and row Y, counted from 0."
)
candidates_option = click.option(
    "--candidates",
    type=int,
    default=1,
    show_default=True,
    help="How many completions to draw for each one shown. The best are shown.",
)
rank_by_option = click.option(
    "--rank-by",
    type=click.Choice(["image", "known"]),
    default="image",
    show_default=True,
    help="Which completion is best: the likeliest image as a whole, or the one that fits the known pixels best.",
)
