"""Is this engine still the model that was trained? The engine draws and scores here; eager PyTorch judges.

PyTorch runs in a process of its own (`gpcnn_export.commands.verify.protocol`), so nothing here imports it.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.checkpoint_header import Header, read_header
from gpcnn_deploy.commands.child import run_child
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import Precision, Role
from gpcnn_deploy.philox import MAX_SEED
from gpcnn_deploy.text import counted, exact_json
from gpcnn_export.commands.verify.protocol import INPUTS, JUDGE_MODULE, Inputs, Prepared, Verdict, VerifyJob
from gpcnn_runtime.engines.base import Strategy
from gpcnn_runtime.engines.onnxruntime.providers import Provider
from gpcnn_runtime.sampler import BATCH_SIZE, Sampler
from gpcnn_runtime.samples import Samples
from gpcnn_training.data.names import check_data
from gpcnn_training.runs import checkpoint_path

IMAGES = 16
TEST_IMAGES = 500
RASTER_IMAGES = 1
"""Images of each kind that a step draws in raster order, too: each takes an evaluation of the network per sub-pixel."""

Arrays = dict[str, npt.NDArray[Any]]


class Verification(Verdict, frozen=True, kw_only=True):
    """The verdict, and what it is about.

    Attributes:
        engine: path of the engine.
        role, window, batch_window, batch_from, batch, precision: of its metadata.
        runs_on: library, version and device that ran it.
    """

    engine: str
    role: Role
    window: int | None
    batch_window: int | None
    batch_from: int | None
    batch: int | None
    precision: Precision
    runs_on: str


def verify(
    engine: str | Path,
    checkpoint: str | Path,
    *,
    images: int = IMAGES,
    seed: int = 0,
    data: str | None = None,
    data_dir: str | Path | None = None,
    test_images: int = TEST_IMAGES,
    provider: Provider = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    tell: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Verification:
    """Hold an engine against eager PyTorch on the checkpoint that it was made from.

    The engine draws samples and completions, and scores images that are all known and real ones, by every strategy that
    it has (in raster order, RASTER_IMAGES of each kind) and with every window; the encoder beside it, if it names one,
    encodes pictures. One evaluation of the eager network at each image proves that it is the one that eager PyTorch
    draws of the same noise, or finds where the two part.

    Args:
        engine: a model file, an .onnx engine, `zoo:NAME`, or a TensorRT plan, for which nothing else is run in its
            place.
        checkpoint: a checkpoint file, or a run folder that holds one.
        images: images of each kind, 1 or more; at least as many as a second window takes; image k has noise stream
            (seed, k).
        seed: 0 to 2**64 - 1.
        data: name or path of the data set whose test images are scored, as gpcnn-train has it; None takes the
            checkpoint's own, if it can be had without a download, else none.
        data_dir: folder that holds the files of a published data set; None looks into the cache of downloads.
        test_images: most test images to score, 1 or more.
        provider: what runs an .onnx engine.
        threads: parts drawn at the same time; default: the cores that this process may use, as far as memory is there.
        batch_size: most images of one part, unless a second window takes more.
        tell: shown one line about what is going on.
        warn: told in one line why something else runs it than would otherwise.

    Returns:
        The result; `proven` says whether the engine is the checkpoint's model.

    Raises:
        UsageError: images, seed or test_images are out of range, or `data` does not exist.
        EngineError: the engine, or the encoder that it names, is missing, damaged, foreign, or cannot run here.
        GpcnnError: the judge cannot judge: PyTorch is not installed, the checkpoint is missing, damaged or of another
            spec, or `data` is damaged or does not fit the model.
    """
    if images < 1 or test_images < 1:
        raise UsageError(
            f"{counted(images, 'image')}, {counted(test_images, 'test image')}: expected 1 or more of each"
        )
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed is {seed}: expected 0 to 2**64 - 1")
    tell("loading the engine")
    read_header(checkpoint_path(Path(checkpoint)), Header)  # before the judge, who needs PyTorch
    if data is not None:
        check_data(data)
    with (
        Sampler.load(engine, threads, batch_size, provider=provider, fallback=False, warn=warn) as sampler,
        tempfile.TemporaryDirectory(prefix="gpcnn-verify-") as folder,
    ):
        metadata, info = sampler.metadata, sampler.engine.info
        job = VerifyJob(
            checkpoint=str(checkpoint),
            spec=metadata.spec,
            class_names=metadata.class_names,
            precision=metadata.precision,
            checkpoint_digest=metadata.checkpoint_digest,
            encoder=metadata.encoder_digest is not None,
            images=max(images, metadata.batch_from or 1),
            seed=seed,
            data=data,
            data_dir=None if data_dir is None else str(data_dir),
            test_images=test_images,
            vqvae=metadata.vqvae,
        )
        Path(folder, "job.json").write_text(exact_json(job), encoding="utf-8")
        tell("eager PyTorch prepares what the engine is fed")
        run_child(JUDGE_MODULE, ["prepare", folder], Prepared, "fewer --test-images")
        with np.load(Path(folder, "request.npz"), allow_pickle=False) as request:
            drawn = _draw(sampler, dict(request), seed, tell)
        np.savez(Path(folder, "drawn.npz"), **drawn)  # type: ignore[arg-type]
        tell("eager PyTorch judges")
        verdict = run_child(JUDGE_MODULE, ["judge", folder], Verdict, "fewer --images")
    return Verification(
        **msgspec.structs.asdict(verdict),
        engine=str(engine),
        role=metadata.role,
        window=metadata.window,
        batch_window=metadata.batch_window,
        batch_from=metadata.batch_from,
        batch=metadata.batch,
        precision=metadata.precision,
        runs_on=f"{info.runtime} {info.version}, {info.provider}",
    )


def _draw(sampler: Sampler, request: Arrays, seed: int, tell: Callable[[str], None]) -> Arrays:
    """What the engine makes of the request, as `gpcnn_export.commands.verify.protocol` describes it."""
    drawn: Arrays = {}
    for inputs in INPUTS:
        fed_all = {key.partition(".")[2]: array for key, array in request.items() if key.startswith(f"{inputs}.")}
        for way in _ways(sampler, inputs, len(fed_all["noise"])):
            tell(f"the engine draws {inputs} ({way.name})")
            fed = {key: array[: way.most] if array.ndim else array for key, array in fed_all.items()}
            with _cut(sampler, way):
                samples = _sample(sampler, fed, len(fed["noise"]), seed, way.strategy)
            drawn[f"{inputs}.{way.name}.image"] = samples.levels.astype(np.int32)
            drawn[f"{inputs}.{way.name}.log_prob"] = samples.log_prob
            if samples.pictures is not None:
                drawn[f"{inputs}.{way.name}.picture"] = samples.pictures
    if "encoder.image" in request or "encoder.picture" in request:
        from gpcnn_runtime.engines.onnxruntime.encoder import Encoder

        with Encoder.beside(sampler.engine) as encoder:
            if "encoder.image" in request:
                drawn["encoder.embedding"] = encoder.embed(request["encoder.image"])
            else:
                drawn["encoder.codes"] = encoder.encode(request["encoder.picture"])
    if "data.levels" in request:
        levels = request["data.levels"]
        tell(f"the engine scores {counted(len(levels), 'test image')}")
        fed = {"known": levels, "mask": np.ones(levels.shape, np.bool_), "temperature": np.array(1, np.float32)}
        fed.update({key: request[f"data.{key}"] for key in ("label", "embedding", "map") if f"data.{key}" in request})
        drawn["data.log_prob"] = _sample(sampler, fed, len(levels), seed, "jacobi").log_prob
    return drawn


@dataclass(frozen=True)
class _Way:
    """How an engine handles a kind of inputs: under which name, the most images, and how they are cut into calls."""

    name: str
    strategy: Strategy
    most: int | None
    threads: int
    batch_size: int


def _ways(sampler: Sampler, inputs: Inputs, images: int) -> list[_Way]:
    metadata, threads, batch_size = sampler.metadata, sampler.threads, sampler.batch_size
    schedule = metadata.schedule
    if metadata.role == "weights":
        # The native engine has a schedule of its own for few images, and others from some number of images on.
        alone = _Way("native, one by one", "jacobi", None, threads, 1)
        together = _Way("native, in batches", "jacobi", None, 1, max(2, batch_size))
        return [alone, together] if inputs != "scores" else [together]
    if schedule is None:
        raster = _Way("raster", "raster", RASTER_IMAGES, threads, batch_size)
        return [_Way("jacobi", "jacobi", None, threads, batch_size), *([raster] if inputs != "scores" else [])]
    if schedule.batch_window is None or schedule.batch_from is None or inputs == "scores":
        return [_Way("graph", "jacobi", None, threads, batch_size)]
    # Calls of fewer images than the second window takes, and calls of at least as many, but no more than they must.
    few, most_calls = min(batch_size, schedule.batch_from - 1), images // schedule.batch_from
    many = max(batch_size, -(-images // most_calls))
    return [
        _Way(f"window {schedule.window}", "jacobi", None, threads, few),
        _Way(f"window {schedule.batch_window}", "jacobi", None, 1, many),
    ]


@contextlib.contextmanager
def _cut(sampler: Sampler, way: _Way) -> Iterator[None]:
    before = sampler.threads, sampler.batch_size
    sampler.threads, sampler.batch_size = way.threads, way.batch_size
    try:
        yield
    finally:
        sampler.threads, sampler.batch_size = before


def _sample(sampler: Sampler, fed: Arrays, count: int, seed: int, strategy: Strategy) -> Samples:
    conditioned = "label" in fed or "embedding" in fed or "map" in fed
    return sampler.sample(
        fed.get("label"),
        seed,
        1 if conditioned else count,
        temperature=float(fed["temperature"]),
        known=fed["known"],
        mask=fed["mask"],
        embedding=fed.get("embedding"),
        map=fed.get("map"),
        strategy=strategy,
    )
