"""The runtime stands on its few dependencies alone, and starts quickly and small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from small_engines import Make

from gpcnn_deploy.spec import ModelSpec

MNIST = ModelSpec(height=28, width=28, conditioning="label", conditioning_size=3)
SHALLOW = msgspec.structs.replace(MNIST, layers=2, features=4)
FORBIDDEN = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "gpcnn_training", "gpcnn_export", "lightning")

# Runs the command as its entry point does, in a process where importing anything of the above fails; then tells.
PROGRAM = f"""
import json, resource, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r}:
            raise SystemExit(f"imported {{name}}")

sys.meta_path.insert(0, Refuse())
from gpcnn_runtime.commands.sample.cli import main
main(standalone_mode=False)
usage = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss: Linux lets that begin at the size of the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
told = {{"modules": sorted(sys.modules), "cpu_s": usage.ru_utime + usage.ru_stime, "rss_mb": peak / 1024}}
print(json.dumps(told), file=sys.stderr)
"""


BASE_PROGRAM = PROGRAM.replace(repr(FORBIDDEN), repr((*FORBIDDEN, "onnxruntime")))


def run(folder: Path, *arguments: str | Path, program: str = PROGRAM) -> tuple[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stderr)


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.parametrize("window", [28, None])
@pytest.mark.parametrize("output_format", ["grid", "png", "npz"])
def test_samples_without_torch_onnx_or_training_code(
    tmp_path: Path, make: Make, window: int | None, output_format: str
) -> None:
    engine = make(SHALLOW, window)
    told, process = run(tmp_path, "--engine", engine, "--label", "0", "-o", "out", "--output-format", output_format)
    assert told.startswith("out: 1 image of 28×28")
    assert (tmp_path / "out").exists()
    modules = process["modules"]
    assert isinstance(modules, list)
    assert not {name.partition(".")[0] for name in modules} & {*FORBIDDEN, "rich", "tensorrt", "tensorrt_rtx", "cuda"}


def test_the_zoo_is_drawn_without_onnxruntime(tmp_path: Path) -> None:
    """What `gpcnn-sample --label 3` draws in an empty folder needs the base of the package alone."""
    told, process = run(tmp_path, "--label", "3", "--count", "2", program=BASE_PROGRAM)
    assert told.startswith("sample.png: 2 images of 28×28")
    modules = process["modules"]
    assert isinstance(modules, list)
    assert not {name.partition(".")[0] for name in modules} & {"rich", "onnxruntime"}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    told, process = run(tmp_path, "--help")
    assert told.startswith("Usage: ")
    modules = process["modules"]
    assert isinstance(modules, list)
    assert not set(modules) & {"numpy", "onnxruntime", "msgspec", "rich", "PIL"}
    assert float(str(process["cpu_s"])) < 0.3


def test_cold_start_is_quick_and_small(tmp_path: Path, make: Make) -> None:
    """From process start to written PNG: at most 0.5 s of one core and 120 MB (28×28, 12 layers of 32 features)."""
    engine = make(MNIST, 28)
    runs = [run(tmp_path, "--engine", engine, "--label", "0")[1] for _ in range(3)]
    assert (tmp_path / "sample.png").stat().st_size > 0
    assert min(float(str(process["cpu_s"])) for process in runs) <= 0.5
    assert max(float(str(process["rss_mb"])) for process in runs) <= 120
