"""The encoder of a VQ-VAE in a model file: pictures become codes, by NumPy alone.

Shape legend: N pictures, C channels, H rows, W columns, F features, D numbers of a code's vector; h × w the codes, of
two levels the bottom codes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import PICTURES, Weights

_AT_ONCE = 16
_Array = npt.NDArray[np.float32]


class PictureEncoder:
    """The encoder and the codebook of a model file.

    Attributes:
        metadata: the file's.
    """

    def __init__(self, metadata: EngineMetadata, weights: Weights) -> None:
        """Use what `decode_model_file` gives.

        Raises:
            UsageError: the model is no VQ-VAE.
        """
        if metadata.vqvae is None:
            raise UsageError("this model is no VQ-VAE: it has no encoder that gives codes")
        self.metadata, self._spec = metadata, metadata.vqvae
        self._weights = {name.removeprefix(PICTURES): array for name, array in weights.items()}

    def encode(self, pixels: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Codes int32 [N, 1, h, w] of pictures uint8 [N, C, H, W]; of two levels, their sheet.

        Raises:
            UsageError: pixels of another shape or type.
        """
        pictures = np.asarray(pixels)
        if pictures.shape[1:] != self._spec.image_shape or len(pictures) == 0 or pictures.dtype != np.uint8:
            expected = ", ".join(map(str, self._spec.image_shape))
            raise UsageError(f"pictures are {pictures.dtype} {list(pictures.shape)}: expected uint8 [N, {expected}]")
        parts = [self._codes(pictures[start : start + _AT_ONCE]) for start in range(0, len(pictures), _AT_ONCE)]
        return np.concatenate(parts)

    def _codes(self, pictures_NCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        x = pictures_NCHW.transpose(0, 2, 3, 1).astype(np.float32) * np.float32(2 / 255) - np.float32(1)
        for index in range(self._spec.halvings):
            x = _relu(self._convolve(x, f"encoder.down.{index}", 2))
        x = self._convolve(x, "encoder.first")
        features = _relu(self._blocks(x, "encoder.blocks"))
        if self._spec.code_levels == 1:
            return self._nearest(self._convolve(features, "encoder.out"), "codebook")[:, None]
        x = self._blocks(self._convolve(features, "encoder.top.down", 2), "encoder.top.blocks")
        top = self._nearest(self._convolve(_relu(x), "encoder.top.out"), "top_codebook")
        u = self._double(self._weights["top_codebook"][top], "decoder.top_up")
        bottom = self._nearest(self._convolve(np.concatenate([features, u], -1), "encoder.out"), "codebook")
        return np.concatenate([top.reshape(len(top), -1, bottom.shape[2]), bottom], 1)[:, None]

    def _blocks(self, x_NhwF: _Array, name: str) -> _Array:
        for index in range(self._spec.blocks):
            wide = self._convolve(_relu(x_NhwF), f"{name}.{index}.wide")
            x_NhwF = x_NhwF + self._convolve(_relu(wide), f"{name}.{index}.out")
        return x_NhwF

    def _nearest(self, vectors_NhwD: _Array, codebook: str) -> npt.NDArray[np.int32]:
        """Codes int32 [N, h, w]."""
        vectors = self._weights[codebook]
        # |z - e|² without |z|², which all codes share.
        distances = np.square(vectors).sum(1) - 2 * (vectors_NhwD @ vectors.T)
        codes: npt.NDArray[np.int32] = distances.argmin(-1).astype(np.int32)
        return codes

    def _double(self, x_NhwF: _Array, name: str) -> _Array:
        """A transposed 4×4 convolution of stride 2: [N, h, w, F] → [N, 2 h, 2 w, outputs]."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        n, h, w, _ = x_NhwF.shape
        total = np.zeros((n, 2 * h + 2, 2 * w + 2, len(bias)), np.float32)
        for i in range(4):
            for j in range(4):
                total[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += x_NhwF @ weight[:, :, i, j]
        return total[:, 1:-1, 1:-1] + bias

    def _convolve(self, x_NHWF: _Array, name: str, stride: int = 1) -> _Array:
        """A convolution, its border zeros: [N, H, W, F] → [N, H / stride, W / stride, outputs]."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        size = weight.shape[2]
        side = 1 if size > 1 else 0
        padded = np.pad(x_NHWF, ((0, 0), (side, side), (side, side), (0, 0)))
        rows, columns = x_NHWF.shape[1] // stride, x_NHWF.shape[2] // stride
        total = np.zeros((*x_NHWF.shape[:1], rows, columns, len(bias)), np.float32) + bias
        for i in range(size):
            for j in range(size):
                seen = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
                total += seen @ weight[:, :, i, j].T
        return total


def _relu(x: _Array) -> _Array:
    return np.maximum(x, np.float32(0))
