"""Encoder engines: a picture becomes the embedding that an autoencoder's sampler or step draws from.

Shape legend: N images, C channels, H rows, W columns, K levels, E length of an embedding.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.metadata import EngineMetadata, encoder_path
from gpcnn_deploy.ports import inputs, outputs
from gpcnn_runtime.engines.base import EXPORT_ANEW, Closing, Engine
from gpcnn_runtime.engines.onnxruntime.providers import CPU
from gpcnn_runtime.engines.onnxruntime.session import brief, check_ports, onnx_metadata, open_session, read_onnx
from gpcnn_runtime.zoo.catalogue import engine_name

if TYPE_CHECKING:
    import onnxruntime
    from typing_extensions import Self

BATCH_SIZE = 64


class Encoder(Closing):
    """A loaded encoder, on ONNX Runtime's CPU provider.

    Attributes:
        path: the file.
        metadata: what it says about itself.
        digest: its SHA-256.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        """Use `load` or `beside`."""
        session = open_session(path, content, CPU, "the encoder of pictures")
        self.path, self.metadata = path, onnx_metadata(path, content)
        self.digest = hashlib.sha256(content).hexdigest()
        if self.metadata.role != "encoder":
            raise EngineError(f"{path} is a {self.metadata.role}, no encoder: {EXPORT_ANEW}")
        spec, vqvae = self.metadata.spec, self.metadata.vqvae
        check_ports(path, "input", session.get_inputs(), inputs("encoder", spec, vqvae=vqvae))
        check_ports(path, "output", session.get_outputs(), outputs("encoder", spec, vqvae=vqvae))
        self._session: onnxruntime.InferenceSession | None = session

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load an encoder file, such as `model.encoder.onnx`.

        Raises:
            EngineError: missing, empty, truncated, foreign, of another role, or with inputs that are not an encoder's.
            MissingExtraError: ONNX Runtime is not installed.
        """
        return cls(Path(path), read_onnx(Path(path)))

    @classmethod
    def beside(cls, engine: Engine, content: bytes | None = None) -> Self:
        """Load the encoder that was exported with an engine, from beside it, or from the bytes of its file.

        Raises:
            UsageError: the model is not conditioned on embeddings, or has no encoder.
            EngineError: as `load`; or the file there is not the one that the engine names by its digest.
            MissingExtraError: ONNX Runtime is not installed.
        """
        metadata, file = engine.metadata, engine.info.path
        digest = _digest(metadata, file)
        path = encoder_path(file)
        if content is None and not path.exists():
            raise EngineError(
                f"{path}: no such file, but {file.name} needs it to encode pictures: gpcnn-export wrote it beside "
                "the engine, copy it there too"
            )
        content = read_onnx(path) if content is None else content
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise EngineError(
                f"{path}: its digest {found[:12]}… is not the {digest[:12]}… that {file.name} was exported with: "
                "export both anew, or copy the one that belongs to it"
            )
        encoder = cls(path, content)
        if encoder.metadata.spec != metadata.spec or encoder.metadata.vqvae != metadata.vqvae:
            raise EngineError(f"{path} is for other images than {file.name}: export both anew")
        return encoder

    def embed(self, levels: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Embeddings of images.

        Args:
            levels: integer [N, C, H, W], each in [0, K).

        Returns:
            float32 [N, E].

        Raises:
            UsageError: levels of another shape, or out of range.
            EngineError: the encoder is closed, or failed.
        """
        spec, images = self.metadata.spec, np.asarray(levels)
        if self.metadata.vqvae is not None:
            raise UsageError(f"{self.path} gives codes, no embeddings: call encode")
        if images.ndim != 4 or images.shape[1:] != spec.image_shape or len(images) == 0:
            expected = ", ".join(map(str, spec.image_shape))
            raise UsageError(f"levels have shape {list(images.shape)}: expected [N, {expected}] with N at least 1")
        if images.dtype.kind not in "iu" or images.min() < 0 or images.max() >= spec.levels:
            raise UsageError(f"levels are {images.dtype}, or out of range: expected integers 0 to {spec.levels - 1}")
        parts = [
            self._embed(np.ascontiguousarray(images[start : start + BATCH_SIZE], np.int32))
            for start in range(0, len(images), BATCH_SIZE)
        ]
        return np.concatenate(parts)

    def encode(self, pixels: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Codes of pictures; of a VQ-VAE's encoder.

        Args:
            pixels: uint8 [N, C, H, W].

        Returns:
            int32 [N, 1, h, w], each in [0, K).

        Raises:
            UsageError: pixels of another shape or type, or the encoder is an autoencoder's.
            EngineError: the encoder is closed, or failed.
        """
        vqvae, pictures = self.metadata.vqvae, np.asarray(pixels)
        if vqvae is None:
            raise UsageError(f"{self.path} gives embeddings, no codes: call embed")
        if pictures.shape[1:] != vqvae.image_shape or len(pictures) == 0 or pictures.dtype != np.uint8:
            expected = ", ".join(map(str, vqvae.image_shape))
            raise UsageError(f"pictures are {pictures.dtype} {list(pictures.shape)}: expected uint8 [N, {expected}]")
        parts = []
        for start in range(0, len(pictures), BATCH_SIZE):
            part = np.ascontiguousarray(pictures[start : start + BATCH_SIZE])
            codes = self._run("codes", {"picture": part})
            wanted = (len(part), *self.metadata.spec.image_shape)
            if codes.shape != wanted or codes.min() < 0 or codes.max() >= vqvae.codes:
                raise EngineError(
                    f"{self.path}: gave codes of shape {codes.shape}, or out of range; expected {wanted}: {EXPORT_ANEW}"
                )
            parts.append(np.asarray(codes, np.int32))
        return np.concatenate(parts)

    def _run(self, output: str, feed: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if self._session is None:
            raise EngineError(f"{self.path}: the encoder is closed: load it again")
        try:
            (result,) = self._session.run([output], feed)
        except Exception as error:  # ONNX Runtime's classes share no base but Exception
            raise EngineError(f"{self.path}: ONNX Runtime failed ({brief(error)}): {EXPORT_ANEW}") from error
        found: npt.NDArray[Any] = np.asarray(result)
        return found

    def _embed(self, levels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        embedding = self._run("embedding", {"image": levels})
        wanted = (len(levels), self.metadata.spec.conditioning_size)
        if embedding.shape != wanted or not np.isfinite(embedding).all():
            raise EngineError(
                f"{self.path}: gave embeddings of shape {embedding.shape}, or not finite; expected finite {wanted}: "
                f"{EXPORT_ANEW}"
            )
        return np.asarray(embedding, np.float32)

    def close(self) -> None:
        """Release what the encoder holds; a second call does nothing."""
        self._session = None


def _digest(metadata: EngineMetadata, path: Path) -> str:
    engine = engine_name(path)
    conditioning = metadata.spec.conditioning
    if conditioning != "embedding" and metadata.vqvae is None:
        instead = "draw with --label" if conditioning == "label" else "it draws without being asked for anything"
        kind = "labels" if conditioning == "label" else "nothing"
        raise UsageError(
            f"{engine} is conditioned on {kind}, not on the code of a picture: {instead}, not --like; or name an "
            "autoencoder with --engine, such as zoo:mnist-autoencoder"
        )
    if metadata.encoder_digest is None:
        raise UsageError(
            f"{engine} has no encoder to read pictures with: export an autoencoder's checkpoint (gpcnn-train --model "
            "autoencoder)"
        )
    return metadata.encoder_digest
