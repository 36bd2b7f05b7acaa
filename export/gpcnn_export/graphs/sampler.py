"""The `sampler` role: the whole image in one ONNX graph, rows → windows of w columns → Jacobi iterations.

Layout. Inside the graph everything is a matrix whose rows are (column, image) pairs, column-major, and whose columns
are features: a shift by one image column is a shift by N rows, a window is a run of rows, and every convolution is a
Gather (im2col) and a Gemm whose C input adds what is already known. Zero padding is a block of N zero rows that the
indices of im2col point to. Where the window is the whole row (w = W), that block is an extra last column of every
matrix: its gate biases are zero, hence tanh(0) · sigmoid(0) = 0, and it stays zero through all layers by itself. The
window for large batches filters the vertical stack's columns by fewer products (`gpcnn_export.graphs.filtering`).
A map is brought to the size of the image before the loops; V · s is one product in each row, for all its gates.

Shape legend as in `gpcnn_training.model`; V is the number of columns that the vertical stack computes (W, or W + 1 with
the zero column), Wp that of the windows together (a multiple of w at least W, or W + 1), I the numbers of a pixel.

    If                  two schedules in one file: many images to draw at once, or few (absent where there is one)
      Scan over rows      carries  above   values of the k//2 rows above               V·N  k//2·I
                                   rows    per layer, v of the k//2 rows above         V·N  F, or transformed
                                   guess   the row above: where Jacobi starts         Wp·N  I
        map               biases of all gates of the row, where a map decides them            V·N  L·4F
        vertical stack    links    per layer, what it adds to the horizontal gates    Wp·N  F and Wp·N F
        windows           see `gpcnn_export.graphs.window`
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from gpcnn_deploy import ports
from gpcnn_deploy.schedule import Schedule
from gpcnn_export.graphs.builder import Graph
from gpcnn_export.graphs.filtering import KERNEL, Filtering
from gpcnn_export.graphs.map_network import map_network
from gpcnn_export.graphs.mixture import mixture_constants
from gpcnn_export.graphs.pictures import decoded
from gpcnn_export.graphs.shapes import with_all_shapes
from gpcnn_export.graphs.weights import (
    condition_weights,
    gate_biases,
    head_weights,
    is_binary,
    layer_weights,
    level_values,
)
from gpcnn_export.graphs.window import Windows, column_taps
from gpcnn_training.architectures import Prior
from gpcnn_training.code_pyramid import CodePyramid
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.vqvae_network import Vqvae


def sampler_graph(
    model: Prior,
    schedule: Schedule | int,
    batch: int | None = None,
    many: bool = False,
    pictures: Vqvae | None = None,
) -> onnx.ModelProto:
    """The sampler of a model, a window of columns at a time.

    Args:
        model: a trained Gated PixelCNN, or the two of a VQ-VAE-2, of which the graph draws the top codes first.
        schedule: w, 1 to W: one pixel at a time (least arithmetic) to the whole row at once (least latency); or a
            second window for larger batches, too, which has matrices of its own.
        batch: images of every call, for a graph in which all shapes are numbers; None for any number.
        many: of a single window: as the window for larger batches, to be timed.
        pictures: whose prior the model is; the graph then ends in its decoder.

    Returns:
        A model with the inputs and outputs that `gpcnn_deploy.ports` gives a sampler. Metadata is not set yet.
    """
    if isinstance(schedule, int):
        schedule = Schedule(schedule)
    spec = model.spec
    g = Graph("sampler", batch=batch)
    g.take(ports.inputs("sampler", spec, batch))
    condition = None if spec.conditioning == "none" else spec.conditioning
    inputs = _Inputs("noise", condition, "known", "mask", "temperature")
    results = ports.outputs("sampler", spec, batch)
    if schedule.batch_window is None:
        values = _drawn(model, g, schedule.window, many, inputs)
    else:
        branches = {}
        for name, window in (("then_branch", schedule.batch_window), ("else_branch", schedule.window)):
            body = g.body(name)
            built = _drawn(model, body, window, name == "then_branch", inputs)
            for value, port in zip(built, results.values(), strict=True):
                body.output(value, port.dtype, port.shape)
            branches[name] = body.proto()
        values = g.ops("If", len(results), _many(g, inputs, schedule), **branches)
    for value, (name, port) in zip(values, results.items(), strict=True):
        g.output(value, port.dtype, port.shape, name)
    if pictures is not None:
        picture = ports.outputs("sampler", spec, batch, pictures.spec)["picture"]
        g.output(decoded(g, pictures, values[0]), picture.dtype, picture.shape, "picture")
    return g.model() if batch is None else with_all_shapes(g.model())


@dataclass(frozen=True)
class _Inputs:
    """Names of the graph's inputs."""

    noise: str
    condition: str | None
    known: str
    mask: str
    temperature: str


def _drawn(model: Prior, g: Graph, window: int, many: bool, inputs: _Inputs) -> list[str]:
    """Add what draws; returns the names of image, log_prob and evaluations."""
    if isinstance(model, GatedPixelCNN):
        return _SamplerGraph(model, g, window, many).build(inputs)
    return _drawn_levels(model, g, window, many, inputs)


def _drawn_levels(model: CodePyramid, g: Graph, window: int, many: bool, inputs: _Inputs) -> list[str]:
    """As `_drawn`, of two levels of codes: the sheet is cut, and the top codes are the map of the bottom ones."""
    spec, n = model.spec, -1 if g.root.batch is None else g.root.batch
    (top_rows, top_columns), (rows, _) = spec.code_grids
    above = spec.height - rows
    sheets = inputs.noise, inputs.known, inputs.mask
    cut = [g.reshape(g.slice(sheet, 2, 0, above), n, 1, top_rows, top_columns) for sheet in sheets]
    below = [g.slice(sheet, 2, above, spec.height) for sheet in sheets]
    of_top = _Inputs(cut[0], inputs.condition, cut[1], cut[2], inputs.temperature)
    top = _SamplerGraph(model.top, g, min(window, top_columns), many).build(of_top)
    of_bottom = _Inputs(below[0], top[0], below[1], below[2], inputs.temperature)
    bottom = _SamplerGraph(model.bottom, g, window, many).build(of_bottom)
    together = [
        g.op("Concat", g.reshape(ours, n, 1, above, spec.width), theirs, axis=2)
        for ours, theirs in zip(top[:2], bottom[:2], strict=True)
    ]
    return [*together, g.op("Add", top[2], bottom[2])]


def _many(g: Graph, inputs: _Inputs, schedule: Schedule) -> str:
    """Whether to take the window for many images; where all is known, the wider one is best: an evaluation a window."""
    enough = g.op("GreaterOrEqual", g.images(inputs.noise), g.int64(schedule.batch_from or 1))
    known = g.op("ReduceMin", g.op("Cast", inputs.mask, to=onnx.TensorProto.INT32), keepdims=0)
    enough, known = g.op("Squeeze", enough), g.op("Cast", known, to=onnx.TensorProto.BOOL)
    if schedule.batch_window is not None and schedule.batch_window > schedule.window:
        return g.op("Or", enough, known)
    return g.op("And", enough, g.op("Not", known))


class _SamplerGraph:
    """Builds the scan over rows, for one window, in a graph of its own or in a branch; `many`: for large batches."""

    def __init__(self, model: GatedPixelCNN, graph: Graph, window: int, many: bool) -> None:
        self.spec = spec = model.spec
        self.layers = layer_weights(model)
        self.map_network = model.map_network
        self.head = head_weights(model)
        self.condition_weights = condition_weights(model)
        self.graph = graph
        self.whole_row = window == spec.width and window > 1
        self.window = window + self.whole_row
        self.columns = spec.width + self.whole_row
        self.padded_width = -(-self.columns // self.window) * self.window
        self.binary = is_binary(spec)
        self.values = level_values(model)
        self.many = many and not self.whole_row and spec.kernel_size == KERNEL

    def build(self, inputs: _Inputs) -> list[str]:
        """Add the nodes; returns the names of image, log_prob and evaluations."""
        g = self.graph
        self.n = g.images(inputs.noise)
        self._biases(None if self.map_network else inputs.condition)
        self.maps = [self._map_rows(inputs.condition)] if self.map_network and inputs.condition else []
        self._taps()
        spec = self.spec
        self.filtering = Filtering(g, self.n, spec.width, spec.features) if self.many else None
        self.windows = Windows(
            graph=g,
            spec=self.spec,
            layers=self.layers,
            head=self.head,
            values=self.values,
            n=self.n,
            window=self.window,
            windows=self.padded_width // self.window,
            zero_column=self.whole_row,
            inverse_temperature=g.op("Reciprocal", inputs.temperature),
            mixture=mixture_constants(g, self.spec),
        )
        return self._finish(*self._scan_rows(*self._rows(inputs)))

    def _biases(self, condition: str | None) -> None:
        """Gate biases with their condition: [2F] and [F] each, tiled to [V · N, …] where images or columns differ."""
        g, spec = self.graph, self.spec
        f, sizes = spec.features, [2 * spec.features, spec.features, spec.features] * spec.layers
        bias = gate_biases(self.layers)
        if self.map_network is not None:
            parts = [""] * len(sizes)  # those of a row are made in it
        elif condition is None and not self.whole_row:
            parts = [g.constant(part) for part in np.split(bias, np.cumsum(sizes)[:-1])]
        else:
            gates = g.constant(bias[None])
            if spec.conditioning == "label":
                assert condition is not None
                assert self.condition_weights is not None
                gates = g.op("Gather", self.condition_weights + bias, condition, axis=0)
            elif spec.conditioning == "embedding":
                assert condition is not None
                assert self.condition_weights is not None
                gates = g.op("Gemm", condition, self.condition_weights, bias)
            shape = g.op("Concat", g.int64(spec.width), self.n, g.int64(bias.size), axis=0)
            tiled = g.reshape(g.op("Expand", gates, shape), -1, bias.size)
            if self.whole_row:
                tiled = g.op("Concat", tiled, g.zeros(self.n, bias.size), axis=0)
            parts = g.ops("Split", len(sizes), tiled, g.int64(*sizes), axis=1)
        self.vertical_bias = parts[0::3]
        self.horizontal_bias = list(zip(parts[1::3], parts[2::3], strict=True))
        self.vn = g.op("Mul", self.n, g.int64(self.columns))
        self.no_rows = g.zeros(self.vn, f)
        self.zero_block = g.zeros(self.n, f)
        self.zero_pixel = g.zeros(self.n, spec.inputs)
        self.missing = g.zeros(g.op("Mul", self.n, g.int64(self.padded_width - self.columns)), f)
        self.zero_values = g.zeros(self.n, spec.first_kernel_size // 2 * spec.inputs)

    def _map_rows(self, condition: str) -> str:
        """s of a map, a row of the image at a time: [H, V · N, G].

        Where there is a zero column, a one stands behind each pixel: it carries the biases, which that column must not
        have.
        """
        g, spec = self.graph, self.spec
        assert self.map_network is not None
        s = g.op("Transpose", map_network(g, self.map_network, condition), perm=[2, 3, 0, 1])
        if self.whole_row:
            ones = g.op("Concat", g.int64(spec.height, spec.width), self.n, g.int64(1), axis=0)
            s = g.op("Concat", s, g.op("Expand", np.ones((1, 1, 1, 1), np.float32), ones), axis=3)
            s = g.op("Concat", s, g.zeros(spec.height, 1, self.n, spec.map_features + 1), axis=1)
        return g.reshape(s, spec.height, self.vn, spec.map_features + self.whole_row)

    def _row_biases(self, r: Graph, s: str) -> None:
        """Gate biases of a row, of its s [V · N, …]."""
        assert self.condition_weights is not None
        bias, f = gate_biases(self.layers), self.spec.features
        if self.whole_row:
            gates = r.op("MatMul", s, r.matrix(np.concatenate([self.condition_weights, bias[None]])))
        else:
            gates = r.op("Gemm", s, r.matrix(self.condition_weights), bias)
        parts = r.ops("Split", 3 * len(self.layers), gates, self.graph.int64(*[2 * f, f, f] * len(self.layers)), axis=1)
        self.vertical_bias = parts[0::3]
        self.horizontal_bias = list(zip(parts[1::3], parts[2::3], strict=True))

    def _taps(self) -> None:
        """im2col indices of the vertical stack, in blocks of N rows; see `column_taps`."""
        spec = self.spec
        self.first_taps = column_taps(self.graph, self.n, self._neighbours(1, spec.first_kernel_size // 2, spec.width))
        rows = spec.kernel_size // 2 + 1
        # [row 0 | row 1 | … | this row], each V blocks; the zero block is the last column, or follows them all.
        zero = spec.width if self.whole_row else rows * self.columns
        self.taps = column_taps(self.graph, self.n, self._neighbours(rows, spec.kernel_size // 2, zero))

    def _neighbours(self, rows: int, reach: int, zero: int) -> list[list[int]]:
        """Per column of the vertical stack, the blocks that its kernel reads, ordered (row, column)."""
        width = self.spec.width
        return [
            [
                row * self.columns + j + d if 0 <= j + d < width and j < width else zero
                for row in range(rows)
                for d in range(-reach, reach + 1)
            ]
            for j in range(self.columns)
        ]

    def _rows(self, inputs: _Inputs) -> tuple[list[str], list[str]]:
        """Inputs as [H, Wp · N, C], a slice per image row; columns beyond W are known to be level 0.

        Returns:
            What the windows read, and what Jacobi's start reads: values of known levels, and whether each is free.
        """
        g, spec = self.graph, self.spec
        extra = self.padded_width - spec.width

        def by_row(value: str) -> str:
            value = g.op("Transpose", value, perm=[2, 3, 0, 1])
            if extra:
                shape = g.op("Concat", g.int64(spec.height, extra), self.n, g.int64(spec.channels), axis=0)
                value = g.op("Concat", value, g.op("Expand", np.zeros((1, 1, 1, 1), np.float32), shape), axis=1)
            return g.reshape(value, spec.height, g.op("Mul", self.n, g.int64(self.padded_width)), spec.channels)

        noise = by_row(inputs.noise)
        known = by_row(g.op("Cast", inputs.known, to=onnx.TensorProto.FLOAT))
        free = by_row(g.op("Cast", g.op("Not", inputs.mask), to=onnx.TensorProto.FLOAT))
        free = g.op("Cast", free, to=onnx.TensorProto.BOOL)
        # What `known` holds where nothing is known may be anything: it must not be looked up.
        levels = g.op("Cast", g.op("Where", free, np.array(0, np.float32), known), to=onnx.TensorProto.INT32)
        start = [] if self.window == 1 else [self._each(free), self.windows.look_up(g, levels, 3)]
        if self.binary:
            # A level 1 is drawn where p(0) <= u: u = 2 makes it certain, u = -1 impossible.
            forced = g.op("Sub", g.op("Mul", known, np.array(3, np.float32)), np.array(1, np.float32))
            return [g.op("Where", free, noise, forced)], start
        return [noise, levels, free], start

    def _each(self, free: str) -> str:
        """Whether each number of a pixel is free, [H, Wp · N, I], of whether each channel is."""
        spec = self.spec
        if spec.inputs == spec.channels:
            return free
        repeated = np.repeat(np.arange(spec.channels), spec.input_size)
        return self.graph.op("Gather", free, repeated, axis=2)

    def _scan_rows(self, rows: list[str], start: list[str]) -> tuple[str, str, str]:
        """One image row per iteration; returns (image [H, Wp·N, C], logits or log_prob [H, Wp·N, C], evaluations)."""
        g, spec = self.graph, self.spec
        c, inputs = spec.channels, spec.inputs
        first_above, above = spec.first_kernel_size // 2, spec.kernel_size // 2
        guess_shape = g.op("Concat", g.op("Mul", self.n, g.int64(self.padded_width)), g.int64(inputs), axis=0)
        states = [
            g.zeros(self.vn, first_above * inputs),
            g.op("Expand", g.constant(np.tile(self.values[:1], spec.channels)), guess_shape),
            g.constant(0, np.int32),
            *[self.no_rows if self.filtering is None else self.filtering.zero_row] * (above * (spec.layers - 1)),
        ]
        r = g.repeated("row")
        in_above = r.input("above", "float32", None)
        guess = r.input("guess", "float32", None)
        count = r.input("count", "int32", None)
        in_rows = [[r.input("v", "float32", None) for _ in range(above)] for _ in self.layers[1:]]
        scanned = [r.item("noise", "float32", rows[0])]
        if not self.binary:
            scanned += [r.item("known", "int32", rows[1]), r.item("free", "bool", rows[2])]
        if start:  # from what is known, and else from the row above
            guess = r.op("Where", r.item("free", "bool", start[0]), guess, r.item("value", "float32", start[1]))
        if self.maps:
            self._row_biases(r, r.item("s", "float32", self.maps[0]))

        links, out_rows = self._vertical_row(r, in_above, in_rows)
        drawn = self.windows.row(r, guess, links, scanned, count)

        row = drawn.values
        if self.padded_width != spec.width:
            row = r.op("Slice", row, g.int64(0), g.op("Mul", self.n, g.int64(spec.width)), g.int64(0))
        if self.whole_row:
            row = r.op("Concat", row, self.zero_pixel, axis=0)
        if first_above > 1:
            row = r.op("Concat", r.slice(in_above, 1, inputs, first_above * inputs), row, axis=1)
        r.output(row, "float32", [None, first_above * inputs])
        r.output(drawn.values, "float32", [None, inputs])
        r.output(drawn.count, "int32", [])
        for layer_rows in out_rows:
            for v in layer_rows:
                r.output(v, "float32", [*[None] * (1 if self.filtering is None else 2), spec.features])
        r.output(drawn.image, "float32" if self.binary else "int32", [None, c])
        r.output(drawn.extra, "float32", [None, c])
        results = g.repeat(r, states, [*rows, *start, *self.maps], spec.height)
        return results[-2], results[-1], results[2]

    def _vertical_row(self, r: Graph, above: str, rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
        """The vertical stack at one row: per layer both halves of its link, and v of the rows that come next to use."""
        links: list[str] = []
        out_rows: list[list[str]] = []
        v = ""
        for index, layer in enumerate(self.layers):
            if index > 0:
                seen = [*rows[index - 1], v if self.filtering is None else self.filtering.transform(r, v)]
                out_rows.append(seen[1:])
            if index > 0 and self.filtering is not None:
                p_v = self.filtering.convolve(r, seen, layer.vertical, self.vertical_bias[index])
            else:
                if index == 0:
                    blocks, taps = [above] if self.whole_row else [above, self.zero_values], self.first_taps
                else:
                    blocks, taps = seen if self.whole_row else [*seen, self.zero_block], self.taps
                stacked = blocks[0] if len(blocks) == 1 else r.op("Concat", *blocks, axis=0)
                columns = r.reshape(r.op("Gather", stacked, taps, axis=0), -1, layer.vertical.shape[0])
                p_v = r.op("Gemm", columns, r.matrix(layer.vertical), self.vertical_bias[index])
            links += [
                r.op("Gemm", p_v, r.matrix(weight), bias)
                for weight, bias in zip(layer.link, self.horizontal_bias[index], strict=True)
            ]
            if layer.out is not None:
                a, b = r.ops("Split", 2, p_v, axis=1, num_outputs=2)
                v = r.op("Mul", r.op("Tanh", a), r.op("Sigmoid", b))
        if self.padded_width > self.columns:
            links = [r.op("Concat", link, self.missing, axis=0) for link in links]
        return links, out_rows

    def _finish(self, image: str, extra: str, evaluations: str) -> list[str]:
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

        return [by_image(image), by_image(extra), evaluations]
