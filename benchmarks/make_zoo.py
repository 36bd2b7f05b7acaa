"""Put a trained model into the zoo: export it, and write its card.

    gpcnn-evaluate CHECKPOINT --samples 1000 --json evaluation.json
    python -m benchmarks.make_zoo CHECKPOINT NAME --recipe NAME --evaluation evaluation.json
    gpcnn-bench zoo:NAME --batch 1 --batch 64 --json bench.json
    python -m benchmarks.make_zoo CHECKPOINT NAME --recipe NAME --evaluation evaluation.json --bench bench.json

The second run adds the speed to the card and exports nothing: what was measured is what is shipped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.errors import DataError, GpcnnError, UsageError
from gpcnn_deploy.metadata import encoder_path
from gpcnn_deploy.system.files import write_atomic
from gpcnn_export.checkpoint_to_native import ModelFile, make_model_file, write_model_file
from gpcnn_runtime.commands.bench.report import BenchReport
from gpcnn_runtime.engines.onnxruntime.session import onnx_metadata
from gpcnn_runtime.inspection import engine_metadata
from gpcnn_runtime.zoo import catalogue as zoo
from gpcnn_runtime.zoo.card import Card, CardData, Consistency, Figure, Likelihood, Reconstruction, Speed, Trained
from gpcnn_training.checkpoint import checkpoint_digest
from gpcnn_training.commands.evaluate.run import Evaluation, Spread
from gpcnn_training.commands.train.recipe import read_recipe
from gpcnn_training.runs import checkpoint_path

Layout = TypeVar("Layout", bound=msgspec.Struct)

DATA = {
    "mnist": CardData(
        name="mnist",
        source="http://yann.lecun.com/exdb/mnist/ (Yann LeCun, Corinna Cortes, Christopher J.C. Burges)",
        licence="CC BY-SA 3.0",
    ),
    "fashion-mnist": CardData(
        name="fashion-mnist", source="https://github.com/zalandoresearch/fashion-mnist (Zalando SE)", licence="MIT"
    ),
    "digits": CardData(
        name="digits", source="https://archive.ics.uci.edu/dataset/80 (E. Alpaydin, C. Kaynak)", licence="CC BY 4.0"
    ),
    "emoji": CardData(
        name="emoji",
        source="https://github.com/googlefonts/noto-emoji (Google), as in emoji-datasource-google 16.0.0",
        licence="Apache-2.0",
    ),
    "cifar10": CardData(
        name="cifar10",
        source="https://www.cs.toronto.edu/~kriz/cifar.html (Alex Krizhevsky, Vinod Nair, Geoffrey Hinton)",
        licence="none stated by its authors",
    ),
}


@click.command(cls=Command)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--recipe", required=True, help="Name of the recipe that trains it.")
@click.option(
    "--evaluation", "evaluation_path", type=click.Path(path_type=Path), required=True, help="Of gpcnn-evaluate --json."
)
@click.option("--bench", "bench_path", type=click.Path(path_type=Path), help="Of gpcnn-bench zoo:NAME --json.")
@click.option("--about", help="What it is, in a sentence.  [default: the recipe's]")
def main(
    checkpoint: Path,
    name: str,
    recipe: str,
    evaluation_path: Path,
    bench_path: Path | None,
    about: str | None,
) -> None:
    """Export CHECKPOINT (a file or a run folder) as zoo:NAME, with its card."""
    if name != Path(name).name or not name.replace("-", "").isalnum():
        raise UsageError(f"{name}: expected a name of letters, digits and hyphens")
    evaluation = _read(evaluation_path, Evaluation, "gpcnn-evaluate CHECKPOINT --json FILE")
    bench = None if bench_path is None else _read(bench_path, BenchReport, f"gpcnn-bench zoo:{name} --json FILE")
    digest = checkpoint_digest(checkpoint_path(checkpoint))
    if evaluation.checkpoint_digest != digest:
        raise DataError(f"{evaluation_path} is of another checkpoint ({evaluation.checkpoint}): evaluate {checkpoint}")
    if evaluation.data not in DATA:
        raise DataError(f"{evaluation_path}: data '{evaluation.data}' has no licence here: add it to DATA")
    about = about or read_recipe(recipe).about
    engine_path = zoo.FOLDER / zoo.file_names(name)[0]
    if bench is None:
        engine = make_model_file(checkpoint, tell=_tell)
        write_model_file(engine_path, engine)
    else:
        engine = _there(engine_path, digest, bench)
    card = make_card(name, engine, evaluation, recipe, about, bench)
    write_atomic(zoo.FOLDER / f"{name}.json", msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    for file in card.files if bench is None else ():
        click.echo(f"Wrote {zoo.FOLDER / file}: {(zoo.FOLDER / file).stat().st_size / 1e6:.1f} MB.")
    click.echo(f"Wrote {zoo.FOLDER / name}.json. Next: gpcnn-inspect zoo:{name}")
    if bench is None:
        click.echo(f"It has no speed yet: gpcnn-bench zoo:{name} --batch 1 --batch 64 --json FILE, then --bench FILE.")


def make_card(
    name: str, engine: ModelFile, evaluation: Evaluation, recipe: str, about: str, bench: BenchReport | None
) -> Card:
    """The card of an engine; `bench` is of that very engine."""
    metadata, encoder = engine.metadata, engine.encoder
    assert metadata.parity is not None
    engine_file, encoder_file = zoo.file_names(name)
    files = {engine_file: engine.digest}
    if encoder is not None:
        files[encoder_file] = hashlib.sha256(encoder).hexdigest()
    found, back = evaluation.class_consistency, evaluation.reconstruction
    return Card(
        name=name,
        about=about,
        data=DATA[evaluation.data],
        recipe=recipe,
        trained=Trained(epochs=evaluation.epoch, steps=evaluation.step),
        checkpoint_digest=metadata.checkpoint_digest,
        test_nll=Likelihood(
            nats_per_image=_figure(evaluation.nats_per_image),
            nats_per_pixel=_figure(evaluation.nats_per_pixel),
            bits_per_dim=_figure(evaluation.bits_per_dim),
            draws=len(evaluation.draws),
            test_images=evaluation.test_images,
            protocol=evaluation.protocol,
        ),
        class_consistency=None
        if found is None
        else Consistency(
            samples=found.samples,
            accuracy=found.accuracy,
            test_images=found.test_images,
            classifier_accuracy=found.classifier_accuracy,
        ),
        reconstruction=None
        if back is None
        else Reconstruction(psnr=back.psnr, perplexity=back.perplexity, codes=back.codes),
        parity=metadata.parity,
        encoder_parity=None if encoder is None else onnx_metadata(Path(encoder_file), encoder).encoder_parity,
        speed=() if bench is None else _speed(bench),
        versions=metadata.tools,
        files=files,
    )


def _speed(bench: BenchReport) -> tuple[Speed, ...]:
    rows = [row for row in bench.rows if row.role != "eager"]
    return tuple(
        Speed(
            batch=row.batch,
            threads=row.threads,
            ms_per_image=row.ms_per_image_p50,
            runs_on=bench.runs_on,
            machine=str(bench.machine["cpu"]),
        )
        for row in rows
    )


def _figure(spread: Spread) -> Figure:
    return Figure(mean=spread.mean, std=spread.std)


def _there(path: Path, digest: str, bench: BenchReport) -> ModelFile:
    """The engine that is in the zoo already, and its encoder.

    Raises:
        EngineError: there is none.
        DataError: it is of another checkpoint, or the benchmark is of another engine.
    """
    metadata = engine_metadata(path)
    if metadata.checkpoint_digest != digest:
        raise DataError(f"{path} is of another checkpoint: export this one, without --bench")
    encoder = None if metadata.encoder_digest is None else encoder_path(path).read_bytes()
    engine = ModelFile(path.read_bytes(), metadata, encoder)
    if engine.digest != bench.engine_digest:
        raise DataError(f"the benchmark is of another engine than {path}: measure this one")
    return engine


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _read(path: Path, kind: type[Layout], command: str) -> Layout:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, GpcnnError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {command} makes one") from error


if __name__ == "__main__":
    main()
