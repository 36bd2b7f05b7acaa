"""`make gpu-test`: claims nothing without a GPU; on the double it finds what is right, and what is wrong."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_plans import EMBEDDING, LABEL, tensors_of
from tensorrt_double import MAGIC, install

from benchmarks import gpu_report
from gpcnn_deploy.metadata import METADATA_KEY, decode_metadata
from gpcnn_runtime.engines.plan_file import PlanMetadata, encode_plan_metadata, metadata_path


def fake_build(onnx_path: Path, out: Path, *, flavor: Any, precision: Any, max_batch: int) -> None:
    """In the place of `build_plan`: a plan for the double."""
    content = onnx_path.read_bytes()
    model = onnx.load_model_from_string(content)
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(MAGIC + content)
    metadata = PlanMetadata(
        engine=decode_metadata(next(e.value for e in model.metadata_props if e.key == METADATA_KEY), "x"),
        digest=hashlib.sha256(MAGIC + content).hexdigest(),
        flavor=flavor,
        tensorrt_version="99.1",
        platform=f"{sys.platform}-{platform.machine()}",
        compute_capabilities=("8.6",),
        max_batch=max_batch,
        opt_batch=1,
        tensors=tensors_of(model, 64),
    )
    metadata_path(out).write_bytes(encode_plan_metadata(metadata))


@pytest.fixture
def report_on_the_double(monkeypatch: pytest.MonkeyPatch) -> Any:
    machine = install(monkeypatch, "tensorrt")
    monkeypatch.setattr(gpu_report, "is_installed", lambda flavor: flavor == "tensorrt")
    monkeypatch.setattr("gpcnn_export.onnx_to_plan.build_plan", fake_build)
    monkeypatch.setattr(gpu_report, "SPECS", {"label": LABEL, "embedding": EMBEDDING})
    monkeypatch.setattr(gpu_report, "BATCHES", (1, 3))
    monkeypatch.setattr(gpu_report, "RUNS", 1)
    return machine


@pytest.mark.usefixtures("report_on_the_double")
def test_a_report(tmp_path: Path) -> None:
    assert gpu_report.main(["-o", str(tmp_path / "report.md")]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "# gpcnn-deploy on Double 3000 (compute capability 8.6)" in text
    assert text.count("| 24/24 |") >= 12
    assert "| tensorrt | step | fp32 | 3 |" in text
    assert "| CUDA graph |" in text
    assert "Eager CUDA was not timed" in text
    assert text.endswith("All checks passed.\n")


def test_a_wrong_engine_is_found(report_on_the_double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report, "SPECS", {"label": LABEL})
    monkeypatch.setattr(gpu_report, "check_plan", wrong_model(gpu_report.check_plan))
    assert gpu_report.main(["-o", str(tmp_path / "report.md")]) == 1
    text = (tmp_path / "report.md").read_text()
    assert text.count("**NO**") == 3  # the fp32 plans; what fp16 draws is close to what it should
    assert "Error" not in text
    report_on_the_double.fail = {"execute_async_v3": report_on_the_double.calls["execute_async_v3"] + 1}
    assert gpu_report.main(["-o", str(tmp_path / "report.md")]) == 1
    assert "TensorRTError: " in (tmp_path / "report.md").read_text()


def wrong_model(check: Any) -> Any:
    def with_other_weights(report: Any, case: Any, engine: Any, content: bytes, model: Any) -> None:
        for parameter in model.parameters():
            parameter.data += 0.01
        check(report, case, engine, content, model)

    return with_other_weights


def test_nothing_is_claimed_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "tensorrt").devices = 0
    assert gpu_report.main(["-o", str(tmp_path / "report.md")]) == 0
    assert capsys.readouterr().out.startswith("No GPU here, so nothing was run and nothing is claimed: ")
    assert not (tmp_path / "report.md").exists()
