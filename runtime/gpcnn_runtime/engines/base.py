"""What every engine can do, and the one loop that drives single-step engines.

Shape legend: N images, C channels, H rows, W columns, E length of an embedding.

A `sampler` engine draws a whole image in one call. A `step` engine evaluates the network once over the whole image; the
runtime iterates it. Its sample is the unique fixed point of the step, so both schedules below end in the same image:

- `jacobi` samples every sub-pixel at once from the present guess and repeats until nothing changes;
- `raster` is the reference: one evaluation per sub-pixel, of which only the next in raster and channel order is kept.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_runtime.engines.cancel import Cancellation

if TYPE_CHECKING:
    from typing_extensions import Self

Strategy = Literal["jacobi", "raster"]

EXPORT_ANEW = "make one with gpcnn-export"


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One batch to draw. Arrays are C-contiguous and already checked against the spec.

    Attributes:
        noise: float32 [N, C, H, W] in [0, 1): the uniforms that decide the images.
        known: int32 [N, C, H, W]: levels to keep where `mask` is true; 0 elsewhere.
        mask: bool [N, C, H, W]: true keeps `known`, false draws.
        label: int32 [N] for a model conditioned on labels, else None.
        embedding: float32 [N, E] for a model conditioned on embeddings, else None.
        temperature: divides the logits before drawing, see docs/engines.md of mixtures; above 0.
        cancellation: looked at between steps; an engine whose single call takes long may hook into it.
        map: int32 (categories) or float32 (values) [N, M, h, w] for a model conditioned on maps, else None.
    """

    noise: npt.NDArray[np.float32]
    known: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]
    label: npt.NDArray[np.int32] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    temperature: float = 1.0
    cancellation: Cancellation = dataclasses.field(default_factory=Cancellation)
    map: npt.NDArray[np.int32] | npt.NDArray[np.float32] | None = None

    @property
    def count(self) -> int:
        """N, images in the batch."""
        return len(self.noise)

    def start(self) -> npt.NDArray[np.int32]:
        """The first guess of a fixed-point iteration: what is known, 0 elsewhere; int32 [N, C, H, W]."""
        return np.where(self.mask, self.known, np.int32(0))

    def inputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """The engine inputs that stay the same through all steps, by the names that graphs use."""
        inputs: dict[str, npt.NDArray[np.generic]] = {
            "noise": self.noise,
            "known": self.known,
            "mask": self.mask,
            "temperature": np.asarray(self.temperature, np.float32),
        }
        if self.label is not None:
            inputs["label"] = self.label
        if self.embedding is not None:
            inputs["embedding"] = self.embedding
        if self.map is not None:
            inputs["map"] = self.map
        return inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """One batch drawn.

    Attributes:
        levels: int32 [N, C, H, W].
        log_prob: float32 [N, C, H, W], nats of each sub-pixel given those before it, at temperature 1.
        evaluations: evaluations of the network (of its row windows, for a `sampler`) that the batch took together; None
            where the engine does not count.
        pictures: of a VQ-VAE, whose levels are codes: uint8 [N, C, H, W], of `VqvaeSpec.image_shape`; else None.
    """

    levels: npt.NDArray[np.int32]
    log_prob: npt.NDArray[np.float32]
    evaluations: int | None
    pictures: npt.NDArray[np.uint8] | None = None


@dataclasses.dataclass(frozen=True)
class EngineInfo:
    """Where an engine came from and what runs it, for people to read.

    Attributes:
        path: the engine file.
        runtime: name of the library, for example `ONNX Runtime`.
        version: version of that library.
        provider: what executes the network, for example `CPU` or the name of a GPU.
        content: the bytes that were loaded, where the engine kept them.
    """

    path: Path
    runtime: str
    version: str
    provider: str
    content: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    @functools.cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the bytes that were loaded; of the file, where they were not kept."""
        import hashlib  # only long jobs pay for it

        from gpcnn_deploy.system.files import sha256

        return sha256(self.path) if self.content is None else hashlib.sha256(self.content).hexdigest()


class Closing(abc.ABC):
    """What is closed when its `with` block ends."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything that it holds; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(Closing):
    """A loaded engine. `run` may be called from several threads at once; an engine that cannot do so takes a lock.

    Attributes:
        metadata: what the file says about itself, checked.
        info: what runs it.
        concurrent: true if several threads that call `run`, each on its own part of a batch, are faster than one.
        max_batch: most images that one `run` takes; None without a limit.
    """

    metadata: EngineMetadata
    info: EngineInfo
    concurrent: bool = False
    max_batch: int | None = None

    @abc.abstractmethod
    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch.

        Raises:
            EngineError: the engine failed; `OutOfMemoryError` if memory was what it lacked.
            UsageError: the engine's role has no such strategy.
            Cancelled: the request was called off.
        """


class OutOfMemoryError(EngineError):
    """An engine could not allocate what a batch needs; a smaller batch may fit."""


def refuse_strategy(metadata: EngineMetadata, strategy: Strategy) -> None:
    """Refuse to schedule what has a schedule of its own: a `sampler`, or a model file drawn by the native engine.

    Raises:
        UsageError: any strategy but the default.
    """
    if strategy != "jacobi":
        raise UsageError(
            f"strategy {strategy} needs a step engine; this is a {metadata.role_words}, whose schedule "
            "is fixed: leave --strategy out, or export with --graph step"
        )


class StepBatch(Protocol):
    """One batch in the memory of whatever evaluates the step: `Request` uploaded once, an image that is moved on."""

    def place(self, levels: npt.NDArray[np.int32]) -> None:
        """Replace the image by int32 [N, C, H, W]."""

    def advance(self, steps: int) -> int:
        """Put the image through that many steps; returns how many sub-pixels of the batch the last one changed."""

    def read(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(image after the last step, log-probability of the image before it), both [N, C, H, W].

        Once a step changes nothing, both belong to the same image.
        """


class DecodesCodes(Protocol):
    """What makes pictures of a VQ-VAE's codes."""

    def decode(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Codes int32 [N, 1, h, w] → pictures uint8 [N, C, H, W]."""

    def close(self) -> None:
        """Release everything that it holds; a second call does nothing."""


class StepEngine(Engine):
    """An engine of role `step`: it opens batches, and the loop here drives them.

    Attributes:
        stride: steps between two looks at the count of changes; more hide the cost of a look behind the steps.
        decoder: of a VQ-VAE, what the codes go through once they are drawn; None for other models.
    """

    stride: int = 1
    decoder: DecodesCodes | None = None

    @abc.abstractmethod
    def open(self, request: Request) -> AbstractContextManager[StepBatch]:
        """Upload a batch, its image at `request.start()`; leaving the context releases it, whatever happened inside."""

    def run(self, request: Request, strategy: Strategy = "jacobi") -> Result:
        """Draw one batch by iterating the step.

        Raises:
            EngineError: the step failed, or it has no fixed point where every Gated PixelCNN has one.
        """
        with self.open(request) as batch:
            if strategy == "raster":
                evaluations = _raster(batch, request)
            else:
                evaluations = _jacobi(batch, request, self.stride, self.info.path)
            levels, log_prob = batch.read()
        return Result(levels, log_prob, evaluations, None if self.decoder is None else self.decoder.decode(levels))


def _jacobi(batch: StepBatch, request: Request, stride: int, path: Path) -> int:
    # Each step settles at least the first sub-pixel that was not settled yet: C·H·W steps reach the fixed point, and
    # one more shows that nothing changes.
    evaluations, subpixels = 0, int(request.noise[0].size)
    while evaluations <= subpixels:
        request.cancellation.check()
        changed = batch.advance(stride)
        evaluations += stride
        if changed == 0:
            return evaluations
    raise EngineError(
        f"{path}: still changing after {evaluations} steps, where {subpixels + 1} are enough for any causal network: "
        "the file is damaged or no Gated PixelCNN; export it anew"
    )


def _raster(batch: StepBatch, request: Request) -> int:
    image = request.start()
    channels, height, width = image[0].shape
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                request.cancellation.check()
                batch.advance(1)
                drawn, _ = batch.read()
                image[:, c, i, j] = drawn[:, c, i, j]
                batch.place(image)
    batch.advance(1)
    return int(image[0].size) + 1
