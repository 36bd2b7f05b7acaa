/* One batch, in groups of images whose caches stay near the core: rows from the top, and in each a window that slides over
 * the columns.
 *
 * Every pixel of the window is drawn at once, from a guess of those before it. All pixels up to the first that contradicts
 * its guess are decided, and so is that one, which read none of the wrong ones; the window moves behind it. The image is
 * the one that a window of one column draws. A known pixel is its own guess, so windows over known pixels are wide. */
#ifndef GPCNN_DRAW_H
#define GPCNN_DRAW_H
#include "mixture.h"
#include "horizontal.h"

enum { GROUP_IMAGES = TILE_ROWS < 6 ? 2 * TILE_ROWS : TILE_ROWS }; /* measured: more images leave the second cache */


typedef struct batch {
  const gpcnn_request *request;
  workspace w;
  size_t first_image; /* of the group in the request */
  size_t row, columns; /* of the window: rows of its products are columns · N */
  float temperature;
} batch;

INLINE size_t pixel(const batch *b, size_t image, size_t channel, size_t column) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  return (((b->first_image + image) * spec->channels + channel) * spec->height + b->row) * spec->width + column;
}
INLINE int is_known(const batch *b, size_t at) { return b->request->mask && b->request->mask[at]; }

/* Sets the level of a column, and what the network reads of it. */
INLINE void put_level(batch *b, size_t column, size_t image, size_t channel, int32_t level) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  const size_t n = b->w.images, c = spec->channels, numbers = numbers_of_channel(spec);
  b->w.row[(column * n + image) * c + channel] = level;
  float *to = input_row(&b->w, 0, b->row) + (((reach(b->w.net, 0) + column) * n + image) * c + channel) * numbers;
  for (size_t x = 0; x < numbers; x++) to[x] = input_of(b->w.net, level, x);
}

static void prepare_condition(batch *b) {
  const network *net = b->w.net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t floats = spec->layers * 2 * net->gates;
  if (spec->conditioning == GPCNN_LABEL)
    for (size_t image = 0; image < b->w.images; image++)
      for (size_t x = 0; x < floats; x += LANES)
        store(b->w.condition + image * floats + x,
              load(net->label_bias + (size_t)b->request->label[b->first_image + image] * floats + x));
  if (spec->conditioning == GPCNN_EMBEDDING) {
    const float *const run[] = {b->request->embedding + b->first_image * spec->conditioning_size};
    const product p = {.weights = &net->embedding, .run = run, .runs = 1, .taps = 1, .depth = spec->conditioning_size,
                       .row_stride = spec->conditioning_size, .init = net->gate_bias, .init_period = 1,
                       .out = b->w.condition, .rows = b->w.images, .out_stride = floats};
    multiply(&p);
  }
}

/* Columns from each on that are known in all images and channels. */
static void find_known_runs(batch *b) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  b->w.known_run[spec->width] = 0;
  for (size_t column = spec->width; column-- > 0;) {
    int all = b->request->mask != NULL;
    for (size_t image = 0; all && image < b->w.images; image++)
      for (size_t c = 0; all && c < spec->channels; c++) all = is_known(b, pixel(b, image, c, column));
    b->w.known_run[column] = all ? b->w.known_run[column + 1] + 1 : 0;
  }
}

/* The known level, or the one of the row above. */
static void guess(batch *b, size_t column) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  for (size_t image = 0; image < b->w.images; image++)
    for (size_t c = 0; c < spec->channels; c++) {
      const size_t at = pixel(b, image, c, column);
      const int32_t above = b->row ? b->request->image[at - spec->width] : 0;
      put_level(b, column, image, c, is_known(b, at) ? b->request->known[at] : above);
    }
}

/* Draws channel after channel of the window from `first` on, into w.drawn [C][columns][N]. */
static void draw_window(batch *b, size_t first) {
  const workspace *w = &b->w;
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t n = w->images, rows = b->columns * n;
  head_hidden(w, rows);
  for (size_t c = 0; c < spec->channels; c++) {
    const float *logits = head_logits(w, c, rows);
    for (size_t r = 0; r < rows; r++) {
      const size_t at = pixel(b, r % n, c, first + r / n), x = c * rows + r;
      if (is_known(b, at)) {
        w->drawn[x] = b->request->known[at];
        continue;
      }
      const float total = softmax_terms(w, logits + r * w->net->levels, b->temperature, &w->largest[x]);
      w->total[x] = total;
      w->drawn[x] = inverse_cdf(w, total, b->request->noise[at]);
    }
  }
}

/* The same for a mixture, whose numbers do not depend on the channels drawn: a few pixels side by side. */
static void draw_mixture_window(batch *b, size_t first) {
  const workspace *w = &b->w;
  const size_t n = w->images, rows = b->columns * n, channels = w->net->model.spec.channels;
  components x[SIDE_BY_SIDE];
  mixture_numbers(w, rows);
  for (size_t from = 0; from < rows; from += SIDE_BY_SIDE) {
    const size_t to = from + SIDE_BY_SIDE < rows ? from + SIDE_BY_SIDE : rows;
    for (size_t r = from; r < to; r++) begin_components(w, &x[r - from], r - from, r);
    for (size_t c = 0; c < channels; c++) {
      int32_t *drawn = w->drawn + c * rows;
      for (size_t r = from; r < to; r++) place_components(w, &x[r - from], c, r, rows);
      for (size_t r = from; r < to; r++) {
        const size_t at = pixel(b, r % n, c, first + r / n);
        drawn[r] = is_known(b, at) ? b->request->known[at]
                                   : draw_level(w, &x[r - from], b->temperature, b->request->noise[at]);
      }
      if (c + 1 == channels && !b->request->log_prob) continue;
      for (size_t r = from; r < to; r++) w->total[c * rows + r] = observe_level(w, &x[r - from], drawn[r]);
    }
  }
}

/* Columns decided: up to and with the first that contradicts its guess in any image. */
static size_t decided_columns(const batch *b, size_t first) {
  const size_t n = b->w.images, c = b->w.net->model.spec.channels, rows = b->columns * n;
  for (size_t column = 0; column + 1 < b->columns; column++)
    for (size_t image = 0; image < n; image++)
      for (size_t channel = 0; channel < c; channel++)
        if (b->w.drawn[channel * rows + column * n + image] != b->w.row[((first + column) * n + image) * c + channel])
          return column + 1;
  return b->columns;
}

/* Writes a decided column out. */
static void keep_column(batch *b, size_t first, size_t column) {
  const workspace *w = &b->w;
  const size_t n = w->images, rows = b->columns * n;
  for (size_t image = 0; image < n; image++)
    for (size_t c = 0; c < w->net->model.spec.channels; c++) {
      const size_t x = c * rows + column * n + image, at = pixel(b, image, c, first + column);
      b->request->image[at] = w->drawn[x];
      if (!b->request->log_prob) continue;
      if (w->net->components) {
        b->request->log_prob[at] = w->total[x];
        continue;
      }
      const float *logits = w->logits + x * w->net->levels;
      if (b->temperature != 1 || is_known(b, at)) w->total[x] = softmax_terms(w, logits, 1, &w->largest[x]);
      b->request->log_prob[at] =
          multiply_add_one(log2_one(w->total[x]), -0.69314718f, logits[w->drawn[x]] - w->largest[x]);
    }
}

/* Columns to guess: as many as are known from here on, and some more where levels are few enough to be guessed. */
static size_t choose_window(const batch *b, size_t first) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  const size_t guessed = spec->levels <= 4 && b->w.images < 6 ? 6 / b->w.images : 1;
  size_t window = b->request->window ? b->request->window : guessed + b->w.known_run[first];
  if (window > b->w.window_limit) window = b->w.window_limit;
  return window < spec->width - first ? window : spec->width - first;
}

static gpcnn_status draw_row(batch *b, uint64_t *evaluations) {
  const gpcnn_spec *spec = &b->w.net->model.spec;
  const size_t n = b->w.images;
  size_t guessed = 0; /* columns that hold a guess */
  if (spec->conditioning == GPCNN_MAP) b->w.map_features = map_row(&b->w, b->row);
  vertical_row(&b->w, b->row);
  find_known_runs(b);
  for (size_t first = 0; first < spec->width;) {
    if (b->request->cancel && *b->request->cancel) return GPCNN_CANCELLED;
    b->columns = choose_window(b, first);
    for (; guessed < first + b->columns; guessed++) guess(b, guessed);
    horizontal_window(&b->w, b->row, first, b->columns);
    if (b->w.net->components) draw_mixture_window(b, first);
    else draw_window(b, first);
    ++*evaluations;
    const size_t decided = decided_columns(b, first), rows = b->columns * n;
    for (size_t column = 0; column < decided; column++) keep_column(b, first, column);
    /* What was drawn behind them, from a guess that was wrong, is the next guess. */
    for (size_t column = decided - 1; column < b->columns; column++)
      for (size_t image = 0; image < n; image++)
        for (size_t c = 0; c < spec->channels; c++)
          put_level(b, first + column, image, c, b->w.drawn[c * rows + column * n + image]);
    first += decided;
  }
  return GPCNN_OK;
}

/* Groups of a request: as equal as can be, so that the sizes of two differ by one at most. */
INLINE size_t group_count(size_t images) { return (images + GROUP_IMAGES - 1) / GROUP_IMAGES; }

static uint64_t group_bytes(const network *net, size_t images) {
  batch b;
  arena from = {0};
  arena_take(&from, sizeof b, 1, 1, 1, 1);
  lay_out_workspace(&b.w, net, images, &from);
  return from.overflow ? UINT64_MAX : from.used;
}

static size_t workspace_bytes(const gpcnn_model *model, uint32_t images) {
  const size_t groups = group_count(images), small = images / groups, large = (images + groups - 1) / groups;
  /* A window of fewer images may have more rows in all. */
  const uint64_t a = group_bytes((const network *)model, small), b = group_bytes((const network *)model, large);
  const uint64_t most = a > b ? a : b;
  return most == UINT64_MAX ? 0 : (size_t)most;
}

/* Images first .. first + images of the request, in memory behind `from`. */
static gpcnn_status draw_group(batch *b, size_t first, size_t images, arena from, uint64_t *evaluations) {
  const gpcnn_request *request = b->request;
  const network *net = b->w.net;
  const gpcnn_spec *spec = &net->model.spec;
  b->first_image = first;
  lay_out_workspace(&b->w, net, images, &from);
  /* All that is read before it is written: rows above the image, columns beside it. They lie before `points`. */
  clear(b->w.values, (float *)b->w.features);
  if (spec->layers > 1) clear(b->w.features[0], b->w.points);
  prepare_condition(b);
  if (spec->conditioning == GPCNN_MAP) prepare_map(&b->w, request->map, first);
  for (b->row = 0; b->row < spec->height; b->row++) {
    const gpcnn_status status = draw_row(b, evaluations);
    if (status) return status;
    if (request->on_row && first + images == request->images) request->on_row(request->user, (uint32_t)b->row);
  }
  return GPCNN_OK;
}

static gpcnn_status draw(const gpcnn_model *model, const gpcnn_request *request, void *memory) {
  arena from = {memory, 0, 0};
  batch *b = arena_take(&from, sizeof *b, 1, 1, 1, 1);
  uint64_t evaluations = 0;
  *b = (batch){.request = request, .temperature = request->temperature != 0 ? request->temperature : 1};
  b->w.net = (const network *)model;
  const size_t groups = group_count(request->images);
  for (size_t group = 0, first = 0; group < groups; group++) {
    const size_t images = (request->images - first) / (groups - group);
    const gpcnn_status status = draw_group(b, first, images, from, &evaluations);
    if (status) return status;
    first += images;
  }
  if (request->evaluations) *request->evaluations = evaluations;
  return GPCNN_OK;
}
#endif
