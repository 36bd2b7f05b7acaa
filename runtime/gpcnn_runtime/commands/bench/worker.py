"""One measurement of `gpcnn-bench` in a process of its own, so that its memory and its load time are its own.

    python -m gpcnn_runtime.commands.bench.worker JOB.json IMAGES.npz

prints a `Measured` as one line of JSON, and writes what the first call drew as `gpcnn_deploy.baseline` wants it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.commands.child import answer
from gpcnn_deploy.metadata import EngineMetadata, Role
from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.maps import some_maps
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.machine import peak_rss_mb
from gpcnn_deploy.text import read_exact_json
from gpcnn_runtime.commands.bench.yardstick import yardstick
from gpcnn_runtime.engines.base import Strategy
from gpcnn_runtime.engines.onnxruntime.providers import Provider
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.samples import Samples

ON_CPU = "CPU"
"""What `EngineInfo.provider` begins with where the arithmetic floor of a core applies."""


class BenchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        engine: path of the engine.
        batch: N, images a call.
        threads: parts of a batch drawn at the same time; None: the cores there are.
        label: number or class name that all images are drawn for; None: all classes in turn.
        seed: of the noise. Call k draws streams k · N to (k + 1) · N - 1.
        strategy: of a step engine.
        provider: what runs an .onnx engine. A plan that cannot run here is an error: nothing runs in its place.
        repeat: fewest calls.
        min_time: seconds that the calls take together at least.
        max_time: seconds after which no call begins, even if `repeat` is not reached.
        score: the first call draws; all others score what it drew, every sub-pixel being known.
        instructions: what the native engine computes with, such as `x86-64-v2`; None: the best.
        yardstick: measure the GEMM rate of a core, too, which takes a second.
        begun: when this process was started, in seconds of `time.time`; None: nobody asks how long its start took.
    """

    engine: str
    batch: int
    threads: int | None = None
    label: str | None = None
    seed: int = 0
    strategy: Strategy = "jacobi"
    provider: Provider = "auto"
    repeat: int = 5
    min_time: float = 2.0
    max_time: float = 60.0
    score: bool = False
    instructions: str | None = None
    yardstick: bool = True
    begun: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        seconds: of each call: noise, drawing and results included; a first call is left out unless it took so long
            that it stayed the only one.
        threads: threads that drew at the same time.
        evaluations_per_image: passes through the network that an image went through on average; the images of a part
            go through them together. None where the engine does not count.
        peak_rss_mb: peak memory of this process, in MB.
        load_ms: from the path of the engine to readiness, in ms, the library that runs it being imported already.
        cold_ms: from the start of the process to its first batch, in ms; None if the job does not say when it began.
        gemm_rate: peak multiply-adds per second of one core; None for an engine that does not run on the CPU, or where
            the job leaves it out.
        gemm_library: what reached it.
        window: columns that a sampler drew at a time; None for a step, and where threads drew in different windows.
        engine_digest: SHA-256 of the engine.
        role, spec, checkpoint_digest: of the engine's metadata.
        runs_on: library, version and device that ran the engine.
    """

    seconds: tuple[float, ...]
    threads: int
    evaluations_per_image: float | None
    peak_rss_mb: float
    load_ms: float
    cold_ms: float | None = None
    gemm_rate: float | None
    gemm_library: str | None = None
    role: Role
    window: int | None
    spec: ModelSpec
    checkpoint_digest: str
    engine_digest: str
    runs_on: str


def measure(job: BenchJob, images: Path) -> Measured:
    """Load the engine, draw until the job is satisfied, and write what the first call drew to `images`.

    Raises:
        EngineError, UsageError, MissingExtraError: as `Sampler.load` and `Sampler.sample`.
    """
    if Path(job.engine).suffix.lower() == ".onnx":
        with contextlib.suppress(ImportError):
            import onnxruntime  # noqa: F401, for its import to stay out of the load time
    begin = time.perf_counter()
    sampler = _load(job)
    load_ms = (time.perf_counter() - begin) * 1e3
    with sampler:
        metadata, info = sampler.metadata, sampler.engine.info
        given = conditions(metadata, job)
        parts = [stop - start for start, stop in sampler.parts(job.batch)]
        passes: list[float] = []
        known: dict[str, Any] = {}

        def draw(call: int) -> Samples:
            count = 1 if given else job.batch
            samples = sampler.sample(
                seed=job.seed, count=count, first=call * job.batch, strategy=job.strategy, **given, **known
            )
            if samples.evaluations is not None:
                passes.append(samples.evaluations / len(parts))
            return samples

        begin = time.perf_counter()
        first = draw(0)  # allocates
        warm_up = time.perf_counter() - begin
        cold_ms = None if job.begun is None else (time.time() - job.begun) * 1e3
        if job.score:
            known.update(known=first.levels, mask=np.ones(first.levels.shape, np.bool_))
            passes.clear()
        seconds = (warm_up,) if warm_up > job.max_time and not job.score else time_calls(draw, job)
        peak = peak_rss_mb()
    save_images(images, metadata, job, first.levels)
    stick = yardstick() if job.yardstick and info.provider.startswith(ON_CPU) else None
    return Measured(
        seconds=seconds,
        threads=min(sampler.threads, job.batch),
        evaluations_per_image=float(np.mean(passes)) if passes else None,
        peak_rss_mb=peak,
        load_ms=load_ms,
        cold_ms=cold_ms,
        gemm_rate=None if stick is None else stick.gemm_rate,
        gemm_library=None if stick is None else stick.library,
        role=metadata.role,
        window=_window(metadata.schedule, parts),
        engine_digest=info.digest,
        spec=metadata.spec,
        checkpoint_digest=metadata.checkpoint_digest,
        runs_on=f"{info.runtime} {info.version}, {info.provider}",
    )


def _load(job: BenchJob) -> Sampler:
    if job.instructions is None:
        return Sampler.load(job.engine, job.threads, job.batch, provider=job.provider, fallback=False)
    from gpcnn_runtime.engines.native.load import load_native_engine
    from gpcnn_runtime.zoo.catalogue import resolve_engine

    engine = load_native_engine(resolve_engine(job.engine), instructions=job.instructions)
    return Sampler(engine, job.threads, job.batch)


def _window(schedule: Schedule | None, parts: list[int]) -> int | None:
    windows = set() if schedule is None else {schedule.of(part) for part in parts}
    return windows.pop() if len(windows) == 1 else None


def conditions(metadata: EngineMetadata, job: BenchJob) -> dict[str, Any]:
    """`labels`, `embedding` or `map` of one call, as `Sampler.sample` takes them; empty for an unconditional model."""
    spec = metadata.spec
    if spec.conditioning == "label":
        if job.label is not None:
            return {"labels": [metadata.label_number(job.label)] * job.batch}
        return {"labels": [k % spec.conditioning_size for k in range(job.batch)]}
    if job.label is not None:
        metadata.label_number(job.label)  # raises: the model has no labels
    if spec.conditioning == "embedding":
        stream = np.random.Generator(np.random.Philox(key=np.array([job.seed, 2**64 - 1], np.uint64)))
        return {"embedding": stream.standard_normal((job.batch, spec.conditioning_size), np.float32)}
    if spec.conditioning == "map":
        stream = np.random.Generator(np.random.Philox(key=np.array([job.seed, 2**64 - 1], np.uint64)))
        return {"map": some_maps(spec, job.batch, stream)}
    return {}


def time_calls(draw: Callable[[int], Samples], job: BenchJob) -> tuple[float, ...]:
    """Seconds of calls 1, 2, … of `draw`, after call 0, which allocated."""
    seconds: list[float] = []
    while (total := sum(seconds)) < job.min_time or len(seconds) < job.repeat:
        if seconds and total > job.max_time:
            break
        begin = time.perf_counter()
        draw(len(seconds) + 1)
        seconds.append(time.perf_counter() - begin)
    return tuple(seconds)


def save_images(path: Path, metadata: EngineMetadata, job: BenchJob, levels: npt.NDArray[Any]) -> None:
    """Write noise, images and conditions of the first call, as `gpcnn_deploy.baseline` describes."""
    given = conditions(metadata, job)
    arrays: dict[str, npt.NDArray[Any]] = {
        "noise": noise(metadata.spec, job.seed, job.batch),
        "image": levels.astype(np.int32),
    }
    if "labels" in given:
        arrays["condition"] = np.array(given["labels"], np.int32)
    elif given:
        (arrays["condition"],) = given.values()
    np.savez(path, **arrays)  # type: ignore[arg-type]


def main(arguments: list[str]) -> int:
    """Run one job; an expected error becomes one line on stderr and its exit code."""
    job_path, images = map(Path, arguments)
    return answer(lambda: measure(read_exact_json(job_path.read_bytes(), BenchJob), images))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
