/* The mixture head at one window: skip sum → the numbers of each pixel's mixture of logistics → a level for each channel.
 *
 * Names and formulas are those of training/gpcnn_training/conditionals.py. Vectors run over the components; those behind
 * the last have the weight 0. Sums are trees of GROUP, so that their bits do not depend on the width of a vector. */
#ifndef GPCNN_MIXTURE_H
#define GPCNN_MIXTURE_H
#include "head.h"

/* The components of one sub-pixel, each [M'']. */
typedef struct components {
  float *log_weights; /* given the channels before it; their sum of exp is 1 */
  float *weights;     /* at the temperature, times `total` */
  float *means;
  float *steep;       /* 1 / scale, at temperature 1 */
  float *slopes;      /* -log2(e) / scale, at the temperature */
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
  float most = terms[0];
  for (size_t k = 1; k < count; k++) most = terms[k] > most ? terms[k] : most;
  return most;
}

/* x, or 0 where the mask is. */
INLINE vec masked(vec x, vec_int mask) { return (vec)((vec_int)x & mask); }

/* log(1 + exp(y)). */
INLINE vec softplus(vec y) {
  const vec x = exp2_bounded(larger(larger(y, -y) * -1.44269504f, splat(-126.0f)));
  return multiply_add(log2_of(splat(1.0f) + x), splat(0.69314718f), larger(y, splat(0)));
}

/* log2(1 - exp(-width)), width > 0: exact where both are almost 1. */
INLINE vec log2_of_rest(vec width) { return log2_of(one_minus_exp2(larger(width * -1.44269504f, splat(-126.0f)))); }

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

/* Makes the sum of exp(log_weights) 1; returns the logarithm of what it was. */
static float normalize(const workspace *w, components *x) {
  const size_t count = w->net->components;
  const float most = largest_of(x->log_weights, count);
  for (size_t i = 0; i < count; i += LANES) store(w->terms + i, exp_negative(load(x->log_weights + i) - splat(most)));
  const float sum = multiply_add_one(log2_one(tree_sum(w->terms, count)), 0.69314718f, most);
  for (size_t i = 0; i < count; i += LANES) store(x->log_weights + i, load(x->log_weights + i) - splat(sum));
  return sum;
}

/* Means and scales of a channel, given the levels of those before it. */
static void place_components(const workspace *w, components *x, const float *numbers, size_t channel, size_t row, size_t rows) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t count = net->components, c = spec->channels;
  const float *scales = numbers + (1 + c + channel) * count;
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

/* The edge above the `number` lowest levels. A quotient: a product that does not change in a loop leaves it unfused. */
INLINE vec edge_above(const gpcnn_spec *spec, int32_t number) {
  const int32_t levels = (int32_t)spec->levels;
  return splat((float)(2 * number - levels) / (float)(levels - 1));
}

/* The level #{k < K-1 : CDF(k) <= u}, by bisection: the CDF does not fall. */
static int32_t draw_level(const workspace *w, components *x, float temperature, float u) {
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t count = w->net->components;
  const int32_t levels = (int32_t)spec->levels;
  for (size_t i = 0; i < count; i += LANES) {
    store(x->weights + i, load(x->log_weights + i) / splat(temperature)); /* by 1: exact */
    store(x->slopes + i, load(x->steep + i) / splat(temperature) * -1.44269504f);
  }
  const float most = largest_of(x->weights, count);
  for (size_t i = 0; i < count; i += LANES) {
    const vec power = (load(x->weights + i) - splat(most)) * 1.44269504f, bound = splat(-60.0f);
    store(x->weights + i, (vec)((vec_int)exp2_bounded(larger(power, bound)) & (power >= bound)));
  }
  const float target = u * tree_sum(x->weights, count);
  int32_t level = 0, step = 1;
  while (step * 2 < levels) step *= 2;
  for (; step; step /= 2) {
    const int32_t more = level + step;
    if (more >= levels) continue;
    const vec edge = edge_above(spec, more);
    for (size_t i = 0; i < count; i += LANES) {
      const vec power = (edge - load(x->means + i)) * load(x->slopes + i), bound = splat(60.0f);
      store(w->terms + i, load(x->weights + i) / (splat(1.0f) + exp2_bounded(larger(smaller(power, bound), -bound))));
    }
    if (tree_sum(w->terms, count) <= target) level = more;
  }
  return level;
}

/* Adds to log_weights what each component says of a level; returns the level's log-probability. */
static float observe_level(const workspace *w, components *x, int32_t level) {
  const gpcnn_spec *spec = &w->net->model.spec;
  const size_t count = w->net->components;
  const int32_t top = (int32_t)spec->levels - 1;
  const float width = 2.0f / (float)top;
  const vec above = edge_above(spec, level + 1), below = edge_above(spec, level);
  const vec_int ceiling = level < top ? ~(vec_int){0} : (vec_int){0}, floor = level > 0 ? ~(vec_int){0} : (vec_int){0};
  for (size_t i = 0; i < count; i += LANES) {
    const vec mean = load(x->means + i), steep = load(x->steep + i);
    const vec upper = masked(softplus((mean - above) * steep), ceiling);
    const vec lower = masked(softplus((below - mean) * steep), floor);
    const vec inside = masked(log2_of_rest(steep * splat(width)), ceiling & floor);
    const vec log_bin = multiply_add(inside, splat(0.69314718f), -upper - lower);
    store(x->log_weights + i, load(x->log_weights + i) + log_bin);
  }
  const float log_prob = normalize(w, x);
  return log_prob > 0 ? 0 : log_prob; /* by rounding alone */
}
#endif
