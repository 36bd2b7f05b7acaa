"""`gpcnn-train`. Its flags are the fields of `TrainRequest`; what they do is in `run`, whose imports (PyTorch) wait."""

from __future__ import annotations

from typing import Any

import click

from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.commands.extras import required
from gpcnn_training.commands.train.flag import options_of
from gpcnn_training.commands.train.request import TrainRequest


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@options_of(TrainRequest)
@click.pass_context
def main(ctx: click.Context, /, **flags: Any) -> None:
    """Train a Gated PixelCNN.

    Writes a folder in runs/ with checkpoint.safetensors, metrics.jsonl, TensorBoard files and samples.png. Sizes and
    limits that you leave out are those that suit the data set. On a CPU a run ends after 10 to 15 minutes unless you
    say otherwise.

    Ctrl-C saves the run, and --resume goes on with it. New limits count from the run's beginning.

    \b
    gpcnn-train                                     the 8×8 digits that come with it
    gpcnn-train --data mnist --time-limit 1h
    gpcnn-train --data photos/ --levels 16          photos/CLASS/*.png, all of one size
    gpcnn-train --data photos/ --image-size 32 --background white    pictures of any size
    gpcnn-train --recipe mnist-conditional          the model in the zoo
    gpcnn-train --resume runs/mnist-conditional --time-limit 2h
    """
    from gpcnn_training.commands.train.given_files import check_given_files

    request = TrainRequest(**flags)
    check_given_files(request)
    with required("training", "train"):
        from gpcnn_training.commands.train.run import run

        code = run(request)
    ctx.exit(code)
