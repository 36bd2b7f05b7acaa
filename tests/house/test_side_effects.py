"""No command leaves a file outside its named outputs, its run folder and its cache, nor opens a connection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
STRACE = shutil.which("strace")
SMALL = [
    "--layers",
    "1",
    "--features",
    "4",
    "--max-steps",
    "3",
    "--precision",
    "fp32",
    "--compile",
    "off",
    "--test-images",
    "5",
]
COMMANDS = {
    "gpcnn-train": ["--levels", "4", *SMALL, "--out", "run"],
    "gpcnn-evaluate": ["run", "--test-images", "5", "--json", "evaluation.json"],
    "gpcnn-export": ["run", "-o", "small.onnx"],
    "gpcnn-sample": ["--engine", "small.onnx", "--label", "3", "--json", "sample.json"],
    "gpcnn-score": ["sample.png", "--engine", "small.onnx", "--resize", "--csv", "scores.csv"],
    "gpcnn-verify": ["small.onnx", "--checkpoint", "run", "--images", "1", "--test-images", "2"],
    "gpcnn-bench": ["small.onnx", "--min-time", "0", "--repeat", "1", "--json", "bench.json"],
    "gpcnn-inspect": ["small.onnx"],
    "gpcnn-doctor": [],
}
NAMED = {"run", "evaluation.json", "small.onnx", "sample.png", "sample.json", "scores.csv", "bench.json"}
INTERNET = re.compile(r"connect\(.*sa_family=AF_INET6?")


@pytest.mark.slow
@pytest.mark.parametrize("traced", [False, True])
def test_all_commands_in_a_row(tmp_path: Path, traced: bool) -> None:
    if traced and STRACE is None:
        pytest.skip("strace, which sees the connections of C libraries too, is not installed")
    work, home, temporary = tmp_path / "work", tmp_path / "home", tmp_path / "tmp"
    for folder in (work, home, temporary):
        folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    for name, arguments in COMMANDS.items():
        log = tmp_path / f"{name}.trace"
        trace = [str(STRACE), "-f", "-qq", "-e", "trace=connect", "-o", str(log)] if traced else []
        done = subprocess.run(
            [*trace, str(BIN / name), *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        left = [path for path in (*home.rglob("*"), *temporary.rglob("*")) if path.is_file()]
        assert left == [], name
        if traced:
            assert INTERNET.findall(log.read_text()) == [], name
    assert {path.name for path in work.iterdir()} == NAMED


def test_the_runtime_lets_onnxruntime_collect_nothing(tmp_path: Path) -> None:
    """In this process, in its children, and where the library is used without a command."""
    code = (
        "import subprocess, sys\nimport gpcnn_runtime\n"
        "with gpcnn_runtime.Sampler.load('zoo:mnist-conditional') as sampler:\n    sampler.sample(3)\n"
        'again = \'import os, onnxruntime; assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"\'\n'
        "sys.exit(subprocess.run([sys.executable, '-c', again]).returncode)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []


def test_a_setting_of_the_user_wins() -> None:
    code = "import os, gpcnn_export; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0\n"
