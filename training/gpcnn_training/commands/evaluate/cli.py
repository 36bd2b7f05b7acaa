"""`gpcnn-evaluate`: the flags, and the result in words. What it does is in `evaluate`, imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpcnn_deploy.commands.command import Command, data_dir_option, json_option, say, write_json
from gpcnn_deploy.commands.extras import required
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.text import counted
from gpcnn_deploy.units import units_of

if TYPE_CHECKING:
    from gpcnn_training.commands.evaluate.run import Evaluation, Likelihood, Protocol, Reconstructions, Spread
    from gpcnn_training.evaluation.class_consistency import ClassConsistency


@click.command(cls=Command)
@click.argument("checkpoint", required=False, type=PATH)
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="Whose test images, as for gpcnn-train.  [default: the data set that the checkpoint names]",
)
@data_dir_option
@click.option(
    "--test-images",
    type=click.IntRange(1),
    help="Take only this many of the test images, the first ones.  [default: all]",
)
@click.option(
    "--binarization",
    type=click.Choice(["stochastic", "fixed", "both"]),
    help="How grey images get two levels: at random, at 0.5, or one after the other.  [default: as in training]",
)
@click.option(
    "--draws", type=click.IntRange(1, 1000), help="How often to binarize the test images at random.  [default: 4]"
)
@click.option(
    "--mixture",
    is_flag=True,
    help="Also score p(x), the mean of p(x | y) over all labels y. Ten labels take ten times as long.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="N",
    help="Also draw N samples, equally many of each class, and count how many a classifier takes for their class.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the samples.  [default: 0]")
@click.option("--temperature", type=click.FloatRange(0.01, 100), help="Temperature of the samples.  [default: 1]")
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:0 or mps.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: PyTorch's]")
@json_option
def main(json_path: Path | None, **flags: Any) -> None:
    """Measure how good CHECKPOINT is: a file, a run folder, or the newest run if it is left out.

    Prints the negative log-likelihood of the test images, in nats an image, nats a pixel and bits/dim. Smaller is
    better. Of a model conditional on labels it is -log p(x | y), given the label. --mixture adds -log p(x), by which
    unconditional models are compared.

    Of a VQ-VAE it is that of the pictures' codes. What the codes lose of the pictures is the PSNR, in dB, which is
    printed too; larger is better.

    --samples adds the class consistency: how many samples a classifier takes for their class. The classifier is trained
    for it on the real images, which takes a minute on MNIST.

    \b
    gpcnn-evaluate runs/mnist-conditional
    gpcnn-evaluate runs/mnist-conditional --samples 1000 --json result.json
    gpcnn-evaluate runs/mnist-conditional --binarization both --mixture
    """
    _check_given(flags["checkpoint"], flags["data"])
    with required("evaluating a checkpoint", "train"):
        from gpcnn_training.commands.evaluate.run import EvaluateRequest, evaluate

        evaluation = evaluate(EvaluateRequest(**flags))
    write_json(json_path, evaluation)
    say(json_path, describe(evaluation))


def _check_given(checkpoint: Path | None, data: str | None) -> None:
    """Refuse, before PyTorch is asked for, what is not there, or is no checkpoint.

    Raises:
        CheckpointError, UsageError: as the evaluation.
    """
    from gpcnn_deploy.checkpoint_header import Header, read_header
    from gpcnn_training.data.names import check_data
    from gpcnn_training.runs import checkpoint_path, newest_run

    read_header(newest_run() if checkpoint is None else checkpoint_path(checkpoint), Header)
    if data is not None:
        check_data(data)


def describe(evaluation: Evaluation) -> str:
    """The result in words."""
    lines = [
        f"checkpoint  {evaluation.checkpoint} (step {evaluation.step:,}, {evaluation.epoch:.1f} epochs)",
        f"data        {evaluation.data}, {_of(evaluation.test_images, evaluation.all_test_images)}",
        *_describe_reconstruction(evaluation.reconstruction),
        *_describe_protocol(evaluation, _given(evaluation), evaluation.reconstruction is not None),
    ]
    if evaluation.fixed is not None:
        lines += _describe_protocol(evaluation.fixed, _given(evaluation))
    if evaluation.class_consistency is not None:
        lines += _describe_consistency(evaluation.class_consistency)
    return "\n".join(lines)


def _describe_reconstruction(found: Reconstructions | None) -> list[str]:
    if found is None:
        return []
    return [
        f"PSNR        {found.psnr:.2f} dB of pictures back from their codes (perplexity {found.perplexity:.0f} of "
        f"{found.codes})"
    ]


def _given(evaluation: Evaluation) -> str:
    """The likelihood that was measured: `p(x | y), given the label`."""
    if evaluation.own_map:
        return "p(x | small x), given the small picture"
    if evaluation.own_code:
        return "p(x | h(x)), given the picture's own code"
    of = {
        "none": "p(x)",
        "label": "p(x | y), given the label",
        "embedding": "p(x | h), given the embedding",
        "map": "p(x | h), given the map",
    }
    return of[evaluation.conditioning]


def _describe_protocol(found: Protocol, given: str, of_codes: bool = False) -> list[str]:
    lines = [f"protocol    {found.protocol}", *_describe_likelihood("test NLL", found, given, of_codes)]
    if found.mixture is not None:
        mean = "p(x), the mean of p(x | y) over the labels"
        lines += _describe_likelihood("mixture NLL", found.mixture, mean, of_codes)
    return lines


def _describe_likelihood(name: str, likelihood: Likelihood, meaning: str, of_codes: bool) -> list[str]:
    """Of a VQ-VAE, x is the grid of a picture's codes."""
    units = units_of(of_codes)
    return [
        f"{name:11} {_figure(likelihood.nats_per_image, 3)} nats/{units.image} of {meaning}",
        f"            {_figure(likelihood.nats_per_pixel, 6)} nats/{units.pixel}",
        f"            {_figure(likelihood.bits_per_dim, 5)} bits/{units.dim}",
    ]


def _describe_consistency(consistency: ClassConsistency) -> list[str]:
    rows = consistency.classes
    width = max(len("class"), *(len(row.name) for row in rows))
    return [
        f"consistency {consistency.accuracy:.1%} of {consistency.samples:,} samples are taken for their class "
        f"({rows[0].samples:,} of each, seed {consistency.seed}, temperature {consistency.temperature:g})",
        f"classifier  takes {consistency.classifier_accuracy:.1%} of the "
        f"{counted(consistency.test_images, 'real test image')} for their class",
        "",
        f"{'class':{width}}  samples  test images  samples most often mistaken for",
        *(
            f"{row.name:{width}}  {row.accuracy:7.1%}  {_share(row.classifier_accuracy):>11}  {row.mistaken_for or '-'}"
            for row in rows
        ),
    ]


def _figure(spread: Spread, digits: int) -> str:
    deviation = "" if spread.std is None else f" ± {spread.std:.{digits}f}"
    return f"{spread.mean:.{digits}f}{deviation}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _of(part: int, whole: int) -> str:
    images = counted(whole, "test image")
    return images if part == whole else f"{part:,} of {images}"


if __name__ == "__main__":
    main()
