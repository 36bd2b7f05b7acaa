"""gpcnn-bench: its figures agree with each other, and its check against eager PyTorch catches a wrong engine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from small_engines import EMBEDDED, LABELLED, NAMES, Make, model_of, write_checkpoint

from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_runtime.commands.bench.cli import main
from gpcnn_runtime.commands.bench.report import BenchRow, names, run_worker
from gpcnn_runtime.commands.bench.worker import BenchJob
from gpcnn_runtime.commands.bench.yardstick import yardstick
from gpcnn_runtime.engines.onnxruntime.gemm import gemm_rate, matmul_model

ISSUE_KEYS = {
    *("engine", "role", "strategy", "window", "batch", "threads", "ms_per_image_p50", "ms_per_image_p90"),
    *("ms_per_image_p99", "images_per_s", "speedup_vs_eager", "floor_ratio", "evaluations_per_image"),
    *("peak_rss_mb", "load_ms"),
}
QUICK = ("--min-time", "0.05", "--repeat", "3")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoint.safetensors", model_of(LABELLED))


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), *QUICK], terminal_width=200)


def rows(path: Path) -> list[dict[str, Any]]:
    written = json.loads(path.read_text())
    assert {"cpu", "cores", "numpy", "onnxruntime", "python"} <= set(written["machine"])
    assert written["floor_ms"] == pytest.approx(LABELLED.multiply_adds() / written["gemm_rate"] * 1e3)
    for row in written["rows"]:
        assert set(row) >= ISSUE_KEYS
        msgspec.convert(row, BenchRow)
    return list(written["rows"])


def test_rows_agree_with_each_other(tmp_path: Path, sampler_path: Path) -> None:
    done = bench(sampler_path, "--batch", "1", "--batch", "5", "--threads", "2", "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.output
    one, five = rows(tmp_path / "b.json")
    assert [(row["batch"], row["threads"]) for row in (one, five)] == [(1, 1), (5, 2)]
    floor_ms = json.loads((tmp_path / "b.json").read_text())["floor_ms"]
    for row in (one, five):
        assert (row["role"], row["strategy"], row["window"]) == ("sampler", "graph", 2)
        assert row["ms_per_image_p50"] <= row["ms_per_image_p90"] <= row["ms_per_image_p99"]
        assert row["ms_per_image_p50"] * row["images_per_s"] == pytest.approx(1000)
        assert row["floor_ratio"] == pytest.approx(row["ms_per_image_p50"] * row["threads"] / floor_ms)
        assert row["speedup_vs_eager"] is row["baseline_extrapolated"] is row["identical"] is None
        # 6 rows of 3 windows, each evaluated once at least and, as its first column is always exact, twice at most.
        assert 18 <= row["evaluations_per_image"] <= 36
        assert 10 < row["peak_rss_mb"] < 1000
        assert 0 < row["load_ms"] < 10_000
    assert "× eager" in done.output
    assert "matrix product, in cache, on one thread of" in done.output


def test_the_window_of_each_row_is_the_one_that_drew(tmp_path: Path, make: Make) -> None:
    engine = make(LABELLED, Schedule(LABELLED.width, 1, 3))
    done = bench(
        engine, *("--batch", "1", "--batch", "5", "--batch", "6", "--threads", "2"), "--json", tmp_path / "b.json"
    )
    assert done.exit_code == 0, done.output
    assert " both " in done.output, "five images are parts of two and three"
    assert [row["window"] for row in rows(tmp_path / "b.json")] == [LABELLED.width, None, 1]
    assert (
        json.loads((tmp_path / "b.json").read_text())["engine_digest"]
        == hashlib.sha256(engine.read_bytes()).hexdigest()
    )


def test_json_has_standard_output_for_itself(sampler_path: Path) -> None:
    done = bench(sampler_path, "--batch", "1", "--json", "-")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["batch"], row["role"]) == (1, "sampler")
    assert "× floor" in done.stderr
    assert "Wrote" not in done.output


def test_baseline_in_full_and_extrapolated(tmp_path: Path, sampler_path: Path, checkpoint: Path) -> None:
    for limit, extrapolated in (("60", False), ("0.001", True)):
        done = bench(
            *(sampler_path, "--batch", "3", "--checkpoint", checkpoint.parent, "--threads", "1"),
            *("--baseline-limit", limit, "--json", tmp_path / "b.json"),
        )
        assert done.exit_code == 0, done.output
        ours, eager = rows(tmp_path / "b.json")
        assert (eager["engine"], eager["role"], eager["strategy"]) == ("eager PyTorch", "eager", "naive")
        assert ours["speedup_vs_eager"] == pytest.approx(eager["ms_per_image_p50"] / ours["ms_per_image_p50"])
        assert eager["speedup_vs_eager"] == pytest.approx(1)
        assert ours["identical"] is True
        assert ours["baseline_extrapolated"] is eager["extrapolated"] is extrapolated
        assert ours["extrapolated"] is False
        assert ("extrapolated" in done.output) == extrapolated
        assert "all 3 images identical" in done.output


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "model.gpcnn"
    path.write_bytes(draft_model_file(model_of(LABELLED), NAMES).content)
    return path


def test_a_model_file_beside_an_engine_and_eager_pytorch(
    tmp_path: Path, model_file: Path, sampler_path: Path, checkpoint: Path
) -> None:
    done = bench(
        *(model_file, "--batch", "3", "--threads", "1", "--beside", sampler_path, "--score"),
        *("--checkpoint", checkpoint, "--json", tmp_path / "b.json"),
    )
    assert done.exit_code == 0, done.output
    native, onnx_row, native_scores, onnx_scores, eager = rows(tmp_path / "b.json")
    assert [(row["role"], row["strategy"], row["work"]) for row in (native, onnx_row)] == [
        ("weights", "native", "draw"),
        ("sampler", "graph", "draw"),
    ]
    assert [row["work"] for row in (native_scores, onnx_scores)] == ["score", "score"]
    assert (native["engine"], native["window"], onnx_row["engine"]) == ("model.gpcnn", None, sampler_path.name)
    for row in (native, onnx_row):
        assert row["identical"] is True
        assert row["speedup_vs_eager"] == pytest.approx(eager["ms_per_image_p50"] / row["ms_per_image_p50"])
        assert row["cold_ms"] > row["load_ms"] > 0
    assert native_scores["speedup_vs_eager"] is onnx_scores["speedup_vs_eager"] is None
    assert native_scores["evaluations_per_image"] == LABELLED.height, "known pixels are their own guess"
    assert native["peak_rss_mb"] < onnx_row["peak_rss_mb"], "the native engine's process loads no ONNX Runtime"
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["runs_on"].startswith("native engine")
    assert report["beside"][sampler_path.name].startswith("ONNX Runtime")
    assert report["gemm_library"] in ("NumPy", "ONNX Runtime")


def test_the_weights_of_a_model_file_are_a_baseline_and_an_onnx_engine(tmp_path: Path, model_file: Path) -> None:
    done = bench(model_file, "--checkpoint", model_file, "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.output
    assert [row["engine"] for row in rows(tmp_path / "b.json")] == ["model.gpcnn", "model.onnx", "eager PyTorch"]
    done = bench(model_file, "--checkpoint", model_file, "--alone", "--json", tmp_path / "b.json")
    assert [row["engine"] for row in rows(tmp_path / "b.json")] == ["model.gpcnn", "eager PyTorch"]


def test_other_images_beside_a_model_file_are_an_error(tmp_path: Path, model_file: Path, make: Make) -> None:
    done = bench(model_file, "--batch", "4", "--beside", make(LABELLED, 2, seed=1))
    assert done.exit_code == 1
    assert "are not those of model.gpcnn" in done.stderr
    assert "--checkpoint" in done.stderr
    done = bench(model_file, "--beside", make(EMBEDDED, 2))
    assert done.exit_code == 2
    assert "is an engine of another model than model.gpcnn" in done.stderr


def test_engines_of_one_name_are_told_apart() -> None:
    assert names(["a/model.onnx", "b/model.onnx", "c/model.gpcnn"]) == {
        "a/model.onnx": "a/model.onnx",
        "b/model.onnx": "b/model.onnx",
        "c/model.gpcnn": "model.gpcnn",
    }


def test_the_yardstick_is_the_fastest_library_that_is_there(tmp_path: Path) -> None:
    both = yardstick()
    assert set(both.rates) == {"NumPy", "ONNX Runtime"}
    assert both.gemm_rate == max(both.rates.values()) == both.rates[both.library]
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('none here', name='onnxruntime')")
    done = subprocess.run(
        [sys.executable, "-m", "gpcnn_runtime.commands.bench.yardstick"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    alone = json.loads(done.stdout)
    assert (alone["library"], list(alone["rates"])) == ("NumPy", ["NumPy"])
    assert alone["gemm_rate"] > 1e8


def test_an_engine_of_other_weights_is_caught(tmp_path: Path, make: Make, checkpoint: Path) -> None:
    """Though only the first pixels are timed, the proof covers the whole image."""
    out = tmp_path / "b.json"
    done = bench(
        *(make(LABELLED, 2, seed=1), "--batch", "2", "--checkpoint", checkpoint),
        *("--baseline-limit", "0.001", "--json", out),
    )
    assert done.exit_code == 1
    assert "the images are not those of eager PyTorch" in done.stderr
    assert "engine drew" in done.stderr
    assert not out.exists()


def test_a_checkpoint_of_another_model_is_refused(make: Make, checkpoint: Path) -> None:
    done = bench(make(EMBEDDED, 2), "--checkpoint", checkpoint)
    assert done.exit_code == 1
    assert "condition: label" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_torch_the_message_names_the_extra(tmp_path: Path, sampler_path: Path, checkpoint: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('none here', name='torch')")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gpcnn_runtime.commands.bench.cli",
            str(sampler_path),
            "--checkpoint",
            str(checkpoint),
            *QUICK,
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: the eager PyTorch baseline (--checkpoint) needs")
    assert "pip install 'gpcnn-deploy[train]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{engine}", "--batch", "0"], 2, "--batch"),
        (["{engine}", "--label", "cat"], 2, "unknown label 'cat'"),
        (["{engine}", "--strategy", "raster"], 2, "strategy raster needs a step engine"),
        (["none.onnx"], 1, "no such file"),
        (["{engine}", "--checkpoint", "none.safetensors"], 1, "no such file: train one with gpcnn-train"),
        (["{engine}", "--json", "{folder}"], 1, "it is a folder; name a file with --json"),
        ([], 2, "Missing argument 'ENGINE'"),
    ],
)
def test_mistakes(tmp_path: Path, sampler_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = bench(*(text.format(engine=sampler_path, folder=tmp_path) for text in arguments))
    assert (done.exit_code, message in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output


def test_strategies_of_a_step_draw_the_same(tmp_path: Path, step_path: Path, sampler_path: Path) -> None:
    images, evaluations = [], []
    for path, strategy in ((step_path, "jacobi"), (step_path, "raster"), (sampler_path, "jacobi")):
        job = BenchJob(engine=str(path), batch=3, threads=1, label="3", strategy=strategy, repeat=1, min_time=0)
        measured = run_worker(job, tmp_path / "images.npz")
        evaluations.append(measured.evaluations_per_image)
        with np.load(tmp_path / "images.npz") as arrays:
            images.append(arrays["image"])
            assert arrays["condition"].tolist() == [1, 1, 1]
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])
    assert evaluations[0] < evaluations[1] == LABELLED.subpixels + 1


def test_embeddings_are_drawn(tmp_path: Path, make: Make) -> None:
    run_worker(BenchJob(engine=str(make(EMBEDDED, 4)), batch=2, repeat=1, min_time=0), tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as arrays:
        assert arrays["condition"].shape == (2, 5)
        assert arrays["image"].shape == (2, *EMBEDDED.image_shape)


def test_the_yardstick_is_a_matrix_product(tmp_path: Path) -> None:
    import onnxruntime

    onnx.checker.check_model(onnx.load_from_string(matmul_model(200)), full_check=True)
    x = np.random.default_rng(0).random((200, 200), np.float32)
    (y,) = onnxruntime.InferenceSession(matmul_model(200), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, x @ np.full((200, 200), 0.25, np.float32), rtol=1e-5)
    assert 1e8 < gemm_rate(0.02) < 1e13


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; from gpcnn_runtime.commands.bench.cli import main; main(['--help'], standalone_mode=False); "
    program += "print(sorted({'numpy', 'onnxruntime', 'msgspec', 'rich', 'torch'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_peak_memory_is_of_the_measured_process_alone(tmp_path: Path, make: Make) -> None:
    """Whatever this process holds (PyTorch, at least), the worker's figure is that of a process that samples."""
    spec = ModelSpec(height=28, width=28, conditioning="label", conditioning_size=3)
    measured = run_worker(BenchJob(engine=str(make(spec, 28)), batch=1, repeat=1, min_time=0), tmp_path / "images.npz")
    assert measured.peak_rss_mb < 130
