/* What one batch computes with: caches of rows and columns, laid out in the caller's workspace.
 *
 * A row of a product is a column of the image and an image of the batch, in this order: [columns][N]. So a window of
 * columns and a batch of images are one thing to it. */
#ifndef GPCNN_WORKSPACE_H
#define GPCNN_WORKSPACE_H
#include "network.h"

enum {
  WINDOW_ROWS = 64, /* rows at most of a window's products, where that is more than one column */
  CHUNK_ROWS = 48,  /* rows of a product of the vertical stack, where that is more than one tile of columns */
  SIDE_BY_SIDE = 8, /* pixels of a mixture that are drawn together, since each of them is a chain of work */
  COMPONENT_ARRAYS = 5,
  APART = 16        /* floats between points, so that their strides are no power of two: those share a set of the cache */
};

typedef struct workspace {
  const network *net;
  size_t images;
  size_t window_limit;  /* columns at most in a window */
  size_t tiles, columns; /* of the vertical stack: W in tiles of m outputs; columns = tiles · m, at least W */
  size_t chunk;         /* columns of the vertical stack computed at a time, whole tiles */
  float *values;        /* [k1//2 + 1 rows][k1//2 + W + k1//2][N][I] network inputs, row i in slot i mod rows */
  float **features;     /* [L-1] of [k//2 + 1 rows], as v of layers 2..L is read: columns with k//2 zeros at each end
                           [left + columns + left][N][F'], or their B^T: [n][tiles][N][F'] and APART */
  size_t features_row;  /* floats of one such row */
  size_t features_point, product_point; /* floats of a point in `features` and in `points` */
  float *plane;         /* [left + columns + left][N][F'] a row of v before B^T, zeros at the ends */
  float *points;        /* [n][chunk of tiles][N][2F'] and APART */
  float *vertical;      /* [chunk][N][2F'] p_v */
  float *links;         /* [L][W][N][2F'] link(p_v) and the horizontal bias */
  float *condition;     /* [N][L][2][2F'] bias and V^T y, or NULL: the same for all images, or a map */
  float *map_plane[2];  /* [h + 2][w + 2][N][G'] of a map: its features, within zeros; in the end in [0] */
  float *map_row[GPCNN_MAP_STAGES];     /* [columns][N][G'] of each stage: one of its rows, the last with zeros behind W */
  size_t map_row_at[GPCNN_MAP_STAGES];  /* which */
  const float *map_features;            /* [W or columns][N][G'] s of the row being drawn, or NULL without a map */
  float *map_gates;                     /* [chunk][N][2][2F'] bias and V · s of a layer */
  float *h;             /* [L-1][left + W][N][F'] inputs of the horizontal stack's layers 2..L */
  float *horizontal;    /* [window][N][2F'] p_h */
  float *gated;         /* [L][window][N][F'] g */
  float *skip, *hidden; /* [window][N][F'] [window][N][C][S'] */
  float *logits;        /* [C][window][N][K']; of a mixture [window][N][kinds][M''] */
  float *terms, *sums;  /* [K'] [K'/16] exp of one sub-pixel's logits; of a mixture the second holds `components` */
  float *largest, *total; /* [C][window][N] of the logits at temperature 1, and of their exp; of a mixture the second
                             is the log-probability */
  int32_t *drawn;       /* [C][window][N] */
  int32_t *row;         /* [W][N][C] levels of the row being drawn: decided, then guessed */
  uint32_t *known_run;  /* [W + 1] columns from here on that are known in all images */
} workspace;

/* What a map needs, after sizes of the vertical stack are known. */
static SMALL void lay_out_map(workspace *w, const network *net, arena *from) {
  const gpcnn_spec *spec = &net->model.spec;
  w->map_features = w->map_gates = NULL;
  if (spec->conditioning != GPCNN_MAP) return;
  for (int i = 0; i < 2; i++)
    w->map_plane[i] = arena_floats(from, spec->map_height + 2, spec->map_width + 2, w->images, net->map_features);
  size_t columns = spec->map_width;
  for (size_t i = 0; i < net->map_stages; i++) {
    columns *= net->map_stage[i].columns;
    w->map_row[i] = arena_floats(from, i + 1 < net->map_stages ? columns : w->columns, w->images, net->map_features, 1);
  }
  w->map_gates = arena_floats(from, w->chunk, w->images, 2, net->gates);
}

static SMALL void lay_out_workspace(workspace *w, const network *net, size_t images, arena *from) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t n = images, c = spec->channels, l = spec->layers, width = spec->width;
  const size_t m = net->filter.points ? net->filter.outputs : 1, first = reach(net, 0), left = reach(net, 1);
  w->net = net;
  w->images = n;
  w->window_limit = n < WINDOW_ROWS ? WINDOW_ROWS / n : 1;
  if (w->window_limit > width) w->window_limit = width;
  w->tiles = (width + m - 1) / m;
  w->columns = w->tiles * m;
  w->chunk = m * (n < CHUNK_ROWS ? CHUNK_ROWS / n : 1);
  if (w->chunk > w->columns) w->chunk = w->columns;
  const size_t rows = w->window_limit;
  w->values = arena_floats(from, first + 1, width + 2 * first, n, gpcnn_inputs(spec));
  w->features_point = w->tiles * n * net->features + APART;
  w->product_point = w->chunk / m * n * net->gates + APART;
  w->features_row = net->filter.points ? net->filter.points * w->features_point
                                       : (w->columns + 2 * left) * n * net->features;
  w->features = (float **)arena_take(from, sizeof(float *), l, 1, 1, 1);
  for (size_t i = 0; i + 1 < l; i++) {
    float *ring = arena_floats(from, left + 1, w->features_row, 1, 1);
    if (w->features) w->features[i] = ring;
  }
  w->plane = arena_floats(from, net->filter.points ? w->columns + 2 * left : 0, n, net->features, 1);
  w->h = arena_floats(from, l - 1, left + width, n, net->features);
  w->points = arena_floats(from, net->filter.points, w->product_point, 1, 1);
  w->vertical = arena_floats(from, w->chunk, n, net->gates, 1);
  w->links = arena_floats(from, l, width, n, net->gates);
  w->condition = spec->conditioning && spec->conditioning != GPCNN_MAP ? arena_floats(from, n, l, 2, net->gates) : NULL;
  lay_out_map(w, net, from);
  w->horizontal = arena_floats(from, rows, n, net->gates, 1);
  w->gated = arena_floats(from, l, rows, n, net->features);
  w->skip = arena_floats(from, rows, n, net->features, 1);
  w->hidden = arena_floats(from, rows, n, c, net->head_features);
  const int mixture = spec->head == GPCNN_MIXTURE;
  w->logits = arena_floats(from, mixture ? 1 : c, rows, n, mixture ? net->mixture_row : net->levels);
  w->terms = arena_floats(from, mixture ? 0 : net->levels, 1, 1, 1);
  w->sums = arena_floats(from, mixture ? COMPONENT_ARRAYS * SIDE_BY_SIDE * net->components : net->levels, 1, 1, 1);
  w->largest = arena_floats(from, c, rows, n, 1);
  w->total = arena_floats(from, c, rows, n, 1);
  w->drawn = (int32_t *)arena_take(from, sizeof(int32_t), c, rows, n, 1);
  w->row = (int32_t *)arena_take(from, sizeof(int32_t), width, n, c, 1);
  w->known_run = (uint32_t *)arena_take(from, sizeof(uint32_t), width + 1, 1, 1, 1);
}

INLINE void clear(float *from, float *to) {
  for (; from < to; from += LANES) store(from, splat(0));
}

/* The gates' bias of layer l, half 0 (vertical) or 1: one row for all images, or one for each; of a map for each column. */
INLINE void start_from_bias(const workspace *w, product *p, size_t l, size_t half) {
  const network *net = w->net;
  const size_t at = (l * 2 + half) * net->gates;
  if (w->map_features) { /* another one for each column, too: w->map_gates holds those of this layer */
    p->init = w->map_gates + half * net->gates;
    p->init_period = w->chunk * w->images;
    p->init_stride = 2 * net->gates;
    return;
  }
  p->init = w->condition ? w->condition + at : net->gate_bias + at;
  p->init_period = w->condition ? w->images : 1;
  p->init_stride = net->model.spec.layers * 2 * net->gates;
}

/* k runs over `taps` columns of `depth` numbers each; with one image they are contiguous. */
INLINE void run_over_columns(product *p, size_t images, size_t taps, size_t depth, size_t stride) {
  const int contiguous = images == 1 && depth == stride;
  p->taps = contiguous ? 1 : taps;
  p->depth = contiguous ? taps * depth : depth;
  p->tap_stride = images * stride;
  p->row_stride = stride;
}

/* tanh(a) · sigmoid(b) of rows of gate inputs. */
static void gate_rows(const network *net, const float *inputs, float *out, size_t rows) {
  const size_t f = net->features;
  for (size_t r = 0; r < rows; r++, inputs += 2 * f, out += f)
    for (size_t x = 0; x < f; x += LANES) store(out + x, gate(load(inputs + x), load(inputs + f + x)));
}
#endif
