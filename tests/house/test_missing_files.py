"""A file that is not there is named as such also where PyTorch is not installed, and before that is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_engines import LABELLED, model_of, names_of, write_checkpoint

from gpcnn_export.checkpoint_to_native import draft_model_file

CASES = {
    "gpcnn_training.commands.evaluate.cli": {
        "none.safetensors": (1, "none.safetensors: no such file"),
        "": (1, "no checkpoint in runs: train one"),
        "run --data none.npz": (2, "--data none.npz: no such file or folder"),
        "model.gpcnn": (1, "model.gpcnn: "),
        "run": (1, "needs the package 'torch'"),
    },
    "gpcnn_training.commands.train.cli": {
        "--data none.npz": (2, "--data none.npz: no such file or folder"),
        "--resume none": (1, "none: no such run"),
        "--epochs 0 --resume none": (1, "none: no such run"),
        "--init none": (1, "none: no such file"),
        "--recipe none": (2, "--recipe none: no such recipe or file"),
        "--data digits": (1, "needs the package 'torch'"),
        "--data DIGITS": (1, "needs the package 'torch'"),
    },
    "gpcnn_export.commands.export.cli": {
        "none": (1, "none: no such file"),
        "none --format onnx": (1, "none: no such file"),
        "none --format trt": (1, "none: no such file"),
        "none --format web": (1, "none: no such file"),
        "none --format c": (1, "none: no such file"),
        "none --format triton": (1, "none: no such file"),
        "none.gpcnn --format onnx": (1, "none.gpcnn: no such file"),
        "none.onnx --format trt": (1, "none.onnx: no such file"),
        "zoo:none --format onnx": (2, "zoo:none: no such model in the zoo"),
        "": (1, "no checkpoint in runs: train one"),
        "run": (1, "needs the package 'torch'"),
        "model.gpcnn --format onnx": (1, "needs the package 'torch'"),
    },
    "gpcnn_export.commands.verify.cli": {
        "none.gpcnn --checkpoint run": (1, "none.gpcnn: no such file"),
        "model.gpcnn --checkpoint none": (1, "none: no such file"),
        "model.gpcnn --checkpoint run --data none": (2, "--data none: no such file or folder"),
    },
}

WITHOUT_PYTORCH = """
import importlib, json, sys
from click.testing import CliRunner

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript", "lightning_fabric", "tensorboard"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing())
told = {}
for module, lines in json.loads(sys.argv[1]).items():
    for line in lines:
        result = CliRunner().invoke(importlib.import_module(module).main, line.split())
        told[f"{module} {line}"] = result.exit_code, result.stderr
print(json.dumps(told))
"""


def test_it_is_found_out_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("run/checkpoint.safetensors"), model_of(LABELLED))
    Path("model.gpcnn").write_bytes(draft_model_file(model_of(LABELLED), names_of(LABELLED)).content)
    before = set(Path().rglob("*"))
    asked = {module: list(lines) for module, lines in CASES.items()}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTORCH, json.dumps(asked)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    for module, lines in CASES.items():
        for line, (code, message) in lines.items():
            found, stderr = told[f"{module} {line}"]
            assert found == code, (line, stderr)
            assert stderr.startswith(f"Error: {message}") or "torch" in message in stderr, (line, stderr)
            assert len(stderr.splitlines()) == 1, stderr
    assert set(Path().rglob("*")) == before
