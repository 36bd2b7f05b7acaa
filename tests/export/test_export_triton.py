"""`gpcnn-export --format triton`: what its folder holds and leaves alone, and its program under a double of Triton."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import small_vqvae
from click.testing import CliRunner, Result
from small_engines import EMBEDDED, LABELLED, PLAIN, model_of, names_of, write_checkpoint

from gpcnn_deploy.errors import GpcnnError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.checkpoint_to_native import draft_model_file
from gpcnn_export.commands.export.cli import main
from gpcnn_export.commands.export.result import ExportResult
from gpcnn_export.triton.repository import MANIFEST, model_name
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.zoo.catalogue import FOLDER
from gpcnn_training.vqvae.pictures import decode

ZOO = "zoo:mnist-unconditional"
FILES = ["1/model.gpcnn", "1/model.py", "config.pbtxt", MANIFEST]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--format", "triton", *arguments])


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def small(name: str, spec: ModelSpec, seed: int = 0) -> str:
    file = draft_model_file(model_of(spec, seed), names_of(spec), f"{seed:064x}")
    Path(name).write_bytes(file.content)
    return name


def test_the_folder_holds_the_configuration_the_program_and_the_very_model_file() -> None:
    result = run(ZOO, "--json", "r.json")
    assert result.exit_code == 0, result.output
    folder = Path("models", "mnist-unconditional")
    assert files_of(Path("models")) == [f"mnist-unconditional/{name}" for name in FILES]
    assert (folder / "1/model.gpcnn").read_bytes() == (FOLDER / "mnist-unconditional.gpcnn").read_bytes()
    told = msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult)
    assert told.output == str(folder)
    assert told.bytes == sum((folder / name).stat().st_size for name in FILES)
    assert "tritonserver --model-repository=models" in result.stdout


@pytest.mark.parametrize(
    ("spec", "condition"),
    [
        (LABELLED, '{ name: "label" data_type: TYPE_INT32 dims: [ 1 ] optional: true }'),
        (EMBEDDED, '{ name: "embedding" data_type: TYPE_FP32 dims: [ 5 ] optional: true }'),
        (PLAIN, ""),
    ],
)
def test_the_configuration_says_what_the_model_takes(spec: ModelSpec, condition: str) -> None:
    assert run(small("a.gpcnn", spec), "--max-batch", "7", "--name", "mine").exit_code == 0
    text = Path("models/mine/config.pbtxt").read_text()
    names = re.findall(r'\{ name: "(\w+)"', text)
    conditions = re.findall(r'name: "(\w+)"', condition)
    assert names == [*conditions, "seed", "position", "temperature", "known", "mask", "image", "log_prob"]
    assert condition in text
    dims = ", ".join(map(str, spec.image_shape))
    assert f'{{ name: "image" data_type: TYPE_INT32 dims: [ {dims} ] }}' in text
    assert 'name: "mine"\nbackend: "python"\nmax_batch_size: 7\n' in text
    parameters = dict(re.findall(r'^parameters \{ key: "(\w+)" value \{ string_value: (".*") \} \}$', text, re.M))
    assert json.loads(parameters["levels"]) == str(spec.levels)
    if spec == LABELLED:
        assert json.loads(json.loads(parameters["class_names"])) == list(names_of(spec))


def test_a_checkpoint_is_exported_and_proven_under_its_runs_name() -> None:
    write_checkpoint(Path("runs/one/checkpoint.safetensors"), model_of(LABELLED))
    result = run("--json", "r.json")
    assert result.exit_code == 0, result.output
    told = msgspec.json.decode(Path("r.json").read_bytes(), type=ExportResult)
    assert told.output == str(Path("models", "one"))
    assert told.engine.parity is not None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.gpcnn", "b"),
        ("runs/x y/checkpoint.safetensors", "x-y"),
        ("runs/x/last.safetensors", "x"),
        ("mine.safetensors", "mine"),
        ("é.gpcnn", "model"),
        ("a" * 150 + ".gpcnn", "a" * 100),
    ],
)
def test_names_that_triton_takes(path: str, name: str) -> None:
    assert model_name(Path(path)) == name


def test_a_model_file_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; sys.modules.update({name: None for name in ('torch', 'safetensors', 'onnx', 'onnxruntime')})\n"
        f"from gpcnn_export.commands.export.cli import main; main(['{ZOO}', '--format', 'triton'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert files_of(Path("models/mnist-unconditional")) == FILES


def test_a_repository_takes_many_models_and_a_second_export_replaces_the_first() -> None:
    Path("models/resnet/1").mkdir(parents=True)
    Path("models/resnet/config.pbtxt").write_text("theirs")
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    assert run(small("b.gpcnn", PLAIN)).exit_code == 0
    other = Path(small("a.gpcnn", LABELLED, seed=1)).read_bytes()
    assert run("a.gpcnn").exit_code == 0
    assert Path("models/a/1/model.gpcnn").read_bytes() == other
    assert Path("models/resnet/config.pbtxt").read_text() == "theirs"
    assert files_of(Path("models/b")) == FILES


@pytest.mark.parametrize(
    ("theirs", "match"),
    [
        ("models/a/notes.txt", "models/a has files, and none of them says that this command wrote them"),
        ("models/a/config.pbtxt", "models/a has files, and none of them says"),
        ("models/a", "models/a: it is no folder"),
        ("models", "models: it is no folder"),
        ("models/config.pbtxt", "models is the folder of one model, and no repository of models"),
    ],
)
def test_what_is_not_ours_stays_as_it_is(theirs: str, match: str) -> None:
    small("a.gpcnn", LABELLED)
    Path(theirs).parent.mkdir(parents=True, exist_ok=True)
    Path(theirs).write_text("theirs")
    before = files_of(Path())
    result = run("a.gpcnn")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert match in result.stderr
    assert files_of(Path()) == before
    assert Path(theirs).read_text() == "theirs"


def test_edits_are_not_lost_but_a_model_file_of_the_same_weights_is_no_edit() -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    again = draft_model_file(model_of(LABELLED), ("x", "y", "z"), f"{0:064x}").content  # as a plan's export writes it
    Path("models/a/1/model.gpcnn").write_bytes(again)
    assert run("a.gpcnn").exit_code == 0
    small("models/a/1/model.gpcnn", LABELLED, seed=1)
    result = run("a.gpcnn")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "models/a/1/model.gpcnn was changed since it was exported" in result.stderr
    small("models/a/1/model.gpcnn", LABELLED)
    with Path("models/a/config.pbtxt").open("a") as stream:
        stream.write('parameters { key: "threads" value { string_value: "2" } }\n')
    assert "config.pbtxt was changed since it was exported, and would be lost" in run("a.gpcnn").stderr


def test_a_plan_of_another_model_would_be_left_behind() -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    Path("models/a/1/model.plan").write_bytes(b"plan")
    small("a.gpcnn", LABELLED, seed=1)
    result = run("a.gpcnn")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "models/a/1/model.plan is of another model, and would no longer fit: remove it" in result.stderr
    assert files_of(Path("models/a")) == sorted([*FILES, "1/model.plan"])


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        ((ZOO, "--window", "6"), 2, "--window goes with --format onnx or trt"),
        ((ZOO, "--graph", "step"), 2, "--graph goes with --format onnx or trt"),
        ((ZOO, "--precision", "fp16"), 2, "--precision goes with --format trt"),
        ((ZOO, "--max-batch", "0"), 2, "--max-batch 0: expected at least 1"),
        ((ZOO, "--name", "../x"), 2, "--name ../x: expected up to 100 letters"),
        ((ZOO, "--name", ""), 2, "--name : expected up to 100 letters"),
        (("model.onnx",), 2, "model.onnx is an ONNX engine already"),
        (("zoo:none",), 2, "zoo:none: no such model in the zoo"),
        (("none.gpcnn",), 1, "none.gpcnn: no such file"),
        (("broken.gpcnn",), 1, "broken.gpcnn is no model file, or cut short"),
        ((ZOO, "-o", "-"), 2, "standard output, which holds no folder"),
    ],
)
def test_misuse_is_one_line(arguments: tuple[str, ...], code: int, match: str) -> None:
    Path("broken.gpcnn").write_bytes(b"broken" * 5)
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    assert match in result.stderr
    assert not Path("models").exists()


def test_name_means_this_format() -> None:
    result = CliRunner().invoke(main, [small("a.gpcnn", PLAIN), "--name", "b"])
    assert result.exit_code == 0, result.output
    assert files_of(Path("models/b")) == FILES
    result = CliRunner().invoke(main, [ZOO, "--format", "web", "--name", "b"])
    assert (result.exit_code, "--name goes with --format triton" in result.stderr) == (2, True)


class Tensor:
    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> npt.NDArray[Any]:
        return self._array


class TritonError:
    INVALID_ARG, INTERNAL, CANCELLED = "invalid", "internal", "cancelled"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.outputs = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.error = error


class TritonModelException(Exception):
    pass


class Asked:
    """A request as Triton hands it over."""

    def __init__(self, wanted: tuple[str, ...] = ("image", "log_prob"), gone: bool = False, **given: Any) -> None:
        self.given, self._wanted, self._gone = given, wanted, gone

    def is_cancelled(self) -> bool:
        return self._gone

    def requested_output_names(self) -> set[str]:
        return set(self._wanted)


def find(request: Asked, name: str) -> Tensor | None:
    return Tensor(name, request.given[name]) if name in request.given else None


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """backend(**parameters) → the exported model.py of models/a, loaded as Triton does and initialized."""
    double = ModuleType("triton_python_backend_utils")
    told: list[str] = []
    double.__dict__.update(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=InferenceResponse,
        TritonModelException=TritonModelException,
        Logger=SimpleNamespace(log_info=told.append, log_warn=told.append),
        get_input_tensor_by_name=find,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", double)

    def load(outputs: tuple[str, ...] = ("image", "log_prob"), **parameters: str) -> Any:
        spec = importlib.util.spec_from_file_location("exported_model", Path("models/a/1/model.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = {
            "output": [{"name": name} for name in outputs],
            "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        }
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps(config), "model_name": "a"})
        return model

    return load


def column(*values: float, dtype: npt.DTypeLike = np.int32) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(-1, 1)


def test_the_program_answers_each_request_with_its_images_or_its_error(backend: Callable[..., Any]) -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    model = backend(threads="2")
    warm = column(0.5, 1.5, dtype=np.float32)
    answers = model.execute(
        [
            Asked(label=column(1), seed=column(2**64 - 1, dtype=np.uint64)),
            Asked(label=column(9)),
            Asked(label=column(0, 2), temperature=warm, wanted=("image",)),
            Asked(label=column(0), gone=True),
            Asked(label=column(2), temperature=column(np.nan, dtype=np.float32)),
            Asked(label=column(2), wanted=("log_prob",)),
        ]
    )
    with Sampler.load("a.gpcnn") as sampler:
        first = sampler.sample(1, 2**64 - 1)
        pair = [sampler.sample(0, temperature=0.5), sampler.sample(2, temperature=1.5, first=1)]
        last = sampler.sample(2)
    assert [answer.error and answer.error.code for answer in answers] == [
        None,
        "invalid",
        None,
        "cancelled",
        "invalid",
        None,
    ]
    assert answers[1].error.message == "unknown label 9: expected one of 0 boot, 1 3, 2 bag, red"
    assert answers[4].error.message.startswith("temperature is nan: expected")
    assert [sorted(answer.outputs) for answer in answers] == [
        ["image", "log_prob"],
        [],
        ["image"],
        [],
        [],
        ["log_prob"],
    ]
    assert np.array_equal(answers[0].outputs["image"], first.levels)
    assert np.array_equal(answers[0].outputs["log_prob"], first.log_prob)
    assert np.array_equal(answers[2].outputs["image"], np.concatenate([one.levels for one in pair]))
    assert np.array_equal(answers[5].outputs["log_prob"], last.log_prob)
    assert answers[0].outputs["image"].dtype == np.int32
    model.finalize()
    with pytest.raises((GpcnnError, RuntimeError)):
        model.execute([Asked(label=column(1))])


def test_a_vqvae_answers_with_codes_and_pictures(backend: Callable[..., Any]) -> None:
    model, pictures = small_vqvae.models()
    Path("a.gpcnn").write_bytes(draft_model_file(model, ("a", "b"), pictures=pictures).content)
    assert run("a.gpcnn").exit_code == 0
    text = Path("models/a/config.pbtxt").read_text()
    assert re.findall(r'\{ name: "(\w+)"', text)[-3:] == ["image", "log_prob", "picture"]
    assert '{ name: "image" data_type: TYPE_INT32 dims: [ 1, 3, 2 ] }' in text
    assert '{ name: "picture" data_type: TYPE_UINT8 dims: [ 3, 12, 8 ] }' in text
    every = ("image", "log_prob", "picture")
    program = backend(every, threads="2")
    codes = np.arange(6, dtype=np.int32).reshape(1, 1, 3, 2)
    warm = column(0.5, 1.5, dtype=np.float32)
    several, alone, decoded, none = program.execute(
        [
            Asked(every, label=column(0, 1), seed=column(4, 4, dtype=np.uint64), temperature=warm),
            Asked(("picture",), label=column(1)),
            Asked(every, label=column(0), known=codes, mask=np.ones(codes.shape, np.bool_)),
            Asked(("image",), label=column(1)),
        ]
    )
    with Sampler.load("a.gpcnn") as sampler:
        pair = [sampler.sample(0, 4, temperature=0.5), sampler.sample(1, 4, temperature=1.5, first=1)]
        one = sampler.sample(1)
    assert np.array_equal(several.outputs["image"], np.concatenate([found.levels for found in pair]))
    assert np.array_equal(several.outputs["picture"], np.concatenate([found.pixels() for found in pair]))
    assert several.outputs["picture"].dtype == np.uint8
    assert list(alone.outputs) == ["picture"]
    assert np.array_equal(alone.outputs["picture"], one.pixels())
    assert np.array_equal(decoded.outputs["image"], codes)
    assert np.abs(decode(pictures, codes).astype(int) - decoded.outputs["picture"]).max() <= 1
    assert list(none.outputs) == ["image"]
    program.finalize()


@pytest.mark.parametrize(
    ("parameters", "match"),
    [({"threads": "two"}, "threads is 'two': expected a whole number from 1"), ({"threads": "0"}, "threads is 0")],
)
def test_a_parameter_that_means_nothing(backend: Callable[..., Any], parameters: dict[str, str], match: str) -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    with pytest.raises(TritonModelException, match=match):
        backend(**parameters)


def test_what_the_program_needs(backend: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    Path("models/a/1/model.gpcnn").write_bytes(b"broken" * 5)
    with pytest.raises(TritonModelException, match="is no model file, or cut short"):
        backend()
    monkeypatch.setitem(sys.modules, "gpcnn_runtime.serving", None)
    with pytest.raises(TritonModelException, match="is not installed in the Python of this server: pip install"):
        backend()


def test_the_program_imports_only_the_runtime() -> None:
    assert run(small("a.gpcnn", LABELLED)).exit_code == 0
    text = Path("models/a/1/model.py").read_text()
    found = {name.partition(".")[0] for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.M)}
    ours = {"gpcnn_runtime", "numpy", "triton_python_backend_utils"}
    assert found - set(sys.stdlib_module_names) == ours
