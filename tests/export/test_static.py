"""Engines of a fixed batch: every shape is a number, and they draw the very bits of engines of any batch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from small_engines import (
    EMBEDDED,
    ENLARGED,
    LABELLED,
    MAPPED,
    PLAIN,
    bytes_of,
    metadata_of,
    model_of,
    write_checkpoint,
)

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted
from gpcnn_export.commands.export.cli import main as export
from gpcnn_export.graphs.builder import Graph, reads
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.onnx_engine import OnnxEngine, draft_engine
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_export.proof.parity import feeds, request_of
from gpcnn_runtime.commands.inspect.cli import main as inspect
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.sampler import Sampler

BINARY = ModelSpec(height=5, width=6, features=6, layers=3, kernel_size=5, head_features=8)
MIXED = ModelSpec(
    height=4,
    width=5,
    channels=3,
    levels=20,
    features=6,
    layers=2,
    kernel_size=5,
    head_features=6,
    head="mixture",
    mixtures=3,
)
SPECS = {
    "label": LABELLED,
    "rgb": PLAIN,
    "embedding": EMBEDDED,
    "binary": BINARY,
    "mixture": MIXED,
    "map": MAPPED,
    "upscale": ENLARGED,
}
BATCH = 3


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def windows_of(spec: ModelSpec) -> tuple[int | None, ...]:
    """Windows of samplers, and None for a step, whose export takes longest."""
    samplers = (1, 2, spec.width)
    return (None, *samplers) if spec is LABELLED else samplers


@functools.cache
def engine_of(spec: ModelSpec, window: int | None, batch: int | None) -> OnnxEngine:
    return draft_engine(model_of(spec), "step" if window is None else "sampler", window, batch=batch)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_value_declares_numbers_for_its_lengths(spec: ModelSpec) -> None:
    for window in windows_of(spec):
        batch = 1 if window == 2 else BATCH
        engine = engine_of(spec, window, batch)
        model = onnx.load_model_from_string(engine.content)
        onnx.checker.check_model(model, full_check=True)
        assert engine.metadata.batch == batch
        for graph in graphs(model.graph):
            known = {tensor.name for tensor in graph.initializer}
            for value in (*graph.input, *graph.value_info, *graph.output):
                shape = value.type.tensor_type.shape
                assert value.type.tensor_type.HasField("shape"), (window, value.name)
                assert all(dim.HasField("dim_value") for dim in shape.dim), (window, value.name)
                known.add(value.name)
            made = {name for node in graph.node for name in node.output if name}
            assert made <= known, (window, made - known)
        # One window, and no node that only looks at shapes.
        kinds = {node.op_type for graph in graphs(model.graph) for node in graph.node}
        assert not kinds & {"If", "Shape", "Range"}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_bodies_of_scans_read_nothing_around_them(spec: ModelSpec) -> None:
    """OpenVINO (2026.4) takes no others."""
    scans = 0
    for window in windows_of(spec):
        model = onnx.load_model_from_string(engine_of(spec, window, BATCH).content)
        for graph in graphs(model.graph):
            for node in graph.node:
                if node.op_type != "Scan":
                    continue
                scans += 1
                body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
                inside = {name for inner in graphs(body) for node in inner.node for name in node.output}
                for inner in graphs(body):
                    inside |= {value.name for value in (*inner.input, *inner.initializer)}
                assert {name for node in body.node for name in reads(node) if name} <= inside
    assert scans == 2 * (spec.width > 2)  # windows 1 and 2


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_bits_are_those_of_any_batch(spec: ModelSpec) -> None:
    for window in windows_of(spec):
        with engine_of(spec, window, None).load() as free, engine_of(spec, window, BATCH).load() as fixed:
            for count in (BATCH, 1, 2 * BATCH + 1):
                for feed in feeds(spec, count, seed=count):
                    expected, found = free.run(request_of(feed)), fixed.run(request_of(feed))
                    assert np.array_equal(expected.levels, found.levels), (window, count)
                    assert np.abs(expected.log_prob - found.log_prob).max() < 1e-5, (window, count)
                    if count == BATCH:
                        assert np.array_equal(expected.log_prob, found.log_prob), window
                        assert expected.evaluations == found.evaluations, window


def test_nothing_is_computed_early_without_a_fixed_batch() -> None:
    g = Graph("any")
    assert g.op("Add", np.array([1]), np.array([2])) not in g.known
    g = Graph("fixed", batch=1)
    assert g.known[g.op("Add", np.array([1]), np.array([2]))].tolist() == [3]


@pytest.mark.parametrize("window", [2, None], ids=["sampler", "step"])
def test_a_sampler_fills_its_last_call(tmp_path: Path, window: int | None) -> None:
    with Sampler(engine_of(LABELLED, window, None).load()) as free:
        expected = free.sample([0, 1], seed=4, count=4)
    path = tmp_path / "model.onnx"
    path.write_bytes(engine_of(LABELLED, window, BATCH).content)
    for threads in (1, 2):
        with Sampler.load(path, threads, batch_size=2) as sampler:
            assert sampler.batch_size == BATCH
            assert [stop - start for start, stop in sampler.parts(8)] == [3, 3, 2]
            found = sampler.sample([0, 1], seed=4, count=4)
            assert np.array_equal(found.levels, expected.levels)
            scores = sampler.score(found.levels, labels=[0] * 4 + [1] * 4)
            assert np.allclose(scores, expected.log_prob, atol=1e-5)
            if window is None:
                raster = sampler.sample([0, 1], seed=4, count=4, strategy="raster")
                assert np.array_equal(raster.levels, expected.levels)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_checkpoint(tmp_path / "run" / "checkpoint.safetensors", model_of(LABELLED, scale=1.0))


@pytest.mark.parametrize("options", [("--batch", "4"), ("--batch", "4", "--graph", "step"), ("--window", "2")])
def test_the_command_exports_what_other_commands_take(checkpoint: Path, options: tuple[str, ...]) -> None:
    batch = 4 if "--batch" in options else 1
    done = run(checkpoint, "--static", *options)
    assert done.exit_code == 0, done.output
    assert f", batch {batch}, " in done.output
    with load_engine("model.onnx") as engine:
        assert engine.metadata.batch == batch
        assert engine.metadata.batch_window is None
    shown = CliRunner().invoke(inspect, ["model.onnx"])
    assert f"{batch} in every call" in shown.output
    refused = run("model.onnx", "--format", "trt")
    assert refused.exit_code == 1
    assert f"takes {counted(batch, 'image')} in every call" in refused.stderr


def test_static_alone_is_c_source_and_with_the_name_of_an_engine_onnx(checkpoint: Path) -> None:
    assert run(checkpoint, "--static").exit_code == 0
    assert Path("model-c").is_dir()
    assert run(checkpoint, "--static", "-o", "model.onnx").exit_code == 0
    with load_engine("model.onnx") as engine:
        assert engine.metadata.batch == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "onnx", "--batch", "4"), "--batch goes with --static"),
        (("--format", "native", "--static"), "--static goes with --format onnx or c"),
        (("--format", "trt", "--static"), "--static goes with --format onnx or c"),
        (("--format", "native", "--static", "--batch", "2"), "--static goes with --format onnx or c"),
        (("--format", "c", "--static", "--batch", "2"), "--batch goes with --format onnx"),
        (("--static", "--batch", "0"), "--batch is 0: expected 1 to 65536"),
        (("--static", "--batch", "65537"), "--batch is 65537: expected 1 to 65536"),
        (("--static", "--window", "5,1@4"), "expected one window, as 5"),
        (("--static", "--batch", "2", "--tune-batch", "2"), "--tune-batch goes without --static"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(checkpoint: Path, options: tuple[str, ...], words: str) -> None:
    before = sorted(Path.cwd().rglob("*"))
    done = run(checkpoint, *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 4}, r"\[4, 1, 6, 5\]"),
        ({"batch": None}, "expected"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 1 << 40}, "batch is 1099511627776"),
        ({"batch": 3, "batch_window": 1, "batch_from": 2}, "of a fixed batch"),
    ],
)
def test_metadata_that_is_not_the_graphs_is_refused(tmp_path: Path, change: dict[str, int | None], words: str) -> None:
    metadata = msgspec.structs.replace(metadata_of(LABELLED, 2), **change)
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes_of(sampler_graph(model_of(LABELLED), 2, batch=BATCH), metadata))
    with pytest.raises(EngineError, match=words):
        load_engine(path)


def test_no_plan_is_built_of_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(engine_of(PLAIN, 2, BATCH).content)
    with pytest.raises(EngineError, match="export it without --static"):
        build_plan(path, tmp_path / "model.plan")
    assert not (tmp_path / "model.plan").exists()
