"""What a server needs: images that several clients asked for, each with values of its own, drawn as one batch.

Triton's Python backend (`gpcnn_export/triton/model.py`) calls it. Each request is checked alone, so that a bad one
spoils no other. An image does not depend on the batch that it is drawn in.

Shape legend: N images of a request, C channels, H rows, W columns, E length of an embedding.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import read_model_file
from gpcnn_deploy.system.machine import of_memory
from gpcnn_deploy.text import counted
from gpcnn_runtime.conditions import Conditions, check_conditions
from gpcnn_runtime.engines.base import Closing, OutOfMemoryError, Request, Result
from gpcnn_runtime.engines.cancel import Cancellation
from gpcnn_runtime.sampler import Sampler, make_request, split

MODEL = "model.gpcnn"
PLAN = "model.plan"

Numbers = npt.NDArray[np.generic]


def load_served(folder: Path, threads: int | None = None, warn: Callable[[str], None] = warnings.warn) -> Sampler:
    """Load what a server's folder holds: the plan `model.plan` where there is one that runs here, else `model.gpcnn`.

    Args:
        folder: of the files.
        threads: default: the cores that this process may use, as far as memory is there for them.
        warn: told in one line why a plan does not run.

    Raises:
        EngineError: a file is missing or damaged, or the plan is of another model.
        UsageError: threads below 1.
    """
    metadata, _ = read_model_file(folder / MODEL)
    plan = folder / PLAN
    if not plan.is_file():
        return Sampler.load(folder / MODEL, threads)
    sampler = Sampler.load(plan, threads, warn=warn)
    served = sampler.metadata
    if (served.checkpoint_digest, served.spec) != (metadata.checkpoint_digest, metadata.spec):
        sampler.close()
        raise EngineError(f"{plan} is not of the model in {MODEL} beside it: build the plan anew, or remove it")
    return sampler


def check_images(
    metadata: EngineMetadata,
    *,
    label: Numbers | None = None,
    embedding: Numbers | None = None,
    seed: Numbers | None = None,
    position: Numbers | None = None,
    temperature: Numbers | None = None,
    known: Numbers | None = None,
    mask: Numbers | None = None,
    map: Numbers | None = None,
) -> list[Conditions]:
    """Check one request. Row k of every array belongs to its image k, which is conditioned on nothing else.

    Args:
        metadata: of the engine that is to draw.
        label: integer [N, 1], numbers of labels, for a model with labels.
        embedding: float [N, E], for a model with embeddings.
        seed: integer [N, 1]; default 0.
        position: integer [N, 1], the image's number among those of its seed; default k, so that the request draws what
            one call of `Sampler.sample` does.
        temperature: float [N, 1]; default 1.
        known: integer [N, C, H, W], levels to keep; with `mask`.
        mask: bool [N, C, H, W]: true keeps `known`, false draws.
        map: integer or float [N, P, h, w], for a model with maps.

    Returns:
        One for each image, each of one image.

    Raises:
        UsageError: what is wrong, of which image, what was expected.
    """
    given = {
        "label": label,
        "embedding": embedding,
        "seed": seed,
        "position": position,
        "temperature": temperature,
        "known": known,
        "mask": mask,
        "map": map,
    }
    sizes = {name: len(array) for name, array in given.items() if array is not None}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        found = ", ".join(f"{name} of {size}" for name, size in sizes.items()) or "none"
        raise UsageError(f"inputs: {found}: expected at least one input, all of as many images")
    if metadata.spec.conditioning == "label" and label is None:
        raise UsageError(f"this model draws one class at a time: give the input label, {_labels(metadata)}")
    count = next(iter(sizes.values()))
    images = []
    for k in range(count):
        row: dict[str, Any] = {name: None if array is None else array[k] for name, array in given.items()}
        try:
            images.append(_image(metadata, k, row))
        except UsageError as error:
            raise UsageError(f"image {k}: {error}" if count > 1 else str(error)) from error
    return images


def _labels(metadata: EngineMetadata) -> str:
    """The labels that there are, by number: to a server a label is never a class name, even one such as `5`."""
    numbered = enumerate(metadata.class_names)
    return f"one of {', '.join(name if name == str(k) else f'{k} {name}' for k, name in numbered)}"


def _image(metadata: EngineMetadata, k: int, row: dict[str, Any]) -> Conditions:
    label = None if row["label"] is None else int(row["label"].item())
    if label is not None and metadata.class_names and not 0 <= label < len(metadata.class_names):
        raise UsageError(f"unknown label {label}: expected {_labels(metadata)}")
    return check_conditions(
        metadata,
        labels=label,
        seed=0 if row["seed"] is None else int(row["seed"].item()),
        count=1,
        temperature=1.0 if row["temperature"] is None else float(row["temperature"].item()),
        known=row["known"],
        mask=row["mask"],
        embedding=row["embedding"],
        map=row["map"],
        first=k if row["position"] is None else int(row["position"].item()),
    )


class BatchSampler(Closing):
    """Draws the images of several requests together.

    Attributes:
        sampler: its engine draws; the sampler is closed with this.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._pool = ThreadPoolExecutor(sampler.threads, thread_name_prefix="gpcnn-serving")

    def draw(self, requests: Sequence[Sequence[Conditions]]) -> list[Result | EngineError]:
        """Draw the images of requests that `check_images` found to be sound.

        Images of one temperature are drawn at a time, by all threads: an engine takes one temperature for its batch.

        Returns:
            Of each request its images in order, and of a VQ-VAE their pictures, or why it has none; evaluations are
            not counted.
        """
        images = [image for request in requests for image in request]
        owners = [owner for owner, request in enumerate(requests) for _ in request]
        shape = (len(images), *self.sampler.metadata.spec.image_shape)
        levels, log_prob = np.empty(shape, np.int32), np.empty(shape, np.float32)
        vqvae = self.sampler.metadata.vqvae
        pictures = None if vqvae is None else np.empty((len(images), *vqvae.image_shape), np.uint8)
        errors: dict[int, EngineError] = {}
        drawn = [(part, self._pool.submit(self._part, [images[k] for k in part])) for part in self._parts(images)]
        for part, future in drawn:
            try:
                result = future.result()
            except EngineError as error:
                errors.update(dict.fromkeys((owners[k] for k in part), error))
                continue
            levels[part], log_prob[part] = result.levels, result.log_prob
            if pictures is not None and result.pictures is not None:
                pictures[part] = result.pictures
        answers: list[Result | EngineError] = []
        start = 0
        for owner, request in enumerate(requests):
            stop = start + len(request)
            shown = None if pictures is None else pictures[start:stop]
            answers.append(errors.get(owner) or Result(levels[start:stop], log_prob[start:stop], None, shown))
            start = stop
        return answers

    def _parts(self, images: Sequence[Conditions]) -> Iterator[list[int]]:
        """Numbers of the images that are drawn in one call of the engine."""
        groups: dict[float, list[int]] = {}
        for k, image in enumerate(images):
            groups.setdefault(float(np.float32(image.temperature)), []).append(k)
        for group in groups.values():
            for start, stop in split(len(group), self.sampler.threads, self.sampler.batch_size):
                yield group[start:stop]

    def _part(self, images: Sequence[Conditions]) -> Result:
        cancellation, first = Cancellation(), np.zeros(1, np.int64)
        try:
            alone = [make_request(self.sampler.metadata, image, first, cancellation) for image in images]
            return self.sampler.run(_together(alone))
        except (OutOfMemoryError, MemoryError) as error:
            raise OutOfMemoryError(
                f"not enough memory for {counted(len(images), 'image')} at a time{of_memory()}: lower max_batch_size "
                "in config.pbtxt, or let the server have more memory"
            ) from error

    def close(self) -> None:
        """Wait for what is being drawn, then release the threads and the engine, for good."""
        self._pool.shutdown(wait=True)
        self.sampler.close()


def _together(requests: Sequence[Request]) -> Request:
    """One batch of requests of one temperature."""
    first = requests[0]
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(request, field.name) for request in requests])
        for field in dataclasses.fields(Request)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return dataclasses.replace(first, **arrays)
