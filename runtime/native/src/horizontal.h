/* The horizontal stack at one window of columns of one row: h, g of every layer and the skip sum, from the columns left. */
#ifndef GPCNN_HORIZONTAL_H
#define GPCNN_HORIZONTAL_H
#include "vertical.h"

/* Column j of the inputs of layer l >= 1, counted from `left` columns of zeros before the image. */
INLINE float *h_column(const workspace *w, size_t l, size_t column) {
  const size_t columns = reach(w->net, 1) + w->net->model.spec.width;
  return w->h + ((l - 1) * columns + column) * w->images * w->net->features;
}

/* Columns from .. from + columns of `row`, into w->skip [columns][N][F']. Reads the values left of each column. */
static void horizontal_window(const workspace *w, size_t row, size_t from, size_t columns) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t n = w->images, rows = columns * n, left = reach(net, 1);
  const float *run[1];
  for (size_t l = 0; l < spec->layers; l++) {
    float *g = w->gated + l * rows * net->features;
    product p = {.weights = &net->layers[l].horizontal, .run = run, .runs = 1,
                 .init = w->links + (l * spec->width + from) * n * net->gates, .init_period = rows,
                 .init_stride = net->gates, .out = w->horizontal, .rows = rows, .out_stride = net->gates,
                 .init_ahead = l + 1 < spec->layers ? spec->width * n * net->gates : 0};
    run[0] = l ? h_column(w, l, from) : input_row(w, 0, row) + from * n * gpcnn_inputs(spec);
    if (l) run_over_columns(&p, n, left + 1, spec->features, net->features);
    else run_over_columns(&p, n, reach(net, 0), gpcnn_inputs(spec), gpcnn_inputs(spec));
    multiply(&p);
    gate_rows(net, w->horizontal, g, rows);
    if (l + 1 == spec->layers) break;
    run[0] = g;
    product out = {.weights = &net->layers[l].out, .run = run, .runs = 1, .taps = 1, .depth = spec->features,
                   .row_stride = net->features, .init = net->zeros, .init_period = 1,
                   .out = h_column(w, l + 1, left + from), .rows = rows, .out_stride = net->features};
    if (l) out.init = h_column(w, l, left + from), out.init_period = rows, out.init_stride = net->features;
    multiply(&out);
  }
  run[0] = w->gated;
  const product skip = {.weights = &net->skip, .run = run, .runs = 1, .taps = spec->layers,
                        .tap_stride = rows * net->features, .depth = spec->features, .row_stride = net->features,
                        .init = net->skip_bias, .init_period = 1, .out = w->skip, .rows = rows,
                        .out_stride = net->features};
  multiply(&skip);
}
#endif
