"""The C code under sanitizers: the kernel with AddressSanitizer and UndefinedBehaviorSanitizer, the reader fuzzed.

The seeds of the fuzzer are sound files of every kind; what it finds is kept below the folder that GPCNN_FUZZ_DIR names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contract_models import SPECS, recipe_file

from gpcnn_deploy.spec import ModelSpec

NATIVE = Path(__file__).parents[2] / "runtime" / "native"
sys.path.insert(0, str(NATIVE))
import build as native  # noqa: E402

pytestmark = pytest.mark.slow

SANITIZERS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SMALL = [
    ModelSpec(height=2, width=3, features=2, layers=2, head_features=2),
    ModelSpec(height=3, width=3, channels=3, levels=5, features=2, layers=3, head_features=2),
    ModelSpec(height=2, width=2, features=1, layers=1, conditioning="label", conditioning_size=2, head_features=1),
    ModelSpec(height=4, width=2, features=3, layers=2, conditioning="embedding", conditioning_size=3, kernel_size=5),
    ModelSpec(height=1, width=1, features=1, layers=13, head_features=1),
    ModelSpec(height=2, width=2, features=1, layers=1, head_features=1, conditioning="map", conditioning_size=2,
              map_height=1, map_width=2, map_features=2, map_categories=3, map_kind="categories"),
    ModelSpec(height=3, width=9, features=9, layers=2, head_features=1, conditioning="map", conditioning_size=1,
              map_height=3, map_width=9, map_features=2),
    ModelSpec(height=6, width=7, features=9, layers=2, head_features=1, conditioning="map", conditioning_size=1,
              map_height=1, map_width=1, map_features=5),
    ModelSpec(
        height=2, width=2, channels=3, levels=9, features=2, layers=1, head_features=2, head="mixture", mixtures=2
    ),
]  # fmt: skip


def seconds() -> int:
    """How long the fuzzer runs."""
    return int(os.environ.get("GPCNN_FUZZ_SECONDS", "120"))


def test_the_example_under_sanitizers(tmp_path: Path) -> None:
    """Every read and write of the kernel's five compilations that this CPU can run, for every kind of model."""
    compiler = native.find_compiler()
    if compiler is None or compiler.kind == "zig":
        pytest.skip("no GCC or Clang here, which bring the sanitizers")
    flags = ["-fsanitize=address,undefined", *SANITIZERS]
    program = native.build_program(
        [NATIVE / "tests" / "draw_all.c"], tmp_path / "draw_all", native.host(), compiler, flags=flags
    )
    files = []
    for k, spec in enumerate([*SPECS.values(), *SMALL]):
        files.append(tmp_path / f"{k}.gpcnn")
        files[-1].write_bytes(recipe_file(spec))
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == len(files)


def test_the_decoder_of_a_vqvae_under_sanitizers(tmp_path: Path) -> None:
    """Every read and write of the decoder's compilations, for sizes that fill blocks and vectors and that do not."""
    compiler = native.find_compiler()
    if compiler is None or compiler.kind == "zig":
        pytest.skip("no GCC or Clang here, which bring the sanitizers")
    flags = ["-fsanitize=address,undefined", *SANITIZERS]
    source = NATIVE / "tests" / "decode_all.c"
    program = native.build_program([source], tmp_path / "decode_all", native.host(), compiler, flags=flags)
    sizes = {"height": 2, "width": 3, "levels": 7, "features": 2, "layers": 1, "head_features": 2}
    prior = tmp_path / "prior.gpcnn"
    prior.write_bytes(recipe_file(ModelSpec(**sizes, input="categorical", input_size=2)))
    for downsample, channels, code_size, features, blocks in (
        (2, 1, 1, 1, 0),
        (2, 3, 5, 3, 2),
        (4, 3, 16, 16, 1),
        (8, 1, 33, 17, 2),
        (16, 3, 2, 64, 1),
    ):
        numbers = map(str, (downsample, channels, code_size, features, blocks))
        done = subprocess.run([program, prior, *numbers], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "decoded\n", "")


def test_the_reader_under_libfuzzer(tmp_path: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang, which brings libFuzzer, is not installed: apt-get install clang libclang-rt-14-dev")
    flags = ["-fsanitize=fuzzer,address,undefined", *SANITIZERS]
    sources, program = [NATIVE / "tests" / "fuzz_model_file.c"], tmp_path / "fuzz"
    try:
        native.build_program(sources, program, native.host(), native.Compiler((clang,), "clang"), flags=flags)
    except native.BuildError as error:
        if "libclang_rt" in str(error) or "fuzzer" in str(error).split(": ")[-1]:
            pytest.skip("this clang has no libFuzzer: apt-get install libclang-rt-14-dev")
        raise
    corpus = Path(os.environ.get("GPCNN_FUZZ_DIR", tmp_path / "corpus"))
    corpus.mkdir(parents=True, exist_ok=True)
    for k, spec in enumerate(SMALL):
        (corpus / f"seed{k}").write_bytes(recipe_file(spec))
    command = [program, f"-max_total_time={seconds()}", "-max_len=20000", "-timeout=10", "-print_final_stats=1"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={corpus}/", corpus], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    print(runs)
    assert int(runs.split(":")[-1]) > 1000
