"""`gpcnn-export`: checkpoint → engine, proven equal to eager PyTorch before the file appears."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import click
from click.core import ParameterSource

from gpcnn_deploy.commands.command import Command, json_option, say, write_json
from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.commands.outputs import OUTPUT_EITHER, Output, check_outputs
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import decoder_path, encoder_path
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.text import counted
from gpcnn_export.commands.export.c_source import OPTIONS as C_OPTIONS
from gpcnn_export.commands.export.c_source import c_options

if TYPE_CHECKING:
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_export.checkpoint_to_native import ModelFile
    from gpcnn_export.onnx_engine import OnnxEngine


SUFFIXES = {"native": ".gpcnn", "onnx": ".onnx", "trt": ".plan"}
FOLDERS = {"web": "site", "c": "model-c", "triton": "models"}
"""Formats that write a folder, and its default name."""


class WindowType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """`auto`, or a schedule: a number of columns, or two of them."""

    name = "w|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Schedule | Literal["auto"]:
        """Parse the option's text."""
        if value == "auto":
            return "auto"
        try:
            return Schedule.parse(str(value))
        except ValueError:
            self.fail(f"'{value}' is neither a number of columns, nor two such as 28,1@16, nor 'auto'", param, ctx)


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("source", required=False, type=PATH, metavar="[CHECKPOINT | MODEL]")
@click.option(
    "--format",
    "form",
    type=click.Choice([*SUFFIXES, *FOLDERS]),
    show_default=False,
    help="What to write. native: a model file, for any CPU. onnx: for ONNX Runtime. trt: a TensorRT plan. c: a folder "
    "of C source. web: a folder with a page that draws in the browser. triton: a model for Triton Inference Server.  "
    "[default: what -o ends in, or what the other options belong to; else native]",
)
@click.option(
    "--graph",
    "role",
    type=click.Choice(["sampler", "step"]),
    help="sampler draws the whole image in one call; step is one step, which the runtime repeats.  "
    "[default: sampler for onnx, step for trt]",
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT_EITHER,
    help="File or folder to write.  [default: model.gpcnn, model.onnx, model.plan, site, model-c, models]",
)
@click.option(
    "--window",
    type=WindowType(),
    default="auto",
    help="How many columns a sampler draws at a time. 28,1@16 means 28, and 1 from 16 images on. auto measures.",
)
@click.option(
    "--tune-batch",
    type=int,
    help="Batch size that --window auto measures with.  [default: one image and many, for an engine that suits both]",
)
@click.option(
    "--flavor",
    type=click.Choice(["auto", "tensorrt", "tensorrt-rtx"]),
    default="auto",
    help="For trt: which TensorRT builds the plan. auto takes tensorrt if it is installed and a GPU answers, else "
    "tensorrt-rtx.",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", help="For trt: arithmetic of the network."
)
@click.option("--max-batch", type=int, default=64, help="For trt and triton: most images in one call.")
@click.option(
    "--opt-batch", type=int, help="For trt: batch size to optimize for.  [default: 8, or --max-batch if less]"
)
@click.option("--name", help="For triton: the name that clients call the model by.  [default: the source's]")
@click.option("--batch", type=int, help="onnx: images in every call of a --static engine.  [default: 1]")
@c_options
@json_option
def main(
    source: Path | None,
    form: str | None,
    role: Literal["sampler", "step"] | None,
    output: Path | None,
    window: Schedule | Literal["auto"],
    tune_batch: int | None,
    flavor: Literal["auto", "tensorrt", "tensorrt-rtx"],
    precision: Literal["fp32", "fp16"],
    max_batch: int,
    opt_batch: int | None,
    name: str | None,
    batch: int | None,
    json_path: Path | None,
    **of_c: Any,
) -> None:
    """Make an engine of CHECKPOINT: a file, a run folder, or the newest run if it is left out.

    Before the file appears, images that the engine draws are compared with those of eager PyTorch.

    In place of a checkpoint you may name a MODEL.gpcnn that this command wrote, or zoo:NAME. With --format trt you may
    name a MODEL.onnx. PyTorch is not needed for that, nor for --format c, web and triton of a MODEL.gpcnn or
    zoo:NAME.

    \b
    gpcnn-export
    gpcnn-export runs/mnist-conditional --format trt
    gpcnn-export zoo:mnist-conditional -o model.onnx
    gpcnn-export zoo:mnist-conditional --format onnx --static --batch 4
    gpcnn-export step.onnx --format trt
    gpcnn-export zoo:mnist-conditional --format web -o site
    gpcnn-export zoo:mnist-conditional --format c -o digits
    gpcnn-export zoo:mnist-conditional --format triton -o models
    """
    form = form or _format(output)
    _reject_conflicts(source, form, role)
    if form == "web":
        _web(source, output or Path(FOLDERS[form]), json_path)
        return
    if form == "c":
        from gpcnn_export.commands.export.c_source import run

        run(output or Path(FOLDERS[form]), lambda: _model_file(source), json_path, **of_c)
        return
    if form == "triton":
        from gpcnn_export.commands.export.triton import run as write_triton
        from gpcnn_runtime.zoo.catalogue import resolve_engine

        source = resolve_engine(source) if _is_model_file(source) else _checkpoint(source, "native")
        write_triton(source, output or Path(FOLDERS[form]), name, max_batch, lambda: _model_file(source), json_path)
        return
    out = output or Path(f"model{SUFFIXES[form]}")
    if form != "trt" and out.suffix != SUFFIXES[form] and not out.is_dir():
        raise UsageError(
            f"{out}: expected a name that ends in {SUFFIXES[form]}, by which gpcnn-sample knows the engine"
        )
    check_outputs([Output("-o", out)])  # before other names are made of it
    outputs = [Output("-o", out)] + ([] if json_path is None else [Output("--json", json_path)])
    if form == "trt":
        from gpcnn_runtime.engines import plan_file

        outputs += [Output("-o", plan_file.metadata_path(out)), Output("-o", plan_file.portable_path(out))]
    check_outputs(outputs)
    if form == "trt":
        from gpcnn_export.onnx_to_plan import check_request

        check_request(out, flavor, max_batch, opt_batch)
    if source is not None and source.suffix == ".onnx":
        _plan(source, None, None, out, flavor, precision, max_batch, opt_batch, json_path)
        return
    checkpoint = _checkpoint(source, form)
    with _Telling() as tell:
        from gpcnn_export.checkpoint_to_native import make_model_file, write_model_file

        if form == "native":
            file = make_model_file(checkpoint, tell=tell)
            write_model_file(out, file)
            tell.done()
            _report(out, file, json_path)
            return
        from gpcnn_export.checkpoint_to_onnx import make_engine, write_engine

        if form == "onnx":
            if of_c["static"] and batch is None:
                batch = 1
            engine = make_engine(
                checkpoint, role or "sampler", window=window, tune_batch=tune_batch, batch=batch, tell=tell
            )
            write_engine(out, engine)
            tell.done()
            _report(out, engine, json_path)
            return
        portable = make_engine(checkpoint, "sampler", window=window, tune_batch=tune_batch, tell=tell)
        network = portable
        if role != "sampler":
            network = make_engine(checkpoint, "step", encoder=portable.encoder, tell=tell)
        native = make_model_file(checkpoint, encoder=portable.encoder, tell=tell)
    with tempfile.TemporaryDirectory(prefix="gpcnn-export-") as folder:
        network_path, portable_path = Path(folder, "network.onnx"), Path(folder, "portable.onnx")
        write_engine(network_path, network)  # its encoder and decoder go along
        portable_path.write_bytes(portable.content)
        _plan(network_path, portable_path, native.content, out, flavor, precision, max_batch, opt_batch, json_path)


def _given(*names: str) -> str | None:
    """The first of these options that is on the command line."""
    context = click.get_current_context()
    chosen = (name for name in names if context.get_parameter_source(name) == ParameterSource.COMMANDLINE)
    return next((f"--{name.replace('_', '-')}" for name in chosen), None)


def _format(output: Path | None) -> str:
    """The format that is meant where none is named."""
    if output is not None:
        for form, suffix in SUFFIXES.items():
            if output.suffix == suffix:
                return form
    if _given("name"):
        return "triton"
    if _given("flavor", "precision", "max_batch", "opt_batch"):
        return "trt"
    if _given("role", "window", "tune_batch", "batch"):
        return "onnx"
    return "c" if _given(*C_OPTIONS) else "native"


def _reject_conflicts(source: Path | None, form: str, role: str | None) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: names the option and what it goes with.
    """
    if form == "triton" and (option := _given("precision", "flavor", "opt_batch")):
        raise UsageError(f"{option} goes with --format trt: docs/serving.md says how a plan comes into Triton's folder")
    if form not in ("trt", "triton") and (option := _given("precision", "flavor", "max_batch", "opt_batch")):
        raise UsageError(f"{option} goes with --format trt: other engines are fp32, run anywhere, and take any batch")
    if form != "c" and (option := _given(*(name for name in C_OPTIONS if name != "static"))):
        raise UsageError(f"{option} goes with --format c")
    if form != "triton" and (option := _given("name")):
        raise UsageError(f"{option} goes with --format triton: name other results with -o")
    if form not in ("c", "onnx") and (option := _given("static", "batch")):
        raise UsageError(f"{option} goes with --format onnx{' or c' if option == '--static' else ''}")
    if form == "c" and _given("batch"):
        raise UsageError("--batch goes with --format onnx: the C program draws any number of images, one by one")
    if _given("batch") and not _given("static"):
        raise UsageError("--batch goes with --static: other engines take any number of images in a call")
    if form == "onnx" and _given("static") and _given("tune_batch"):
        raise UsageError("--tune-batch goes without --static, which measures with its own --batch")
    if form in ("native", *FOLDERS) and (option := "--graph" if role else _given("window", "tune_batch")):
        raise UsageError(f"{option} goes with --format onnx or trt: a model file has no graph, and serves any batch")
    if source is not None and source.suffix == ".gpcnn" and form == "native":
        raise UsageError(f"{source} is a model file already: name a checkpoint, or use --format onnx or trt")
    if source is not None and source.suffix == ".onnx":
        if form != "trt":
            raise UsageError(f"{source} is an ONNX engine already: name a checkpoint, or use --format trt")
        if option := "--graph" if role else _given("window", "tune_batch"):
            raise UsageError(f"{option} goes with a checkpoint: {source} has its graph already")
    if form == "onnx" and role == "step" and (option := _given("window", "tune_batch")):
        raise UsageError(f"{option} goes with a sampler: a step evaluates the whole image")


def _is_model_file(source: Path | None) -> TypeGuard[Path]:
    """Whether a model file is named, which needs no PyTorch."""
    return source is not None and (source.suffix == ".gpcnn" or str(source).startswith("zoo:"))


def _checkpoint(source: Path | None, form: str) -> Path:
    """The checkpoint or model file that was named, or the newest run's checkpoint."""
    found = _found(source)
    graph = () if form == "native" else ("onnx", "onnxscript")
    require("this export", "export", "torch", "safetensors", *graph)
    from gpcnn_training.trainer.compute import limit_threads

    limit_threads()
    if source is None:
        click.echo(f"Exporting {found}, the newest run.", err=True)
    return found


def _found(source: Path | None) -> Path:
    """The same, found out to be there, which needs no PyTorch.

    Raises:
        CheckpointError: no such checkpoint, or a damaged one, or there is no run.
        EngineError, UsageError: no such model file, or none in the zoo.
    """
    from gpcnn_deploy.checkpoint_header import Header, read_header
    from gpcnn_deploy.model_file import read_model_bytes
    from gpcnn_runtime.zoo.catalogue import resolve_engine
    from gpcnn_training.runs import checkpoint_path, newest_run

    if _is_model_file(source):
        if not (path := resolve_engine(source)).is_file():
            read_model_bytes(path)  # says so
        return source
    path = newest_run() if source is None else checkpoint_path(source)
    read_header(path, Header)
    return path


def _web(source: Path | None, out: Path, json_path: Path | None) -> None:
    from gpcnn_export.commands.export.result import of_site
    from gpcnn_export.site import make_site, refuse_place
    from gpcnn_runtime.zoo.catalogue import engine_name, resolve_engine

    check_outputs([Output("-o", out, "folder"), *([] if json_path is None else [Output("--json", json_path)])])
    refuse_place(out)
    if _is_model_file(source):
        path = resolve_engine(source)
        engine = engine_name(path)
        site = make_site(_model_file(source), engine, path.stem, engine if engine.startswith("zoo:") else path.name)
    else:
        checkpoint = _checkpoint(source, "native")
        site = make_site(_model_file(checkpoint), str(checkpoint), "model", "model.gpcnn")
    site.write(out)
    write_json(json_path, of_site(out, site))
    parameters = f"{site.metadata.parameters:,} parameters"
    say(
        json_path,
        f"Wrote {out}: a page of {counted(len(site.files) + 1, 'file')}, {parameters}, {site.size / 1e6:.1f} MB.",
    )
    say(json_path, f"Next: python3 -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(out))}")


def _model_file(source: Path | None) -> bytes:
    """The bytes of the model file that was named, or of one made of a checkpoint, proven."""
    if _is_model_file(source):
        from gpcnn_deploy.model_file import read_model_bytes
        from gpcnn_runtime.zoo.catalogue import resolve_engine

        return read_model_bytes(resolve_engine(source))
    checkpoint = _checkpoint(source, "native")
    with _Telling() as tell:
        from gpcnn_export.checkpoint_to_native import make_model_file

        return make_model_file(checkpoint, tell=tell).content


def _report(out: Path, engine: OnnxEngine | ModelFile, json_path: Path | None) -> None:
    from gpcnn_export.commands.export.result import of_engine

    write_json(json_path, of_engine(out, engine))
    size, metadata = len(engine.content), engine.metadata
    parity = metadata.parity
    assert parity is not None
    say(json_path, f"Wrote {out}: {metadata.role_words}, {metadata.parameters:,} parameters, {size / 1e6:.1f} MB.")
    ties = f" ({parity.near_ties} differ by a proven near-tie)" if parity.near_ties else ""
    say(
        json_path,
        f"Checked against eager PyTorch: {parity.identical} of {counted(parity.images, 'image')} identical{ties}, "
        f"log-probabilities within {parity.log_prob_error:.1e} nats.",
    )
    if (shown := metadata.picture_parity) is not None:
        say(
            json_path,
            f"Pictures of the same codes: {1 - shown.differing_share:.3%} of all pixels identical, the others within "
            f"{shown.pixel_error} of 255.",
        )
    if engine.encoder is not None:
        _report_encoder(out, engine.encoder, json_path)
    if metadata.decoder_digest is not None:
        say(json_path, f"Wrote {decoder_path(out)}: decoder, which makes pictures of the codes.")
    say(json_path, f"Next: gpcnn-sample --engine {out}{_condition(metadata)}")


def _report_encoder(out: Path, encoder: OnnxEngine | bytes, json_path: Path | None) -> None:
    from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata

    path = encoder_path(out)
    content = encoder if isinstance(encoder, bytes) else encoder.content
    metadata = onnx_metadata(path, content)
    if (codes := metadata.codes_parity) is not None:
        ties = f"{codes.near_ties} of them near-ties" if codes.near_ties else "all of them equal"
        proof = f"{codes.codes:,} codes of {counted(codes.images, 'picture')} are eager PyTorch's, {ties}"
    else:
        parity = metadata.encoder_parity
        assert parity is not None
        proof = (
            f"embeddings of {counted(parity.images, 'image')} within {parity.embedding_error:.1e} of eager PyTorch's"
        )
    size = f"{metadata.parameters:,} parameters, {len(content) / 1e6:.1f} MB"
    say(json_path, f"Wrote {path}: encoder, {size}; {proof}.")


def _condition(metadata: EngineMetadata) -> str:
    """What gpcnn-sample needs to draw."""
    if metadata.spec.conditioning == "label":
        return " --label 0"
    if metadata.spec.conditioning == "embedding":
        return " --like PICTURE" if metadata.encoder_digest is not None else " --embedding FILE.npy"
    if metadata.spec.conditioning == "map":
        if metadata.spec.map_kind == "picture":
            return " --upscale SMALL.png"
        return " --map MAP.png" if metadata.spec.conditioning_size in (1, 3) else " --map MAP.npy"
    return ""


def _plan(
    network: Path,
    portable: Path | None,
    native: bytes | None,
    out: Path,
    flavor: Literal["auto", "tensorrt", "tensorrt-rtx"],
    precision: Literal["fp32", "fp16"],
    max_batch: int,
    opt_batch: int | None,
    json_path: Path | None,
) -> None:
    from gpcnn_export.commands.export.result import of_plan
    from gpcnn_export.onnx_to_plan import build_plan

    with _Telling() as tell:

        def progress(phase: str, done: int, steps: int) -> bool:
            tell(f"TensorRT: {phase} {done}/{steps}")
            return True

        report = build_plan(
            network,
            out,
            portable=portable,
            native=native,
            flavor=flavor,
            precision=precision,
            max_batch=max_batch,
            opt_batch=opt_batch,
            progress=progress,
        )
    write_json(json_path, of_plan(report))
    say(json_path, f"Wrote {report}.")
    if report.encoder is not None:
        say(json_path, f"Wrote {report.encoder}: encoder, which ONNX Runtime runs.")
    if report.decoder is not None:
        say(json_path, f"Wrote {report.decoder}: decoder, fp32, which makes pictures of the codes.")
    say(json_path, f"Next: gpcnn-sample --engine {out}{_condition(report.metadata.engine)}")


class _Telling:
    """One live line on a terminal's stderr; nothing where stderr is not a terminal, except the measured windows."""

    def __enter__(self) -> _Telling:
        from gpcnn_deploy.commands.console import status

        self._status = status("starting")
        self._console = self._status.console
        self._status.start()
        return self

    def __call__(self, line: str) -> None:
        if line.startswith("window"):
            self._console.print(line, highlight=False, soft_wrap=True)
        self._status.update(line)

    def done(self) -> None:
        """Remove the line."""
        self._status.stop()

    def __exit__(self, *exception: object) -> None:
        self._status.stop()


if __name__ == "__main__":
    main()
