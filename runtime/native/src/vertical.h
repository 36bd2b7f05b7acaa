/* The vertical stack at one row of the image: p_v, v' and link(p_v) of every layer, from the rows above. */
#ifndef GPCNN_VERTICAL_H
#define GPCNN_VERTICAL_H
#include "map.h"

enum { MAX_REACH = 31 }; /* 63 // 2 */

/* Row i of the inputs of layer l: [left + columns + left][N][I], or a row of w->features. Rows above the image are zero. */
INLINE float *input_row(const workspace *w, size_t l, size_t row) {
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t rows = reach(w->net, l) + 1;
  if (l) return w->features[l - 1] + row % rows * w->features_row;
  return w->values + row % rows * (spec->width + 2 * reach(w->net, 0)) * w->images * gpcnn_inputs(spec);
}

/* p_v of layer l at columns from .. to of `row`, into w->vertical. */
static void vertical_convolution(const workspace *w, size_t l, size_t row, size_t from, size_t to) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t n = w->images, k = l ? spec->kernel_size : spec->first_kernel_size, rows = k / 2 + (l > 0);
  const size_t above = k / 2, slots = above + 1; /* layer 1 does not see this row */
  const float *run[MAX_REACH + 1];
  product p = {.run = run, .runs = rows, .out_stride = net->gates};
  start_from_bias(w, &p, l, 0);
  for (size_t r = 0; r < rows; r++) run[r] = input_row(w, l, row + slots - above + r);
  if (l == 0 || !net->filter.points) {
    const size_t inputs = l ? spec->features : gpcnn_inputs(spec), stride = l ? net->features : inputs;
    for (size_t r = 0; r < rows; r++) run[r] += from * n * stride;
    p.weights = &net->layers[l].vertical[0];
    run_over_columns(&p, n, k, inputs, stride);
    p.rows = (to - from) * n;
    p.out = w->vertical;
    multiply(&p);
    return;
  }
  const size_t m = net->filter.outputs, tiles = (to - from) / m, point = w->features_point;
  for (size_t r = 0; r < rows; r++) run[r] += from / m * n * net->features;
  const product zero = {.run = run, .runs = rows, .taps = 1, .depth = spec->features, .row_stride = net->features,
                        .init = net->zeros, .init_period = 1, .rows = tiles * n, .out_stride = net->gates, .rows_ahead = point};
  product q = zero;
  q.out = w->points;
  for (size_t x = 0; x < net->filter.points; x++) {
    q.weights = &net->layers[l].vertical[x];
    multiply(&q);
    for (size_t r = 0; r < rows; r++) run[r] += point;
    q.out += w->product_point;
  }
  transform_output(&net->filter, w->points, w->product_point, w->vertical, tiles, n, net->gates, p.init,
                   w->condition || w->map_features ? p.init_stride : 0, w->map_features ? n * p.init_stride : 0);
}

static void vertical_row(const workspace *w, size_t row) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t n = w->images, left = reach(net, 1), f = spec->features;
  for (size_t l = 0; l < spec->layers; l++) {
    const int last = l + 1 == spec->layers;
    float *next = last ? NULL : input_row(w, l + 1, row);
    float *v = net->filter.points ? w->plane : next;
    for (size_t from = 0; from < spec->width; from += w->chunk) {
      const size_t to = from + w->chunk < w->columns ? from + w->chunk : w->columns;
      const size_t columns = (to < spec->width ? to : spec->width) - from; /* the image may end in a tile */
      if (w->map_features) map_gates(w, l, from, to - from);
      vertical_convolution(w, l, row, from, l ? to : from + columns);
      const float *const run[] = {w->vertical, w->vertical + net->features};
      product link = {.weights = &net->layers[l].link, .run = run, .runs = 2, .taps = 1, .depth = f,
                      .row_stride = net->gates, .out = w->links + (l * spec->width + from) * n * net->gates,
                      .rows = columns * n, .out_stride = net->gates};
      start_from_bias(w, &link, l, 1);
      multiply(&link);
      if (!last) gate_rows(net, w->vertical, v + (left + from) * n * net->features, columns * n);
    }
    if (!last && net->filter.points)
      transform_input(&net->filter, w->plane, next, w->features_point, w->tiles, n, net->features);
  }
}
#endif
