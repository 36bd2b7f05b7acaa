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

from gpcnn_deploy.command import explain
from gpcnn_deploy.machine import peak_rss_mb
from gpcnn_deploy.metadata import EngineMetadata, Role
from gpcnn_deploy.philox import noise
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import exact_json, read_exact_json
from gpcnn_runtime.engines.base import Strategy
from gpcnn_runtime.engines.onnxruntime.providers import Provider
from gpcnn_runtime.sampler import Sampler, split
from gpcnn_runtime.samples import Samples

ON_CPU = "CPU"
"""`EngineInfo.provider` of an engine that the arithmetic floor of a core applies to."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
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


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        seconds: of each call: noise, drawing and results included; a first call is left out unless it took so long
            that it stayed the only one.
        threads: threads that drew at the same time.
        evaluations_per_image: passes through the network that an image went through on average; the images of a part
            go through them together. None where the engine does not count.
        peak_rss_mb: peak memory of this process, in MB.
        load_ms: from the path of the engine to readiness, in ms, ONNX Runtime being imported already.
        gemm_rate: peak multiply-adds per second of one core; None for an engine that does not run on the CPU.
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
    gemm_rate: float | None
    role: Role
    window: int | None
    spec: ModelSpec
    checkpoint_digest: str
    engine_digest: str
    runs_on: str


def measure(job: Job, images: Path) -> Measured:
    """Load the engine, draw until the job is satisfied, and write what the first call drew to `images`.

    Raises:
        EngineError, UsageError, MissingExtraError: as `Sampler.load` and `Sampler.sample`.
    """
    with contextlib.suppress(ImportError):
        import onnxruntime  # noqa: F401, for its import to stay out of the load time
    begin = time.perf_counter()
    sampler = Sampler.load(job.engine, job.threads, job.batch, provider=job.provider, fallback=False)
    load_ms = (time.perf_counter() - begin) * 1e3
    with sampler:
        metadata, info = sampler.metadata, sampler.engine.info
        given = conditions(metadata, job)
        parts = [stop - start for start, stop in split(job.batch, sampler.threads, sampler.batch_size)]
        passes: list[float] = []

        def draw(call: int) -> Samples:
            count = 1 if given else job.batch
            samples = sampler.sample(seed=job.seed, count=count, first=call * job.batch, strategy=job.strategy, **given)
            if samples.evaluations is not None:
                passes.append(samples.evaluations / len(parts))
            return samples

        seconds, first = time_calls(draw, job)
        peak = peak_rss_mb()
    save_images(images, metadata, job, first.levels)
    on_cpu = info.provider == ON_CPU
    if on_cpu:
        from gpcnn_runtime.engines.onnxruntime.gemm import gemm_rate
    return Measured(
        seconds=seconds,
        threads=min(sampler.threads, job.batch),
        evaluations_per_image=float(np.mean(passes)) if passes else None,
        peak_rss_mb=peak,
        load_ms=load_ms,
        gemm_rate=gemm_rate() if on_cpu else None,
        role=metadata.role,
        window=_window(metadata.schedule, parts),
        engine_digest=info.digest,
        spec=metadata.spec,
        checkpoint_digest=metadata.checkpoint_digest,
        runs_on=f"{info.runtime} {info.version}, {info.provider}",
    )


def _window(schedule: Schedule | None, parts: list[int]) -> int | None:
    windows = set() if schedule is None else {schedule.of(part) for part in parts}
    return windows.pop() if len(windows) == 1 else None


def conditions(metadata: EngineMetadata, job: Job) -> dict[str, Any]:
    """`labels` or `embedding` of one call, as `Sampler.sample` takes them; empty for an unconditional model."""
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
    return {}


def time_calls(draw: Callable[[int], Samples], job: Job) -> tuple[tuple[float, ...], Samples]:
    """Seconds of calls 1, 2, … of `draw`, after call 0, which allocates and whose result is returned."""
    begin = time.perf_counter()
    first = draw(0)
    warm_up = time.perf_counter() - begin
    if warm_up > job.max_time:
        return (warm_up,), first
    seconds: list[float] = []
    while (total := sum(seconds)) < job.min_time or len(seconds) < job.repeat:
        if seconds and total > job.max_time:
            break
        begin = time.perf_counter()
        draw(len(seconds) + 1)
        seconds.append(time.perf_counter() - begin)
    return tuple(seconds), first


def save_images(path: Path, metadata: EngineMetadata, job: Job, levels: npt.NDArray[np.uint8]) -> None:
    """Write noise, images and conditions of the first call, as `gpcnn_deploy.baseline` describes."""
    given = conditions(metadata, job)
    arrays: dict[str, npt.NDArray[Any]] = {
        "noise": noise(metadata.spec, job.seed, job.batch),
        "image": levels.astype(np.int32),
    }
    if "labels" in given:
        arrays["condition"] = np.array(given["labels"], np.int32)
    elif "embedding" in given:
        arrays["condition"] = given["embedding"]
    np.savez(path, **arrays)  # type: ignore[arg-type]


def main(arguments: list[str]) -> int:
    """Run one job; an expected error becomes one line on stderr and its exit code."""
    job_path, images = map(Path, arguments)
    try:
        measured = measure(read_exact_json(job_path.read_bytes(), Job), images)
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        print(f"Error: {told[0]}", file=sys.stderr)
        return told[1]
    print(exact_json(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
