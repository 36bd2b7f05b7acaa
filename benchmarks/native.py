"""The native engine beside ONNX Runtime, eager PyTorch and the arithmetic floor, in one run of less than 8 minutes.

    python -m benchmarks.native [--checkpoint CHECKPOINT] [--tiny]

writes this processor's part of benchmarks/native.json and benchmarks/NATIVE.md. Every way has its turn in each of
several rounds, and all images are compared. It exits 1 if images differ; aims that are not reached are told, and change
nothing.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from benchmarks.cold import C_EXAMPLE, SAMPLE, cold_starts
from benchmarks.models import MAIN, RGB, Model, random_model, trained_model, zoo_model
from benchmarks.native_report import Aim, Cold, Figure, NativeResults, NativeRuns, native_markdown
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.errors import DataError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import write_atomic
from gpcnn_deploy.system.machine import available_cores, machine_facts
from gpcnn_runtime.commands.bench.report import compare_images, run_baseline, run_worker
from gpcnn_runtime.commands.bench.worker import BenchJob, Measured
from gpcnn_runtime.engines.native.library import LIBRARY, instruction_sets

ROOT = Path(__file__).resolve().parent.parent
GREY = msgspec.structs.replace(MAIN, levels=17)
ZOO, KERNEL_3, COLOUR, LEVELS = "zoo model", "12 × 32, kernel 3", "RGB 32×32, 256 levels", "grey, 17 levels"
FLOORS = {ZOO: (0.9, 0.8), KERNEL_3: (1.2, 1.05)}
"""Case → most times the arithmetic floor, of one image and of many."""
SMALL = {"height": 6, "width": 6, "layers": 2, "features": 8}
"""Of `--tiny`."""


@dataclass(frozen=True)
class Effort:
    """How much time to spend.

    Attributes:
        rounds: turns of each way.
        min_time: seconds of calls in a turn.
        limit: seconds after which eager PyTorch is extrapolated.
        runs: starts of a program.
        many: images of the larger batch.
    """

    rounds: int
    min_time: float
    limit: float
    runs: int
    many: int


@dataclass
class Run:
    """What has been measured so far."""

    effort: Effort
    folder: Path
    tell: Callable[[str], None]
    rate: float = 0.0
    library: str = ""
    near_ties: int = 0
    images: int = 0
    figures: list[Callable[[], Figure]] = field(default_factory=list)

    def add(
        self,
        case: str,
        model: Model,
        batch: int,
        *,
        score: bool = False,
        instructions: str | None = None,
        eager: bool = False,
    ) -> None:
        """Measure one model, batch size and kind of work; the figure is made when the run's peak rate is known.

        Args:
            case: what the model stands for.
            model: what draws.
            batch: images a call: 1 on one thread, more on two.
            score: score known images instead of drawing.
            instructions: of the native engine alone; ONNX Runtime and eager PyTorch are left out.
            eager: time eager PyTorch, too.
        """
        threads = 1 if batch == 1 else min(2, available_cores())
        width = model.spec.width
        windows: tuple[int, ...] = (1, width // 4, width // 2, width)
        if instructions:
            windows = ()
        elif score or batch > 1:  # of many levels, large batches are always fastest one column at a time
            windows = (1, width) if score or model.spec.levels == 2 else (1,)
        jobs = {0: self._job(model.model_file(), batch, threads, score, instructions)}
        jobs.update({w: self._job(model.engine(w, many=batch > 1), batch, threads, score) for w in windows if w})
        found: dict[int, list[Measured]] = {}
        images, others = self.folder / "images.npz", self.folder / "others.npz"
        for turn in range(self.effort.rounds):
            for window, job in jobs.items():
                way = f"ONNX Runtime, w = {window}" if window else f"native engine {instructions or ''}".strip()
                self.tell(f"{model.title}, {model.weights}, batch {batch}{', scores' if score else ''}: {way}")
                found.setdefault(window, []).append(run_worker(job, images if not window else others))
                if window and not turn:
                    self.images += batch
                    differing = compare_images("the model file", images, "the ONNX engine", others)
                    if differing:  # eager PyTorch raises unless a rounding error explains it
                        self.near_ties += differing
                        run_baseline(model.checkpoint, others, threads=1, limit=1e-3, runs=1)
        if not score:
            self.tell(f"{model.title}, {model.weights}, batch {batch}: eager PyTorch")
            limit = self.effort.limit if eager else 1e-3
            baseline = run_baseline(model.checkpoint, images, threads=threads, limit=limit, runs=1)
            self.images += batch
            self.near_ties += baseline.near_ties
            eager_ms = statistics.median(baseline.seconds) / batch * 1e3 if eager else None
        else:
            eager_ms = None
        self._peak(found[0])
        medians = {window: _median(measured, batch) for window, measured in found.items()}
        best = min((w for w in medians if w), key=lambda w: medians[w], default=None)
        multiply_adds = model.spec.multiply_adds()
        self.figures.append(
            lambda: Figure(
                case=case,
                model=model.title,
                weights=model.weights,
                work="score" if score else "draw",
                instructions=instructions or "",
                batch=batch,
                threads=threads,
                native_ms=medians[0],
                onnx_ms=None if best is None else medians[best],
                onnx_window=best,
                floor_ms=multiply_adds / self.rate * 1e3,
                floor_ratio=medians[0] * threads / (multiply_adds / self.rate * 1e3),
                eager_ms=eager_ms,
                load_ms=statistics.median(one.load_ms for one in found[0]),
                peak_rss_mb=max(one.peak_rss_mb for one in found[0]),
            )
        )

    def _peak(self, found: list[Measured]) -> None:
        for one in found:
            if one.gemm_rate is not None and one.gemm_rate > self.rate:
                self.rate, self.library = one.gemm_rate, one.gemm_library or ""

    def _job(self, engine: Path, batch: int, threads: int, score: bool, instructions: str | None = None) -> BenchJob:
        return BenchJob(
            engine=str(engine),
            batch=batch,
            threads=threads,
            repeat=2,
            min_time=self.effort.min_time,
            max_time=max(8.0, self.effort.min_time),
            score=score,
            instructions=instructions,
            yardstick=engine.suffix == ".gpcnn",
        )


def _median(found: list[Measured], batch: int) -> float:
    return statistics.median(second for one in found for second in one.seconds) * 1e3 / batch


@click.command(cls=Command)
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="A trained model of kernel 3.  [default: random weights]"
)
@click.option("--tiny", is_flag=True, help="Tiny models and single calls: whether it runs, not how fast.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=ROOT, help="Root of the files written.  [default: this checkout]"
)
def main(checkpoint: Path | None, tiny: bool, out: Path) -> None:
    """Measure, compare all images, and write the figures."""
    _runs(out / "benchmarks/native.json")  # before the minutes, not after them
    results = run(checkpoint, tiny)
    figures = out / "benchmarks/native.json"
    runs = _runs(figures).with_run(results)
    write_atomic(figures, msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")
    write_atomic(out / "benchmarks/NATIVE.md", native_markdown(runs).encode())
    for aim in results.aims:
        reached = {True: "reached", False: "MISSED", None: "not measured"}[aim.reached]
        click.echo(f"{reached}: {aim.what}: {'–' if aim.found is None else f'{aim.found:.3g}'}")
    click.echo(f"Wrote benchmarks/native.json and benchmarks/NATIVE.md under {out}.")


def _runs(path: Path) -> NativeRuns:
    """Earlier runs.

    Raises:
        DataError: the file is no such file.
    """
    if not path.exists():
        return NativeRuns()
    try:
        return msgspec.json.decode(path.read_bytes(), type=NativeRuns)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}): move it away, and a new one is begun") from error


def run(checkpoint: Path | None, tiny: bool) -> NativeResults:
    """Measure everything.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ParityError: two ways draw different images.
    """
    import torch

    torch.set_num_threads(1)  # this process exports; what it measures runs in others
    begin = time.perf_counter()
    effort = Effort(1, 0.0, 0.01, 1, 4) if tiny else Effort(3, 0.6, 3.0, 21, 64)

    def tell(line: str) -> None:
        click.echo(f"{time.perf_counter() - begin:6.0f} s  {line}", err=True)

    with tempfile.TemporaryDirectory(prefix="gpcnn-native-") as name:
        folder = Path(name)
        measured = Run(effort, folder, tell)
        models = _models(folder, checkpoint, tiny)
        batches = (1, effort.many)
        for case, model in models.items():
            for batch in batches:
                measured.add(case, model, batch, eager=case in FLOORS)
        for case in (ZOO, COLOUR):
            for batch in batches:
                measured.add(case, models[case], batch, score=True)
        for instructions in instruction_sets()[1:]:
            for batch in batches:
                measured.add(ZOO, models[ZOO], batch, instructions=instructions)
        tell("programs from their start")
        cold, skipped = cold_starts(folder, effort.runs)
    figures = tuple(make() for make in measured.figures)
    command = ["python -m benchmarks.native", *([f"--checkpoint {checkpoint.name}"] if checkpoint else [])]
    command += ["--tiny"] if tiny else []
    return NativeResults(
        command=" ".join(command),
        seconds=time.perf_counter() - begin,
        machine=machine_facts(),
        gemm_rate=measured.rate,
        gemm_library=measured.library,
        near_ties=measured.near_ties,
        images=measured.images,
        figures=figures,
        cold=cold,
        aims=tuple(aims(figures, cold, LIBRARY.stat().st_size / _sets_compiled())),
        library_bytes=LIBRARY.stat().st_size,
        instructions=instruction_sets()[0],
        skipped=skipped,
    )


def _models(folder: Path, checkpoint: Path | None, tiny: bool) -> dict[str, Model]:
    """Case → model."""

    def made(name: str) -> Path:
        place = folder / name
        place.mkdir()
        return place

    def sized(spec: ModelSpec) -> ModelSpec:
        return msgspec.structs.replace(spec, **SMALL) if tiny else spec

    zoo = random_model(sized(MAIN), made("zoo")) if tiny else zoo_model("mnist-conditional", made("zoo"))
    kernel_3 = random_model(sized(MAIN), made("3")) if checkpoint is None else trained_model(checkpoint, made("3"))
    rgb, grey = random_model(sized(RGB), made("rgb")), random_model(sized(GREY), made("grey"))
    return {ZOO: zoo, KERNEL_3: kernel_3, COLOUR: rgb, LEVELS: grey}


def aims(figures: Sequence[Figure], cold: Sequence[Cold], set_bytes: float) -> Iterator[Aim]:
    """What the native engine is held to.

    Args:
        figures: of the models.
        cold: the programs.
        set_bytes: of the library, for each instruction set in it.
    """
    for one in figures:
        if one.instructions:
            continue
        many = one.batch > 1
        what = f"{one.case}, batch {one.batch}, {one.threads} thread{'s' if one.threads > 1 else ''}"
        if one.work == "score":
            yield Aim(what=f"{what}: scoring over the ONNX engine", at_least=2, found=one.over_onnx)
            continue
        if one.case in FLOORS:
            yield Aim(what=f"{what}: × floor", at_most=FLOORS[one.case][many], found=one.floor_ratio)
        else:
            yield Aim(what=f"{what}: over the ONNX engine", at_least=2 if many else 3, found=one.over_onnx)
        if one.case == ZOO:
            yield Aim(what=f"{what}: × eager", at_least=4000 if many else 2500, found=one.over_eager)
    for program, ms, megabytes in ((C_EXAMPLE, 10, 5), (SAMPLE, 250, 50)):
        found = next((one for one in cold if one.program == program), None)
        yield Aim(what=f"{program}: ms", at_most=ms, found=None if found is None else found.ms)
        yield Aim(what=f"{program}: MB", at_most=megabytes, found=None if found is None else found.rss_mb)
    what = "library, KB an instruction set, with its variant without fused multiply-add (mean)"
    yield Aim(what=what, at_most=100, found=set_bytes / 1e3)


def _sets_compiled() -> int:
    """Instruction sets that the library of this machine is compiled for."""
    name = "gpcnn_native_build"
    place = importlib.util.spec_from_file_location(name, ROOT / "runtime" / "native" / "build.py")
    assert place is not None
    assert place.loader is not None
    sys.modules[name] = build = importlib.util.module_from_spec(place)  # dataclasses look it up there
    place.loader.exec_module(build)
    return len(build.host().sets)


if __name__ == "__main__":
    main()
