"""Pictures ↔ codes of a VQ-VAE's engine, whichever file it is: its encoder, and its decoder."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.model_file import SUFFIX, decode_model_file, read_model_bytes
from gpcnn_runtime.engines.base import Engine, Request


class EncodesPictures(Protocol):
    """What gives codes of pictures."""

    def encode(self, pixels: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Pictures uint8 [N, C, H, W] → codes int32 [N, 1, h, w]."""


def code_encoder(engine: Engine) -> EncodesPictures:
    """The encoder of a VQ-VAE: in the model file itself, or beside an ONNX engine.

    Raises:
        EngineError: the encoder beside the engine is missing, damaged, or that of another engine.
        MissingExtraError: ONNX Runtime, which runs that, is not installed.
    """
    path = engine.info.path
    if path.suffix.lower() == SUFFIX:
        from gpcnn_runtime.engines.native.picture_encoder import PictureEncoder

        content = engine.info.content
        return PictureEncoder(*decode_model_file(read_model_bytes(path) if content is None else content, str(path)))
    from gpcnn_runtime.engines.onnxruntime.encoder import Encoder

    return Encoder.beside(engine)


def decode_codes(engine: Engine, codes_N1hw: npt.NDArray[np.int32], at_once: int = 64) -> npt.NDArray[np.uint8]:
    """Pictures uint8 [N, C, H, W] of codes: drawn with all of them known, under the first label.

    Raises:
        EngineError, OutOfMemoryError: as `Engine.run`.
    """
    parts = []
    for start in range(0, len(codes_N1hw), at_once):
        known = np.ascontiguousarray(codes_N1hw[start : start + at_once], np.int32)
        labels = np.zeros(len(known), np.int32) if engine.metadata.spec.conditioning == "label" else None
        request = Request(np.zeros(known.shape, np.float32), known, np.ones(known.shape, np.bool_), labels)
        result = engine.run(request)
        assert result.pictures is not None
        parts.append(result.pictures)
    return np.concatenate(parts)


def reconstruction_psnr(
    pixels_NCHW: npt.NDArray[np.uint8], decoded_NCHW: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Peak signal-to-noise ratio of each picture in dB, float64 [N]: 10 log10(255² / mean squared error) up to 100."""
    difference = pixels_NCHW.astype(np.float64) - decoded_NCHW
    error = np.square(difference).mean(axis=(1, 2, 3))
    ratio: npt.NDArray[np.float64] = np.minimum(100.0, 10 * np.log10(255**2 / np.maximum(error, 1e-9)))
    return ratio
