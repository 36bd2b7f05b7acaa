"""Minimal filtering F(4, 5) of the vertical stack: four columns of a row with 8 products a row of the kernel, not 20.

Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, arXiv 1509.09308. Of 8 columns d and a row g of
the kernel, the four outputs are A^T [(G g) ∘ (B^T d)]. The matrices are made from exact fractions by the Toom-Cook
construction. A row of v is transformed once, and read by the kernel's rows as it moves up; the products of all
positions are one batched MatMul. Its weights are 1.6 times as large as a direct convolution's. It pays from about 8
images on.

Shape legend as in `gpcnn_export.graphs.sampler`; T tiles of four columns cover W, the last one with zeros beyond it.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gpcnn_export.graphs.builder import Array, Graph

OUTPUTS, KERNEL = 4, 5
POSITIONS = OUTPUTS + KERNEL - 1
_POINTS = (Fraction(0), *(Fraction(sign * p) for p in (1, 2, Fraction(1, 2)) for sign in (1, -1)))
"""The eighth is infinity."""


def transforms() -> tuple[Array, Array, Array]:
    """(A^T [4, 8], G [8, 5], B^T [8, 8]), float64."""
    at, g = _powers(OUTPUTS), _powers(KERNEL)
    bt = [list(column) for column in zip(*_inverse(_powers(POSITIONS)), strict=True)]
    for row, inputs in zip(g, bt, strict=True):  # of like size, by powers of two, for like rounding errors
        scale = Fraction(2) ** round(math.log2(max(map(abs, row))))
        row[:], inputs[:] = [x / scale for x in row], [x * scale for x in inputs]
    return np.array(at, np.float64).T, np.array(g, np.float64), np.array(bt, np.float64)


def _powers(count: int) -> list[list[Fraction]]:
    """A polynomial of so many coefficients, evaluated at every point: [8, count]."""
    rows = [[point**k for k in range(count)] for point in _POINTS]
    return [*rows, [Fraction(k == count - 1) for k in range(count)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """By Gauss and Jordan, exactly."""
    size = len(matrix)
    rows = [[*row, *(Fraction(k == i) for k in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(size):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]


class Filtering:
    """The convolutions of the vertical stack's later layers, for many images.

    Attributes:
        zero_row: a transformed row of zeros, [8, T · N, F]: what lies above the image.
    """

    def __init__(self, graph: Graph, n: str, width: int, features: int) -> None:
        self._graph, self._width, self._features = graph, width, features
        self._tiles = tiles = -(-width // OUTPUTS)
        self._at, self._g, self._bt = transforms()
        self._left = graph.zeros(KERNEL // 2, n, features)
        self._right = graph.zeros(KERNEL // 2 + OUTPUTS * tiles - width, n, features)
        starts, position = OUTPUTS * np.arange(tiles), np.arange(POSITIONS)[:, None]
        self._columns = graph.constant(starts + position, np.int64)  # [8, T]
        self.zero_row = graph.zeros(POSITIONS, graph.op("Mul", n, graph.int64(tiles)), features)

    def transform(self, r: Graph, v: str) -> str:
        """v [W · N, F] of a row → B^T of its tiles, [8, T · N, F]."""
        padded = r.op("Concat", self._left, r.reshape(v, self._width, -1, self._features), self._right, axis=0)
        tiles = r.reshape(r.op("Gather", padded, self._columns, axis=0), POSITIONS, -1)
        return r.reshape(r.op("MatMul", self._bt.astype(np.float32), tiles), POSITIONS, -1, self._features)

    def convolve(self, r: Graph, rows: list[str], weight: Array, bias: str) -> str:
        """One layer at one row.

        Args:
            r: the body of the scan over rows.
            rows: transformed, from the farthest above to this one.
            weight: `LayerWeights.vertical`, [rows · 5 · F, 2F].
            bias: [2F], or [W · N, 2F].

        Returns:
            [W · N, 2F].
        """
        kernel = weight.astype(np.float64).reshape(len(rows), KERNEL, self._features, -1)
        kernels = np.einsum("pk,rkfo->prfo", self._g, kernel).reshape(POSITIONS, -1, weight.shape[1])
        products = r.op("MatMul", r.op("Concat", *rows, axis=2), r.matrix(kernels.astype(np.float32)))
        outputs = r.op("MatMul", self._at.astype(np.float32), r.reshape(products, POSITIONS, -1))
        columns = r.op("Transpose", r.reshape(outputs, OUTPUTS, self._tiles, -1), perm=[1, 0, 2])
        columns = r.reshape(columns, OUTPUTS * self._tiles, -1)
        if self._width % OUTPUTS:
            columns = r.slice(columns, 0, 0, self._width)
        return r.op("Add", r.reshape(columns, -1, weight.shape[1]), bias)
