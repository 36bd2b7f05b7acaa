"""Windows of a row inside the sampler graph: the scan over windows, the Jacobi loop, one evaluation, the head.

    Scan over windows   carries  caches  per layer, inputs left of the window (absent where one window is the row)
      Loop              carries  values of the window until they stop changing (absent where w = 1: one evaluation of a
                                 single pixel is exact, since no pixel reads itself)
        evaluation      horizontal stack, skip sum, head; the channels of a pixel are drawn one after another

Layout as in `gpcnn_export.graphs.sampler`; M = w · N. Where w = 1 a cache is [N, k//2 · inputs], else
[k//2 · N, inputs].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Array, Graph
from gpcnn_export.graphs.mixture import MixtureConstants, draw_mixture
from gpcnn_export.graphs.weights import HeadWeights, LayerWeights, is_binary


@dataclass(frozen=True)
class Drawn:
    """What a window gave.

    Attributes:
        values: float32 [M, I], network inputs of the drawn levels; I is C values, or C · D of categories.
        image: what the graph's image is made of: the values where there are two, else the levels int32 [M, C].
        extra: what its log-probabilities are made of: logits [M, C] for two values, else log-probabilities [M, C].
        count: evaluations so far, int32 scalar.
        caches: of the next window; empty where one window is the row.
    """

    values: str
    image: str
    extra: str
    count: str
    caches: list[str]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: values [M, I], levels [M, C] (none for two values), logits per channel, inputs of layers 2..L.

    Of a mixture, log-probabilities [M, 1] take the place of logits.
    """

    values: str
    levels: str
    logits: list[str]
    inputs: list[str]


@dataclass
class Windows:
    """Draws the windows of a row.

    Attributes:
        graph: the graph, or branch of it, around the scans: for what is computed once.
        spec, layers, head: the model.
        values: what the network reads of each level, [K, D].
        n: N, int64 [1].
        window: w, columns of a window, the zero column included.
        windows: windows of a row.
        zero_column: the last column is the zero padding; then one window is the row.
        inverse_temperature: float32 scalar.
        mixture: what a mixture head needs.
    """

    graph: Graph
    spec: ModelSpec
    layers: list[LayerWeights]
    head: HeadWeights
    values: Array
    n: str
    window: int
    windows: int
    zero_column: bool
    inverse_temperature: str
    mixture: MixtureConstants | None

    def __post_init__(self) -> None:
        g, spec, w = self.graph, self.spec, self.window
        self.binary = is_binary(spec)
        left_1, left = spec.first_kernel_size // 2, spec.kernel_size // 2
        if w == 1:
            self.start = [g.zeros(self.n, left_1 * spec.inputs)]
            self.start += [g.zeros(self.n, left * spec.features)] * (spec.layers - 1)
            return
        # Layer 1 reads columns j - left_1 .. j - 1 of [left of the window | window], the others j - left .. j.
        if self.zero_column:
            zero = w - 1
            first = [[j - d + 1 if d <= j < zero else 0 for d in range(left_1, 0, -1)] for j in range(w)]
            later = [[j - d if d <= j < zero else zero for d in range(left, -1, -1)] for j in range(w)]
            self.start = [g.zeros(self.n, spec.inputs)]
        else:
            first = [list(range(j, j + left_1)) for j in range(w)]
            later = [list(range(j, j + left + 1)) for j in range(w)]
            self.start = [g.zeros(g.op("Mul", self.n, g.int64(left_1)), spec.inputs)]
            self.start += [g.zeros(g.op("Mul", self.n, g.int64(left)), spec.features)] * (spec.layers - 1)
        self.first_taps, self.taps = column_taps(g, self.n, first), column_taps(g, self.n, later)

    def row(self, r: Graph, guess: str, links: list[str], scanned: list[str], count: str) -> Drawn:
        """Draw all windows of a row.

        Args:
            r: the body of the scan over rows.
            guess: values [windows · M, I] that Jacobi starts from; not read where w = 1.
            links: per layer and half, [windows · M, F].
            scanned: noise [windows · M, C], and for more than two levels known int32 and free bool of that shape.
            count: evaluations so far.

        Returns:
            The row as one `Drawn`, M standing for windows · M.
        """
        spec = self.spec
        if self.windows == 1:
            return self._window(r, guess, links, scanned, self.start, count)
        pieces = [*links, *scanned] if self.window == 1 else [*links, guess, *scanned]
        dtypes = ["float32"] * (len(pieces) - len(scanned)) + ["float32", "int32", "bool"][: len(scanned)]
        widths = [spec.features] * len(links) + [spec.inputs] * (self.window > 1) + [spec.channels] * len(scanned)
        pieces = [
            r.op("Reshape", piece, self.graph.int64(self.windows, -1, width))
            for piece, width in zip(pieces, widths, strict=True)
        ]
        b = r.repeated("window")
        in_count = b.input("count", "int32", None)
        in_caches = [b.input("cache", "float32", None) for _ in self.start]
        in_pieces = [b.item("piece", dtype, piece) for dtype, piece in zip(dtypes, pieces, strict=True)]
        in_links, in_scanned = in_pieces[: len(links)], in_pieces[len(links) :]
        in_guess = "" if self.window == 1 else in_scanned.pop(0)
        drawn = self._window(b, in_guess, in_links, in_scanned, in_caches, in_count)
        b.output(drawn.count, "int32", [])
        for cache in drawn.caches:
            b.output(cache, "float32", [None, None])
        results = [drawn.values, drawn.extra] if self.binary else [drawn.values, drawn.extra, drawn.image]
        sizes = [spec.inputs, spec.channels, spec.channels]
        for result, dtype, width in zip(results, ["float32", "float32", "int32"], sizes, strict=False):
            b.output(result, dtype, [None, width])
        states = [count, *self.start]
        outputs = r.repeat(b, states, pieces, self.windows)
        whole = [r.reshape(output, -1, width) for output, width in zip(outputs[len(states) :], sizes, strict=False)]
        return Drawn(whole[0], whole[0 if self.binary else 2], whole[1], outputs[0], [])

    def _window(
        self, b: Graph, guess: str, links: list[str], scanned: list[str], caches: list[str], count: str
    ) -> Drawn:
        """Draw one window inside body `b`."""
        if self.window == 1:
            drawn = self._evaluate(b, "", links, scanned, caches)
            count = b.op("Add", count, np.array(1, np.int32))
            new_caches = self._pixel_caches(b, caches, drawn)
        else:
            drawn, count = self._iterate(b, guess, links, scanned, caches, count)
            new_caches = [] if self.windows == 1 else self._window_caches(b, caches, drawn)
        if self.binary:
            extra = drawn.logits[0] if len(drawn.logits) == 1 else b.op("Concat", *drawn.logits, axis=1)
            return Drawn(drawn.values, drawn.values, extra, count, new_caches)
        extra = self._log_prob(b, drawn.logits, drawn.levels) if self.mixture is None else _joined(b, drawn.logits)
        return Drawn(drawn.values, drawn.levels, extra, count, new_caches)

    def _iterate(
        self, b: Graph, guess: str, links: list[str], scanned: list[str], caches: list[str], count: str
    ) -> tuple[Evaluation, str]:
        """Evaluate until the window's values stop changing, w times at most: by then every column is exact."""
        spec = self.spec
        inputs = 0 if self.windows == 1 else spec.layers - 1
        i = b.body("iteration")
        i.input("trip", "int64", [])
        i.input("condition", "bool", [])
        in_values = i.input("values", "float32", None)
        in_count = i.input("count", "int32", None)
        if not self.binary:
            i.input("levels", "int32", None)
        for _ in range(spec.channels + inputs):
            i.input("previous", "float32", None)
        drawn = self._evaluate(i, in_values, links, scanned, caches)
        difference = i.op("ReduceSumSquare", i.op("Sub", drawn.values, in_values), keepdims=0)
        i.output(i.op("Cast", difference, to=onnx.TensorProto.BOOL), "bool", [])
        i.output(drawn.values, "float32", None)
        i.output(i.op("Add", in_count, np.array(1, np.int32)), "int32", None)
        if not self.binary:
            i.output(drawn.levels, "int32", None)
        for value in [*drawn.logits, *drawn.inputs[:inputs]]:
            i.output(value, "float32", None)
        # Loop-carried values need a first value of their own shape, though each iteration replaces them.
        m = b.op("Mul", self.n, self.graph.int64(self.window))
        states = [guess, count]
        if not self.binary:
            states.append(b.op("Cast", b.zeros(m, spec.channels), to=onnx.TensorProto.INT32))
        states += [b.zeros(m, spec.levels if self.mixture is None and not self.binary else 1)] * spec.channels
        if inputs:
            rows = b.op("Mul", self.n, self.graph.int64(spec.kernel_size // 2 + self.window))
            states += [b.zeros(rows, spec.features)] * inputs
        limit, true = self.graph.constant(self.window - self.zero_column, np.int64), self.graph.constant(True, np.bool_)
        values, count, *rest = b.ops("Loop", len(states), limit, true, *states, body=i.proto())
        levels = "" if self.binary else rest.pop(0)
        return Evaluation(values, levels, rest[: spec.channels], rest[spec.channels :]), count

    def _pixel_caches(self, b: Graph, caches: list[str], drawn: Evaluation) -> list[str]:
        """w = 1: each cache [N, k//2 · inputs] forgets its oldest column and takes the new one."""
        spec = self.spec
        new = []
        for index, newest in enumerate([drawn.values, *drawn.inputs]):
            width = spec.inputs if index == 0 else spec.features
            columns = (spec.first_kernel_size if index == 0 else spec.kernel_size) // 2
            if columns > 1:
                newest = b.op("Concat", b.slice(caches[index], 1, width, columns * width), newest, axis=1)
            new.append(newest)
        return new

    def _window_caches(self, b: Graph, caches: list[str], drawn: Evaluation) -> list[str]:
        """w > 1: the last k//2 columns of each layer's input; layer 1 takes the result, which its input precedes."""
        spec = self.spec
        new = []
        for index, rows in enumerate([b.op("Concat", caches[0], drawn.values, axis=0), *drawn.inputs]):
            columns = (spec.first_kernel_size if index == 0 else spec.kernel_size) // 2
            start = b.op("Mul", self.n, self.graph.int64(-columns))
            new.append(b.slice(rows, 0, start, np.iinfo(np.int64).max))
        return new

    def _evaluate(self, b: Graph, guess: str, links: list[str], scanned: list[str], caches: list[str]) -> Evaluation:
        """The horizontal stack and the head, once.

        The result's inputs are, per layer 2..L, h [M, F] where w = 1 or where one window is the row, else
        [(k//2 + w) · N, F].
        """
        inputs: list[str] = []
        gates: list[str] = []
        h = ""
        for index, layer in enumerate(self.layers):
            width = layer.horizontal[0].shape[0]
            if self.window == 1:
                x = caches[0] if index == 0 else b.op("Concat", caches[index], h, axis=1)
                rows = h
            elif index == 0:
                rows = b.op("Concat", caches[0], guess, axis=0)
                x = b.reshape(b.op("Gather", rows, self.first_taps, axis=0), -1, width)
            else:
                rows = h if self.zero_column else b.op("Concat", caches[index], h, axis=0)
                x = b.reshape(b.op("Gather", rows, self.taps, axis=0), -1, width)
            if index > 0:
                inputs.append(rows)
            p_a, p_b = (
                b.op("Gemm", x, b.matrix(weight), link)
                for weight, link in zip(layer.horizontal, links[2 * index : 2 * index + 2], strict=True)
            )
            g = b.op("Mul", b.op("Tanh", p_a), b.op("Sigmoid", p_b))
            gates.append(g)
            if layer.out is not None:
                out = b.matrix(layer.out)
                h = b.op("MatMul", g, out) if index == 0 else b.op("Gemm", g, out, h)
        joined = b.op("Concat", *gates, axis=1) if len(gates) > 1 else gates[0]
        skip = b.op("Relu", b.op("Gemm", joined, b.matrix(self.head.skip), self.head.skip_bias))
        values, levels, logits = self._head(b, skip, scanned)
        return Evaluation(values, levels, logits, inputs)

    def _head(self, b: Graph, skip: str, scanned: list[str]) -> tuple[str, str, list[str]]:
        """Draw the channels of each pixel one after another: (values [M, I], levels int32 [M, C], logits)."""
        spec, head = self.spec, self.head
        per_channel = [scanned]
        if spec.channels > 1:
            split = [b.ops("Split", spec.channels, piece, axis=1, num_outputs=spec.channels) for piece in scanned]
            per_channel = [list(pieces) for pieces in zip(*split, strict=True)]
        if self.mixture is not None:
            hidden = b.op("Relu", b.op("Gemm", skip, b.matrix(head.hidden[0]), head.hidden_bias[0]))
            numbers = b.op("Gemm", hidden, b.matrix(head.logits[0]), head.logits_bias[0])
            pixel = draw_mixture(b, self.mixture, numbers, self.inverse_temperature, per_channel)
            return _joined(b, pixel.values), _joined(b, pixel.levels), pixel.log_prob
        values: list[str] = []
        levels: list[str] = []
        logits: list[str] = []
        for c, (noise, *rest) in enumerate(per_channel):
            hidden = b.op("Gemm", skip, b.matrix(head.hidden[c]), head.hidden_bias[c])
            if c > 0:
                earlier = values[0] if c == 1 else b.op("Concat", *values, axis=1)
                hidden = b.op("Gemm", earlier, b.matrix(head.earlier[c]), hidden)
            logits.append(b.op("Gemm", b.op("Relu", hidden), b.matrix(head.logits[c]), head.logits_bias[c]))
            scaled = b.op("Mul", logits[-1], self.inverse_temperature)
            if self.binary:
                one = b.op("LessOrEqual", b.op("Sigmoid", scaled), noise)
                values.append(b.op("Where", one, self.values[1:, 0], self.values[:1, 0]))
                continue
            known, free = rest
            cdf = b.op("CumSum", b.op("Softmax", scaled, axis=1), np.array(1, np.int64))
            below = b.op("LessOrEqual", b.slice(cdf, 1, 0, spec.levels - 1), noise)
            drawn = b.op("ReduceSum", b.op("Cast", below, to=onnx.TensorProto.INT32), np.array([1]), keepdims=1)
            levels.append(b.op("Where", free, drawn, known))
            values.append(self.look_up(b, levels[-1], 2))
        if spec.channels == 1:
            return values[0], levels[0] if levels else "", logits
        return b.op("Concat", *values, axis=1), b.op("Concat", *levels, axis=1) if levels else "", logits

    def look_up(self, b: Graph, levels: str, axes: int) -> str:
        """Network inputs [..., I] of levels int32 [..., C], of so many axes in all."""
        width = self.values.shape[1]
        if width == 1:
            return b.op("Gather", self.values[:, 0], levels, axis=0)
        vectors = b.op("Gather", self.values, levels, axis=0)
        return b.op("Reshape", vectors, self.graph.int64(*[0] * (axes - 1), -1))

    def _log_prob(self, b: Graph, logits: list[str], levels: str) -> str:
        """Log-probability [M, C] of the drawn levels at temperature 1, for more than two levels."""
        channels = self.spec.channels
        drawn = [levels] if channels == 1 else b.ops("Split", channels, levels, axis=1, num_outputs=channels)
        parts = [
            b.op("GatherElements", b.op("LogSoftmax", logit, axis=1), level, axis=1)
            for logit, level in zip(logits, drawn, strict=True)
        ]
        return parts[0] if channels == 1 else b.op("Concat", *parts, axis=1)


def _joined(b: Graph, channels: list[str]) -> str:
    """[M, 1] of each channel → [M, C]."""
    return channels[0] if len(channels) == 1 else b.op("Concat", *channels, axis=1)


def column_taps(g: Graph, n: str, blocks: list[list[int]]) -> str:
    """im2col indices for a Gather along rows (column, image).

    Args:
        g: the graph that computes them, once.
        n: N, int64 [1].
        blocks: per column, the blocks of N rows that its kernel reads.

    Returns:
        int64 [columns · N, taps]: row (j, n), tap t is row n of block `blocks[j][t]`.
    """
    images = g.op("Range", np.array(0, np.int64), g.op("Squeeze", n), np.array(1, np.int64))
    column = np.array(blocks, np.int64)[:, None, :]
    index = g.op("Add", g.op("Mul", column, n), g.reshape(images, 1, -1, 1))
    return g.reshape(index, -1, len(blocks[0]))
