"""Engine files that are not what they claim: each is refused in one line that says how to mend it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_engines import LABELLED, PLAIN, add_metadata, metadata_of

from gpcnn_deploy.errors import EngineError, MissingExtraError, UsageError
from gpcnn_deploy.metadata import SCHEMA, encode_metadata
from gpcnn_runtime.engines.base import OutOfMemoryError, Request
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine


def refused(path: Path, match: str) -> None:
    with pytest.raises(EngineError, match=match) as caught:
        load_engine(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.fixture(scope="module")
def graph(sampler_path: Path) -> bytes:
    return sampler_path.read_bytes()


def edited(graph: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(graph)


def test_missing_file(file: Path) -> None:
    refused(file, "no such file; make one with gpcnn-export")


def test_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a.onnx"
    folder.mkdir()
    refused(folder, "is a folder")


def test_empty_file(file: Path) -> None:
    file.write_bytes(b"")
    refused(file, "is empty")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_truncated_file(file: Path, graph: bytes, share: float) -> None:
    file.write_bytes(graph[: int(len(graph) * share)])
    refused(file, "truncated, damaged or foreign|without gpcnn-deploy metadata")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "a PNG picture"),
        (b"PK\x03\x04" + b"\0" * 100, "a zip archive"),
        (b"ftrt" + b"\0" * 100, "a TensorRT plan"),
        (b"hello, world\n" * 100, "truncated, damaged or foreign"),
        (np.random.default_rng(0).bytes(5000), "truncated, damaged or foreign"),
        (b"\0" * 1000, "truncated, damaged or foreign"),
    ],
)
def test_foreign_file(file: Path, content: bytes, match: str) -> None:
    file.write_bytes(content)
    refused(file, match)


def test_damaged_bytes_never_crash(file: Path, graph: bytes) -> None:
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        damaged = bytearray(graph)
        for at in rng.integers(0, len(graph), 8):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            load_engine(file).close()  # where only weights were hit, no reader can tell
        except EngineError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("suffix", [".plan", ".engine", ".trt"])
def test_plan(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"model{suffix}", "no such file")
    (tmp_path / f"model{suffix}").write_bytes(b"ftrt")
    refused(tmp_path / f"model{suffix}", "a plan needs the metadata written beside it")


def test_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path / "checkpoint.safetensors", "is a checkpoint, no engine: gpcnn-export .* makes one")


def test_unknown_suffix(tmp_path: Path) -> None:
    refused(tmp_path / "model.tflite", "ends in .gpcnn, .onnx or .plan")


def test_onnx_without_our_metadata(file: Path, graph: bytes) -> None:
    model = edited(graph)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    refused(file, "an ONNX file without gpcnn-deploy metadata: make one with gpcnn-export")


def test_newer_schema(file: Path, graph: bytes) -> None:
    model = edited(graph)
    model.metadata_props[0].value = f'{{"schema": {SCHEMA + 1}, "role": "oracle"}}'
    file.write_bytes(model.SerializeToString())
    refused(
        file, f"metadata schema {SCHEMA + 1}, this version reads up to {SCHEMA}: pip install --upgrade gpcnn-deploy"
    )


def test_damaged_metadata(file: Path, graph: bytes) -> None:
    model = edited(graph)
    model.metadata_props[0].value = model.metadata_props[0].value[:-9]
    file.write_bytes(model.SerializeToString())
    refused(file, "metadata is damaged")


def claims(graph: bytes, **changes: object) -> bytes:
    """The same graph under other metadata."""
    model = edited(graph)
    spec = msgspec.structs.replace(LABELLED, **changes)
    model.metadata_props[0].value = encode_metadata(metadata_of(spec, 2))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"conditioning": "none", "conditioning_size": 0}, "unexpected input 'label'"),
        ({"conditioning": "embedding", "conditioning_size": 3}, "no input 'embedding'"),
        ({"height": 7}, r"input 'noise' is tensor\(float\) \['N', 1, 6, 5\], expected .* \['N', 1, 7, 5\]"),
        ({"channels": 3}, "input 'noise' is"),
    ],
)
def test_metadata_that_does_not_fit_the_graph(file: Path, graph: bytes, changes: dict[str, object], match: str) -> None:
    file.write_bytes(claims(graph, **changes))
    refused(file, match)


def test_a_step_that_claims_to_be_a_sampler(file: Path, step_path: Path) -> None:
    model = edited(step_path.read_bytes())
    model.metadata_props[0].value = encode_metadata(metadata_of(LABELLED, 2))
    file.write_bytes(model.SerializeToString())
    refused(file, "unexpected input 'image'|no output 'image'")


def ports(role_outputs: dict[str, int], **dtypes: int) -> bytes:
    """A graph of constants with the inputs and outputs of an unconditional sampler, some dtypes changed."""
    shape = ["N", *PLAIN.image_shape]
    kinds = {"noise": 1, "known": 6, "mask": 9, "temperature": 1} | dtypes
    inputs = [helper.make_tensor_value_info(k, t, [] if k == "temperature" else shape) for k, t in kinds.items()]
    outputs = [helper.make_tensor_value_info(k, t, shape) for k, t in role_outputs.items()]
    nodes = [
        helper.make_node("Cast", ["known"], [name], to=dtype) for name, dtype in role_outputs.items() if name != "odd"
    ]
    graph = helper.make_graph(nodes, "fake", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(add_metadata(model, encode_metadata(metadata_of(PLAIN, 2))).SerializeToString())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (ports({"image": 6}), "no output 'log_prob'"),
        (ports({"image": 7, "log_prob": 1}), r"output 'image' is tensor\(int64\).*expected tensor\(int32\)"),
        (ports({"image": 6, "log_prob": 11}), r"output 'log_prob' is tensor\(double\)"),
        (ports({"image": 6, "log_prob": 1}, mask=6), r"input 'mask' is tensor\(int32\)"),
    ],
)
def test_wrong_inputs_and_outputs(file: Path, content: bytes, match: str) -> None:
    file.write_bytes(content)
    refused(file, match)


def request_of(count: int, known: int = 0) -> Request:
    shape = (count, *PLAIN.image_shape)
    return Request(np.zeros(shape, np.float32), np.full(shape, known, np.int32), np.ones(shape, np.bool_))


def test_weights_in_other_files_are_refused(file: Path, graph: bytes) -> None:
    (file.parent / "weights.bin").write_bytes(b"\0" * 4096)
    for location in ("weights.bin", "../weights.bin", "/etc/hostname"):
        model = edited(graph)
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        file.write_bytes(model.SerializeToString())
        refused(file, "keeps weights in other files")


def test_auto_says_why_a_cuda_that_is_there_does_not_run(
    sampler_path: Path, step_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    told: list[str] = []
    for path in (sampler_path, step_path):
        load_engine(path, warn=told.append).close()
    assert told == []  # none there, or nothing in its way

    real = onnxruntime.InferenceSession

    def session(content: bytes, options: object, providers: list[object], **_: object) -> object:
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("libcudnn.so.9: cannot open\nshared object file")
        return real(content, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for path in (sampler_path, step_path):
        with load_engine(path, warn=told.append) as engine:
            assert engine.info.provider == "CPU"
    (line,) = told  # a sampler runs on the CPU anyway
    assert line.startswith(f"{step_path} runs on the CPU: ")
    assert "libcudnn.so.9: cannot open shared object file" in line
    assert "\n" not in line


def test_optional_output_may_be_missing(file: Path) -> None:
    file.write_bytes(ports({"image": 6, "log_prob": 1}))
    with load_engine(file) as engine:
        assert engine.run(request_of(1)).evaluations is None


def test_without_onnxruntime_the_extra_is_named(sampler_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gpcnn-deploy\[cpu\]'"):
        load_engine(sampler_path)


def test_a_closed_engine_says_so(sampler_path: Path) -> None:
    engine = load_onnx_engine(sampler_path)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.run(request_of(1))


def test_a_sampler_has_no_other_schedule(sampler_path: Path) -> None:
    with load_engine(sampler_path) as engine, pytest.raises(UsageError, match=r"needs a step engine.*window 2"):
        engine.run(request_of(1), "raster")


def test_failed_allocation_is_told_from_other_failures(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(ports({"image": 6, "log_prob": 1}))

    class Session:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def run(self, *_: object) -> None:
            raise self.error

    for error, expected in (
        (RuntimeError("Failed to allocate memory for requested buffer of size 99999999"), OutOfMemoryError),
        (RuntimeError("Exception: std::bad_alloc"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("Non-zero status code\nwhile running Gemm"), EngineError),
    ):
        engine = load_onnx_engine(file)
        monkeypatch.setattr(engine, "_session", Session(error))
        with pytest.raises(EngineError) as caught:
            engine.run(request_of(1))
        assert type(caught.value) is expected
        assert "\n" not in str(caught.value)
