"""`gpcnn-train`: the flags. What they do is in `session`, whose imports (PyTorch among them) wait until it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from gpcnn_deploy.command import Command, data_dir_option, json_option
from gpcnn_deploy.errors import MissingExtraError
from gpcnn_deploy.outputs import OUTPUT_FOLDER
from gpcnn_deploy.spec import MAX_FEATURES, MAX_LAYERS
from gpcnn_training.commands.train.duration import DURATION
from gpcnn_training.commands.train.image_size import IMAGE_SIZE

_TRAIN_EXTRA = {
    "torch": "torch",
    "safetensors": "safetensors",
    "lightning_fabric": "lightning-fabric",
    "pooch": "pooch",
}


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which every range lets through."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.", ctx, param)
    return value


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="digits (default), mnist, fashion-mnist, cifar10, an .npz file with `images` and `labels`, or a folder of "
    "pictures: a folder for each class, perhaps in train/, val/ and test/, or pictures alone.",
)
@data_dir_option
@click.option(
    "--model",
    type=click.Choice(["conditional", "unconditional", "autoencoder"]),
    help="What steers what is drawn: the class label (default), nothing, or the code of a picture.",
)
@click.option("--recipe", metavar="NAME|FILE", help="Take the flags that are not given from this recipe.")
@click.option(
    "--epochs", type=click.IntRange(0), help="Passes over the images; 0 only draws samples from a checkpoint."
)
@click.option("--max-steps", type=click.IntRange(1), help="Optimizer steps.")
@click.option("--time-limit", type=DURATION, help="Time to train, such as 90s, 10m, 1h; the first limit ends it.")
@click.option("--batch-size", type=click.IntRange(1), help="Images a step, of all processes together.")
@click.option("--optimizer", type=click.Choice(["adamw", "rmsprop"]), help="(default: adamw)")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    callback=_finite,
    help="Peak of the warm-up and cosine schedule.",
)
@click.option("--warm-up", type=click.FloatRange(0, 1), callback=_finite, help="Share of the run (default: 0.03).")
@click.option("--weight-decay", type=click.FloatRange(0), callback=_finite, help="Of AdamW (default: 0.1).")
@click.option(
    "--clip",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    help="Largest gradient norm, of the loss in nats a sub-pixel (default: 1).",
)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    callback=_finite,
    help="Decay of the moving average of the weights, which is what is scored and exported; 0: none (default: 0.999).",
)
@click.option("--layers", type=click.IntRange(1, MAX_LAYERS), help="Gated layers of each stack.")
@click.option("--features", type=click.IntRange(1, MAX_FEATURES), help="Feature maps of each stack.")
@click.option("--head-features", type=click.IntRange(1, MAX_FEATURES), help="Hidden feature maps of the head.")
@click.option("--kernel-size", type=click.IntRange(3, 63), help="Odd kernel size of the layers after the first.")
@click.option("--first-kernel-size", type=click.IntRange(3, 63), help="Odd kernel size of the first layer.")
@click.option("--code-size", type=click.IntRange(1, 4096), help="Length of an autoencoder's code (default: 10).")
@click.option(
    "--levels",
    type=click.IntRange(2, 256),
    help="Values a pixel can take; 2 binarizes grey images at random, anew each epoch.",
)
@click.option(
    "--image-size",
    type=IMAGE_SIZE,
    metavar="N|HxW",
    help="Resize pictures of another size to N×N, or to H rows of W pixels; another aspect is stretched.",
)
@click.option(
    "--resampling",
    type=click.Choice(["area", "lanczos"]),
    help="How --image-size resizes: by the mean of the area that a pixel covers (default), or sharper.",
)
@click.option(
    "--background", metavar="COLOUR", help="Lay transparent pictures on this colour, such as white or '#ff8800'."
)
@click.option("--grey", "--gray", "grey", is_flag=True, default=None, help="Make all pictures grey, of 8 bits.")
@click.option("--rgb", is_flag=True, default=None, help="Make all pictures RGB, of 8 bits a channel.")
@click.option(
    "--init", type=click.Path(path_type=Path), help="Start from the weights of this checkpoint, of the same dimensions."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of weights, order and binarization (default: 0).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:0 or mps.")
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="Processes of this machine.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines; see docs/training.md.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="auto (default) measures which one is faster."
)
@click.option(
    "--compile", type=click.Choice(["auto", "on", "off"]), help="torch.compile; auto (default) measures if it pays."
)
@click.option("--out", type=OUTPUT_FOLDER, help="Folder of the run (default: runs/DATA-MODEL, then -2, -3, …).")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with this run; with --epochs 0, draw samples from it."
)
@click.option("--test-images", type=click.IntRange(1), help="Score only so many test images at the end (default: all).")
@json_option
@click.version_option(package_name="gpcnn-deploy")
@click.pass_context
def main(ctx: click.Context, /, **flags: Any) -> None:
    """Train a Gated PixelCNN.

    Writes a run folder with checkpoint.safetensors, metrics.jsonl, TensorBoard files and samples.png. Sizes and limits
    default to what suits the data set; on a CPU a run ends after 10 to 15 minutes unless you say otherwise. An
    interrupted run goes on with --resume, under its own limits or under those given anew, which count from the run's
    beginning.

    \b
    gpcnn-train                                     the 8×8 digits that come with it
    gpcnn-train --data mnist --time-limit 1h
    gpcnn-train --data photos/ --levels 16          photos/CLASS/*.png, all of one size
    gpcnn-train --data photos/ --image-size 32 --background white    pictures of any size
    gpcnn-train --recipe mnist-conditional          the model in the zoo
    gpcnn-train --resume runs/mnist-conditional --time-limit 2h
    """
    try:
        from gpcnn_training.commands.train.request import Request
        from gpcnn_training.commands.train.run import run

        code = run(Request(**flags))
    except ModuleNotFoundError as error:
        if error.name in _TRAIN_EXTRA:
            raise MissingExtraError(_TRAIN_EXTRA[error.name], "train", "training") from error
        raise
    ctx.exit(code)
