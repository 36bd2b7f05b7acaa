"""The native engine's figures: what is compared, what is aimed at, and what the page shows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.cold import C_EXAMPLE, SAMPLE, cold_starts
from benchmarks.models import random_model, zoo_model
from benchmarks.native import COLOUR, KERNEL_3, LEVELS, SMALL, ZOO, Effort, Run, aims
from benchmarks.native_report import Aim, Cold, Figure, NativeResults, NativeRuns, native_markdown
from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.spec import ModelSpec

SPEC = ModelSpec(**SMALL, levels=4, conditioning="label", conditioning_size=3)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Effort(rounds=1, min_time=0.0, limit=0.01, runs=1, many=3), tmp_path, lambda line: None)


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_figure_is_of_what_was_measured(run: Run, tmp_path: Path) -> None:
    run.add(ZOO, random_model(SPEC, folder(tmp_path, "model")), 3, eager=True)
    (figure,) = (make() for make in run.figures)
    assert (figure.case, figure.work, figure.batch, figure.onnx_window) == (ZOO, "draw", 3, 1)
    assert run.images == 2 * 3, "the ONNX engine's and eager PyTorch's"
    assert figure.floor_ms == pytest.approx(SPEC.multiply_adds() / run.rate * 1e3)
    assert figure.floor_ratio == pytest.approx(figure.native_ms * figure.threads / figure.floor_ms)
    assert figure.over_onnx == pytest.approx(figure.onnx_ms / figure.native_ms)  # type: ignore[operator]
    assert figure.eager_ms is not None


def test_other_images_stop_it(run: Run, tmp_path: Path) -> None:
    model, other = random_model(SPEC, folder(tmp_path, "1")), random_model(SPEC, folder(tmp_path, "2"), scale=2)
    (model.folder / "model.gpcnn").write_bytes(other.model_file().read_bytes())
    with pytest.raises(GpcnnError, match="not those of eager PyTorch"):
        run.add(ZOO, model, 1)


def test_a_model_of_the_zoo_has_the_zoos_weights(tmp_path: Path) -> None:
    model = zoo_model("mnist-conditional", tmp_path)
    assert model.spec.kernel_size == 5
    assert model.checkpoint.is_file()


def figure(case: str, batch: int, work: str = "draw", **change: object) -> Figure:
    plain = Figure(
        case=case,
        model="m",
        weights="w",
        work="draw",
        instructions="",
        batch=batch,
        threads=min(batch, 2),
        native_ms=1.0,
        onnx_ms=4.0,
        onnx_window=7,
        floor_ms=1.25,
        floor_ratio=0.8,
        eager_ms=3000.0,
        load_ms=30.0,
        peak_rss_mb=41.0,
    )
    return msgspec.structs.replace(plain, work=work, **change)


def test_aims_are_all_there_and_judged() -> None:
    drawn = [figure(case, batch) for case in (ZOO, KERNEL_3, COLOUR, LEVELS) for batch in (1, 64)]
    scored = [figure(ZOO, batch, "score", onnx_ms=1.5) for batch in (1, 64)]
    slower = [figure(ZOO, 1, instructions="x86-64-v2", floor_ratio=9.0)]
    cold = [Cold(program=C_EXAMPLE, ms=4, rss_mb=6, runs=3)]
    found = {aim.what: aim for aim in aims([*drawn, *scored, *slower], cold, 50_000)}
    assert found["zoo model, batch 1, 1 thread: × floor"].reached is True
    assert found["zoo model, batch 64, 2 threads: × floor"].at_most == 0.8
    assert found["zoo model, batch 1, 1 thread: × eager"].reached is True
    assert found["zoo model, batch 64, 2 threads: × eager"].reached is False
    assert found["grey, 17 levels, batch 1, 1 thread: over the ONNX engine"].at_least == 3
    assert found["RGB 32×32, 256 levels, batch 64, 2 threads: over the ONNX engine"].at_least == 2
    assert found["zoo model, batch 1, 1 thread: scoring over the ONNX engine"].reached is False
    assert [found[f"{C_EXAMPLE}: {unit}"].reached for unit in ("ms", "MB")] == [True, False]
    assert found[f"{SAMPLE}: ms"].reached is None
    assert len(found) == 4 + 2 + 4 + 2 + 4 + 1


def test_the_page_shows_every_figure_and_aim() -> None:
    results = NativeResults(
        command="python -m benchmarks.native",
        seconds=400,
        machine={"cpu": "a CPU", "cores": 2, "system": "Linux", "python": "3", "gpcnn-deploy": "0", "torch": "2"},
        gemm_rate=5e10,
        gemm_library="NumPy",
        near_ties=1,
        images=130,
        figures=(figure(ZOO, 64), figure(COLOUR, 1, eager_ms=None), figure(ZOO, 1, instructions="v2", onnx_ms=None)),
        cold=(Cold(program=C_EXAMPLE, ms=4, rss_mb=3, runs=20),),
        aims=(Aim(what="fast", at_most=1, found=2), Aim(what="small", at_least=1, found=None)),
        library_bytes=300_000,
        instructions="x86-64-v3",
        skipped=("something",),
    )
    other = msgspec.structs.replace(results, machine={**results.machine, "cpu": "another CPU"}, images=131)
    runs = NativeRuns().with_run(results).with_run(other)
    page = native_markdown(msgspec.json.decode(msgspec.json.encode(runs), type=NativeRuns))
    assert page.index("## another CPU, x86-64-v3") < page.index("## a CPU, x86-64-v3")
    assert "| m (w) | draw | 64 | 2 | 1.00 | 4.00 (7) | 4.00 | 0.8 | ≈3,000 | 41 | 30 |" in page
    assert "| m (w), v2 | draw | 1 | 1 | 1.00 | – | – | 0.8 | ≈3,000 | 41 | 30 |" in page
    assert "| fast | ≤ 1.00 | 2.00 | no |" in page
    assert "| small | ≥ 1.00 | – | – |" in page
    assert "Of 130 comparisons of an image, 129 were identical, and 1 parted at a proven near-tie" in page
    assert "Not measured: something." in page


def test_a_processor_keeps_its_newest_run() -> None:
    def run(cpu: str, images: int) -> NativeResults:
        return NativeResults(
            command="python -m benchmarks.native",
            seconds=1,
            machine={"cpu": cpu},
            gemm_rate=1,
            gemm_library="NumPy",
            near_ties=0,
            images=images,
            figures=(),
            cold=(),
            aims=(),
            library_bytes=1,
        )

    runs = NativeRuns().with_run(run("a", 1)).with_run(run("b", 2)).with_run(run("a", 3))
    assert [(one.machine["cpu"], one.images) for one in runs.runs] == [("a", 3), ("b", 2)]


def test_programs_are_timed_from_their_start(tmp_path: Path) -> None:
    cold, skipped = cold_starts(tmp_path, 1)
    if skipped:
        pytest.skip("no C compiler here: cc, gcc and clang are missing")
    assert [one.program for one in cold] == [C_EXAMPLE, SAMPLE]
    example, command = cold
    assert 1 < example.rss_mb < command.rss_mb < 120, "the launcher's own memory is not counted"
    assert 0 < example.ms < command.ms
    assert (tmp_path / "digit.pgm").read_bytes().startswith(b"P5")
    assert (tmp_path / "digit.png").is_file()
