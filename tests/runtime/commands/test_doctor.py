"""gpcnn-doctor: what it finds here is so, what it would say elsewhere is right, and no crash of a library ends it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gpcnn_runtime.commands.doctor.diagnosis
from gpcnn_deploy.errors import EngineError, GpcnnError
from gpcnn_runtime.commands.doctor.cli import main
from gpcnn_runtime.commands.doctor.diagnosis import Ability, Diagnosis, examine, probe
from gpcnn_runtime.commands.doctor.packages import _SHOWN, Package, _release, installed, packages
from gpcnn_runtime.commands.doctor.probe import Answer, GpuFacts, native, provider
from gpcnn_runtime.engines.native.library import NativeModel, load_library

RTX = ("8.0", "8.6", "8.9", "12.0")
NOT_THERE = "not installed: pip install it"
GEFORCE = GpuFacts(name="GeForce RTX 4090", compute_capability="8.9", memory_mb=25_000)
H100 = GpuFacts(name="H100", compute_capability="9.0", memory_mb=80_000)


def machine(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Answer],
    *,
    gpus: tuple[GpuFacts, ...] = (),
    without: tuple[str, ...] = (),
    driver: bool = False,
) -> Diagnosis:
    """What is found on another machine: `answers` of what works, everything else is not there."""

    def ask(question: list[str]) -> Answer | str:
        if question == ["gpu"]:
            return Answer(gpus=gpus) if gpus else "no NVIDIA GPU answers"
        return answers.get(" ".join(question), NOT_THERE)

    def are_there() -> tuple[Package, ...]:
        names = ("onnx", "cuda-python", "torch")
        extras = {"onnx": ("plan", "export"), "cuda-python": ("plan",), "torch": ("train", "export")}
        versions = {name: None if name in without else "9.9" for name in names}
        return tuple(
            Package(name=name, version=versions[name], minimum="1", fits=name not in without, extras=extras[name])
            for name in names
        )

    monkeypatch.setattr(gpcnn_runtime.commands.doctor.diagnosis, "probe", ask)
    monkeypatch.setattr(gpcnn_runtime.commands.doctor.diagnosis, "packages", are_there)
    monkeypatch.setattr(gpcnn_runtime.commands.doctor.diagnosis, "driver_here", lambda: driver)
    return examine()


def by_name(found: Diagnosis) -> dict[str, Ability]:
    return {ability.what: ability for ability in found.abilities}


def test_what_is_here_is_found() -> None:
    import onnxruntime

    done = CliRunner().invoke(main, ["--json", "-"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["can_sample"] is True
    cpu = next(check for check in found["providers"] if check["name"] == "cpu")
    assert (cpu["works"], cpu["detail"]) == (True, f"onnxruntime {onnxruntime.__version__}, CPU")
    assert [check["name"] for check in found["providers"]] == ["cpu", "cuda", "tensorrt", "nv-tensorrt-rtx"]
    assert [check["name"] for check in found["tensorrt"]] == ["tensorrt", "tensorrt-rtx"]
    for check in found["tensorrt"]:
        assert check["works"] == (installed(check["name"]) is not None)
    assert found["machine"]["cores"] >= 1
    torch = next(package for package in found["packages"] if package["name"] == "torch")
    assert torch["fits"] is (installed("torch") is not None)
    assert torch["extras"] == ["train", "export"]
    assert found["native"]["works"] is True
    assert re.fullmatch(r"native engine \S+, [\w-]+(, fused multiply-add)?( \(also .*\))?", found["native"]["detail"])
    assert re.search(r"draw with model files \(\.gpcnn\) +yes +gpcnn-sample --label 3", done.stderr)
    assert re.search(r"draw with \.onnx engines on the CPU +yes +gpcnn-sample --engine model\.onnx", done.stderr)
    abilities = [ability["what"] for ability in found["abilities"]]
    assert abilities[0] == "draw with model files (.gpcnn)", "what needs least comes first"


def test_the_native_engine_alone_draws_and_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(monkeypatch, {"native": Answer(detail="native engine 1, x86-64-v3")})
    assert found.can_sample
    possible = [ability.what for ability in found.abilities if ability.possible]
    assert possible == ["draw with model files (.gpcnn)", "train", "export and verify model files (.gpcnn)"]


def test_a_missing_library_is_told_with_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gpcnn_runtime.engines.native.library.load_library", lambda: load_library(tmp_path / "none.so"))
    with pytest.raises(EngineError, match=r"library is missing .* python runtime/native/build\.py"):
        native()


def test_a_library_that_draws_nonsense_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: NativeModel, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        return np.zeros(noise.shape, np.int32), np.zeros(noise.shape, np.float32), 1

    monkeypatch.setattr(NativeModel, "draw", wrong)
    with pytest.raises(EngineError, match="draws wrong images"):
        native()


def test_packages_are_those_of_pyproject() -> None:
    tomllib = pytest.importorskip("tomllib")
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = {name: texts for name, texts in project["optional-dependencies"].items() if name in _SHOWN}
    texts = [text for group in (project["dependencies"], *extras.values()) for text in group]
    named = {text.split(">=")[0] for text in texts if ";" not in text}  # what only some Pythons need is not shown
    named -= {text for text in named if text.startswith("gpcnn-deploy")}
    found = {package.name: package for package in packages()}
    assert set(found) == named
    assert found["cuda-python"].extras == ("plan", "tensorrt", "tensorrt-rtx")
    assert found["onnxruntime"].extras == ("cpu",)
    assert found["numpy"].extras == ("base",)
    for text in texts:  # such as `cuda-python>=12.6.2,<14`, which is kept in another order
        lowest = re.search(r">=([\d.]+)", text)
        if ";" not in text and lowest is not None:
            assert found[text.split(">=")[0]].minimum == lowest[1]


def test_versions_are_compared_as_numbers() -> None:
    assert _release("2.13.0+cpu") == (2, 13, 0) > _release("2.7")
    assert _release("10.16.1.11") > _release("10.3")
    assert _release("0.18.6") > _release("0.18") > _release("dev") == ()


def test_a_machine_with_an_rtx_card(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "native": Answer(detail="native engine 1"),
        "provider cpu": Answer(detail="CPU"),
        "provider cuda": Answer(detail="CUDA"),
        "tensorrt tensorrt-rtx": Answer(detail="1.7", capabilities=RTX),
    }
    found = machine(monkeypatch, answers, gpus=(GEFORCE,))
    assert found.can_sample
    assert all(ability.possible for ability in found.abilities)
    abilities = by_name(found)
    assert abilities["draw with .onnx engines on a GPU"].how == "gpcnn-sample --engine step.onnx --provider cuda"
    assert abilities["draw with TensorRT plans"].how == "gpcnn-sample --engine model.plan (tensorrt-rtx)"
    assert found.gpu_problem is None


def test_a_data_centre_gpu_needs_tensorrt_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"provider cpu": Answer(), "tensorrt tensorrt-rtx": Answer(detail="1.7", capabilities=RTX)}
    abilities = by_name(machine(monkeypatch, answers, gpus=(H100,)))
    assert not abilities["draw with TensorRT plans"].possible
    assert abilities["draw with TensorRT plans"].how == "pip install 'gpcnn-deploy[tensorrt,cpu]'"
    assert abilities["build TensorRT plans"].possible  # for other machines
    assert "pip install 'gpcnn-deploy[gpu]'" in abilities["draw with .onnx engines on a GPU"].how
    answers["tensorrt tensorrt"] = Answer(detail="11.4")
    abilities = by_name(machine(monkeypatch, answers, gpus=(H100,)))
    assert abilities["draw with TensorRT plans"].how == "gpcnn-sample --engine model.plan (tensorrt)"
    assert abilities["build TensorRT plans"].how == "gpcnn-export --format trt (tensorrt)"


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"tensorrt tensorrt-rtx": Answer(detail="1.7", capabilities=RTX)}
    found = machine(monkeypatch, answers, without=("torch", "onnx"))
    assert not found.can_sample
    assert [ability.possible for ability in found.abilities] == [False] * 8
    abilities = by_name(found)
    assert abilities["train"].how == "pip install 'gpcnn-deploy[train]' (for torch)"
    assert (
        abilities["export and verify .onnx engines"].how == "pip install 'gpcnn-deploy[export,cpu]' (for onnx, torch)"
    )
    assert abilities["draw with .onnx engines on the CPU"].how == "pip install 'gpcnn-deploy[cpu]'"
    assert abilities["draw with TensorRT plans"].how == "needs an NVIDIA GPU with its driver"
    assert found.gpu_problem == "no NVIDIA GPU answers"


def test_nothing_that_draws_is_exit_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, {})
    done = CliRunner().invoke(main, ["--json", str(tmp_path / "d.json")])
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"Error: nothing here can draw images: {NOT_THERE}; or pip install 'gpcnn-deploy[cpu]' for .onnx engines"
    )
    assert json.loads((tmp_path / "d.json").read_text())["can_sample"] is False


def test_a_driver_without_cuda_python_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(monkeypatch, {"provider cpu": Answer()}, driver=True)
    assert found.notes == (
        "an NVIDIA driver is here, but no GPU could be asked: pip install 'gpcnn-deploy[plan]', or check the driver",
    )
    assert by_name(found)["draw with TensorRT plans"].how == "pip install 'gpcnn-deploy[tensorrt-rtx,cpu]'"


def test_packages_that_fight_or_are_too_old_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gpcnn_runtime.commands.doctor.packages.installed", lambda name: "1.17" if "runtime" in name else "99"
    )
    notes = gpcnn_runtime.commands.doctor.diagnosis._notes(packages(), (GEFORCE,))
    assert notes[0].startswith("onnxruntime and onnxruntime-gpu are both installed, and overwrite each other")
    assert notes[1:] == [
        f"{name} 1.17 is older than 1.18: pip install --upgrade {name}" for name in ("onnxruntime", "onnxruntime-gpu")
    ]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with signal 11"),
        ("import time; time.sleep(60)", "did not answer within 1 s"),
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("raise RuntimeError('driver on fire')", "RuntimeError: driver on fire"),
        ("import sys; print('Error: no driver', file=sys.stderr); sys.exit(1)", "no driver"),
    ],
)
def test_what_crashes_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, told: str) -> None:
    (tmp_path / "bad_probe.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpcnn_runtime.commands.doctor.diagnosis, "PROBE_MODULE", "bad_probe")
    monkeypatch.setattr(gpcnn_runtime.commands.doctor.diagnosis, "SECONDS", 1.0)
    assert probe(["gpu"]) == told


def test_a_provider_that_computes_nonsense_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpcnn_runtime.engines.onnxruntime.gemm import matmul_model

    assert provider("cpu").detail.endswith(", CPU")
    wrong = matmul_model(8).replace(b"\x00\x00\x80\x3e", b"\x00\x00\x00\x3f")  # 0.25 → 0.5
    monkeypatch.setattr("gpcnn_runtime.engines.onnxruntime.gemm.matmul_model", lambda size: wrong)
    with pytest.raises(EngineError, match="computes a wrong product: 2, expected 1"):
        provider("cpu")
    monkeypatch.setattr("gpcnn_runtime.engines.onnxruntime.gemm.matmul_model", lambda size: b"no model")
    with pytest.raises(EngineError, match="provider cpu does not start"):
        provider("cpu")
    with pytest.raises(GpcnnError, match="here has only cpu"):
        provider("cuda")


def test_doctor_needs_nothing_but_the_base() -> None:
    """Without PyTorch, ONNX Runtime, onnx and CUDA the native engine draws, and the rest is said to be missing."""
    program = """
import msgspec, sys
for name in ("torch", "onnx", "onnxruntime", "safetensors", "tensorrt", "tensorrt_rtx", "cuda"):
    sys.modules[name] = None  # importing it fails
import contextlib, io, threading
import gpcnn_runtime.commands.doctor.diagnosis, gpcnn_runtime.commands.doctor.probe
one = threading.Lock()
def ask(question):  # in this process, where the import is blocked
    out, err = io.StringIO(), io.StringIO()
    with one, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = gpcnn_runtime.commands.doctor.probe.main(list(question))
    assert code == (question != ["native"]), out.getvalue()
    if code == 0:
        return msgspec.json.decode(out.getvalue(), type=gpcnn_runtime.commands.doctor.probe.Answer)
    return err.getvalue().strip().removeprefix("Error: ")
gpcnn_runtime.commands.doctor.diagnosis.probe = ask
from gpcnn_runtime.commands.doctor.cli import main
main([])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "needs the package 'onnxruntime', which is not installed" in " ".join(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from gpcnn_runtime.commands.doctor.cli import main; main(['--help'], standalone_mode=False); "
    )
    program += "print(sorted({'numpy', 'onnxruntime', 'msgspec', 'rich', 'torch'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_argument_is_taken() -> None:
    done = CliRunner().invoke(main, ["model.onnx"])
    assert done.exit_code == 2
    assert "unexpected extra argument" in done.stderr
