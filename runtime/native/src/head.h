/* The head at one window: skip sum → logits of a channel, given the channels of the same pixel before it → a level. */
#ifndef GPCNN_HEAD_H
#define GPCNN_HEAD_H
#include "workspace.h"

/* Network input of a level that is a value: 2x - (K-1) is exact, so one rounding everywhere. */
INLINE float value_of(const gpcnn_spec *spec, int32_t level) {
  const int32_t top = (int32_t)spec->levels - 1;
  return (float)(2 * level - top) * (1.0f / (float)top);
}

/* Numbers of a channel that the network reads, D, or 1 of a value; and the x-th of them. */
INLINE size_t numbers_of_channel(const gpcnn_spec *spec) { return spec->input_size ? spec->input_size : 1; }
INLINE float input_of(const network *net, int32_t level, size_t x) {
  const gpcnn_spec *spec = &net->model.spec;
  return spec->input_size ? net->input_embedding[(size_t)level * spec->input_size + x] : value_of(spec, level);
}

INLINE void relu_rows(float *x, size_t floats) {
  for (size_t i = 0; i < floats; i += LANES) store(x + i, larger(load(x + i), splat(0)));
}

/* w->skip → w->hidden, before what earlier channels add. */
static void head_hidden(const workspace *w, size_t rows) {
  const network *net = w->net;
  const size_t s = net->model.spec.channels * net->head_features;
  relu_rows(w->skip, rows * net->features);
  const float *const run[] = {w->skip};
  const product p = {.weights = &net->hidden, .run = run, .runs = 1, .taps = 1, .depth = net->model.spec.features,
                     .row_stride = net->features, .init = net->hidden_bias, .init_period = 1, .out = w->hidden,
                     .rows = rows, .out_stride = s};
  multiply(&p);
}

/* Logits of a channel [rows][K'], once w->drawn holds the levels of the channels before it. */
static float *head_logits(const workspace *w, size_t channel, size_t rows) {
  const network *net = w->net;
  const gpcnn_spec *spec = &net->model.spec;
  const size_t s = net->head_features, c = spec->channels, numbers = numbers_of_channel(spec);
  float *logits = w->logits + channel * rows * net->levels;
  for (size_t r = 0; r < rows; r++) {
    float *hidden = w->hidden + (r * c + channel) * s;
    for (size_t e = 0; e < channel * numbers; e++) {
      const vec value = splat(input_of(net, w->drawn[e / numbers * rows + r], e % numbers));
      const float *weight = net->earlier + (channel * c * numbers + e) * s;
      for (size_t x = 0; x < s; x += LANES) store(hidden + x, multiply_add(load(weight + x), value, load(hidden + x)));
    }
    relu_rows(hidden, s);
  }
  const float *const run[] = {w->hidden + channel * s};
  const product p = {.weights = &net->logits[channel], .run = run, .runs = 1, .taps = 1, .depth = spec->head_features,
                     .row_stride = c * s, .init = net->logits_bias + channel * net->levels, .init_period = 1,
                     .out = logits, .rows = rows, .out_stride = net->levels};
  multiply(&p);
  return logits;
}

/* exp(x - largest) of a sub-pixel's logits over the temperature: into w->terms, their sums by GROUP into w->sums.
 * Returns the sum of all. */
static float softmax_terms(const workspace *w, const float *logits, float temperature, float *largest) {
  const size_t levels = w->net->levels;
  vec most = splat(-__builtin_inff());
  for (size_t k = 0; k < levels; k += LANES) {
    vec x = load(logits + k);
    if (temperature != 1) x = x / splat(temperature);
    store(w->terms + k, x);
    most = larger(x, most);
  }
  float max = most[0], total = 0;
  for (int i = 1; i < LANES; i++) max = most[i] > max ? most[i] : max;
  for (size_t k = 0; k < levels; k += GROUP) {
    float tree[GROUP];
    for (int i = 0; i < GROUP; i += LANES) {
      const vec e = exp_negative(load(w->terms + k + i) - splat(max));
      store(w->terms + k + i, e);
    }
    for (int i = 0; i < GROUP / 2; i++) tree[i] = w->terms[k + i] + w->terms[k + GROUP / 2 + i];
    for (int half = GROUP / 4; half; half /= 2)
      for (int i = 0; i < half; i++) tree[i] += tree[half + i];
    w->sums[k / GROUP] = tree[0];
    total += tree[0];
  }
  *largest = max;
  return total;
}

/* The level #{k < K-1 : CDF(k) <= u} of the terms. */
static int32_t inverse_cdf(const workspace *w, float total, float u) {
  const int32_t top = (int32_t)w->net->model.spec.levels - 1;
  const float target = u * total;
  const size_t groups = w->net->levels / GROUP;
  float before = 0;
  size_t g = 0;
  while (g < groups && before + w->sums[g] <= target) before += w->sums[g++];
  int32_t level = (int32_t)(g * GROUP);
  if (g < groups)
    for (int i = 0; i < GROUP; i++, level++) {
      before += w->terms[g * GROUP + i];
      if (!(before <= target)) break;
    }
  return level < top ? level : top;
}
#endif
