"""Models with maps leave in every form: proven, verified, as C, for Triton; what a page cannot show is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_engines import ENLARGED, MAPPED, bytes_of, metadata_of, model_of, write_checkpoint

import gpcnn_export.commands.export.cli
import gpcnn_export.commands.verify.cli
from gpcnn_deploy.model_file import read_model_file
from gpcnn_deploy.pictures.levels import pixels_from_levels
from gpcnn_deploy.pictures.maps import some_maps
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.graphs.half import half_precision
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_export.proof.parity import draw_on, feeds
from gpcnn_runtime.engines.onnxruntime.load import onnx_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.serving import BatchSampler, check_images

SPECS = {"map": MAPPED, "up": ENLARGED}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, spec in SPECS.items():
        write_checkpoint(Path(f"{name}.safetensors"), model_of(spec, 1))
    return tmp_path


def run(*arguments: object, verify: bool = False) -> Result:
    command = (gpcnn_export.commands.verify.cli if verify else gpcnn_export.commands.export.cli).main
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", SPECS)
def test_what_is_exported_is_proven_and_verified(folder: Path, name: str) -> None:
    native = run(f"{name}.safetensors", "--format", "native", "-o", f"{name}.gpcnn")
    assert native.exit_code == 0, native.output
    assert "48 of 48 images identical" in native.output
    assert ("--upscale SMALL.png" if name == "up" else "--map MAP.npy") in native.output
    onnx = run(f"{name}.safetensors", "--format", "onnx", "--window", 2, "-o", f"{name}.onnx")
    assert onnx.exit_code == 0, onnx.output
    verified = run(f"{name}.gpcnn", "--checkpoint", f"{name}.safetensors", "--images", 4, verify=True)
    assert verified.exit_code == 0, verified.output
    assert "PROVEN" in verified.output
    other = write_checkpoint(Path("other.safetensors"), model_of(SPECS[name], 2))
    assert run(f"{name}.gpcnn", "--checkpoint", other, "--images", 4, verify=True).exit_code == 1


@pytest.mark.parametrize("static", [False, True])
def test_c_source_reads_a_map_from_a_file(folder: Path, static: bool) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    made = run("map.safetensors", "--format", "c", *(["--static"] if static else []), "-o", "source")
    assert made.exit_code == 0, made.output
    assert "draw picture.pgm 0 MAP.f32" in made.output
    readme = Path("source/README.md").read_text("utf-8")
    assert "a map, 2 × 2 × 2 (planes, rows, columns) numbers of categories" in readme
    sources = ["main.c", "gpcnn.c", "model.c"]
    subprocess.run(
        [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", *sources, "-o", "draw"], cwd="source", check=True
    )
    given = some_maps(MAPPED, 1, np.random.default_rng(3))
    given.astype("<f4").tofile("source/m.f32")
    subprocess.run(["./draw", "p.pgm", "5", "m.f32", "2"], cwd="source", check=True)
    with Sampler.load(write_model(MAPPED)) as sampler:
        expected = pixels_from_levels(sampler.sample(seed=5, first=2, map=given).levels[0, 0], MAPPED.levels)
    assert Path("source/p.pgm").read_bytes() == b"P5\n6 4\n255\n" + expected.tobytes()
    for arguments, message in (
        (["p.pgm", "5"], "needs an embedding or a map"),
        (["p.pgm", "5", "main.c"], "expected as many"),
    ):
        refused = subprocess.run(["./draw", *arguments], cwd="source", capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert message in refused.stderr
    given[:] = MAPPED.map_categories
    given.astype("<f4").tofile("source/m.f32")
    assert subprocess.run(["./draw", "p.pgm", "5", "m.f32"], cwd="source", check=False).returncode == 1


def write_model(spec: object) -> Path:
    path = Path("written.gpcnn")
    path.write_bytes(draft_model_file(model_of(spec, 1)).content)  # type: ignore[arg-type]
    return path


def test_triton_and_a_page_take_maps(folder: Path) -> None:
    for name, kind, lengths in (("map", "TYPE_INT32", "[ 2, 2, 2 ]"), ("up", "TYPE_FP32", "[ 3, 3, 2 ]")):
        made = run(f"{name}.safetensors", "--format", "triton", "-o", "models", "--name", name)
        assert made.exit_code == 0, made.output
        config = Path(f"models/{name}/config.pbtxt").read_text()
        assert f'name: "map" data_type: {kind} dims: {lengths} optional: true' in config
        page = run(f"{name}.safetensors", "--format", "web", "-o", f"{name}-page")
        assert page.exit_code == 0, page.output
        assert read_model_file(Path(f"{name}-page/model.gpcnn"))[0].spec.conditioning == "map"


def test_a_batch_of_several_clients_has_a_map_for_each_image(folder: Path) -> None:
    maps = some_maps(MAPPED, 5, np.random.default_rng(4))
    sampler = Sampler.load(write_model(MAPPED))
    expected = sampler.sample(map=maps, seed=0).levels
    with BatchSampler(sampler) as server:
        requests = [check_images(sampler.metadata, map=maps[:3]), check_images(sampler.metadata, map=maps[3:])]
        first, second = server.draw(requests)
    assert np.array_equal(first.levels, expected[:3])  # type: ignore[union-attr]
    again = Sampler.load(write_model(MAPPED))
    with again:
        assert np.array_equal(second.levels, again.sample(map=maps[3:], seed=0).levels)  # type: ignore[union-attr]


@pytest.mark.parametrize("window", [None, 2])
def test_half_precision_scores_nearly_as_single(window: int | None) -> None:
    model = model_of(ENLARGED, 1, 1.0)
    graph = step_graph(model) if window is None else sampler_graph(model, window)
    half, _ = half_precision(graph)
    (feed,) = [feed for feed in feeds(ENLARGED, 3) if feed["mask"].all()]
    scores = [
        draw_on(onnx_engine(Path("m.onnx"), bytes_of(one, metadata_of(ENLARGED, window))))(feed)[1]
        for one in (graph, half)
    ]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.02
