"""`gpcnn-export --format c`: a folder of C source, and where asked for the program compiled from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from gpcnn_deploy.commands.command import say, write_json
from gpcnn_deploy.commands.outputs import Output, check_outputs
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import EngineMetadata

OPTIONS = ("static", "weights", "max_ram", "target", "cpu", "library")
"""Options that belong to this format."""


class BytesType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number of bytes: 262144, 256K or 4M."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the option's text."""
        found = re.fullmatch(r"(\d{1,15})([KM]?)", str(value))
        if found is None:
            self.fail(f"'{value}' is no number of bytes: expected one such as 262144, 256K or 4M", param, ctx)
        return int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]]


def c_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that belong to this format."""
    for option in reversed(
        (
            click.option(
                "--static",
                is_flag=True,
                help="onnx: fixed shapes and one window, for tools that need them. c: no allocation; weights stay in "
                "read-only memory.",
            ),
            click.option(
                "--weights",
                type=click.Choice(["array", "file"]),
                default="array",
                help="c: weights in model.c, or in model.bin, which the program reads.",
            ),
            click.option(
                "--max-ram", type=BytesType(), help="c: refuse a --static program that needs more RAM, as 256K."
            ),
            click.option("--target", metavar="TRIPLE", help="c: compile it for this machine, as aarch64-linux-musl."),
            click.option("--cpu", help="c: zig's name of the CPU that --target means, as x86_64_v3."),
            click.option("--library", is_flag=True, help="c: let --target make a shared library, and no program."),
        )
    ):
        command = option(command)
    return command


class CSourceResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` tells of C source.

    Attributes:
        output: the folder.
        bytes: of its files.
        engine: the model's metadata, with the proof of parity.
        ram: of static memory, bytes of the buffers for one image; None for a program that allocates.
        read_only: of static memory, bytes of the weights.
        compiled: what `--target` made; None without it.
        compiled_bytes: its size.
    """

    output: str
    bytes: int
    engine: EngineMetadata
    ram: int | None = None
    read_only: int | None = None
    compiled: str | None = None
    compiled_bytes: int | None = None


def run(
    out: Path,
    read: Callable[[], bytes],
    json_path: Path | None,
    *,
    static: bool,
    weights: Literal["array", "file"],
    max_ram: int | None,
    target: str | None,
    cpu: str | None,
    library: bool,
) -> None:
    """Write the folder, compile it, and tell.

    Args:
        out: the folder.
        read: gives the bytes of the model file, once all else was found well.
        json_path: as `--json`.
        static, weights, max_ram, target, cpu, library: as the options.

    Raises:
        UsageError: options that contradict each other, a folder that is not ours, a target that cannot be compiled
            for, or more RAM than was allowed.
        OutputError, CompileError, EngineError: as what this calls.
    """
    from gpcnn_deploy.model_file import decode_model_file, decoder_weights, priors_alone
    from gpcnn_export.c_source.compile import check_target, compile_folder
    from gpcnn_export.c_source.data import PackedDecoder, static_memory
    from gpcnn_export.c_source.folder import check_ours, folder_files, write_folder
    from gpcnn_runtime.engines.native.packing import pack_decoder, pack_weights

    if static and weights == "file":
        raise UsageError("--weights file goes without --static: a program with static memory reads no files")
    if max_ram is not None and not static:
        raise UsageError("--max-ram goes with --static: another program allocates what it needs")
    if target is None and (cpu is not None or library):
        raise UsageError(f"{'--library' if library else '--cpu'} goes with --target, which compiles")
    check_outputs([Output("-o", out, "folder")] + ([] if json_path is None else [Output("--json", json_path)]))
    check_ours(out)
    if target is not None:
        check_target(target, "library" if library else "program", static)
    content = read()
    metadata, arrays = decode_model_file(content, "the model file")
    decoder = top = b""
    decodes = None
    if metadata.vqvae is not None:
        *above, content = priors_alone(metadata, arrays)
        top, numbers = b"".join(above), decoder_weights(metadata.vqvae, arrays)  # `top` of a VQ-VAE-2
        decoder = numbers.astype("<f4").tobytes()
        if static:
            if metadata.spec.code_levels > 1:
                raise UsageError(
                    "--static goes without a VQ-VAE-2, which two models draw one after the other: leave --static out"
                )
            decodes = PackedDecoder(metadata.vqvae, pack_decoder(metadata.vqvae, numbers, "the model file"))
    packed = pack_weights(content, "the model file") if static else None
    memory = None if packed is None else static_memory(metadata.spec, packed, decodes)
    if memory is not None and max_ram is not None and memory.ram > max_ram:
        raise UsageError(
            f"this model needs {memory.ram} bytes of RAM, and --max-ram allows {max_ram}: train a smaller one "
            f"({'--image-size' if decodes else '--layers, --features'}), or allow more"
        )
    files = folder_files(metadata, content, packed, weights == "file", decodes or decoder, top)
    write_folder(out, files)
    made = None if target is None else compile_folder(out, target, cpu, "library" if library else "program")
    size = sum(map(len, files.values()))
    write_json(
        json_path,
        CSourceResult(
            output=str(out),
            bytes=size,
            engine=metadata,
            ram=None if memory is None else memory.ram,
            read_only=None if memory is None else memory.weights,
            compiled=None if made is None else str(made),
            compiled_bytes=None if made is None else made.stat().st_size,
        ),
    )
    say(json_path, f"Wrote {out}: C source, {metadata.parameters:,} parameters, {size / 1e6:.1f} MB.")
    if memory is not None:
        say(
            json_path,
            f"Static memory: {memory.ram:,} bytes of RAM besides the stack; {memory.weights:,} bytes of read-only "
            f"memory for the weights, and about {42_000 if decodes else 35_000:,} for the kernel.",
        )
    if made is not None:
        say(json_path, f"Compiled {made}: {made.stat().st_size:,} bytes, for {target}.")
        return
    # Of a model with embeddings or maps the third argument is a file of numbers, which only a user can make.
    condition = {"label": " 0 0", "embedding": " 0 EMBEDDING.f32", "map": " 0 MAP.f32", "none": ""}[
        metadata.spec.conditioning
    ]
    picture = "picture.pgm" if metadata.pictures.channels == 1 else "picture.ppm"
    say(json_path, f"Next: cd {shlex.quote(str(out))} && make && ./draw {picture}{condition}")
