/* The network m that brings a spatial map to the size of the image, s = m(h), and V · s, which the gates start from.
 *
 * Its 3×3 convolutions are computed once for a batch, at the size of the map. Of the transposed ones a row is computed when
 * the image comes to it, and kept until the next is needed: so each is computed once, and none takes the memory of an image.
 * Names are those of training/gpcnn_training/map_network.py; G' is G padded. */
#ifndef GPCNN_MAP_H
#define GPCNN_MAP_H
#include "workspace.h"

/* Leaky rectifiers: x, or x / 8 below zero. */
INLINE void leaky_rows(float *x, size_t floats) {
  for (size_t i = 0; i < floats; i += LANES) {
    const vec here = load(x + i);
    store(x + i, larger(here, here * 0.125f));
  }
}

/* Row y of a plane of a map, -1 to h: [w][N][G'], with a column of zeros before it and one behind it. */
INLINE float *map_plane_row(const workspace *w, int plane, size_t y_and_one) {
  const gpcnn_spec *spec = &w->net->model.spec;
  return w->map_plane[plane] + (y_and_one * (spec->map_width + 2) + 1) * w->images * w->net->map_features;
}

/* What m reads of a pixel of a map: the sum of a row of the table for each plane, by its value or for its category. */
static __attribute__((noinline)) void read_map_pixel(const network *net, const float *map, float *to) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t g = net->map_features, area = (size_t)spec->map_height * spec->map_width;
  for (size_t x = 0; x < g; x += LANES) store(to + x, load(net->map_bias + x));
  for (size_t plane = 0; plane < spec->conditioning_size; plane++) {
    const float number = map[plane * area];
    const size_t row = spec->map_categories ? plane * spec->map_categories + (size_t)number : plane;
    const vec scale = splat(spec->map_categories ? 1 : number);
    for (size_t x = 0; x < g; x += LANES)
      store(to + x, multiply_add(load(net->map_table + row * g + x), scale, load(to + x)));
  }
}

/* The maps [N][P][h][w] of the images from `first` on, up to the transposed convolutions. */
static __attribute__((noinline)) void prepare_map(workspace *w, const float *maps, size_t first) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t n = w->images, g = net->map_features, rows = spec->map_height, columns = spec->map_width;
  const size_t plane = (rows + 2) * (columns + 2) * n * g;
  for (int i = 0; i < 2; i++) clear(w->map_plane[i], w->map_plane[i] + plane);
  for (size_t image = 0; image < n; image++)
    for (size_t y = 0; y < rows; y++)
      for (size_t x = 0; x < columns; x++)
        read_map_pixel(net, maps + ((first + image) * spec->conditioning_size * rows + y) * columns + x,
                       map_plane_row(w, 0, y + 1) + (x * n + image) * g);
  for (int i = 0; i < GPCNN_MAP_CONTEXT; i++)
    for (size_t y = 0; y < rows; y++) {
      const float *run[3];
      product p = {.weights = &net->map_context[i], .run = run, .runs = 3, .init = net->map_context_bias[i],
                   .init_period = 1, .out = map_plane_row(w, 1 - i, y + 1), .rows = columns * n, .out_stride = g};
      for (size_t r = 0; r < 3; r++) run[r] = map_plane_row(w, i, y + r) - n * g;
      run_over_columns(&p, n, 3, spec->map_features, g);
      multiply(&p);
      leaky_rows(p.out, columns * n * g);
    }
  for (size_t i = 0; i < net->map_stages; i++) w->map_row_at[i] = SIZE_MAX;
  if (net->map_stages) { /* columns beyond the image, where it ends in a tile */
    float *last = w->map_row[net->map_stages - 1];
    clear(last, last + w->columns * n * g);
  }
}

/* Row `row` of the output of a stage, [columns][N][G'], of the row of the stage before it. */
static __attribute__((noinline)) void map_stage_row(workspace *w, size_t k, size_t row, const float *below, size_t columns) {
  const network *net = w->net;
  const map_stage *stage = &net->map_stage[k];
  const size_t n = w->images, g = net->map_features;
  float *out = w->map_row[k];
  for (size_t column = 0; column < stage->columns; column++) {
    const size_t place = row % stage->rows * stage->columns + column;
    const matrix up = {stage->up.packed + place * g * stage->up.depth, g / BLOCK, stage->up.depth};
    for (size_t image = 0; image < n; image++) { /* rows of the product at a constant stride */
      const float *const run[] = {below + image * g};
      const product p = {.weights = &up, .run = run, .runs = 1, .taps = 1, .depth = net->model.spec.map_features,
                         .row_stride = n * g, .init = stage->bias, .init_period = 1,
                         .out = out + (column * n + image) * g, .rows = columns, .out_stride = stage->columns * n * g};
      multiply(&p);
    }
  }
  leaky_rows(out, columns * stage->columns * n * g);
  w->map_row_at[k] = row;
}

/* s of a row of the image, [W][N][G']. */
static const float *map_row(workspace *w, size_t row) {
  const network *net = w->net;
  size_t needed[GPCNN_MAP_STAGES + 1], columns = net->model.spec.map_width;
  needed[net->map_stages] = row;
  for (size_t k = net->map_stages; k-- > 0;) needed[k] = needed[k + 1] / net->map_stage[k].rows;
  const float *below = map_plane_row(w, 0, needed[0] + 1);
  for (size_t k = 0; k < net->map_stages; k++) {
    if (w->map_row_at[k] != needed[k + 1]) map_stage_row(w, k, needed[k + 1], below, columns);
    below = w->map_row[k];
    columns *= net->map_stage[k].columns;
  }
  return below;
}

/* Bias and V · s of layer l at `columns` columns, into w->map_gates. */
static void map_gates(const workspace *w, size_t l, size_t from, size_t columns) {
  const network *net = w->net;
  const size_t outputs = 2 * net->gates;
  const matrix gates = {net->embedding.packed + l * outputs * net->embedding.depth, outputs / BLOCK, net->embedding.depth};
  const float *const run[] = {w->map_features + from * w->images * net->map_features};
  const product p = {.weights = &gates, .run = run, .runs = 1, .taps = 1, .depth = net->model.spec.map_features,
                     .row_stride = net->map_features, .init = net->gate_bias + l * outputs, .init_period = 1,
                     .out = w->map_gates, .rows = columns * w->images, .out_stride = outputs};
  multiply(&p);
}
#endif
