"""`gpcnn-sample`: draw images on an engine. Heavy imports wait until they are needed, so that it starts quickly."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import Command, json_option
from gpcnn_deploy.commands.console import warn
from gpcnn_deploy.commands.outputs import OUTPUT_EITHER
from gpcnn_deploy.errors import InterruptedRun, UsageError
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.options import (
    box_option,
    candidates_option,
    check_fallback,
    complete_option,
    embedding_option,
    engine_option,
    interpolate_option,
    invert_option,
    label_option,
    like_option,
    loading_options,
    map_option,
    mask_option,
    positions_option,
    rank_by_option,
    resize_option,
    rows_option,
    seed_option,
    shard_option,
    smaller_batches,
    spherical_option,
    strategy_option,
    upscale_option,
    vary_option,
)
from gpcnn_runtime.commands.parts import parse_part

if TYPE_CHECKING:
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_runtime.commands.sample.given import Given, Ways
    from gpcnn_runtime.completions import RankBy
    from gpcnn_runtime.engines.base import Strategy
    from gpcnn_runtime.engines.onnxruntime.providers import Provider
    from gpcnn_runtime.sampler import Sampler

DEFAULT_OUTPUT = {"grid": "sample.png", "png": "samples", "npz": "samples.npz"}
COMPLETIONS_OUTPUT = {"grid": "completions.png", "png": "completions", "npz": "completions.npz"}


@click.command(cls=Command)
@engine_option
@label_option
@like_option
@embedding_option
@map_option
@upscale_option
@interpolate_option
@spherical_option
@vary_option
@click.option(
    "--count",
    type=int,
    help="How many images of each label, picture, embedding or map, on each way, or how many completions.  "
    "[default: 1; 4 with --like or --complete; 9 with --interpolate]",
)
@seed_option
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="1 is the model itself. Below 1, images vary less.",
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_EITHER,
    help="File or folder to write; - is standard output.  [default: sample.png, samples/, samples.npz; "
    "completions.png, …]",
)
@click.option(
    "--output-format",
    type=click.Choice(["grid", "png", "npz"]),
    default="grid",
    show_default=True,
    help="grid: one picture of all images. png: a folder with a picture for each. npz: one file of arrays. An "
    "interrupted png or npz goes on where it stopped.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 64),
    help="How large an image pixel becomes.  [default: 1; a small grid is enlarged to about 256 pixels]",
)
@positions_option
@shard_option
@json_option
@complete_option
@rows_option
@box_option
@mask_option
@candidates_option
@rank_by_option
@resize_option
@invert_option
@strategy_option
@loading_options
def main(
    engine_path: Path | None,
    labels: tuple[str, ...],
    likes: tuple[Path, ...],
    embeddings: tuple[str, ...],
    maps: tuple[str, ...],
    small: tuple[Path, ...],
    ways: tuple[str, ...],
    spherical: bool,
    vary: float | None,
    count: int | None,
    seed: int,
    temperature: float,
    output: Path | None,
    output_format: str,
    scale: int | None,
    positions: str | None,
    shard: str | None,
    json_path: Path | None,
    picture: Path | None,
    rows: int | None,
    box: str | None,
    mask_path: Path | None,
    candidates: int,
    rank_by: RankBy,
    resize: bool,
    invert: bool,
    strategy: Strategy,
    provider: Provider,
    no_fallback: bool,
    reproducible: bool,
    threads: int | None,
    batch_size: int,
) -> None:
    """Draw images on an exported engine, or complete a picture.

    \b
    gpcnn-sample --engine model.gpcnn --label 3
    gpcnn-sample --label all --count 10 -o sheet.png
    gpcnn-sample --label 3,5 --count 5000 --output-format npz
    gpcnn-sample --label 3,5 --count 5000 --output-format npz --shard 2/8
    gpcnn-sample --like digit.png --count 20
    gpcnn-sample --engine model.gpcnn --embedding h.npy
    gpcnn-sample --interpolate 3,8 --count 9
    gpcnn-sample --engine scenes.gpcnn --map regions.png
    gpcnn-sample --engine large.gpcnn --upscale small.png --count 4
    gpcnn-sample --complete digit.png --rows 14
    gpcnn-sample --complete digit.png --box 4,4,8,8 --candidates 16 --rank-by known

    --like draws new images from the code of a picture. It needs the engine of an autoencoder, and the encoder beside
    it. The sheet shows the picture first. --embedding draws under vectors of your own, and --interpolate under vectors
    on the way from one to another. --map draws under a map, which says what is where, and --upscale enlarges a small
    picture. With the engine of a VQ-VAE, --like shows the picture, how it comes back from its codes, and images of
    which --vary of the codes are drawn anew, under --label or the likeliest one.

    --complete keeps every known pixel and draws the rest. Images are drawn row by row, and a pixel depends on those
    before it: known pixels below a gap cannot guide what is drawn into it, but they can judge it. --candidates N draws
    N completions for each one shown, and shows the best. --rank-by says what is best. If you give no --label, the
    known pixels choose it.

    --shard and --positions draw a part of a job, so that several machines can share it. Pictures of all parts go into
    one folder; gpcnn-join makes one .npz of the parts.
    """
    from gpcnn_runtime.commands.sample.run import Order, Place, draw_completions, draw_grid, draw_job

    asked = None
    if picture or mask_path or rows is not None or box is not None or candidates != 1 or rank_by != "image":
        from gpcnn_runtime.commands.sample.complete_job import to_complete

        asked = to_complete(picture, mask_path, rows, box, candidates, rank_by, resize, invert)
    elif (resize or invert) and not likes and not ways and not small:
        raise UsageError(
            "--resize and --invert are for pictures that are read: add --complete PICTURE, --like or --upscale"
        )
    says = {"--label": labels, "--like": likes, "--embedding": embeddings, "--map": maps, "--upscale": small}
    says["--interpolate"] = ways
    both = [name for name, value in says.items() if value]
    contradict = f"{both[-1]} and {both[-2]} both say what to draw: leave one of them out" if len(both) > 1 else None
    if contradict is not None and both != ["--label", "--like"]:  # which a VQ-VAE can draw
        raise UsageError(contradict)
    if spherical and not ways:
        raise UsageError("--spherical says how to go from one end to the other: add --interpolate A,B")
    if ways and asked is not None:
        raise UsageError("--complete draws from one condition, and --interpolate has several: leave one of them out")
    if asked is not None and len(likes) > 1:
        raise UsageError(f"--complete draws from the code of one picture: name one with --like, not {len(likes)}")
    steps = 9 if count is None else count
    part = parse_part(positions, shard)
    if part is not None and asked is not None:
        raise UsageError(f"{part.option}: --complete ranks all completions together, and has no parts: leave it out")
    if part is not None and output_format == "grid":
        raise UsageError(f"{part.option}: parts of one sheet do not fit together: add --output-format png or npz")
    path = output or Path((COMPLETIONS_OUTPUT if asked else DEFAULT_OUTPUT)[output_format])
    if part is not None and output is None and output_format == "npz":
        path = path.with_stem(f"{path.stem}-{part.in_file_name()}")
    place = Place(path, output_format, scale, json_path)
    place.check()
    try:
        from gpcnn_deploy.pictures.changes import counting_changes
        from gpcnn_runtime.conditions import check_conditions
        from gpcnn_runtime.engines.load import engine_or_default
        from gpcnn_runtime.sampler import Sampler

        engine = engine_or_default(engine_path, from_zoo=True)
        check_fallback(no_fallback, engine)
        with smaller_batches(batch_size), counting_changes(), contextlib.ExitStack() as stack:
            sampler = stack.enter_context(
                Sampler.load(
                    engine,
                    threads,
                    batch_size,
                    provider=provider,
                    fallback=not no_fallback,
                    reproducible=reproducible,
                    warn=warn,
                )
            )
            of_codes = sampler.metadata.vqvae is not None
            if contradict is not None and not of_codes:
                raise UsageError(contradict)
            _refuse_codes(sampler, bool(likes), bool(ways), asked is not None, vary)
            numbers = parse_labels(sampler.metadata, labels)
            given: Given | None = None
            count = count if count is not None else 4 if asked or likes else 1
            if ways:
                sampler, given = _on_the_way(sampler, ways, steps, spherical, resize, invert, reproducible, stack)
                count = 1
            elif embeddings:
                from gpcnn_runtime.commands.sample.given import read_embeddings

                given = read_embeddings(sampler, embeddings)
            elif maps or small or (sampler.metadata.spec.conditioning == "map" and not likes):
                from gpcnn_runtime.commands.sample.maps import read_given_maps

                given = read_given_maps(sampler, maps, small, resize, invert)
            elif (likes and not of_codes) or sampler.metadata.spec.conditioning == "embedding":
                from gpcnn_runtime.commands.sample.likes import encode_likes

                given = encode_likes(sampler, likes, resize, invert)
            from_zoo = engine_path is None and str(engine).startswith("zoo:")
            if likes and of_codes:
                from gpcnn_runtime.commands.sample.code_likes import VARY, encode_code_likes

                share = VARY if vary is None else vary
                given, conditions = encode_code_likes(
                    sampler, likes, seed, count, temperature, share, resize, invert, numbers
                )
                span = range(conditions.total) if part is None else part.of(conditions.total)
                order = Order(conditions, strategy, given, from_zoo=from_zoo, span=span)
                (draw_grid if output_format == "grid" else draw_job)(sampler, order, place)
                return
            if asked is not None and given is not None and len(given) > 1:
                what = counted(len(given), "embedding" if given.map is None else "map")
                raise UsageError(
                    f"{', '.join(given.names)}: {what}: a picture is completed under one: name one of them"
                )
            any_label = asked is not None and numbers is None
            if any_label and sampler.metadata.class_names:
                numbers = list(range(len(sampler.metadata.class_names)))
            conditions = check_conditions(
                sampler.metadata,
                numbers,
                seed,
                count,
                temperature,
                embedding=None if given is None else given.embedding,
                same_noise=1 if given is None else given.same_noise,
                map=None if given is None else given.map,
            )
            span = range(conditions.total) if part is None else part.of(conditions.total)
            order = Order(conditions, strategy, given, any_label, from_zoo, span)
            if asked is not None:
                draw_completions(sampler, order, place, asked)
            elif output_format == "grid":
                draw_grid(sampler, order, place)
            else:
                draw_job(sampler, order, place)
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted: nothing was written") from None


def _refuse_codes(sampler: Sampler, likes: bool, ways: bool, completes: bool, vary: float | None) -> None:
    """Refuse what a VQ-VAE cannot do, and what only a VQ-VAE can."""
    from gpcnn_runtime.zoo.catalogue import engine_name

    engine = engine_name(sampler.engine.info.path)
    if sampler.metadata.vqvae is None:
        if vary is not None:
            raise UsageError(f"--vary is for a VQ-VAE, whose codes are drawn anew, which {engine} is not: leave it out")
        return
    if ways:
        raise UsageError(f"--interpolate is not for a VQ-VAE, which {engine} is: leave it out")
    if likes and completes:
        raise UsageError("--like and --complete both say which codes of a VQ-VAE stay: leave one of them out")
    if vary is not None and not likes:
        raise UsageError("--vary goes with --like: add a picture")


def _on_the_way(
    sampler: Sampler,
    ways: Sequence[str],
    steps: int,
    spherical: bool,
    resize: bool,
    invert: bool,
    reproducible: bool,
    stack: contextlib.ExitStack,
) -> tuple[Sampler, Ways]:
    """What draws the images of `--interpolate`, and what they are drawn from; a model with labels takes vectors."""
    from gpcnn_runtime.commands.sample.given import read_ways
    from gpcnn_runtime.sampler import Sampler

    labels = None
    if sampler.metadata.spec.conditioning == "label":
        from gpcnn_runtime.engines.native.label_vectors import with_vectors

        labels = sampler.metadata
        engine = with_vectors(sampler.engine, reproducible)
        sampler = stack.enter_context(Sampler(engine, sampler.threads, sampler.batch_size))
    return sampler, read_ways(sampler, labels, ways, steps, spherical, resize, invert)


def parse_labels(metadata: EngineMetadata, texts: Sequence[str]) -> list[int] | None:
    """Numbers of the labels asked for: `--label` values, each a name, a number, a comma list, or `all`.

    Raises:
        UsageError: an unknown label, or a label for a model that has none.
    """
    numbers: list[int] = []
    for text in texts:
        if text in metadata.class_names:  # a class name may hold a comma, or be `all`
            numbers.append(metadata.label_number(text))
        elif text == "all" and metadata.class_names:
            numbers.extend(range(len(metadata.class_names)))
        else:
            numbers.extend(metadata.label_number(part.strip()) for part in text.split(","))
    return numbers or None


if __name__ == "__main__":
    main()
