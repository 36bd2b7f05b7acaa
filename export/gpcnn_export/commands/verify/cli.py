"""`gpcnn-verify`: the proof that an engine is the model that was trained, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import Command, data_dir_option, json_option, write_json
from gpcnn_deploy.commands.paths import PATH
from gpcnn_runtime.commands.options import batch_size_option, provider_option, seed_option, threads_option

if TYPE_CHECKING:
    from gpcnn_runtime.engines.onnxruntime.providers import Provider


@click.command(cls=Command)
@click.argument("engine", type=PATH)
@click.option(
    "--checkpoint",
    type=PATH,
    required=True,
    help="What the engine was made from: a checkpoint, or the folder of its run.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="How many images of each kind. If the engine has a second window, at least as many as that one takes.",
)
@seed_option
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="Data set whose test images are scored, by name or path.  [default: the checkpoint's own, if it is here]",
)
@data_dir_option
@click.option(
    "--test-images", type=click.IntRange(1), default=500, show_default=True, help="Score at most so many test images."
)
@provider_option
@threads_option
@batch_size_option
@json_option
def main(
    engine: Path,
    checkpoint: Path,
    images: int,
    seed: int,
    data: str | None,
    data_dir: Path | None,
    test_images: int,
    provider: Provider,
    threads: int | None,
    batch_size: int,
    json_path: Path | None,
) -> None:
    """Prove that ENGINE draws and scores as the model of a checkpoint does in eager PyTorch.

    Exits with 0 if that is proven. Otherwise it exits with 1 and shows the first sub-pixel where the two differ. A
    .plan is run by TensorRT on the GPU, and by nothing else.

    \b
    gpcnn-verify model.gpcnn --checkpoint runs/mnist-conditional
    gpcnn-verify model.onnx --checkpoint runs/mnist-conditional
    gpcnn-verify model.plan --checkpoint runs/mnist-conditional --data mnist --json proof.json
    """
    from gpcnn_deploy.commands.console import show, status, taken, warn
    from gpcnn_deploy.errors import ParityError
    from gpcnn_export.commands.verify.table import notes, table
    from gpcnn_export.commands.verify.verification import verify

    with status("starting") as live:
        found = verify(
            engine,
            checkpoint,
            images=images,
            seed=seed,
            data=data,
            data_dir=data_dir,
            test_images=test_images,
            provider=provider,
            threads=threads,
            batch_size=batch_size,
            tell=live.update,
            warn=warn,
        )
    write_json(json_path, found)
    show([table(found), *notes(found)], stderr=taken(json_path))
    if not found.proven:
        raise ParityError(f"{engine} is not proven to be the model of {checkpoint}: {'; '.join(found.failures)}")


if __name__ == "__main__":
    main()
