"""What images of `gpcnn-sample` are drawn from, where it is no label: vectors from files, or a way between two."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import GpcnnError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.pictures.levels import compact, grid, pixels_from_levels
from gpcnn_deploy.pictures.maps import Maps
from gpcnn_deploy.system.home import at_home
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.sample.wants import not_for_it
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.inputs.picture import read_levels
from gpcnn_runtime.inputs.vectors import read_vectors
from gpcnn_runtime.interpolation import interpolate
from gpcnn_runtime.sampler import Sampler

_ARRAYS = (".npy", ".npz")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """M things that images are drawn from, `count` of each.

    Attributes:
        names: what people call them.
        embedding: float32 [M, E]; None where they are maps.
        map: int32 or float32 [M, P, h, w]; None where they are vectors.
        depth: K, the number of levels.
        same_noise: so many images in a row share their noise.
        shown: how many pictures a sheet shows beside the images.
    """

    names: tuple[str, ...]
    embedding: npt.NDArray[np.float32] | None = None
    map: Maps | None = None
    depth: int
    same_noise: int = 1
    shown: int = 0

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """The vectors, of those that are no maps."""
        assert self.embedding is not None
        return self.embedding

    def __len__(self) -> int:
        return len(self.vectors)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what they are."""
        return hashlib.sha256(repr(self.vectors.shape).encode() + self.vectors.tobytes()).hexdigest()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz keeps of them."""
        return {"embedding": self.vectors}

    def job(self) -> dict[str, Any]:
        """Fields of a `Job`."""
        return {"given": len(self), "given_digest": self.digest(), "same_noise": self.same_noise}

    def report(self) -> dict[str, Any]:
        """Fields of a `SampleReport`."""
        return {"embeddings": self.names}

    def sheet(self, drawn: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
        """The images of levels [M · count, C, H, W] on one sheet, uint8 [rows, columns] or with 3 for colour."""
        return grid(pixels_from_levels(drawn, self.depth), count if 1 < count < len(drawn) else None)

    def __str__(self) -> str:
        return f"of {self.names[0]}" if len(self.names) == 1 else f"of {counted(len(self.names), 'file')}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Ways(Given):
    """Ways from one vector to another: each is a row of the sheet, drawn with one noise.

    Attributes:
        steps: images of each way.
        ends: levels int32 [ways, 2, C, H, W] of the pictures that the ends are made of; None if they are not.
    """

    steps: int
    ends: npt.NDArray[np.int32] | None = None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz keeps of them."""
        ends = {} if self.ends is None else {"ends": compact(self.ends, self.depth)}
        return {"embedding": self.vectors, **ends}

    def report(self) -> dict[str, Any]:
        """Fields of a `SampleReport`."""
        return {"interpolate": self.names}

    def sheet(self, drawn: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
        """As `Given.sheet`: a row for each way, between its pictures if it has any."""
        rows = drawn.reshape(-1, self.steps, *drawn.shape[1:])
        if self.ends is not None:
            ends = compact(self.ends, self.depth)
            rows = np.concatenate([ends[:, :1], rows, ends[:, 1:]], axis=1)
        return grid(pixels_from_levels(rows.reshape(-1, *drawn.shape[1:]), self.depth), rows.shape[1])

    def __str__(self) -> str:
        return f"from {self.names[0]}" if len(self.names) == 1 else f"on {counted(len(self.names), 'way')}"


def read_embeddings(sampler: Sampler, texts: Sequence[str]) -> Given:
    """The vectors that `--embedding` names.

    Raises:
        UsageError: the model is not conditioned on vectors.
        DataError: a file cannot be read, or its vectors do not fit the model.
    """
    spec = sampler.metadata.spec
    if spec.conditioning != "embedding":
        raise not_for_it(sampler, "--embedding")
    vectors = [read_vectors(text, spec.conditioning_size) for text in texts]
    return Given(names=tuple(texts), embedding=np.concatenate(vectors), depth=spec.levels)


def read_ways(
    sampler: Sampler,
    labels: EngineMetadata | None,
    texts: Sequence[str],
    steps: int,
    spherical: bool,
    resize: bool = False,
    invert: bool = False,
) -> Ways:
    """What `--interpolate` names: A,B, each a label, a vector's file, or a picture of an autoencoder.

    Args:
        sampler: of an engine that takes vectors.
        labels: of a model with labels, whose engine that was made of: what it says about itself; else None.
        texts: one or more `A,B`.
        steps: images of each way.
        spherical: as in `interpolate`.
        resize, invert: as in `read_levels`, of pictures.

    Raises:
        UsageError: not two ends, a label that the model has not, steps or a great circle that cannot be.
        DataError: a file cannot be read, or does not fit the model.
    """
    metadata = sampler.metadata
    spec = metadata.spec
    if spec.conditioning != "embedding":
        raise not_for_it(sampler, "--interpolate")
    if steps < 2:
        raise UsageError(f"--count is {steps}: expected at least 2 images on a way, the two ends")
    vectors, pictures = [], []
    for text in texts:
        ends = _ends(text, labels, has_encoder=metadata.encoder_digest is not None)
        if labels is None:
            ends = at_home(ends[0]), at_home(ends[1])
        if labels is not None:
            one, other = np.eye(spec.conditioning_size, dtype=np.float32)[[labels.label_number(end) for end in ends]]
        elif all(_is_array(end) for end in ends):
            one, other = (_only(end, read_vectors(end, spec.conditioning_size)) for end in ends)
        else:
            levels = np.stack(
                [read_levels(end, spec, resize=resize, invert=invert, preparation=metadata.preparation) for end in ends]
            )
            pictures.append(levels)
            with Encoder.beside(sampler.engine) as encoder:
                one, other = encoder.embed(levels)
        vectors.append(interpolate(one, other, steps, spherical=spherical))
    if pictures and len(pictures) != len(texts):
        raise UsageError("--interpolate: some ends are pictures and some are vectors: draw them one after the other")
    return Ways(
        names=tuple(texts),
        embedding=np.concatenate(vectors),
        depth=spec.levels,
        same_noise=steps,
        shown=2 * len(pictures),
        steps=steps,
        ends=np.stack(pictures) if pictures else None,
    )


def _is_array(end: str) -> bool:
    path = Path(end)
    return (path if path.exists() else Path(end.rpartition(":")[0] or end)).suffix.lower() in _ARRAYS


def _only(end: str, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if len(vectors) != 1:
        raise UsageError(f"--interpolate: {end} has {counted(len(vectors), 'row')}: say which, as in {end}:0")
    only: npt.NDArray[np.float32] = vectors[0]
    return only


def _ends(text: str, labels: EngineMetadata | None, has_encoder: bool) -> tuple[str, str]:
    """The two ends in `A,B`; a comma may be in the name of a class or of a file."""
    parts = text.split(",")
    splits = [(",".join(parts[:k]).strip(), ",".join(parts[k:]).strip()) for k in range(1, len(parts))]
    if not splits or not all(splits[0]):
        example = "3,8" if labels is not None else "a.png,b.png" if has_encoder else "h.npy:0,h.npy:5"
        raise UsageError(f"--interpolate {text}: expected two ends A,B, such as {example}")
    return next((ends for ends in splits if all(_is_there(end, labels) for end in ends)), splits[0])


def _is_there(end: str, labels: EngineMetadata | None) -> bool:
    if labels is None:
        end = at_home(end)
        return Path(end).exists() or Path(end.rpartition(":")[0]).is_file()
    try:
        labels.label_number(end)
    except GpcnnError:
        return False
    return True
