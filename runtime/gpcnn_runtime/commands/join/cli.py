"""`gpcnn-join`: one .npz of the parts of a job. Heavy imports wait until they are needed, so that it starts quickly."""

from __future__ import annotations

from pathlib import Path

import click

from gpcnn_deploy.commands.command import STDOUT, Command, json_option, say, write_json
from gpcnn_deploy.commands.console import taken
from gpcnn_deploy.commands.outputs import OUTPUT_FILE, Output, check_outputs
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.text import counted

DEFAULT_OUTPUT = Path("samples.npz")


@click.command(cls=Command)
@click.argument("parts", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FILE,
    metavar="FILE",
    help=f"File to write; - is standard output.  [default: {DEFAULT_OUTPUT}]",
)
@json_option
def main(parts: tuple[Path, ...], output: Path | None, json_path: Path | None) -> None:
    """Join PARTS, the .npz files that gpcnn-sample --shard or --positions wrote, into the .npz of the whole job.

    \b
    gpcnn-join samples-*.npz -o samples.npz

    The parts may come in any order. They must be of one job, and hold each of its images once. Pictures need no
    joining: let gpcnn-sample write all parts into one folder, or copy their folders into one.
    """
    if output is None:
        check_outputs([Output("-o", DEFAULT_OUTPUT)])
        output = DEFAULT_OUTPUT
    from gpcnn_runtime.commands.join.run import join_parts

    joined = join_parts(parts, output)
    write_json(json_path, joined)
    name = "standard output" if output == STDOUT else output
    said = STDOUT if taken(output, json_path) else None
    say(said, f"{name}: {counted(joined.images, 'image')} of {counted(len(parts), 'part')}")


if __name__ == "__main__":
    main()
