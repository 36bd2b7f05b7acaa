"""C source of a model: programs of every compiler and for other machines draw the images of gpcnn-sample."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from small_vqvae import SPEC, SPEC_2, models, prior_of

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.spec import Conditioning, ModelSpec, VqvaeSpec
from gpcnn_export.c_source import compile as compiling
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.export.cli import main as export
from gpcnn_runtime import Sampler
from gpcnn_runtime.commands.sample.cli import main as sample
from gpcnn_runtime.engines.native.packing import pack_decoder

DIGITS = ModelSpec(
    height=8, width=8, levels=17, features=16, layers=4, head_features=16, conditioning="label", conditioning_size=10
)
BINARY = ModelSpec(height=9, width=14, features=12, layers=3, head_features=8, kernel_size=5)
RGB = ModelSpec(height=5, width=6, channels=3, levels=4, features=6, layers=2, head_features=5)
MIXED = ModelSpec(
    height=5, width=6, channels=3, levels=256, features=6, layers=2, head_features=5, head="mixture", mixtures=10
)
ENCODED = ModelSpec(
    height=6, width=5, features=9, layers=2, head_features=4, conditioning="embedding", conditioning_size=3
)
SEED, LABEL = 7, 3

Levels = npt.NDArray[np.uint8]
Model = Callable[[ModelSpec], Path]


@pytest.fixture(scope="module")
def model(model_file: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Spec → a model file with random weights."""

    def make(spec: ModelSpec) -> Path:
        path = tmp_path_factory.mktemp("model") / "model.gpcnn"
        path.write_bytes(model_file(spec))
        return path

    return make


def run_export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def made(model: Path, folder: Path, *options: str) -> Path:
    done = run_export(model, "--format", "c", "-o", folder, *options)
    assert done.exit_code == 0, done.output
    return folder


def sampled(model: Path, spec: ModelSpec) -> Levels:
    """Levels [2, C, H, W] that gpcnn-sample draws."""
    out = model.with_name("sampled.npz")
    label = ["--label", str(LABEL)] if spec.conditioning == "label" else []
    arguments = ["--engine", str(model), "--seed", str(SEED), "--count", "2", "--output-format", "npz", "-o", str(out)]
    done = CliRunner().invoke(sample, arguments + label)
    assert done.exit_code == 0, done.output
    with np.load(out) as arrays:
        levels: Levels = arrays["levels"]
    assert len(np.unique(levels)) > 1
    assert not np.array_equal(levels[0], levels[1])
    return levels


def read_picture(content: bytes, spec: ModelSpec | VqvaeSpec) -> npt.NDArray[np.int64]:
    """8-bit values [C, H, W] of a PGM or PPM file."""
    kind, size, most, data = content.split(b"\n", 3)
    assert (kind, most) == (b"P6" if spec.channels == 3 else b"P5", b"255")
    assert size == f"{spec.width} {spec.height}".encode()
    values = np.frombuffer(data, np.uint8).reshape(spec.height, spec.width, spec.channels)
    return values.transpose(2, 0, 1).astype(np.int64)


def check_program(start: list[str], folder: Path, spec: ModelSpec, expected: Levels) -> None:
    """The program draws both images of gpcnn-sample."""
    values = np.rint(np.arange(spec.levels) * (255 / (spec.levels - 1))).astype(np.int64)
    for position in (0, 1):
        command = [*start, "-", str(SEED), str(LABEL if spec.conditioning == "label" else 0), str(position)]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(read_picture(done.stdout, spec), values[expected[position]])


@pytest.fixture(params=["gcc", "clang", "zig"])
def compiler(request: pytest.FixtureRequest, zig_cache: None) -> list[str]:
    if request.param == "zig":
        return [*zig(), "-fno-sanitize=undefined"]
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return [request.param]


def zig() -> list[str]:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: pip install 'gpcnn-deploy[cross]'")
    return [sys.executable, "-m", "ziglang", "cc"]


@pytest.fixture(scope="session")
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """zig keeps what it compiled from one test to the next, and nothing at home."""
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "zig"))


@pytest.mark.parametrize("options", [(), ("--weights", "file"), ("--static",)], ids=["array", "file", "static"])
@pytest.mark.parametrize("spec", [DIGITS, BINARY, RGB, MIXED], ids=["digits", "binary", "rgb", "mixture"])
def test_the_program_draws_what_gpcnn_sample_draws(
    model: Model, tmp_path: Path, compiler: list[str], spec: ModelSpec, options: tuple[str, ...]
) -> None:
    path = model(spec)
    folder = made(path, tmp_path / "c", *options)
    strict = ["-Wall", "-Wextra", "-Wno-maybe-uninitialized"] if compiler == ["gcc"] else ["-Wall", "-Wextra"]
    sources = sorted(name.name for name in folder.glob("*.c"))
    done = subprocess.run(
        [*compiler, "-O1", *strict, "-Werror", *sources, "-o", "draw"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_program(["./draw"], folder, spec, sampled(path, spec))


@pytest.mark.parametrize("options", [(), ("--weights", "file"), ("--static",)], ids=["array", "file", "static"])
def test_the_program_draws_the_pictures_of_a_vqvae(
    model: Model, tmp_path: Path, compiler: list[str], options: tuple[str, ...]
) -> None:
    """And an export of another model into the folder takes away what is only a VQ-VAE's."""
    path = vqvae_file(tmp_path)
    done = run_export(path, "--format", "c", "-o", tmp_path / "c", *options)
    assert done.exit_code == 0, done.output
    assert "./draw picture.ppm 0 0" in done.stdout
    folder = tmp_path / "c"
    assert "gpcnn_pictures.h" in (folder / "README.md").read_text()
    assert "@" not in (folder / "README.md").read_text() + (folder / "main.c").read_text()
    strict = ["-Wall", "-Wextra", "-Wno-maybe-uninitialized"] if compiler == ["gcc"] else ["-Wall", "-Wextra"]
    sources = sorted(name.name for name in folder.glob("*.c"))
    command = [*compiler, "-O1", *strict, "-Werror", *sources, "-o", "draw"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    with Sampler.load(path) as sampler:
        expected = sampler.sample(["b"], SEED, 2).pictures
    assert expected is not None
    assert not np.array_equal(expected[0], expected[1])
    assert {0, 255} <= set(np.unique(expected).tolist())
    for position in (0, 1):
        drawn = subprocess.run(
            ["./draw", "-", str(SEED), "1", str(position)], cwd=folder, capture_output=True, check=True
        )
        assert np.abs(read_picture(drawn.stdout, SPEC) - expected[position]).max() <= 1
    if options == ("--weights", "file"):
        (folder / "decoder.bin").write_bytes((folder / "decoder.bin").read_bytes()[:-4])
        assert _stderr(folder) == "draw: decoder: an argument is missing or out of range\n"
        (folder / "decoder.bin").unlink()
        assert _stderr(folder) == "draw: decoder.bin: cannot be read: run the program where that file is\n"
    made(model(BINARY), folder)
    assert not {"gpcnn_pictures.h", "decoder.bin", "model.bin", "draw"} & {file.name for file in folder.iterdir()}


GREY_OF_TWO = VqvaeSpec(
    height=24, width=12, channels=1, codes=7, downsample=2, code_size=9, features=4, blocks=0, code_levels=2
)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(
    ("spec", "conditioning", "options"),
    [(SPEC_2, "label", ()), (GREY_OF_TWO, "none", ("--weights", "file"))],
    ids=["array", "file"],
)
def test_the_program_draws_the_pictures_of_a_vqvae_2(
    model: Model,
    tmp_path: Path,
    compiler: str,
    spec: VqvaeSpec,
    conditioning: Conditioning,
    options: tuple[str, ...],
) -> None:
    """And refuses files that are not of one model; a later export takes away what is only a VQ-VAE-2's."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    path, folder = tmp_path / "model.gpcnn", tmp_path / "c"
    expected = _write_vqvae_2(path, spec, conditioning)
    done = run_export(path, "--format", "c", "-o", folder, *options)
    assert done.exit_code == 0, done.output
    assert f"./draw picture.{'ppm 0 0' if spec.channels == 3 else 'pgm'}\n" in done.stdout
    assert "@" not in "".join((folder / name).read_text() for name in ("README.md", "main.c", "model.h"))
    sources = sorted(name.name for name in folder.glob("*.c"))
    strict = ["-Wall", "-Wextra", "-Wno-maybe-uninitialized"] if compiler == "gcc" else ["-Wall", "-Wextra"]
    command = [compiler, "-O1", *strict, "-Werror", *sources, "-o", "draw"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    _check_pictures(["./draw"], folder, spec, conditioning, expected)
    if options:
        whole = (folder / "top.bin").read_bytes()
        (folder / "top.bin").write_bytes(whole[:-4])
        assert _stderr(folder).startswith("draw: top.bin: the file is no model file")
        (folder / "top.bin").write_bytes((folder / "model.bin").read_bytes())
        assert _stderr(folder) == "draw: top.bin: it is not of the same model as model.bin\n"
        (folder / "top.bin").unlink()
        assert _stderr(folder) == "draw: top.bin: cannot be read: run the program where that file is\n"
    made(model(BINARY), folder)
    assert not {"top.bin", "decoder.bin", "gpcnn_pictures.h"} & {file.name for file in folder.iterdir()}


def _write_vqvae_2(path: Path, spec: VqvaeSpec, conditioning: Conditioning) -> Levels:
    """Writes the model file; pictures [2, C, H, W] that gpcnn-sample draws of its last label."""
    prior, pictures = models(spec, prior_of(spec, conditioning))
    path.write_bytes(draft_model_file(prior, pictures=pictures).content)
    with Sampler.load(path) as sampler:
        drawn = sampler.sample([1] if conditioning == "label" else None, SEED, 2)
    assert drawn.pictures is not None
    assert not np.array_equal(drawn.levels[0], drawn.levels[1])
    assert not np.array_equal(drawn.pictures[0], drawn.pictures[1])
    return drawn.pictures


def _check_pictures(
    start: list[str], folder: Path, spec: VqvaeSpec, conditioning: Conditioning, expected: Levels
) -> None:
    label = "1" if conditioning == "label" else "0"
    for position in (0, 1):
        command = [*start, "-", str(SEED), label, str(position)]
        drawn = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        assert np.abs(read_picture(drawn.stdout, spec) - expected[position]).max() <= 1


def test_static_memory_is_not_for_a_vqvae_2(tmp_path: Path) -> None:
    path = tmp_path / "model.gpcnn"
    _write_vqvae_2(path, SPEC_2, "label")
    done = run_export(path, "--format", "c", "--static", "-o", tmp_path / "c")
    assert done.exit_code == 2
    assert "--static" in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "c").exists()


def _stderr(folder: Path) -> str:
    done = subprocess.run(["./draw", "-"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def vqvae_file(folder: Path) -> Path:
    prior, pictures = models()
    path = folder / "model.gpcnn"
    path.write_bytes(draft_model_file(prior, ("a", "b"), pictures=pictures).content)
    return path


def test_static_memory_of_a_vqvae_is_what_the_program_has(tmp_path: Path) -> None:
    path, told = vqvae_file(tmp_path), tmp_path / "told.json"
    folder = made(path, tmp_path / "c", "--static", "--json", str(told))
    header = (folder / "model.h").read_text()
    sizes = {name: int(number) for name, number in re.findall(r"#define (MODEL_\w+) (\d+)", header)}
    buffers = ("MODEL_MEMORY_BYTES", "MODEL_WORKSPACE_BYTES", "MODEL_DECODER_BYTES", "MODEL_PICTURE_BYTES")
    total = sum(sizes[name] for name in buffers) + 8 * sizes["MODEL_SUBPIXELS"]
    result = json.loads(told.read_text())
    assert result["ram"] == total
    assert sizes["MODEL_PICTURE_BYTES"] == 3 * 12 * 8
    text = (folder / "model.c").read_text()
    assert result["read_only"] == 4 * sum(map(int, re.findall(r"uint32_t words\[(\d+)\];", text)))
    refused = run_export(path, "--format", "c", "--static", "--max-ram", str(total - 1), "-o", tmp_path / "too-large")
    assert refused.exit_code == 2
    assert str(total) in refused.output
    assert not (tmp_path / "too-large").exists()
    assert "@" not in "".join((folder / name).read_text() for name in ("README.md", "main.c", "cortex-m/main.c"))


ATTACH = """
#include <stdio.h>
#include "model.h"
static _Alignas(GPCNN_ALIGNMENT) unsigned char memory[MODEL_MEMORY_BYTES], made[MODEL_DECODER_BYTES];
int main(void) {
  gpcnn_model *model;
  gpcnn_decoder *decoder;
  if (gpcnn_attach(&model_packed, memory, sizeof memory, &model)) return 1;
  gpcnn_packed_pictures p[8];
  for (int i = 0; i < 8; i++) p[i] = model_decoder;
  p[1].bytes -= 64, p[2].block = 16, p[3].weights++, p[4].spec.codes++, p[5].spec.features = 0, p[6].spec.features++;
  p[7].spec.width *= 2;
  for (int i = 0; i < 8; i++) printf("%d", gpcnn_decoder_attach(model, &p[i], made, sizeof made, &decoder));
  printf("%d", gpcnn_decoder_attach(model, p, made + 4, sizeof made, &decoder));
  printf("%d", gpcnn_decoder_attach(model, p, made, sizeof(void *), &decoder));
  printf("%d", gpcnn_decoder_attach(model, 0, made, sizeof made, &decoder));
}
"""


def test_packed_weights_of_another_decoder_are_refused(tmp_path: Path) -> None:
    """Statuses of gpcnn.h: 0 is OK, 2 a spec out of range or of other codes, 3 a bad argument, 4 too little memory."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = made(vqvae_file(tmp_path), tmp_path / "c", "--static")
    (folder / "main.c").write_text(ATTACH)
    sources = ["gpcnn.c", "model.c", "main.c"]
    subprocess.run(["gcc", "-O0", *sources, "-o", "draw"], cwd=folder, check=True)
    found = subprocess.run(["./draw"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert found == "03332232443"


def test_what_are_no_weights_of_a_decoder_are_not_packed() -> None:
    count = pack_decoder(SPEC, np.ones(weight_count(), np.float32), "x")
    assert count.workspace > count.memory > 0
    wrong = np.ones(weight_count(), np.float32)
    wrong[7] = np.nan
    for weights in (wrong, wrong[:-1], np.ones(weight_count() + 1, np.float32)):
        with pytest.raises(EngineError, match=r"x: its weights cannot be packed \(.*\): export it anew"):
            pack_decoder(SPEC, weights, "x")


def weight_count() -> int:
    """Numbers of codebook and decoder of the small VQ-VAE."""
    _, pictures = models()
    return pictures.codebook.numel() + sum(weight.numel() for weight in pictures.decoder.parameters())


def test_the_makefile_makes_a_program_and_cc_alone_does(model: Model, tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("make or cc is not installed")
    path = model(DIGITS)
    folder, expected = made(path, tmp_path / "c"), sampled(path, DIGITS)
    subprocess.run(["make"], cwd=folder, check=True, capture_output=True)
    check_program(["./draw"], folder, DIGITS, expected)
    subprocess.run("cc *.c -o plain", shell=True, cwd=folder, check=True, capture_output=True)
    check_program(["./plain"], folder, DIGITS, expected)


def test_an_embedding_is_read_from_a_file(model: Model, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    pictures = []
    for options in ((), ("--static",)):
        folder = made(model(ENCODED), tmp_path / f"c{len(options)}", *options)
        subprocess.run("cc *.c -o draw", shell=True, cwd=folder, check=True, capture_output=True)
        for numbers in ([0.5, -1, 2], [-2, 3, 1]):
            (folder / "code").write_bytes(np.array(numbers, "<f4").tobytes())
            pictures.append(
                subprocess.run(["./draw", "-", "1", "code"], cwd=folder, capture_output=True, check=True).stdout
            )
        (folder / "code").write_bytes(b"12345")
        refused = subprocess.run(["./draw", "-", "1", "code"], cwd=folder, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "float32" in refused.stderr
    assert pictures[0] == pictures[2]
    assert pictures[1] == pictures[3]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("kind", ["digits", "VQ-VAE"])
def test_the_kernel_of_static_memory_calls_nothing(model: Model, tmp_path: Path, kind: str) -> None:
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        pytest.skip("gcc or nm is not installed")
    folder = made(model(DIGITS) if kind == "digits" else vqvae_file(tmp_path), tmp_path / "c", "--static")
    for source in ("gpcnn.c", "model.c"):
        subprocess.run(["gcc", "-O2", "-c", source, "-o", "one.o"], cwd=folder, check=True)
        listed = subprocess.run(["nm", "-u", "one.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
        assert set(listed.split()) - {"U"} <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_the_memory_told_is_what_the_program_has(model: Model, tmp_path: Path) -> None:
    """The smallest limit that is not refused is the number told; one byte less is refused and writes nothing."""
    path, told = model(DIGITS), tmp_path / "told.json"
    made(path, tmp_path / "c", "--static", "--json", str(told))
    result = json.loads(told.read_text())
    header = (tmp_path / "c" / "model.h").read_text()
    sizes = {name: int(number) for name, number in re.findall(r"#define (MODEL_\w+) (\d+)", header)}
    total = sizes["MODEL_MEMORY_BYTES"] + sizes["MODEL_WORKSPACE_BYTES"] + 8 * sizes["MODEL_SUBPIXELS"]
    assert result["ram"] == total
    made(path, tmp_path / "fits", "--static", "--max-ram", str(total))
    refused = run_export(path, "--format", "c", "--static", "--max-ram", str(total - 1), "-o", tmp_path / "too-large")
    assert refused.exit_code == 2
    assert str(total) in refused.output
    assert refused.output.count("\n") == 1
    assert not (tmp_path / "too-large").exists()


def test_a_folder_of_ours_is_written_anew(model: Model, tmp_path: Path) -> None:
    path, folder = model(DIGITS), tmp_path / "c"
    made(path, folder, "--weights", "file")
    assert (folder / "model.bin").read_bytes() == path.read_bytes()
    made(path, folder, "--static")
    assert not (folder / "model.bin").exists()
    made(path, folder)
    assert not (folder / "cortex-m").exists()
    assert {file.name for file in folder.iterdir()} == {
        *("gpcnn.c", "gpcnn.h", "model.c", "model.h", "main.c", "Makefile", "README.md")
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "c", "--static", "--weights", "file"], "--static"),
        (["--format", "c", "--max-ram", "4K"], "--static"),
        (["--format", "c", "--static", "--max-ram", "4 K"], "256K"),
        (["--format", "c", "--cpu", "x86_64_v3"], "--target"),
        (["--format", "c", "--library"], "--target"),
        (["--format", "onnx", "--library"], "--format c"),
        (["--format", "c", "--window", "4"], "--window"),
        (["--format", "c", "--target", "thumb-freestanding-eabihf"], "--static"),
        (["--format", "c", "--static", "--target", "riscv32-freestanding"], "Cortex-M"),
    ],
)
def test_what_contradicts_itself_is_refused_before_the_work(
    model: Model, tmp_path: Path, options: list[str], words: str
) -> None:
    done = run_export(model(DIGITS), *options, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert words in done.output
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_left_alone(model: Model, tmp_path: Path) -> None:
    mine = tmp_path / "gpcnn.c"
    mine.write_text("int main(void) { return 0; }\n")
    done = run_export(model(DIGITS), "--format", "c", "-o", tmp_path)
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["gpcnn.c"]


def test_without_zig_a_target_is_refused_with_the_package_to_install(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    done = run_export(model(DIGITS), "--format", "c", "--target", "aarch64-linux-musl", "-o", tmp_path / "c")
    assert done.exit_code == 2
    assert "pip install 'gpcnn-deploy[cross]'" in done.output


def test_an_unknown_target_is_refused(model: Model, tmp_path: Path, zig_cache: None) -> None:
    zig()
    done = run_export(model(DIGITS), "--format", "c", "--target", "amiga-linux-musl", "-o", tmp_path / "c")
    assert done.exit_code == 2
    assert "amiga-linux-musl" in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_class_names_are_data_whatever_they_say(tmp_path: Path) -> None:
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_export.c_source.data import model_c

    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    names = ('"; evil(); "', "*/", "??/", "ä\\", "%s", "7" * 3)
    spec = ModelSpec(height=4, width=4, conditioning="label", conditioning_size=len(names))
    metadata = EngineMetadata(
        role="weights", spec=spec, class_names=names, parameters=1, checkpoint_digest="0" * 64, tools={"tool": "1"}
    )
    (tmp_path / "model.h").write_text(
        f"#include <stddef.h>\nextern const char *const model_class_names[{len(names)}];\n"
    )
    (tmp_path / "model.c").write_text(model_c(metadata, b"", None, in_file=True))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "model.h"\n'
        f"int main(void) {{ for (int i = 0; i < {len(names)}; i++) puts(model_class_names[i]); }}\n"
    )
    subprocess.run(["cc", "-trigraphs", "-w", "main.c", "model.c", "-o", "names"], cwd=tmp_path, check=True)
    printed = subprocess.run(["./names"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == list(names)


TARGETS = [
    ("aarch64-linux-musl", "qemu-aarch64-static"),
    ("arm-linux-musleabihf", "qemu-arm-static"),
    ("riscv64-linux-musl", "qemu-riscv64-static"),
    ("x86_64-linux-musl", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--static",)], ids=["array", "static"])
@pytest.mark.parametrize(("target", "qemu"), TARGETS, ids=[target for target, _ in TARGETS])
def test_other_processors_draw_the_same(
    model: Model, tmp_path: Path, zig_cache: None, target: str, qemu: str, options: tuple[str, ...]
) -> None:
    zig()
    if qemu and shutil.which(qemu) is None:
        pytest.skip(f"{qemu} is not installed: apt-get install qemu-user-static")
    path = model(DIGITS)
    folder = made(path, tmp_path / "c", "--target", target, *options)
    check_program([*([qemu] if qemu else []), "./draw"], folder, DIGITS, sampled(path, DIGITS))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "qemu"), TARGETS, ids=[target for target, _ in TARGETS])
def test_other_processors_draw_the_pictures_of_a_vqvae_2(
    tmp_path: Path, zig_cache: None, target: str, qemu: str
) -> None:
    zig()
    if qemu and shutil.which(qemu) is None:
        pytest.skip(f"{qemu} is not installed: apt-get install qemu-user-static")
    path = tmp_path / "model.gpcnn"
    expected = _write_vqvae_2(path, SPEC_2, "label")
    folder = made(path, tmp_path / "c", "--target", target)
    _check_pictures([*([qemu] if qemu else []), "./draw"], folder, SPEC_2, "label", expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "name", "magic"),
    [
        ("x86_64-windows-gnu", "model.dll", b"MZ"),
        ("aarch64-macos.11.0", "libmodel.dylib", b"\xcf\xfa\xed\xfe"),
        ("aarch64-linux-musl", "libmodel.so", b"\x7fELF"),
    ],
)
def test_shared_libraries_for_other_systems(
    model: Model, tmp_path: Path, zig_cache: None, target: str, name: str, magic: bytes
) -> None:
    zig()
    content = (made(model(DIGITS), tmp_path / "c", "--target", target, "--library") / name).read_bytes()
    assert content.startswith(magic)
    assert b"gpcnn_draw" in content


@pytest.fixture
def run_on_board() -> Callable[..., None]:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed: apt-get install qemu-system-arm")

    def run(folder: Path, picture: str, position: int, label: int = LABEL) -> None:
        words = ["draw", picture, str(SEED), str(label), str(position)]
        semihosting = ",".join(["enable=on", "target=native", *(f"arg={word}" for word in words)])
        board = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
        command = [*board, "-semihosting-config", semihosting, "-kernel", "cortex-m/draw.elf"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("made_by", ["zig", "arm-none-eabi-gcc"])
def test_a_bare_cortex_m_draws_the_same(
    model: Model, tmp_path: Path, zig_cache: None, run_on_board: Callable[..., None], made_by: str
) -> None:
    path = model(DIGITS)
    if made_by == "zig":
        zig()
        folder = made(path, tmp_path / "c", "--static", "--target", "thumb-freestanding-eabihf")
    else:
        if shutil.which(made_by) is None:
            pytest.skip(f"{made_by} is not installed: apt-get install gcc-arm-none-eabi")
        folder = made(path, tmp_path / "c", "--static")
        subprocess.run(["make", "cortex-m/draw.elf"], cwd=folder, check=True, capture_output=True)
    expected = sampled(path, DIGITS)
    values = np.rint(np.arange(DIGITS.levels) * (255 / (DIGITS.levels - 1))).astype(np.int64)
    for position in (0, 1):
        run_on_board(folder, "picture.pgm", position)
        picture = read_picture((folder / "picture.pgm").read_bytes(), DIGITS)
        assert np.array_equal(picture, values[expected[position]])


@pytest.mark.slow
def test_a_bare_cortex_m_draws_the_pictures_of_a_vqvae(
    tmp_path: Path, zig_cache: None, run_on_board: Callable[..., None]
) -> None:
    zig()
    path = vqvae_file(tmp_path)
    folder = made(path, tmp_path / "c", "--static", "--target", "thumb-freestanding-eabihf")
    with Sampler.load(path) as sampler:
        expected = sampler.sample(["b"], SEED, 2).pictures
    assert expected is not None
    for position in (0, 1):
        run_on_board(folder, "picture.ppm", position, 1)
        found = read_picture((folder / "picture.ppm").read_bytes(), SPEC)
        assert np.abs(found - expected[position]).max() <= 1
