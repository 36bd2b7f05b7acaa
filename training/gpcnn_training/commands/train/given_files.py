"""What a call of `gpcnn-train` reads is there: found out before PyTorch is asked for."""

from __future__ import annotations

from gpcnn_deploy.checkpoint_header import Header, read_header
from gpcnn_training.commands.train.recipe import read_recipe
from gpcnn_training.commands.train.request import TrainRequest
from gpcnn_training.data.names import check_data
from gpcnn_training.runs import run_folder


def check_given_files(request: TrainRequest) -> None:
    """Refuse names of what is not there.

    Raises:
        UsageError: no such data or recipe, or the recipe is at fault; or a run that is there does not take a flag.
        CheckpointError: no such run or checkpoint.
    """
    request.refuse_what_runs_keep()
    if request.recipe is not None:
        read_recipe(request.recipe)
    if request.resume is not None:
        run_folder(request.resume)
    if request.init is not None and not request.init.exists():
        read_header(request.init, Header)  # says so
    if request.data is not None and request.epochs != 0:  # then it may name runs alone
        check_data(request.data)
