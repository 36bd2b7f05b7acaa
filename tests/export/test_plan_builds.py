"""Real plans, built by the real TensorRT-RTX on the CPU: every role, kind of model and precision."""

from __future__ import annotations

import errno
import hashlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_engines import Make, engine_bytes, model_of
from small_plans import COLOUR, EMBEDDING, GREY, LABEL, SPECS, UNCONDITIONAL

from gpcnn_deploy.errors import EngineError, MissingExtraError, NotHereError, OutputError, UsageError
from gpcnn_deploy.metadata import Precision
from gpcnn_deploy.philox import noise
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.half import half_precision
from gpcnn_export.onnx_to_plan import build_plan
from gpcnn_runtime.engines.plan_file import metadata_path, read_plan, read_plan_metadata
from gpcnn_runtime.engines.tensorrt import library as tensorrt_compat

pytest.importorskip("tensorrt_rtx")
CASES = [(name, window) for name in SPECS for window in (None, 2)] + [("label", 1), ("label", 5)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("name", "window"), CASES)
def test_inputs_outputs_types_and_profiles(
    tmp_path: Path, make: Make, name: str, window: int | None, precision: Precision
) -> None:
    spec = SPECS[name]
    report = build_plan(make(spec, window), tmp_path / "model.plan", precision=precision, max_batch=16, opt_batch=4)
    metadata = read_plan_metadata(tmp_path / "model.plan")
    assert metadata == report.metadata
    plan = read_plan(tmp_path / "model.plan", metadata)
    assert metadata.digest == hashlib.sha256(plan).hexdigest()
    assert (tmp_path / "model.onnx").read_bytes() == engine_bytes(spec, window)
    assert metadata.flavor == "tensorrt-rtx"
    assert metadata.compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert metadata.engine.precision == precision
    assert (metadata.max_batch, metadata.opt_batch) == (16, 4)

    image = spec.image_shape
    inputs = {"noise": ("float32", image), "known": ("int32", image), "mask": ("bool", image)}
    if spec.conditioning == "label":
        inputs["label"] = "int32", ()  # type: ignore[assignment]
    if spec.conditioning == "embedding":
        inputs["embedding"] = "float32", (spec.conditioning_size,)  # type: ignore[assignment]
    outputs = {"log_prob": ("float32", (-1, *image))}
    if window is None:
        inputs["image"] = "int32", image
        outputs |= {"image_next": ("int32", (-1, *image)), "changed": ("int32", (-1,))}  # type: ignore[dict-item]
    else:
        outputs |= {"image": ("int32", (-1, *image)), "evaluations": ("int32", ())}  # type: ignore[dict-item]
    found = {tensor.name: tensor for tensor in metadata.tensors}
    assert {tensor.name for tensor in metadata.tensors if tensor.mode == "output"} == set(outputs)
    for key, (dtype, shape) in outputs.items():
        assert (found[key].dtype, found[key].shape, found[key].profile) == (dtype, shape, None)
    temperature = found.pop("temperature")
    assert (temperature.dtype, temperature.shape, temperature.profile) == ("float32", (), None)
    assert set(found) == set(inputs) | set(outputs)
    for key, (dtype, rest) in inputs.items():
        assert (found[key].dtype, found[key].shape) == (dtype, (-1, *rest))
        assert found[key].profile == ((1, *rest), (4, *rest), (16, *rest))


BUILD = """
import hashlib, sys
from pathlib import Path
from gpcnn_runtime.engines.tensorrt import library as tensorrt_compat
plan, _ = tensorrt_compat.load("tensorrt-rtx").build(Path(sys.argv[1]).read_bytes(), "x", 4, 16, None)
print(hashlib.sha256(plan).hexdigest())
"""


@pytest.mark.skipif(shutil.which("setarch") is None, reason="needs setarch (util-linux)")
@pytest.mark.parametrize(("spec", "window"), [(LABEL, None), (LABEL, 2), (COLOUR, None)])
def test_two_builds_give_equal_bytes(make: Make, spec: ModelSpec, window: int | None) -> None:
    """With memory laid out alike: TensorRT numbers some internal values in the order of their addresses."""
    command = ["setarch", platform.machine(), "-R", sys.executable, "-c", BUILD, str(make(spec, window))]
    runs = [subprocess.run(command, capture_output=True, text=True) for _ in range(2)]
    if "personality" in runs[0].stderr:
        pytest.skip("this container does not allow a fixed memory layout")
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) == 65


def test_a_plan_is_built_without_torch(tmp_path: Path, make: Make) -> None:
    code = (
        "import sys\nfor name in ('torch', 'gpcnn_training', 'onnxscript'): sys.modules[name] = None\n"
        "from pathlib import Path\nfrom gpcnn_export.onnx_to_plan import build_plan\n"
        "print(build_plan(Path(sys.argv[1]), Path(sys.argv[2]), precision='fp16'))"
    )
    plan = tmp_path / "a b" / "model.plan"
    run = subprocess.run([sys.executable, "-c", code, make(GREY, 2), plan], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{plan}: sampler, window 2, fp16, batch 1 to 64, built by tensorrt-rtx ")
    assert "runs on GPUs of compute capability 8.0, 8.6, 8.9, 12.0, 12.1 (" in run.stdout


def feeds(spec: ModelSpec, window: int | None, count: int = 4) -> dict[str, np.ndarray]:
    values = {
        "noise": noise(spec, 3, count),
        "known": np.zeros((count, *spec.image_shape), np.int32),
        "mask": np.zeros((count, *spec.image_shape), np.bool_),
        "temperature": np.array(1, np.float32),
    }
    if window is None:
        values["image"] = np.random.default_rng(0).integers(0, spec.levels, values["known"].shape, np.int32)
    if spec.conditioning == "label":
        values["label"] = np.arange(count, dtype=np.int32) % spec.conditioning_size
    if spec.conditioning == "embedding":
        values["embedding"] = np.ones((count, spec.conditioning_size), np.float32)
    return values


@pytest.mark.parametrize("window", [None, 1, 2])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_half_precision_changes_the_network_and_not_the_head(spec: ModelSpec, window: int | None) -> None:
    model = onnx.load_model_from_string(engine_bytes(spec, window))
    half, converted = half_precision(model)
    assert model.SerializeToString() == engine_bytes(spec, window)  # the caller's stays as it was
    if window is None:  # vertical, horizontal, link, skip of each layer; out of all but the last; an embedding
        assert converted == 5 * spec.layers - 1 + (spec.conditioning == "embedding")
    head = {
        value
        for name, weight in model_of(spec).named_parameters()
        if name.startswith("head.") and weight.ndim > 1
        for value in weight.detach().numpy().astype(np.float16).ravel().tolist()
    }
    halves = [onnx.numpy_helper.to_array(t) for t in half.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) >= 4 * spec.layers
    assert not any(np.mean([value in head for value in weight.ravel().tolist()]) > 0.95 for weight in halves)

    inputs = feeds(spec, window)
    inputs["known"] = np.random.default_rng(1).integers(0, spec.levels, inputs["known"].shape, np.int32)
    inputs["mask"] |= True  # scores one image in both: a drawn one may take another way after a pixel that differs
    before, after = (
        dict(zip(names(graph), onnxruntime.InferenceSession(graph.SerializeToString()).run(None, inputs), strict=True))
        for graph in (model, half)
    )
    assert [value.dtype for value in before.values()] == [value.dtype for value in after.values()]
    drift = np.abs(before["log_prob"] - after["log_prob"]).max()
    assert 0 < drift < 0.1, drift


def names(model: onnx.ModelProto) -> list[str]:
    return [output.name for output in model.graph.output]


def test_weights_beyond_half_precision_are_refused() -> None:
    model = onnx.load_model_from_string(engine_bytes(UNCONDITIONAL, None))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("skip.weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] = 70_000
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(EngineError, match=r"skip.weight' does not fit fp16 \(largest 70000.0\): use fp32"):
        half_precision(model)


def test_tf32_is_off(make: Make) -> None:
    library = tensorrt_compat.load("tensorrt-rtx")
    real, configs = library.module, []

    class Builder:
        def __init__(self, log: object) -> None:
            self.real = real.Builder(log)

        def create_builder_config(self) -> object:
            configs.append(self.real.create_builder_config())
            return configs[0]

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    class Module:
        def __getattr__(self, name: str) -> object:
            return Builder if name == "Builder" else getattr(real, name)

    spied = tensorrt_compat.TensorRT("tensorrt-rtx", Module())
    spied.build(make(UNCONDITIONAL, None).read_bytes(), "x", 1, 1, None)
    assert real.Builder(library._log).create_builder_config().get_flag(real.BuilderFlag.TF32)  # on by default
    assert not configs[0].get_flag(real.BuilderFlag.TF32)


def test_progress_is_told_and_may_stop_the_build(tmp_path: Path, make: Make) -> None:
    told: list[tuple[str, int, int]] = []

    def note(*step: object) -> bool:
        told.append(step)  # type: ignore[arg-type]
        return True

    build_plan(make(UNCONDITIONAL, None), tmp_path / "a.plan", progress=note)
    assert len(told) > 20
    assert all(0 <= done <= steps for _, done, steps in told)
    with pytest.raises(EngineError, match="could not build a plan: it was stopped"):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "b.plan", progress=lambda *_: False)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "b.plan", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.plan", "a.plan.json"]


def test_nothing_appears_if_one_file_cannot(tmp_path: Path, make: Make) -> None:
    for name in ("model.plan.json", "model.onnx", "model.plan"):
        folder = tmp_path / f"without {name}"
        (folder / name).mkdir(parents=True)
        with pytest.raises(OutputError if name != "model.onnx" else (OutputError, EngineError)):
            build_plan(make(UNCONDITIONAL, None), folder / "model.plan")
        assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.plan.json", "model.plan", "model.onnx"])
def test_a_full_disk_is_told_of_the_right_file(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if re.fullmatch(rf"\.{re.escape(name)}\.\w+\.part", path.name):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=rf"cannot write .*/{re.escape(name)}: No space left on device"):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "model.plan")
    assert list(tmp_path.iterdir()) == []


def elsewhere(tensor: onnx.TensorProto, by_location: bool) -> None:
    tensor.name = "the weights"
    if by_location:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    else:
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"


WHERE: dict[str, Callable[[onnx.ModelProto], onnx.TensorProto]] = {
    "initializer": lambda model: model.graph.initializer[0],
    "attribute": lambda model: model.graph.node[0].attribute.add().t,
    "attribute list": lambda model: model.graph.node[0].attribute.add().tensors.add(),
    "subgraph": lambda model: model.graph.node[0].attribute.add().g.initializer.add(),
    "subgraph's attribute": lambda model: model.graph.node[0].attribute.add().graphs.add().node.add().attribute.add().t,
    "function": lambda model: model.functions.add().node.add().attribute.add().t,
    "sparse": lambda model: model.graph.sparse_initializer.add().values,
}


@pytest.mark.parametrize("by_location", [True, False])
@pytest.mark.parametrize("where", WHERE)
def test_weights_in_another_file_are_refused(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, where: str, by_location: bool
) -> None:
    model = onnx.load_model_from_string(engine_bytes(UNCONDITIONAL, None))
    elsewhere(WHERE[where](model), by_location)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr(tensorrt_compat.TensorRT, "build", None)
    text = r"x.onnx keeps weights in other files \(ONNX external data\), which is refused"
    with pytest.raises(EngineError, match=text):
        build_plan(tmp_path / "x.onnx", tmp_path / "model.plan", precision="fp16")
    with pytest.raises(EngineError, match=text):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "model.plan", portable=tmp_path / "x.onnx")


def test_the_portable_engine(tmp_path: Path, make: Make) -> None:
    step, sampler, portable = make(UNCONDITIONAL, None), make(UNCONDITIONAL, 2), tmp_path / "model.onnx"
    build_plan(step, tmp_path / "model.plan", portable=sampler)
    assert portable.read_bytes() == sampler.read_bytes()
    build_plan(step, tmp_path / "model.plan")  # of the same checkpoint: kept
    assert portable.read_bytes() == sampler.read_bytes()
    build_plan(portable, tmp_path / "model.plan")
    assert portable.read_bytes() == sampler.read_bytes()
    portable.write_bytes(b"something else")
    build_plan(step, tmp_path / "model.plan")
    assert portable.read_bytes() == step.read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_of_two_windows_a_plan_has_the_one_for_few_images(tmp_path: Path, make: Make, precision: Precision) -> None:
    spec = SPECS["label"]
    both = make(spec, Schedule(5, 1, 4))
    report = build_plan(both, tmp_path / "model.plan", precision=precision)
    engine = report.metadata.engine
    assert (engine.role, engine.window, engine.batch_window, engine.batch_from) == ("sampler", 5, None, None)
    assert (tmp_path / "model.onnx").read_bytes() == both.read_bytes(), "the portable engine keeps both"
    single = build_plan(make(spec, 5), tmp_path / "single.plan", precision=precision)
    assert report.metadata.tensors == single.metadata.tensors


@pytest.mark.parametrize(("max_batch", "opt_batch"), [(0, None), (4, 5), (1, 0), (65537, 1)])
def test_batch_sizes_that_contradict(tmp_path: Path, make: Make, max_batch: int, opt_batch: int) -> None:
    with pytest.raises(UsageError, match="expected 1 <= opt-batch <= max-batch <= 65536"):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "model.plan", max_batch=max_batch, opt_batch=opt_batch)


def test_files_that_are_no_engines(tmp_path: Path, make: Make) -> None:
    with pytest.raises(EngineError, match=r"missing\.onnx: no such file"):
        build_plan(tmp_path / "missing.onnx", tmp_path / "model.plan")
    with pytest.raises(UsageError, match=r"expected a plan's name, such as .*model\.plan"):
        build_plan(make(UNCONDITIONAL, None), tmp_path / "model.onnx")
    foreign = onnx.load_model_from_string(engine_bytes(UNCONDITIONAL, None))
    del foreign.metadata_props[:]
    contents = {
        "is a PNG picture, no ONNX file": b"\x89PNG junk",
        "cannot be loaded as ONNX": b"junk",
        "without gpcnn-deploy metadata": foreign.SerializeToString(),
    }
    for text, content in contents.items():
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(EngineError, match=text):
            build_plan(tmp_path / "x.onnx", tmp_path / "model.plan")
    assert not metadata_path(tmp_path / "model.plan").exists()


def test_a_graph_that_tensorrt_refuses_is_named(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(engine_bytes(UNCONDITIONAL, None))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.name = "Hardmax", "my node"
    del node.attribute[:]
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    node.op_type = "Unheard"
    (tmp_path / "y.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"y.onnx: tensorrt-rtx cannot read the graph: Unheard node 'my node': "):
        build_plan(tmp_path / "y.onnx", tmp_path / "model.plan")


def test_which_tensorrt_is_taken(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, out = make(EMBEDDING, None), tmp_path / "model.plan"
    with pytest.raises(MissingExtraError, match=r"pip install 'gpcnn-deploy\[tensorrt\]'"):
        build_plan(engine, out, flavor="tensorrt")
    monkeypatch.setattr("gpcnn_export.onnx_to_plan.is_installed", lambda flavor: True)
    monkeypatch.setattr("gpcnn_export.onnx_to_plan.find_gpu", no_gpu)
    with pytest.raises(
        NotHereError, match="tensorrt builds plans only on the GPU that runs them: no NVIDIA GPU answers"
    ):
        build_plan(engine, out, flavor="tensorrt")
    assert build_plan(engine, out).metadata.flavor == "tensorrt-rtx"
    monkeypatch.setattr(tensorrt_compat, "_loaded", {})
    monkeypatch.setattr(tensorrt_compat, "is_installed", lambda flavor: False)
    with pytest.raises(MissingExtraError, match=r"pip install 'gpcnn-deploy\[tensorrt-rtx\]'"):
        build_plan(engine, out)


def no_gpu() -> None:
    raise NotHereError("no NVIDIA GPU answers (none)")
