/* The mixture head at one window: skip sum → the numbers of each pixel's mixture of logistics → a level for each channel.
 *
 * Names and formulas are those of training/gpcnn_training/conditionals.py. Vectors run over the components, of which those
 * behind the last have the weight 0, and over levels where one is drawn. Sums over components are trees of GROUP, or go
 * from the first to the last, so that their bits do not depend on the width of a vector. */
#ifndef GPCNN_MIXTURE_H
#define GPCNN_MIXTURE_H
#include "head.h"

enum { FAN = 16 }; /* levels looked at side by side, whatever the width of a vector */

/* The components of one sub-pixel, each [M'']. */
typedef struct components {
  const float *numbers; /* of the pixel, [kinds][M''] */
  float *log_weights; /* given the channels before it; their sum of exp is 1 */
  float *weights;     /* exp of log_weights / temperature, times a number that is the same for all */
  float *means;
  float *steep;       /* 1 / scale, at temperature 1 */
  float *slopes;      /* -log2(e) / scale, at the temperature */
  float total;        /* sum of the weights */
} components;

/* Sum of [M''] floats. */
static float tree_sum(const float *terms, size_t count) {
  float total = 0;
  for (size_t k = 0; k < count; k += GROUP) {
    float tree[GROUP / 2];
    for (int i = 0; i < GROUP / 2; i++) tree[i] = terms[k + i] + terms[k + GROUP / 2 + i];
    for (int half = GROUP / 4; half; half /= 2)
      for (int i = 0; i < half; i++) tree[i] += tree[half + i];
    total += tree[0];
  }
  return total;
}

static float largest_of(const float *terms, size_t count) {
  float tree[GROUP];
  for (int i = 0; i < GROUP; i++) tree[i] = terms[i];
  for (size_t k = GROUP; k < count; k++) tree[k % GROUP] = terms[k] > tree[k % GROUP] ? terms[k] : tree[k % GROUP];
  for (int half = GROUP / 2; half; half /= 2)
    for (int i = 0; i < half; i++) tree[i] = tree[half + i] > tree[i] ? tree[half + i] : tree[i];
  return tree[0];
}

/* x where the mask is set, else 0. */
INLINE vec masked(vec x, vec_int mask) { return (vec)((vec_int)x & mask); }

/* exp(-|y|). */
INLINE vec exp_of_distance(vec y) { return exp2_bounded(larger(larger(y, -y) * -1.44269504f, splat(-126.0f))); }

/* tanh(a). */
INLINE vec tanh_of(vec a) {
  const vec bound = splat(60.0f), one = splat(1.0f);
  const vec x = exp2_bounded(larger(smaller(a * -2.88539008f, bound), -bound));
  return (one - x) / (one + x);
}

/* w->skip → w->hidden → w->logits: the numbers of each pixel [rows][kinds][M'']. */
static void mixture_numbers(const workspace *w, size_t rows) {
  const network *net = w->net;
  const size_t c = net->model.spec.channels;
  head_hidden(w, rows);
  relu_rows(w->hidden, rows * c * net->head_features);
  const float *const run[] = {w->hidden};
  const product p = {.weights = &net->mixture, .run = run, .runs = 1, .taps = c, .tap_stride = net->head_features,
                     .depth = net->model.spec.head_features, .row_stride = c * net->head_features,
                     .init = net->mixture_bias, .init_period = 1, .out = w->logits, .rows = rows,
                     .out_stride = net->mixture_row};
  multiply(&p);
}

/* weights = exp(log_weights - the largest), whose sum is `total`; makes that of exp(log_weights) 1. Returns the logarithm of
 * what it was. */
static float normalize(const workspace *w, components *x) {
  const size_t count = w->net->components;
  const float most = largest_of(x->log_weights, count);
  for (size_t i = 0; i < count; i += LANES) store(x->weights + i, exp_negative(load(x->log_weights + i) - splat(most)));
  x->total = tree_sum(x->weights, count);
  const float sum = multiply_add_one(log2_one(x->total), 0.69314718f, most);
  for (size_t i = 0; i < count; i += LANES) store(x->log_weights + i, load(x->log_weights + i) - splat(sum));
  return sum;
}

/* weights and total at a temperature. */
static void soften(const workspace *w, components *x, float temperature) {
  const size_t count = w->net->components;
  const float most = largest_of(x->log_weights, count);
  for (size_t i = 0; i < count; i += LANES)
    store(x->weights + i, exp_negative((load(x->log_weights + i) - splat(most)) / splat(temperature)));
  x->total = tree_sum(x->weights, count);
}

/* The components of the pixel of a row, in the place of that number. */
static void begin_components(const workspace *w, components *x, size_t place, size_t row) {
  const size_t count = w->net->components;
  float *at = w->sums + place * COMPONENT_ARRAYS * count;
  x->numbers = w->logits + row * w->net->mixture_row;
  x->log_weights = at, x->weights = at + count, x->means = at + 2 * count, x->steep = at + 3 * count;
  x->slopes = at + 4 * count;
  for (size_t i = 0; i < count; i += LANES) store(x->log_weights + i, load(x->numbers + i));
  normalize(w, x);
}

/* Means and scales of a channel, given the levels of those before it. */
static void place_components(const workspace *w, components *x, size_t channel, size_t row, size_t rows) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t count = net->components, c = spec->channels;
  const float *numbers = x->numbers, *scales = numbers + (1 + c + channel) * count;
  const float *coefficients = numbers + (1 + 2 * c + (channel == 2 ? 1 : 0)) * count;
  for (size_t i = 0; i < count; i += LANES) {
    vec mean = load(numbers + (1 + channel) * count + i);
    for (size_t e = 0; e < channel; e++)
      mean = multiply_add(tanh_of(load(coefficients + e * count + i)), splat(value_of(spec, w->drawn[e * rows + row])), mean);
    store(x->means + i, mean);
    const vec power = load(scales + i) * -1.44269504f;
    store(x->steep + i, exp2_bounded(larger(smaller(power, splat(net->steepest)), splat(net->flattest))));
  }
}

/* The lower edges of levels. A quotient: of a product that does not change in a loop, compilers fuse none or some. */
INLINE vec lower_edges(const gpcnn_spec *spec, vec levels) {
  return (levels * 2.0f - splat((float)spec->levels)) / splat((float)(spec->levels - 1));
}

/* The weight times the CDF of two components, as a fraction. */
typedef struct fraction { vec above, below; } fraction;
INLINE vec product_of(vec a, vec b) { return multiply_add(a, b, splat(0)); } /* to be added: so it is clear what fuses */
INLINE fraction cdf_of_two(const components *x, size_t m, vec edges) {
  const vec bound = splat(30.0f), one = splat(1.0f); /* beyond, a CDF is nearer to 0 or 1 than two uniforms to each other */
  const vec a = (edges - splat(x->means[m])) * splat(x->slopes[m]);
  const vec b = (edges - splat(x->means[m + 1])) * splat(x->slopes[m + 1]);
  const vec p = one + exp2_bounded(larger(smaller(a, bound), -bound));
  const vec q = one + exp2_bounded(larger(smaller(b, bound), -bound));
  return (fraction){multiply_add(p, splat(x->weights[m + 1]), product_of(q, splat(x->weights[m]))), p * q};
}

/* Of the levels first + step, first + 2 step, … first + FAN step, how many are there whose lower edge has a CDF, times
 * `total`, of at most `target`. */
static int32_t levels_below(const workspace *w, const components *x, int32_t first, int32_t step, float target) {
  static const float COUNT[FAN] __attribute__((aligned(64))) = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const gpcnn_spec *spec = &w->net->model.spec;
  int32_t below[LANES] = {0};
  for (int from = 0; from < FAN; from += LANES) {
    const vec level = load(COUNT + from) * splat((float)step) + splat((float)first); /* exact */
    const vec edges = lower_edges(spec, level);
    vec cdf = splat(0);
    for (size_t m = 0; m < spec->mixtures; m += 4) { /* up to four, with one division */
      fraction sum = cdf_of_two(x, m, edges);
      if (m + 2 < spec->mixtures) {
        const fraction more = cdf_of_two(x, m + 2, edges);
        sum.above = multiply_add(sum.above, more.below, product_of(more.above, sum.below));
        sum.below = sum.below * more.below;
      }
      cdf = cdf + sum.above / sum.below;
    }
    const vec_int is_below = (cdf <= splat(target)) & (level < splat((float)spec->levels));
    for (int i = 0; i < LANES; i++) below[i] -= is_below[i];
  }
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) below[i] += below[half + i];
  return below[0];
}

/* The level #{k < K-1 : CDF(k) <= u}: the CDF does not fall, so first of every FANth level, then of those between. */
static int32_t draw_level(const workspace *w, components *x, float temperature, float u) {
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t count = w->net->components;
  if (temperature != 1) soften(w, x, temperature);
  for (size_t i = 0; i < count; i += LANES)
    store(x->slopes + i, load(x->steep + i) / splat(temperature) * -1.44269504f);
  const float target = u * x->total;
  int32_t level = 0;
  for (int32_t step = spec->levels > FAN ? FAN : 1; step; step /= FAN)
    level += step * levels_below(w, x, level, step, target);
  return level;
}

/* Adds to log_weights what each component says of a level; returns the level's log-probability. */
static float observe_level(const workspace *w, components *x, int32_t level) {
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t count = w->net->components;
  const int32_t top = (int32_t)spec->levels - 1;
  const vec width = splat(2.0f / (float)top), one = splat(1.0f);
  const vec upper_edge = lower_edges(spec, splat((float)(level + 1))), lower_edge = lower_edges(spec, splat((float)level));
  const vec_int ceiling = level < top ? ~(vec_int){0} : (vec_int){0}, floor = level > 0 ? ~(vec_int){0} : (vec_int){0};
  for (size_t i = 0; i < count; i += LANES) {
    /* sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)) of the edges a and b, one of which may be missing */
    const vec mean = load(x->means + i), steep = load(x->steep + i);
    const vec above = masked((mean - upper_edge) * steep, ceiling);
    const vec below = masked((lower_edge - mean) * steep, floor);
    const vec p = choose(ceiling, one + exp_of_distance(above), one), q = choose(floor, one + exp_of_distance(below), one);
    const vec spread = one_minus_exp2(larger(steep * width * -1.44269504f, splat(-126.0f)));
    const vec inside = choose(ceiling & floor, spread, one);
    const vec outside = -larger(above, splat(0)) - larger(below, splat(0));
    const vec log_bin = multiply_add(log2_of(inside / (p * q)), splat(0.69314718f), outside);
    store(x->log_weights + i, load(x->log_weights + i) + log_bin);
  }
  const float log_prob = normalize(w, x);
  return log_prob > 0 ? 0 : log_prob; /* by rounding alone */
}
#endif
