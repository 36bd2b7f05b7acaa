"""`gpcnn-export --format trt --json`: what was built, for machines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from small_engines import Make
from small_plans import UNCONDITIONAL

from gpcnn_export.commands.export.cli import main
from gpcnn_export.commands.export.result import ExportResult
from gpcnn_runtime.engines.plan_file import read_plan_metadata

pytest.importorskip("tensorrt_rtx")


def test_json_says_what_was_built(tmp_path: Path, make: Make) -> None:
    plan = tmp_path / "p.plan"
    arguments = [make(UNCONDITIONAL, 2), "--format", "trt", "-o", plan, "--max-batch", "2", "--json", "-"]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    written = msgspec.json.decode(done.stdout, type=ExportResult)
    assert written.plan == read_plan_metadata(plan)
    assert written.engine == written.plan.engine
    assert (written.output, written.bytes) == (str(plan), plan.stat().st_size)
    assert written.portable == str(tmp_path / "p.onnx")
    assert written.seconds is not None
    assert written.seconds > 0
    assert f"Wrote {plan}: sampler, window" in done.stderr
