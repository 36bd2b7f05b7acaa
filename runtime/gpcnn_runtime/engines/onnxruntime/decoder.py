"""Decoder engines: the codes that a VQ-VAE's step drew become pictures.

Shape legend: N pictures, C channels, H rows, W columns; h × w the codes of one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.metadata import EngineMetadata, decoder_path
from gpcnn_deploy.ports import inputs, outputs
from gpcnn_runtime.engines.base import EXPORT_ANEW, Closing
from gpcnn_runtime.engines.onnxruntime.engine import translated
from gpcnn_runtime.engines.onnxruntime.providers import CPU, Placement
from gpcnn_runtime.engines.onnxruntime.session import check_ports, onnx_metadata, open_session, read_onnx

if TYPE_CHECKING:
    import onnxruntime
    from typing_extensions import Self


class Decoder(Closing):
    """A loaded decoder. Several threads may use it at once.

    Attributes:
        path: the file.
        metadata: what it says about itself.
    """

    def __init__(self, path: Path, content: bytes, placement: Placement = CPU) -> None:
        """Use the bytes of a decoder file, which `path` names in messages.

        Raises:
            EngineError: damaged, foreign, of another role, with inputs that are not a decoder's, or a provider that
                does not run.
            MissingExtraError: ONNX Runtime is not installed.
        """
        self.path, self.metadata = path, onnx_metadata(path, content)
        if self.metadata.role != "decoder":
            raise EngineError(f"{path} is a {self.metadata.role}, no decoder: {EXPORT_ANEW}")
        session = open_session(path, content, placement, "the decoder of pictures")
        sizes = self.metadata.role, self.metadata.spec, self.metadata.batch, self.metadata.vqvae
        check_ports(path, "input", session.get_inputs(), inputs(*sizes))
        check_ports(path, "output", session.get_outputs(), outputs(*sizes))
        self._session: onnxruntime.InferenceSession | None = session

    @classmethod
    def beside(cls, file: Path, metadata: EngineMetadata, content: bytes | None, placement: Placement) -> Self:
        """Load the decoder that was exported with a step, from beside it, or from the bytes of its file.

        Args:
            file: the step.
            metadata: its metadata, which names a decoder.
            content: of the decoder's file; None reads it.
            placement: what runs it.

        Raises:
            EngineError: the decoder is missing, damaged, or not the one that the step names by its digest.
            MissingExtraError: ONNX Runtime is not installed.
        """
        path, digest = decoder_path(file), str(metadata.decoder_digest)
        if content is None and not path.exists():
            raise EngineError(
                f"{path}: no such file, but {file.name} needs it to make pictures of codes: gpcnn-export wrote it "
                "beside the engine, copy it there too"
            )
        content = read_onnx(path) if content is None else content
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise EngineError(
                f"{path}: its digest {found[:12]}… is not the {digest[:12]}… that {file.name} was exported with: "
                "export both anew, or copy the one that belongs to it"
            )
        decoder = cls(path, content, placement)
        if (decoder.metadata.spec, decoder.metadata.vqvae) != (metadata.spec, metadata.vqvae):
            decoder.close()
            raise EngineError(f"{path} is for other codes than {file.name}: export both anew")
        return decoder

    def decode(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [N, C, H, W] of codes int32 [N, 1, h, w], each below the size of the codebook.

        Raises:
            EngineError: the decoder is closed, or failed.
            OutOfMemoryError: not enough memory for so many pictures.
        """
        session, count = self._session, len(codes)
        if session is None:
            raise EngineError(f"{self.path}: the engine is closed: load it again")
        batch = self.metadata.batch or count
        parts = []
        for start in range(0, count, batch):
            rows = np.minimum(np.arange(start, start + batch), count - 1)  # the last one fills up a fixed batch
            with translated(self.path, batch):
                parts.append(session.run(["picture"], {"codes": np.ascontiguousarray(codes[rows], np.int32)})[0])
        pictures: npt.NDArray[np.uint8] = np.concatenate(parts)[:count]
        return pictures

    def close(self) -> None:
        """Release what the decoder holds; a second call does nothing."""
        self._session = None
