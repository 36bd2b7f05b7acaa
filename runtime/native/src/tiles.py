"""Writes tiles_RxV.h: the register tiles of a matrix product, one file per shape of register file.

    python tiles.py            writes tiles_6x2.h, tiles_14x2.h, tiles_6x4.h and tiles_4x2.h beside this file

A tile of r rows and b blocks keeps r · b · V vectors of sums in registers, V vectors being one block of the packed
weights. Few rows take several blocks at once: too few independent sums would leave the multipliers waiting. The sums
are named variables and not an array, because compilers put arrays on the stack.
"""

from __future__ import annotations

from pathlib import Path

SHAPES = {(6, 2): 12, (14, 2): 28, (6, 4): 24, (4, 2): 8}  # rows, vectors in a block: sums at most in registers


def tile(rows: int, vectors: int, blocks: int) -> str:
    """One C function: out[r][v] = init[r][v] + sum over k of a[r][k] · w[k][v]."""
    total = vectors * blocks
    lines = [
        f"static void tile_{rows}x{blocks}(const product *p, const float *w0, size_t row, size_t column) {{",
        "  size_t phase = first_phase(p, row);",
    ]
    for r in range(rows):
        lines.append(f"  const float *i{r} = next_init(p, &phase, column);")
    for r in range(rows):
        sums = ", ".join(f"c{r}_{v} = load(i{r} + {v} * LANES)" for v in range(total))
        lines.append(f"  vec {sums};")
    for b in range(1, blocks):
        lines.append(f"  const float *w{b} = w{b - 1} + p->weights->depth * BLOCK;")
    lines += [
        "  const size_t stride = p->row_stride;",
        "  for (size_t run = 0; run < p->runs; run++)",
        "    for (size_t tap = 0; tap < p->taps; tap++) {",
        "      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;",
    ]
    lines += [f"      const float *a{r} = a{r - 1} + stride;" for r in range(1, rows)]
    lines.append("      for (size_t k = 0; k < p->depth; k++) {")
    if blocks == 1:
        lines.append("        prefetch(w0 + AHEAD * BLOCK);")
    if rows < total:  # hold one number of each row, and one vector of weights at a time
        lines += [f"        vec s{r} = splat(a{r}[k]);" for r in range(rows)]
        for v in range(total):
            lines.append(f"        vec b{v} = load(w{v // vectors} + {v % vectors} * LANES);")
            lines += [f"        c{r}_{v} = multiply_add(s{r}, b{v}, c{r}_{v});" for r in range(rows)]
    else:
        lines += [f"        vec b{v} = load(w{v // vectors} + {v % vectors} * LANES);" for v in range(total)]
        for r in range(rows):
            lines.append(f"        vec s{r} = splat(a{r}[k]);")
            lines += [f"        c{r}_{v} = multiply_add(s{r}, b{v}, c{r}_{v});" for v in range(total)]
    for b in range(blocks):
        lines.append(f"        w{b} += BLOCK;")
    lines += ["      }", "    }", "  float *out = p->out + row * p->out_stride + column;"]
    for r in range(rows):
        for v in range(total):
            lines.append(f"  store(out + {v} * LANES, c{r}_{v});")
        if r + 1 < rows:
            lines.append("  out += p->out_stride;")
    lines.append("}")
    return "\n".join(lines)


def cycles(rows: int, vectors: int, blocks: int) -> float:
    """Cycles of one step of k for one block: two multiply-adds and two loads a cycle, a multiply-add takes five."""
    return max(rows * vectors * blocks / 2, (rows + vectors * blocks) / 2, 5) / blocks


def first_tiles(most: dict[int, int], vectors: int) -> list[int]:
    """Of `left` rows, how many the next tile takes, so that all together take the least time."""
    rows = most[1]
    best = [0.0]
    sizes = [0]
    for left in range(1, 2 * rows):
        costs = {
            size: best[left - size] + min(cycles(size, vectors, b) for b, r in most.items() if size <= r) + 0.2
            for size in range(1, min(rows, left) + 1)
        }
        sizes.append(min(sorted(costs, reverse=True), key=lambda size: costs[size]))
        best.append(costs[sizes[-1]])
    return sizes


def header(rows: int, vectors: int, registers: int) -> str:
    """The tiles, the table of them, and the table of first tiles."""
    counts = [b for b in (1, 2, 4) if registers // (b * vectors)]
    parts = [
        f"/* Written by tiles.py: register tiles of up to {rows} rows × {vectors} vectors. Do not edit. */",
        f"enum {{ VECTORS = {vectors}, BLOCK = VECTORS * LANES, TILE_ROWS = {rows} }};",
    ]
    most = {}
    for blocks in counts:
        most[blocks] = min(rows, registers // (blocks * vectors))
        parts += [tile(r, vectors, blocks) for r in range(1, most[blocks] + 1)]
    parts.append("typedef void tile_function(const product *, const float *, size_t row, size_t column);")
    parts.append("/* [log2 of the blocks][rows] */")
    parts.append(f"enum {{ WIDTHS = {len(counts)} }};")
    parts.append("static tile_function *const TILE[WIDTHS][TILE_ROWS + 1] = {")
    for blocks in counts:
        names = ", ".join(f"tile_{r}x{blocks}" for r in range(1, most[blocks] + 1))
        parts.append(f"    {{NULL, {names}}},")
    parts.append("};")
    limits = ", ".join(str(most[blocks]) for blocks in counts)
    parts.append(
        f"/* Most rows of a tile that takes so many blocks. */\nstatic const unsigned char MOST[WIDTHS] = {{{limits}}};"
    )
    sizes = ", ".join(str(s) for s in first_tiles(most, vectors))
    parts.append(
        f"/* Rows of the next tile when so many rows are left. */\nstatic const unsigned char NEXT[] = {{{sizes}}};"
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    for (rows, vectors), registers in SHAPES.items():
        path = Path(__file__).with_name(f"tiles_{rows}x{vectors}.h")
        path.write_text(header(rows, vectors, registers), encoding="utf-8")
