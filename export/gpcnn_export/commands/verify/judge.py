"""The judge of `gpcnn-verify`: eager PyTorch, in a process of its own; see `gpcnn_export.commands.verify.protocol`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.class_names import same_names
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import CheckpointError, DataError, UsageError
from gpcnn_deploy.kinds import kind_in_words
from gpcnn_deploy.text import exact_json, read_exact_json
from gpcnn_export.commands.verify.protocol import INPUTS, Prepared, VerifyJob

if TYPE_CHECKING:
    from gpcnn_deploy.checkpoint_header import Header
    from gpcnn_training.network import Network
    from gpcnn_training.vqvae_network import Vqvae

Arrays = Mapping[str, npt.NDArray[Any]]


@click.command(cls=Command)
@click.argument("what", type=click.Choice(["prepare", "judge"]))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(what: Literal["prepare", "judge"], folder: Path) -> None:
    """Write what to feed the engine of FOLDER/job.json, or judge what it drew."""
    require("gpcnn-verify, which asks eager PyTorch,", "train", "torch", "safetensors", "pooch")
    from gpcnn_export.commands.verify.judgement import judge
    from gpcnn_training.checkpoint import checkpoint_digest, checkpoint_header, load_checkpoint, load_vqvae
    from gpcnn_training.trainer.compute import limit_threads

    limit_threads()
    job = read_exact_json((folder / "job.json").read_bytes(), VerifyJob)
    checkpoint = Path(job.checkpoint)
    pictures: Vqvae | None = None
    if checkpoint_header(checkpoint).vqvae is None:
        model, header = load_checkpoint(checkpoint)
    else:
        model, pictures, header = load_vqvae(checkpoint)
    if what == "prepare":
        prepared, arrays = prepare(job, model, header, pictures)
        np.savez(folder / "request.npz", **arrays)  # type: ignore[arg-type]
        (folder / "prepared.json").write_text(exact_json(prepared), encoding="utf-8")
        click.echo(exact_json(prepared))
        return
    prepared = read_exact_json((folder / "prepared.json").read_bytes(), Prepared)
    with (
        np.load(folder / "request.npz", allow_pickle=False) as request,
        np.load(folder / "drawn.npz", allow_pickle=False) as drawn,
    ):
        verdict = judge(job, prepared, model, header, checkpoint_digest(checkpoint), request, drawn, pictures)
    click.echo(exact_json(verdict))


def prepare(
    job: VerifyJob, model: Network, header: Header, pictures: Vqvae | None = None
) -> tuple[Prepared, dict[str, npt.NDArray[Any]]]:
    """What to feed the engine, as `request.npz` has it.

    Raises:
        CheckpointError: the checkpoint is of another spec than the engine.
        UsageError, DataError: the data set that was named cannot be read, or does not fit the model.
    """
    from gpcnn_export.proof.encoder import check_images
    from gpcnn_export.proof.parity import feeds
    from gpcnn_export.proof.pictures import check_pictures

    _check_spec(job, header)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for inputs, feed in zip(INPUTS, feeds(model.spec, job.images, job.seed), strict=True):
        arrays.update({f"{inputs}.{name}": array for name, array in feed.items()})
    if job.encoder and model.encoder is not None:
        arrays["encoder.image"] = check_images(model.spec)
    if job.encoder and pictures is not None:
        arrays["encoder.picture"] = check_pictures(pictures.spec)
    try:
        name, data = _real_images(job, model, header, pictures)
    except (UsageError, DataError) as error:
        if job.data is not None:
            raise
        return Prepared(data=None, data_images=0, data_skipped=str(error)), arrays
    arrays.update({f"data.{key}": array for key, array in data.items()})
    return Prepared(data=name, data_images=len(data["levels"]), data_skipped=None), arrays


def _check_spec(job: VerifyJob, header: Header) -> None:
    theirs, ours = kind_in_words(header.spec, header.vqvae), kind_in_words(job.spec, job.vqvae)
    if theirs != ours:
        raise CheckpointError(
            f"{job.checkpoint}: is {theirs}, and the engine is {ours}, so there is nothing to compare: name the "
            "checkpoint that the engine was made from"
        )
    fields = [name for name in job.spec.__struct_fields__ if getattr(job.spec, name) != getattr(header.spec, name)]
    if fields:
        differ = ", ".join(f"{name} {getattr(header.spec, name)}, engine {getattr(job.spec, name)}" for name in fields)
        raise CheckpointError(
            f"{job.checkpoint}: a model of other dimensions than the engine's, so there is nothing to compare "
            f"({differ}): name the checkpoint that the engine was made from"
        )
    if job.vqvae != header.vqvae:
        raise CheckpointError(
            f"{job.checkpoint}: has another encoder and decoder than the engine, so there is nothing to compare: name "
            "the checkpoint that the engine was made from"
        )


def _real_images(
    job: VerifyJob, model: Network, header: Header, pictures: Vqvae | None
) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Name of the data set, and the levels of its first test images with their condition.

    Raises:
        UsageError, DataError: there is no such data set, or it does not fit the model; what the job does not name is
            not downloaded.
    """
    from gpcnn_training.data.conditions import conditions_of
    from gpcnn_training.data.sources import load_data
    from gpcnn_training.evaluation.likelihood import levels_of_draw
    from gpcnn_training.vqvae.pictures import encode

    data_dir = None if job.data_dir is None else Path(job.data_dir)
    if job.data is None and data_dir is None:
        try:
            data = load_data(header.data, _downloads(), header.preparation)
        except (UsageError, DataError) as error:
            raise DataError(
                f"{header.data}, which the checkpoint was trained on, is not here: name it with --data, or the folder "
                "of its files with --data-dir"
            ) from error
    else:
        data = load_data(job.data or header.data, data_dir, header.preparation)
    spec, shape = model.spec, header.pictures.image_shape
    if data.image_shape != shape:
        raise DataError(
            f"{data.name}: images of {list(data.image_shape)}, but the model has {list(shape)} (channels, height, "
            "width)"
        )
    if spec.conditioning == "label" and not same_names(data.class_names, header.class_names):
        raise DataError(f"{data.name}: its classes are not the model's, {', '.join(header.class_names)}")
    count = min(job.test_images, len(data.test_pixels))
    if pictures is None:
        levels = levels_of_draw(data.test_pixels, spec, header.quantization, range(count)).astype(np.int32)
    else:
        levels = encode(pictures, data.test_pixels[:count]).astype(np.int32)
    arrays: dict[str, npt.NDArray[Any]] = {"levels": levels}
    if spec.conditioning == "label":
        arrays["label"] = data.test_labels[:count].astype(np.int32)
    elif model.encoder is not None:
        arrays["embedding"] = _codes(model, levels)
    elif spec.conditioning != "none":
        given = conditions_of(data, spec, own_codes=False)[1]
        assert given is not None
        arrays[spec.conditioning] = given[:count]
    return data.name, arrays


def _downloads() -> Path:
    """Where published data sets lie that were downloaded before."""
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("gpcnn-deploy"))


def _codes(model: Network, levels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    import torch

    with torch.no_grad():
        codes: npt.NDArray[np.float32] = model.embed(torch.from_numpy(levels)).numpy()
    return codes


if __name__ == "__main__":
    main()
