"""What this machine can run, and what to install for the rest. What may crash is tried in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from gpcnn_deploy.commands.child import environment
from gpcnn_deploy.system.machine import machine_facts
from gpcnn_runtime.commands.doctor.packages import Package, missing, packages
from gpcnn_runtime.commands.doctor.probe import Answer, GpuFacts
from gpcnn_runtime.engines.onnxruntime.providers import PROVIDERS
from gpcnn_runtime.engines.plan_file import Flavor
from gpcnn_runtime.engines.tensorrt.library import MODULES

PROBE_MODULE = "gpcnn_runtime.commands.doctor.probe"
SECONDS = 60.0
"""After which a driver or library that does not answer is given up."""

DRIVER = Path("/proc/driver/nvidia/version")
JETSON = Path("/etc/nv_tegra_release")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The native engine, a provider of ONNX Runtime, or a flavour of TensorRT, that was tried.

    Attributes:
        name: as commands have it.
        works: it ran, or could be imported.
        detail: what ran, or why not.
    """

    name: str
    works: bool
    detail: str


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """Something that people want to do.

    Attributes:
        what: in words.
        samples: it is a way to draw images.
        possible: this machine can.
        how: with which command, or what to install or do first.
    """

    what: str
    samples: bool
    possible: bool
    how: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        can_sample: something here can draw images.
        abilities: what can be done, and what the rest needs.
        machine: `gpcnn_deploy.system.machine.machine_facts`.
        gpus: CUDA devices.
        gpu_problem: why there are none; None where there are.
        native: the native engine, which drew a tiny image.
        providers: execution providers of ONNX Runtime, each tried on a tiny network.
        tensorrt: flavours of TensorRT, each imported.
        packages: what the extras bring, and what of it is there.
        notes: what stands in the way of something else.
    """

    can_sample: bool
    abilities: tuple[Ability, ...]
    machine: dict[str, str | int]
    gpus: tuple[GpuFacts, ...]
    gpu_problem: str | None
    native: Check
    providers: tuple[Check, ...]
    tensorrt: tuple[Check, ...]
    packages: tuple[Package, ...]
    notes: tuple[str, ...]


def examine() -> Diagnosis:
    """Try everything that this machine might sample, build or train with; takes some seconds."""
    names = [name for name in PROVIDERS if name != "auto"]
    flavors = list(MODULES)
    questions = [
        ["gpu"],
        ["native"],
        *(["provider", name] for name in names),
        *(["tensorrt", flavor] for flavor in flavors),
    ]
    with ThreadPoolExecutor(2) as pool:
        gpu, drew, *answers = pool.map(probe, questions)
    native = _check("native", drew)
    providers = tuple(map(_check, names, answers))
    tensorrt = tuple(map(_check, flavors, answers[len(names) :]))
    capabilities = {
        flavor: answer.capabilities
        for flavor, answer in zip(flavors, answers[len(names) :], strict=True)
        if isinstance(answer, Answer)
    }
    gpus = gpu.gpus if isinstance(gpu, Answer) else ()
    found = packages()
    abilities = tuple(_abilities(found, gpus, native, providers, capabilities))
    return Diagnosis(
        can_sample=any(ability.possible and ability.samples for ability in abilities),
        abilities=abilities,
        machine=machine_facts(),
        gpus=gpus,
        gpu_problem=gpu if isinstance(gpu, str) else None,
        native=native,
        providers=providers,
        tensorrt=tensorrt,
        packages=found,
        notes=tuple(_notes(found, gpus)),
    )


def probe(question: Sequence[str]) -> Answer | str:
    """Ask `gpcnn_runtime.commands.doctor.probe`; a refusal, a crash or a silence is told in one line."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", PROBE_MODULE, *question],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=SECONDS,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {SECONDS:.0f} s"
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Answer)
    if done.returncode < 0:
        return f"crashed with signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else f"ended with exit code {done.returncode}"


def _check(name: str, answer: Answer | str) -> Check:
    if isinstance(answer, str):
        return Check(name=name, works=False, detail=answer)
    return Check(name=name, works=True, detail=answer.detail)


def _abilities(
    found: Sequence[Package],
    gpus: Sequence[GpuFacts],
    native: Check,
    providers: Sequence[Check],
    capabilities: Mapping[Flavor, tuple[str, ...]],
) -> list[Ability]:
    by_name = {package.name: package for package in found}
    working = [check.name for check in providers if check.works]
    on_gpu = [name for name in working if name != "cpu"]
    flavor = _runs_plans(gpus, capabilities)
    builds: Flavor | None = "tensorrt" if flavor == "tensorrt" else None
    builds = builds or ("tensorrt-rtx" if "tensorrt-rtx" in capabilities else None)
    lacks_build = [name for name in ("onnx", "cuda-python") if name not in by_name or not by_name[name].fits]
    gpu_here = bool(gpus) or driver_here()
    lacks_train, lacks_export = missing(by_name, "train"), missing(by_name, "export")

    def ability(what: str, possible: bool, works: str, mend: str, samples: bool = False) -> Ability:
        return Ability(what=what, samples=samples, possible=possible, how=works if possible else mend)

    return [
        ability(
            "draw with model files (.gpcnn)",
            native.works,
            "gpcnn-sample --label 3",
            native.detail,  # the library's error says how to mend it
            samples=True,
        ),
        ability(
            "draw with .onnx engines on the CPU",
            "cpu" in working,
            "gpcnn-sample --engine model.onnx",
            _install("cpu"),
            samples=True,
        ),
        ability(
            "draw with .onnx engines on a GPU",
            bool(on_gpu),
            f"gpcnn-sample --engine step.onnx --provider {on_gpu[0] if on_gpu else ''}",
            f"pip uninstall onnxruntime; {_install('gpu')}" if gpu_here else _NEEDS_GPU,
            samples=True,
        ),
        ability(
            "draw with TensorRT plans",
            flavor is not None,
            f"gpcnn-sample --engine model.plan ({flavor})",
            _install(_plan_extra(gpus)) if gpu_here else _NEEDS_GPU,
            samples=True,
        ),
        ability(
            "build TensorRT plans",
            builds is not None and not lacks_build,
            f"gpcnn-export --format trt ({builds})",
            _install(_plan_extra(gpus)),
        ),
        ability("train", not lacks_train, "gpcnn-train", f"{_install('train')} (for {', '.join(lacks_train)})"),
        ability(
            "export and verify model files (.gpcnn)",
            not lacks_train and native.works,
            "gpcnn-export, gpcnn-verify",
            f"{_install('train')} (for {', '.join(lacks_train)})" if lacks_train else native.detail,
        ),
        ability(
            "export and verify .onnx engines",
            not lacks_export and "cpu" in working,
            "gpcnn-export --format onnx",
            _install("export,cpu") + (f" (for {', '.join(lacks_export)})" if lacks_export else ""),
        ),
    ]


_NEEDS_GPU = "needs an NVIDIA GPU with its driver"


def driver_here() -> bool:
    """Whether the system shows an NVIDIA driver, though no GPU may answer."""
    return DRIVER.exists() or JETSON.exists()


def _install(extras: str) -> str:
    return f"pip install 'gpcnn-deploy[{extras}]'"


def _runs_plans(gpus: Sequence[GpuFacts], capabilities: Mapping[Flavor, tuple[str, ...]]) -> Flavor | None:
    """The flavour of TensorRT that runs plans on the first GPU; None without one."""
    if not gpus:
        return None
    for flavor in MODULES:  # Turing is not in TensorRT-RTX's list, but plans can be built for it alone, on it
        if flavor in capabilities:
            listed = capabilities[flavor]
            if not listed or gpus[0].compute_capability in (*listed, "7.5"):
                return flavor
    return None


def _plan_extra(gpus: Sequence[GpuFacts]) -> str:
    """The extra to install for plans: on a Jetson the system brings TensorRT; RTX is for RTX cards."""
    if JETSON.exists():
        return "plan,cpu"
    if gpus and gpus[0].compute_capability not in ("8.6", "8.9", "12.0", "12.1"):
        return "tensorrt,cpu"
    return "tensorrt-rtx,cpu"


def _notes(found: Sequence[Package], gpus: Sequence[GpuFacts]) -> list[str]:
    versions = {package.name: package.version for package in found}
    notes = []
    if versions.get("onnxruntime") and versions.get("onnxruntime-gpu"):
        notes.append(
            "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other: pip uninstall both, then "
            "install the one that is wanted"
        )
    if not gpus and driver_here():
        notes.append(f"an NVIDIA driver is here, but no GPU could be asked: {_install('plan')}, or check the driver")
    notes += [
        f"{package.name} {package.version} is older than {package.minimum}: pip install --upgrade {package.name}"
        for package in found
        if package.version is not None and not package.fits
    ]
    return notes
