"""`gpcnn-score`: how likely pictures are. Heavy imports wait until they are needed, so that it starts quickly."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import STDOUT, Command, json_option
from gpcnn_deploy.commands.console import progress, show, taken, warn
from gpcnn_deploy.commands.outputs import OUTPUT_FILE, OUTPUT_FOLDER, Output, check_outputs
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.errors import InterruptedRun, UsageError
from gpcnn_runtime.commands.options import (
    check_fallback,
    complete_labels,
    engine_option,
    invert_option,
    loading_options,
    resize_option,
    smaller_batches,
)

if TYPE_CHECKING:
    from gpcnn_runtime.anomaly import Method, Threshold
    from gpcnn_runtime.commands.score.rows import Summary
    from gpcnn_runtime.commands.score.run import Calibration, Scoring
    from gpcnn_runtime.commands.score.tally import Tally
    from gpcnn_runtime.engines.onnxruntime.providers import Provider
    from gpcnn_runtime.sampler import Sampler
    from gpcnn_runtime.scores import Binarization

DEFAULT_THRESHOLD = Path("threshold.json")
DEFAULT_QUANTILE = 0.01
ANOMALOUS_EXIT = 3


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True, type=PATH)
@engine_option
@click.option(
    "--label",
    metavar="LABEL",
    help="Score under this label alone.  [default: under each, and under their mixture]",
    shell_complete=complete_labels,
)
@click.option(
    "--embeddings",
    "embeddings_path",
    type=PATH,
    metavar="FILE",
    help="For a model with embeddings: an .npy or .npz with one row for each picture in order, or one row for all.",
)
@click.option(
    "--map",
    "maps_path",
    type=PATH,
    metavar="FILE",
    help="For a model with maps: an .npy or .npz with a map for each picture in order, or one map for all, which may "
    "be a picture. A model that enlarges makes each picture small by itself.",
)
@json_option
@click.option(
    "--csv",
    "csv_path",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Also write a row for each picture, as soon as it is scored. With -, write to standard output.",
)
@click.option(
    "--heatmap",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="For each picture, write one that shows where the surprise is, into this folder.",
)
@click.option(
    "--calibrate", "calibrates", is_flag=True, help="Take the pictures as usual ones, and make a threshold of them."
)
@click.option(
    "--quantile",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help=f"For --calibrate: the share of usual pictures that may be flagged.  [default: {DEFAULT_QUANTILE}]",
)
@click.option(
    "--save",
    type=OUTPUT_FILE,
    metavar="FILE",
    help=f"Where --calibrate writes the threshold.  [default: {DEFAULT_THRESHOLD}]",
)
@click.option(
    "--threshold",
    "threshold_path",
    type=PATH,
    metavar="FILE",
    help="Flag pictures that lie above this threshold. --calibrate makes one.",
)
@click.option(
    "--background",
    "background_path",
    type=PATH,
    metavar="ENGINE",
    help="Judge by the likelihood ratio against this second model.",
)
@click.option("--typicality", is_flag=True, help="For --calibrate: too likely counts as unusual, too.")
@resize_option
@invert_option
@click.option(
    "--binarize",
    "binarization",
    type=click.Choice(["nearest", "stochastic"]),
    default="nearest",
    show_default=True,
    help="How a pixel becomes black or white: by the nearest level, or drawn at random as in training.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --binarize stochastic.")
@loading_options
def main(
    pictures: tuple[Path, ...],
    engine_path: Path | None,
    label: str | None,
    embeddings_path: Path | None,
    maps_path: Path | None,
    json_path: Path | None,
    csv_path: Path | None,
    heatmap: Path | None,
    calibrates: bool,
    quantile: float | None,
    save: Path | None,
    threshold_path: Path | None,
    background_path: Path | None,
    typicality: bool,
    resize: bool,
    invert: bool,
    binarization: Binarization,
    seed: int,
    provider: Provider,
    no_fallback: bool,
    reproducible: bool,
    threads: int | None,
    batch_size: int,
) -> None:
    """Say how likely PICTURES (files, folders, .npz) are under a model: in nats and bits/dim, and under every label.

    \b
    gpcnn-score --engine model.gpcnn digit.png
    gpcnn-score --engine mine.gpcnn --embeddings h.npy folder/
    gpcnn-score --engine scenes.gpcnn --map maps.npy folder/
    gpcnn-score folder/ --csv scores.csv --heatmap heat/
    gpcnn-score --calibrate usual/ --quantile 0.01 --save threshold.json
    gpcnn-score --threshold threshold.json new/

    Smaller is likelier. A model with labels is scored as the mixture of all labels, each as likely as another.

    \b
    Exit codes:
    0    all pictures were scored, and none lies above a threshold
    1    an input could not be read; the others are scored
    2    the command line is wrong
    3    all could be read, and one lies above the threshold
    """
    if not calibrates and (quantile is not None or save is not None or typicality):
        name = "--quantile" if quantile is not None else "--save" if save is not None else "--typicality"
        raise UsageError(f"{name} belongs to --calibrate: add it; a threshold knows its method by itself")
    if calibrates and threshold_path is not None:
        raise UsageError("--calibrate makes a threshold, --threshold uses one: give one of them")
    if typicality and background_path is not None:
        raise UsageError("--typicality and --background are two methods: give one of them")
    if calibrates and save is None:
        check_outputs([Output("--save", DEFAULT_THRESHOLD)])
    from gpcnn_runtime.anomaly import load_threshold, save_threshold
    from gpcnn_runtime.commands.score.run import Calibration, Options, Scoring
    from gpcnn_runtime.commands.score.table import shown
    from gpcnn_runtime.engines.load import engine_or_default
    from gpcnn_runtime.sampler import Sampler

    def load(path: Path) -> Sampler:
        return Sampler.load(
            path,
            threads,
            batch_size,
            provider=provider,
            fallback=not no_fallback,
            reproducible=reproducible,
            warn=warn,
        )

    method: Method = "ratio" if background_path else "typicality" if typicality else "likelihood"
    threshold: Threshold | None = None if threshold_path is None else load_threshold(threshold_path)
    try:
        with smaller_batches(batch_size), contextlib.ExitStack() as stack:
            engine = engine_or_default(engine_path)
            check_fallback(no_fallback, engine, *([] if background_path is None else [background_path]))
            sampler = stack.enter_context(load(engine))
            background = None if background_path is None else stack.enter_context(load(background_path))
            options = Options(
                label=None if label is None else sampler.metadata.label_number(label),
                resize=resize,
                invert=invert,
                binarization=binarization,
                seed=seed,
                heatmap=heatmap,
                threshold=threshold,
                embeddings=embeddings_path,
                maps=maps_path,
            )
            scoring = Scoring(sampler, options, background)
            scoring.check(pictures)
            calibration = Calibration(scoring, method) if calibrates else None
            tally, summary = _run(scoring, pictures, calibration, json_path, csv_path)
            made = None
            try:
                if calibration is not None:
                    made = calibration.threshold(quantile or DEFAULT_QUANTILE)
                    save_threshold(save or DEFAULT_THRESHOLD, made)
            finally:  # last: what is shown may find no reader
                beside = taken(json_path, csv_path, save)
                show(shown(tally, summary, scoring.head()), stderr=beside)
            if made is not None:
                click.echo(
                    f"Wrote {save or DEFAULT_THRESHOLD}: {made.method} above {made.threshold:.2f} nats is anomalous"
                    f" ({made.quantile:g} of usual pictures, by {made.pictures} of them).",
                    err=beside,
                )
    except KeyboardInterrupt:
        kept = f"; rows so far are in {csv_path}" if csv_path not in (None, STDOUT) else ""
        raise InterruptedRun(f"interrupted{kept}") from None
    if tally.errors or tally.anomalies:
        raise click.exceptions.Exit(1 if tally.errors else ANOMALOUS_EXIT)


def _run(
    scoring: Scoring,
    pictures: tuple[Path, ...],
    calibration: Calibration | None,
    json_path: Path | None,
    csv_path: Path | None,
) -> tuple[Tally, Summary]:
    """Score everything and write the files; returns what there is to show."""
    from gpcnn_deploy.pictures.changes import counting_changes
    from gpcnn_runtime.commands.score.rows import CsvRows, JsonRows
    from gpcnn_runtime.commands.score.tally import Tally
    from gpcnn_runtime.inputs.stream import count_pictures

    begin, head = time.perf_counter(), scoring.head()
    tally = Tally(has_threshold=head.threshold is not None)
    with contextlib.ExitStack() as stack:
        changes = stack.enter_context(counting_changes())
        rows_json = None if json_path is None else stack.enter_context(JsonRows(json_path, head))
        rows_csv = None if csv_path is None else stack.enter_context(CsvRows(csv_path, head))
        rows_on_screen = taken(json_path, csv_path) and sys.stdout.isatty()
        with progress("scoring", lambda: count_pictures(pictures), hidden=rows_on_screen) as advance:
            for row in scoring.rows(pictures):
                if row.error is not None:
                    click.echo(f"Error: {' '.join(row.error.split())}", err=True)
                tally.add(row)
                for place in (rows_json, rows_csv, calibration):
                    if place is not None:
                        place.add(row)
                advance(1)
        prepared = 0 if head.preparation is None else changes.pictures
        summary = tally.summary(time.perf_counter() - begin, prepared)
        if rows_json is not None:
            rows_json.finish(summary)
    return tally, summary


if __name__ == "__main__":
    main()
