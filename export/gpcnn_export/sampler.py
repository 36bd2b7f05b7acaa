"""The `sampler` role: the whole image in one ONNX graph, rows → windows of w columns → Jacobi iterations.

Layout. Inside the graph everything is a matrix whose rows are (column, image) pairs, column-major, and whose columns
are features: a shift by one image column is a shift by N rows, a window is a run of rows, and every convolution is a
Gather (im2col) and a Gemm whose C input adds what is already known. Shape legend as in `gpcnn_training.model`, and
M = w · N.

    Scan over rows      carries  above   values of the k//2 rows above          W·N  k//2·C
                                 tops    per layer, what the rows above add     W·N  2F
      vertical stack    links    per layer, what it adds to the horizontal gate W·N  F and W·N F (tanh, sigmoid)
      Scan over windows carries  caches  per layer, features left of the window  (absent where w = W)
        Loop            carries  values of the window until they stop changing   (absent where w = 1)
          horizontal stack and head: one evaluation of the window
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graph import Array, Graph
from gpcnn_training.model import GatedLayer, GatedPixelCNN


@dataclass(frozen=True)
class LayerWeights:
    """One layer as matrices [inputs, outputs]; F features, A = k//2 rows above, X inputs (C in layer 1, else F).

    Attributes:
        top: per row above, nearest first: [k·X, 2F]; in layer 1 a single [k·A·X, 2F] over all rows above.
        this: [k·F, 2F] of this row; None in layer 1.
        vertical_bias: [2F].
        link: [2F, 2F] split into its tanh and sigmoid halves, [2F, F] each.
        horizontal: [taps·X, 2F] in halves.
        horizontal_bias: [2F] in halves.
        out: [F, F]; None in the last layer.
    """

    top: list[Array]
    this: Array | None
    vertical_bias: Array
    link: tuple[Array, Array]
    horizontal: tuple[Array, Array]
    horizontal_bias: tuple[Array, Array]
    out: Array | None


@dataclass(frozen=True)
class HeadWeights:
    """The skip sum and the head; S head features.

    Attributes:
        skip: [L·F, F], all layers' skip convolutions one above the other.
        skip_bias: [F], their sum.
        hidden: per channel [F, S].
        hidden_bias: per channel [S].
        earlier: per channel c [c, S]: the channels of the same pixel before it.
        logits: per channel [S, K], or for two levels [S, 1] with logit(0) - logit(1).
        logits_bias: per channel [K] or [1].
    """

    skip: Array
    skip_bias: Array
    hidden: list[Array]
    hidden_bias: list[Array]
    earlier: list[Array]
    logits: list[Array]
    logits_bias: list[Array]


def layer_weights(layer: GatedLayer, spec: ModelSpec) -> LayerWeights:
    """Convolution weights as matrices for the layout above; im2col order is (tap column, features)."""
    f = spec.features

    def halves(matrix: Array) -> tuple[Array, Array]:
        return np.ascontiguousarray(matrix[..., :f]), np.ascontiguousarray(matrix[..., f:])

    vertical = _numpy(layer.vertical.weight)  # [2F, X, rows, k]
    matrices = [vertical[:, :, r].transpose(2, 1, 0).reshape(-1, 2 * f) for r in range(vertical.shape[2])]
    if layer.this:
        top, this = matrices[layer.above - 1 :: -1], matrices[layer.above]
    else:
        # `above` holds, per column, the rows above from the farthest to the nearest, each with its C values.
        top, this = [vertical.transpose(3, 2, 1, 0).reshape(-1, 2 * f)], None
    horizontal = _numpy(layer.horizontal.weight)[:, :, 0].transpose(2, 1, 0).reshape(-1, 2 * f)
    return LayerWeights(
        top=top,
        this=this,
        vertical_bias=_numpy(layer.vertical.bias),
        link=halves(_numpy(layer.link.weight)[:, :, 0, 0].T),
        horizontal=halves(horizontal),
        horizontal_bias=halves(_numpy(layer.horizontal.bias)),
        out=None if layer.out is None else _numpy(layer.out.weight)[:, :, 0, 0].T,
    )


def head_weights(model: GatedPixelCNN) -> HeadWeights:
    """The head of each channel apart, since a channel is drawn before the next one is evaluated."""
    spec, head = model.spec, model.head
    c, s, k = spec.channels, spec.head_features, spec.levels
    layers = [layer for layer in model.layers if isinstance(layer, GatedLayer)]
    hidden = _numpy(head.hidden.weight)[:, :, 0, 0].reshape(c, s, -1)
    hidden_bias = _numpy(head.hidden.bias).reshape(c, s)
    earlier = np.zeros((c, s, c), np.float32) if head.earlier is None else _numpy(head.earlier.weight).reshape(c, s, c)
    logits = _numpy(head.logits.weight)[:, :, 0, 0].reshape(c, k, s)
    logits_bias = _numpy(head.logits.bias).reshape(c, k)
    if k == 2:
        logits, logits_bias = logits[:, :1] - logits[:, 1:], logits_bias[:, :1] - logits_bias[:, 1:]
    return HeadWeights(
        skip=np.concatenate([_numpy(layer.skip.weight)[:, :, 0, 0].T for layer in layers]),
        skip_bias=np.asarray(sum(_numpy(layer.skip.bias) for layer in layers)),
        hidden=[hidden[i].T for i in range(c)],
        hidden_bias=list(hidden_bias),
        earlier=[earlier[i, :, :i].T for i in range(c)],
        logits=[logits[i].T for i in range(c)],
        logits_bias=list(logits_bias),
    )


def _numpy(tensor: torch.Tensor | None) -> Array:
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().numpy())


class SamplerGraph:
    """Builds the sampler of one model for one window; `build` does it."""

    def __init__(self, model: GatedPixelCNN, window: int) -> None:
        self.spec = spec = model.spec
        self.window = window
        self.windows = -(-spec.width // window)
        self.padded_width = self.windows * window
        self.layers = [layer_weights(layer, spec) for layer in model.layers if isinstance(layer, GatedLayer)]
        self.head = head_weights(model)
        self.condition_weight: Array | None = None
        if model.condition_projection is not None:
            weight = _numpy(model.condition_projection.weight)  # type: ignore[arg-type]
            self.condition_weight = weight if spec.conditioning == "label" else weight.T
        self.graph = Graph("sampler")
        self.binary = spec.levels == 2
        top = spec.levels - 1
        scale = np.float32(1 / top)
        self.values = (2 * np.arange(spec.levels, dtype=np.int32) - top).astype(np.float32) * scale

    # --- the outermost graph -------------------------------------------------------------------------------------

    def build(self) -> onnx.ModelProto:
        """The whole graph, without metadata."""
        g, spec = self.graph, self.spec
        image_shape = ["N", *spec.image_shape]
        noise = g.input("noise", "float", image_shape, exact=True)
        condition: str | None = None
        if spec.conditioning == "label":
            condition = g.input("label", "int32", ["N"], exact=True)
        elif spec.conditioning == "embedding":
            condition = g.input("embedding", "float", ["N", spec.conditioning_size], exact=True)
        known = g.input("known", "int32", image_shape, exact=True)
        mask = g.input("mask", "bool", image_shape, exact=True)
        temperature = g.input("temperature", "float", [], exact=True)
        self.n = g.op("Shape", noise, start=0, end=1)
        self.inverse_temperature = g.op("Reciprocal", temperature)
        self._constants(condition)
        rows = self._rows(noise, known, mask)
        image_rows, extra_rows, evaluations = self._scan_rows(rows)
        self._finish(image_rows, extra_rows, evaluations)
        return g.model()

    def _constants(self, condition: str | None) -> None:
        """Values that every row needs: gate biases with their condition, im2col indices, zero rows."""
        g, spec = self.graph, self.spec
        f, w = spec.features, spec.width
        self.wn = g.op("Mul", self.n, g.int64(w))
        self.m = g.op("Mul", self.n, g.int64(self.window))
        self.vertical_bias: list[str] = []
        self.horizontal_bias: list[tuple[str, str]] = []
        if condition is None:
            for layer in self.layers:
                self.vertical_bias.append(g.constant(layer.vertical_bias))
                self.horizontal_bias.append(
                    (g.constant(layer.horizontal_bias[0]), g.constant(layer.horizontal_bias[1]))
                )
        else:
            assert self.condition_weight is not None
            bias = np.concatenate(
                [np.concatenate([layer.vertical_bias, *layer.horizontal_bias]) for layer in self.layers]
            )
            if spec.conditioning == "label":
                gates = g.op("Gather", self.condition_weight + bias, condition, axis=0)
            else:
                gates = g.op("Gemm", condition, self.condition_weight, bias)
            shape = g.op("Concat", g.int64(w), self.n, g.int64(4 * f * spec.layers), axis=0)
            tiled = g.reshape(g.op("Expand", gates, shape), -1, 4 * f * spec.layers)
            sizes = g.int64(*[2 * f, f, f] * spec.layers)
            parts = g.ops("Split", 3 * spec.layers, tiled, sizes, axis=1)
            for index in range(spec.layers):
                self.vertical_bias.append(parts[3 * index])
                self.horizontal_bias.append((parts[3 * index + 1], parts[3 * index + 2]))
        k1, k = spec.first_kernel_size // 2, spec.kernel_size // 2
        self.first_vertical_taps = self._taps(w, 2 * k1 + 1)
        self.vertical_taps = self._taps(w, 2 * k + 1)
        self.vertical_padding = g.zeros(g.op("Mul", self.n, g.int64(k)), f)
        self.first_vertical_padding = g.zeros(g.op("Mul", self.n, g.int64(k1)), k1 * spec.channels)
        if self.window > 1:
            self.first_horizontal_taps = self._taps(self.window, k1)
            self.horizontal_taps = self._taps(self.window, k + 1)
        if self.window == 1:
            self.first_left = g.zeros(self.n, k1 * spec.channels)
            self.left = g.zeros(self.n, k * f)
        else:
            self.first_left = g.zeros(g.op("Mul", self.n, g.int64(k1)), spec.channels)
            self.left = g.zeros(g.op("Mul", self.n, g.int64(k)), f)

    def _taps(self, columns: int, taps: int) -> str:
        """im2col indices int64 [columns · N, taps] into rows (column, image): row (j, n), tap t → (j + t, n)."""
        g = self.graph
        images = g.op("Range", np.array(0, np.int64), g.op("Squeeze", self.n), np.array(1, np.int64))
        images = g.reshape(images, 1, -1, 1)
        column = np.arange(columns, dtype=np.int64)[:, None, None] + np.arange(taps, dtype=np.int64)[None, None, :]
        index = g.op("Add", g.op("Mul", column, self.n), images)
        return g.reshape(index, -1, taps)

    def _rows(self, noise: str, known: str, mask: str) -> list[str]:
        """Inputs as [H, Wp·N, C], one slice per row; columns beyond W are known to be level 0."""
        g, spec = self.graph, self.spec
        extra = self.padded_width - spec.width

        def by_row(value: str) -> str:
            value = g.op("Transpose", value, perm=[2, 3, 0, 1])
            if extra:
                shape = g.op("Concat", g.int64(spec.height, extra), self.n, g.int64(spec.channels), axis=0)
                fill = g.op("Expand", np.zeros((1, 1, 1, 1), np.float32), shape)
                value = g.op("Concat", value, fill, axis=1)
            return g.reshape(value, spec.height, g.op("Mul", self.n, g.int64(self.padded_width)), spec.channels)

        noise = by_row(noise)
        known = by_row(g.op("Cast", known, to=onnx.TensorProto.FLOAT))
        inverse = by_row(g.op("Cast", g.op("Not", mask), to=onnx.TensorProto.FLOAT))
        free = g.op("Cast", inverse, to=onnx.TensorProto.BOOL)
        if self.binary:
            # A level 1 is drawn where p(0) <= u: u = 2 makes it certain, u = -1 impossible.
            forced = g.op("Sub", g.op("Mul", known, np.array(3, np.float32)), np.array(1, np.float32))
            return [g.op("Where", free, noise, forced)]
        return [noise, g.op("Cast", known, to=onnx.TensorProto.INT32), free]

    # --- the body of the scan over rows --------------------------------------------------------------------------

    def _scan_rows(self, rows: list[str]) -> tuple[str, str, str]:
        """One image row per iteration; returns (image [H, Wp·N, C], logits or log_prob [H, Wp·N, C], evaluations)."""
        g, spec = self.graph, self.spec
        k = spec.kernel_size // 2
        level_zero = g.constant(self.values[:1].reshape(1, 1))
        guess_shape = g.op("Concat", g.op("Mul", self.n, g.int64(self.padded_width)), g.int64(spec.channels), axis=0)
        tops_shape = g.op("Concat", self.wn, g.int64(2 * spec.features), axis=0)
        states = [
            g.zeros(self.wn, spec.first_kernel_size // 2 * spec.channels),
            g.op("Expand", level_zero, guess_shape),
            g.constant(0, np.int32),
        ]
        for bias in self.vertical_bias[1:]:
            states += [g.op("Expand", bias, tops_shape)] * k

        r = g.body("row")
        above = r.input("above", "float", None)
        guess = r.input("guess", "float", None)
        count = r.input("count", "int32", None)
        tops = [[r.input("top", "float", None) for _ in range(k)] for _ in self.layers[1:]]
        scanned = [r.input("noise", "float", None)]
        if not self.binary:
            scanned += [r.input("known", "int32", None), r.input("free", "bool", None)]
        links, new_tops = self._vertical_row(r, above, tops)
        values, image, extra, count = self._horizontal_row(r, guess, links, scanned, count)
        row = values
        if self.padded_width != spec.width:
            row = r.op("Slice", values, g.int64(0), self.wn, g.int64(0))
        if spec.first_kernel_size // 2 > 1:
            older = r.slice(above, 1, spec.channels, spec.first_kernel_size // 2 * spec.channels)
            row = r.op("Concat", older, row, axis=1)
        c = spec.channels
        r.output(row, "float", [None, spec.first_kernel_size // 2 * c])
        r.output(values, "float", [None, c])
        r.output(count, "int32", [])
        for layer_tops in new_tops:
            for top in layer_tops:
                r.output(top, "float", [None, 2 * spec.features])
        r.output(image, "float" if self.binary else "int32", [None, c])
        r.output(extra, "float", [None, c])
        results = g.ops("Scan", len(states) + 2, *states, *rows, body=r.proto(), num_scan_inputs=len(rows))
        return results[-2], results[-1], results[2]

    def _vertical_row(
        self, r: Graph, above: str, tops: list[list[str]]
    ) -> tuple[list[tuple[str, str]], list[list[str]]]:
        """The vertical stack at one row: links per layer, and what this row adds to the rows below."""
        spec = self.spec
        links: list[tuple[str, str]] = []
        new_tops: list[list[str]] = []
        v = above
        for index, layer in enumerate(self.layers):
            if layer.this is None:
                padding, taps, inputs = self.first_vertical_padding, self.first_vertical_taps, layer.top[0].shape[0]
            else:
                padding, taps, inputs = self.vertical_padding, self.vertical_taps, layer.this.shape[0]
            padded = r.op("Concat", padding, v, padding, axis=0)
            columns = r.reshape(r.op("Gather", padded, taps, axis=0), -1, inputs)
            if layer.this is None:
                p_v = r.op("Gemm", columns, layer.top[0], self.vertical_bias[index])
            else:
                waiting = tops[index - 1]
                p_v = r.op("Gemm", columns, layer.this, waiting[0])
                waiting = [*waiting[1:], self.vertical_bias[index]]
                new_tops.append([r.op("Gemm", columns, w, c) for w, c in zip(layer.top, waiting, strict=True)])
            link = [
                r.op("Gemm", p_v, weight, bias)
                for weight, bias in zip(layer.link, self.horizontal_bias[index], strict=True)
            ]
            links.append((link[0], link[1]))
            if layer.out is not None:
                a, b = r.ops("Split", 2, p_v, axis=1, num_outputs=2)
                v = r.op("Mul", r.op("Tanh", a), r.op("Sigmoid", b))
        del spec
        return links, new_tops

    def _horizontal_row(
        self, r: Graph, guess: str, links: list[tuple[str, str]], scanned: list[str], count: str
    ) -> tuple[str, str, str, str]:
        """All windows of a row: (values [Wp·N, C], image, logits or log_prob, evaluations so far)."""
        spec = self.spec
        flat = [half for link in links for half in link]
        if self.padded_width != spec.width:
            missing = r.zeros(r.op("Mul", self.n, self.graph.int64(self.padded_width - spec.width)), spec.features)
            flat = [r.op("Concat", link, missing, axis=0) for link in flat]
        caches = [self.first_left, *[self.left] * (spec.layers - 1)]
        if self.windows == 1:
            values, image, extra, count, _ = self._window(r, guess, flat, scanned, caches, count)
            return values, image, extra, count
        pieces = [*flat, *scanned] if self.window == 1 else [*flat, guess, *scanned]
        dtypes = ["float"] * (len(pieces) - len(scanned)) + ["float", "int32", "bool"][: len(scanned)]
        pieces = [
            r.op("Reshape", piece, self.graph.int64(self.windows, -1, columns))
            for piece, columns in zip(
                pieces, [spec.features] * len(flat) + [spec.channels] * (len(pieces) - len(flat)), strict=True
            )
        ]
        b = r.body("window")
        in_count = b.input("count", "int32", None)
        in_caches = [b.input("cache", "float", None) for _ in caches]
        in_pieces = [b.input("piece", dtype, None) for dtype in dtypes]
        in_links, rest = in_pieces[: len(flat)], in_pieces[len(flat) :]
        in_guess = "" if self.window == 1 else rest.pop(0)
        values, image, extra, out_count, out_caches = self._window(b, in_guess, in_links, rest, in_caches, in_count)
        b.output(out_count, "int32", [])
        for cache in out_caches:
            b.output(cache, "float", [None, None])
        b.output(values, "float", [None, spec.channels])
        b.output(extra, "float", [None, spec.channels])
        if not self.binary:
            b.output(image, "int32", [None, spec.channels])
        states = [count, *caches]
        outputs = len(states) + (2 if self.binary else 3)
        results = r.ops("Scan", outputs, *states, *pieces, body=b.proto(), num_scan_inputs=len(pieces))
        whole = [r.reshape(result, -1, spec.channels) for result in results[len(states) :]]
        return whole[0], whole[0] if self.binary else whole[2], whole[1], results[0]

    # --- one window ----------------------------------------------------------------------------------------------

    def _window(
        self, b: Graph, guess: str, links: list[str], scanned: list[str], caches: list[str], count: str
    ) -> tuple[str, str, str, str, list[str]]:
        """Draw one window: (values [M, C], image, logits or log_prob, evaluations, caches for the next window)."""
        spec = self.spec
        if self.window == 1:
            values, levels, logits, new_caches = self._evaluate(b, "", links, scanned, caches)
            count = b.op("Add", count, np.array(1, np.int32))
        else:
            carried = self.spec.channels + (0 if self.binary else 1)
            keep = self.windows > 1
            i = b.body("iteration")
            i.input("trip", "int64", [])
            i.input("condition", "bool", [])
            in_values = i.input("values", "float", None)
            in_count = i.input("count", "int32", None)
            for _ in range(carried + (spec.layers - 1 if keep else 0)):
                i.input("previous", "float", None)
            if not self.binary:
                i.inputs.pop()
                i.input("previous_levels", "int32", None)
            values, levels, logits, features = self._evaluate(i, in_values, links, scanned, caches)
            difference = i.op("ReduceSumSquare", i.op("Sub", values, in_values), keepdims=0)
            i.output(i.op("Cast", difference, to=onnx.TensorProto.BOOL), "bool", [])
            i.output(values, "float", None)
            i.output(i.op("Add", in_count, np.array(1, np.int32)), "int32", None)
            for value in [*logits, *(features if keep else [])]:
                i.output(value, "float", None)
            if not self.binary:
                i.output(levels, "int32", None)
            zeros = [b.zeros(self.m, spec.levels if not self.binary else 1) for _ in logits]
            if keep:
                rows = b.op("Mul", self.n, self.graph.int64(spec.kernel_size // 2 + self.window))
                zeros += [b.zeros(rows, spec.features)] * (spec.layers - 1)
            if not self.binary:
                zeros.append(b.op("Cast", b.zeros(self.m, spec.channels), to=onnx.TensorProto.INT32))
            limit, true = self.graph.constant(self.window, np.int64), self.graph.constant(True, np.bool_)
            results = b.ops("Loop", 2 + len(zeros), limit, true, guess, count, *zeros, body=i.proto())
            values, count = results[:2]
            logits = results[2 : 2 + spec.channels]
            levels = "" if self.binary else results[-1]
            # The last iteration's guess may differ from its result in the window's last column: hence `values`.
            features = [b.op("Concat", caches[0], values, axis=0), *results[2 + spec.channels :]] if keep else []
            new_caches = self._last_columns(b, features) if keep else []
        if self.binary:
            return (
                values,
                values,
                logits[0] if spec.channels == 1 else b.op("Concat", *logits, axis=1),
                count,
                new_caches,
            )
        return values, levels, self._log_prob(b, logits, levels), count, new_caches

    def _last_columns(self, b: Graph, features: list[str]) -> list[str]:
        """The caches of the next window: the last k//2 columns of each layer's input."""
        spec = self.spec
        end = np.array([np.iinfo(np.int64).max])
        caches = []
        for index in range(spec.layers):
            left = (spec.first_kernel_size if index == 0 else spec.kernel_size) // 2
            start = b.op("Mul", self.n, self.graph.int64(-left))
            caches.append(b.op("Slice", features[index], start, end, np.array([0])))
        return caches

    def _evaluate(
        self, b: Graph, guess: str, links: list[str], scanned: list[str], caches: list[str]
    ) -> tuple[str, str, list[str], list[str]]:
        """The horizontal stack and the head, once: (values [M, C], levels, logits per channel, features).

        The features are the next window's caches where w = 1, else the inputs [(k//2 + w) · N, F] of layers 2..L.
        """
        spec = self.spec
        features: list[str] = []
        gates: list[str] = []
        h = ""
        for index, layer in enumerate(self.layers):
            inputs = layer.horizontal[0].shape[0]
            if self.window == 1:
                x = caches[0] if index == 0 else b.op("Concat", caches[index], h, axis=1)
                if index > 0:
                    width = inputs // spec.features
                    features.append(h if width == 2 else b.slice(x, 1, spec.features, width * spec.features))
            else:
                taps = self.first_horizontal_taps if index == 0 else self.horizontal_taps
                rows = b.op("Concat", caches[index], guess if index == 0 else h, axis=0)
                if index > 0:
                    features.append(rows)
                x = b.reshape(b.op("Gather", rows, taps, axis=0), -1, inputs)
            a, s = (
                b.op("Gemm", x, weight, link)
                for weight, link in zip(layer.horizontal, links[2 * index : 2 * index + 2], strict=True)
            )
            g = b.op("Mul", b.op("Tanh", a), b.op("Sigmoid", s))
            gates.append(g)
            if layer.out is not None:
                h = b.op("MatMul", g, layer.out) if index == 0 else b.op("Gemm", g, layer.out, h)
        joined = b.op("Concat", *gates, axis=1) if len(gates) > 1 else gates[0]
        skip = b.op("Relu", b.op("Gemm", joined, self.head.skip, self.head.skip_bias))
        values, levels, logits = self._head(b, skip, scanned)
        if self.window == 1:
            left = caches[0]
            if spec.first_kernel_size // 2 > 1:
                left = b.slice(left, 1, spec.channels, spec.first_kernel_size // 2 * spec.channels)
                left = b.op("Concat", left, values, axis=1)
            else:
                left = values
            features.insert(0, left)
        return values, levels, logits, features

    def _head(self, b: Graph, skip: str, scanned: list[str]) -> tuple[str, str, list[str]]:
        """Draw the channels of each pixel one after another: (values [M, C], levels int32 [M, C], logits)."""
        spec, head = self.spec, self.head
        per_channel = (
            [scanned]
            if spec.channels == 1
            else list(
                zip(
                    *(b.ops("Split", spec.channels, value, axis=1, num_outputs=spec.channels) for value in scanned),
                    strict=True,
                )
            )
        )
        values: list[str] = []
        levels: list[str] = []
        logits: list[str] = []
        for c in range(spec.channels):
            hidden = b.op("Gemm", skip, head.hidden[c], head.hidden_bias[c])
            if c > 0:
                earlier = values[0] if c == 1 else b.op("Concat", *values, axis=1)
                hidden = b.op("Gemm", earlier, head.earlier[c], hidden)
            logit = b.op("Gemm", b.op("Relu", hidden), head.logits[c], head.logits_bias[c])
            logits.append(logit)
            scaled = b.op("Mul", logit, self.inverse_temperature)
            if self.binary:
                one = b.op("LessOrEqual", b.op("Sigmoid", scaled), per_channel[c][0])
                values.append(b.op("Where", one, self.values[1:], self.values[:1]))
                continue
            noise, known, free = per_channel[c]
            cdf = b.op("CumSum", b.op("Softmax", scaled, axis=1), np.array(1, np.int64))
            below = b.op("LessOrEqual", b.slice(cdf, 1, 0, spec.levels - 1), noise)
            drawn = b.op("ReduceSum", b.op("Cast", below, to=onnx.TensorProto.INT32), np.array([1]), keepdims=1)
            levels.append(b.op("Where", free, drawn, known))
            values.append(b.op("Gather", self.values, levels[-1], axis=0))
        if spec.channels == 1:
            return values[0], levels[0] if levels else "", logits
        return b.op("Concat", *values, axis=1), b.op("Concat", *levels, axis=1) if levels else "", logits

    def _log_prob(self, b: Graph, logits: list[str], levels: str) -> str:
        """Log-probability [M, C] of the drawn levels at temperature 1, more than two levels."""
        channels = self.spec.channels
        drawn = [levels] if channels == 1 else b.ops("Split", channels, levels, axis=1, num_outputs=channels)
        parts = [
            b.op("GatherElements", b.op("LogSoftmax", logit, axis=1), level, axis=1)
            for logit, level in zip(logits, drawn, strict=True)
        ]
        return parts[0] if channels == 1 else b.op("Concat", *parts, axis=1)

    # --- outputs -------------------------------------------------------------------------------------------------

    def _finish(self, image: str, extra: str, evaluations: str) -> None:
        """[H, Wp·N, C] → [N, C, H, W], and for two levels logits → log-probabilities."""
        g, spec = self.graph, self.spec
        if self.binary:
            # log p(1) = -softplus(logit(0) - logit(1)), log p(0) = -softplus of its negative; values are ±1.
            extra = g.op("Neg", g.op("Softplus", g.op("Mul", extra, image)))
            image = g.op("Cast", g.op("Greater", image, np.array(0, np.float32)), to=onnx.TensorProto.INT32)

        def by_image(value: str) -> str:
            value = g.reshape(value, spec.height, self.padded_width, -1, spec.channels)
            if self.padded_width != spec.width:
                value = g.slice(value, 1, 0, spec.width)
            return g.op("Transpose", value, perm=[2, 3, 0, 1])

        shape = ["N", *spec.image_shape]
        g.output(by_image(image), "int32", shape, "image")
        g.output(by_image(extra), "float", shape, "log_prob")
        g.output(evaluations, "int32", [], "evaluations")


def sampler_graph(model: GatedPixelCNN, window: int) -> onnx.ModelProto:
    """The sampler of a model, `window` columns at a time, batch dynamic.

    Args:
        model: a trained Gated PixelCNN.
        window: w, 1 to W: one pixel at a time (least arithmetic) to the whole row at once (least latency).

    Returns:
        A model with inputs noise float32 [N, C, H, W], label int32 [N] or embedding float32 [N, E], known int32
        [N, C, H, W], mask bool [N, C, H, W], temperature float32 scalar; outputs image int32 [N, C, H, W], log_prob
        float32 [N, C, H, W] (nats, temperature 1), evaluations int32 scalar (of a window). Metadata is not set yet.
    """
    return SamplerGraph(model, window).build()
