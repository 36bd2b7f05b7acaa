"""The benchmark: all ways draw the same images, a wrong engine stops it, and page and chart show what was measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.chart import draw
from benchmarks.checks import LARGEST_EXPONENT, linear_in_pixels
from benchmarks.measure import NAIVE, NATIVE, RASTER, STEP, Effort, Line, Raw, Way, measure, way_of
from benchmarks.models import GROWTH, MAIN, Model, random_model
from benchmarks.report import Results, markdown
from gpcnn_deploy.baseline import BaselineReport
from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.commands.bench.worker import BenchJob, Measured

SMALL = ModelSpec(height=5, width=4, levels=4, features=6, layers=2, conditioning="label", conditioning_size=3)
EFFORT = Effort(rounds=1, min_time=0.0, limit=600.0, threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(SMALL, tmp_path_factory.mktemp("model"))


@pytest.fixture
def raw(model: Model) -> Raw:
    """Made up, one figure for each way."""
    measured = Measured(
        seconds=(0.1, 0.2, 0.3),
        threads=1,
        evaluations_per_image=20.0,
        peak_rss_mb=70.0,
        load_ms=30.0,
        gemm_rate=1e9,
        role="sampler",
        window=1,
        spec=SMALL,
        checkpoint_digest="",
        engine_digest="",
        runs_on="ONNX Runtime 1, CPU",
    )
    engines = {
        STEP: msgspec.structs.replace(measured, role="step", window=None),
        Way("sampler", 1): measured,
        Way("sampler", 4): msgspec.structs.replace(measured, window=4),
        NATIVE: msgspec.structs.replace(measured, role="weights", window=None),
    }
    naive = BaselineReport(
        seconds=(9.0,),
        extrapolated=True,
        pixels_timed=10,
        pixels=20,
        passes=20,
        threads=2,
        identical=3,
        near_ties=0,
        divergence=None,
        peak_rss_mb=300.0,
        load_ms=1000.0,
        library="PyTorch 2",
        checkpoint_digest="",
    )
    loops = {NAIVE: naive, RASTER: naive}
    return Raw(model, 3, 1, {way: (BenchJob(engine="e", batch=3), found) for way, found in engines.items()}, loops, 0)


def test_rows_of_all_ways(model: Model, tmp_path: Path) -> None:
    ways = [RASTER, STEP, Way("sampler", 1), Way("sampler", 4), NATIVE]
    raw = measure(model, 3, ways, EFFORT, tmp_path, lambda line: None)
    lines = raw.lines("batch", 3, gemm_rate=1e9)
    assert [way_of(line.row) for line in lines] == [NAIVE, RASTER, STEP, Way("sampler", 1), Way("sampler", 4), NATIVE]
    naive = lines[0].row.ms_per_image_p50
    for line in lines:
        row = line.row
        assert row.identical is not False
        assert row.speedup_vs_eager == pytest.approx(naive / row.ms_per_image_p50)
        assert row.floor_ratio == pytest.approx(row.ms_per_image_p50 * row.threads / line.floor_ms)
        assert (row.batch, row.threads, row.extrapolated) == (3, 1, False)
    for full in (lines[0], lines[1], lines[3]):
        assert full.row.evaluations_per_image == SMALL.subpixels


def test_other_images_stop_it(model: Model, tmp_path: Path) -> None:
    other = random_model(SMALL, tmp_path, scale=2.0)
    other.engine(1).write_bytes(model.engine(1).read_bytes())
    with pytest.raises(GpcnnError, match="not those of eager PyTorch"):
        measure(other, 2, [], EFFORT, tmp_path, lambda line: None)


def _results(raw: Raw) -> Results:
    lines = raw.lines("batch", 3, 1e9) + raw.lines("side", 4, 1e9) + raw.lines("side", 8, 1e9)
    return Results(
        command="python -m benchmarks",
        machine={
            "cpu": "a CPU",
            "cores": 2,
            "system": "Linux",
            "python": "3",
            "gpcnn-deploy": "0",
            "onnxruntime": "1",
            "torch": "2",
        },
        threads=2,
        gemm_rate=1e9,
        near_ties=0,
        lines=tuple(lines),
        checks=(linear_in_pixels(lines),),
    )


def test_page_and_chart(raw: Raw, tmp_path: Path) -> None:
    results = msgspec.json.decode(msgspec.json.encode(_results(raw)), type=Results)
    page = markdown(results)
    assert "| our sampler, w = 4 |" in page
    assert "| our native engine |" in page
    assert "a CPU, 2 cores" in page
    assert "| eager PyTorch, full forward per pixel | ≈3,000 | 1 |" in page
    tables = [[line.count("|") for line in part.splitlines()] for part in page.split("\n\n") if part.startswith("|")]
    assert [len(rows) for rows in tables] == [2 + 6, 2 + 2]
    assert all(len(set(rows)) == 1 for rows in tables)
    draw(results, tmp_path / "chart.png")
    pixels = np.asarray(Image.open(tmp_path / "chart.png").convert("L"))
    assert pixels.shape[0] > 500
    assert pixels.std() > 10


def _times(raw: Raw, times: dict[int, float]) -> list[Line]:
    line = next(line for line in raw.lines("side", 0, 1e9) if way_of(line.row) == Way("sampler", 1))
    return [
        msgspec.structs.replace(line, value=side, row=msgspec.structs.replace(line.row, ms_per_image_p50=time))
        for side, time in times.items()
    ]


def test_growth_is_judged_by_its_exponent(raw: Raw) -> None:
    linear = linear_in_pixels(_times(raw, {16: 256.0, 28: 784.0, 64: 4096.0}))
    assert linear.passed
    assert "pixels^1.00" in linear.figures
    naive = linear_in_pixels(_times(raw, {16: 256.0**2, 28: 784.0**2, 64: 4096.0**2}))
    assert not naive.passed
    assert LARGEST_EXPONENT < 1.5


def test_growth_passes_through_the_main_model() -> None:
    assert all(MAIN in members.values() for series, members in GROWTH.items() if series != "RGB")
    assert sorted(GROWTH["side"]) == [16, 28, 32, 64]
