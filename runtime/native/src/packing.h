/* From the tensors of a model file to the packed weights of a network: once, at load. */
#ifndef GPCNN_PACKING_H
#define GPCNN_PACKING_H
#include "network.h"

/* A tensor of little-endian float32, unaligned, with the strides of its axes. */
typedef struct tensor {
  const unsigned char *data;
} tensor;

INLINE float number(tensor t, uint64_t index) {
  const unsigned char *b = t.data + 4 * index;
  union { uint32_t u; float f; } bits;
  bits.u = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
  return bits.f;
}

INLINE tensor tensor_at(const void *file, uint64_t offset) { return (tensor){(const unsigned char *)file + offset}; }

INLINE void put(const matrix *m, size_t output, size_t k, float value) {
  m->packed[(output / BLOCK * m->depth + k) * BLOCK + output % BLOCK] = value;
}

/* Where output o of a pair of halves goes, if each half is padded. */
INLINE size_t half_output(size_t o, size_t half, size_t half_padded) { return o < half ? o : o - half + half_padded; }

/* [outputs, inputs] of a 1×1 convolution → k = first + input. Outputs in groups of `group`, each padded to `stride`. */
static SELDOM void pack_groups(const matrix *m, tensor t, size_t outputs, size_t inputs, size_t group, size_t stride,
                          size_t first) {
  for (size_t o = 0; o < outputs; o++)
    for (size_t i = 0; i < inputs; i++)
      put(m, o / group * stride + o % group, first + i, number(t, (uint64_t)o * inputs + i));
}
INLINE void pack_pointwise(const matrix *m, tensor t, size_t outputs, size_t inputs, size_t group, size_t first) {
  pack_groups(m, t, outputs, inputs, group, padded(group), first);
}

/* [outputs] in groups of `group`, each padded to `stride`. */
static SELDOM void pack_numbers(float *to, tensor t, size_t outputs, size_t group, size_t stride) {
  for (size_t o = 0; o < outputs; o++) to[o / group * stride + o % group] = number(t, o);
}

/* [2F, inputs, rows, taps] → k = (row, tap, input). */
static SELDOM void pack_convolution(const matrix *m, tensor t, size_t features, size_t inputs, size_t rows, size_t taps) {
  for (size_t o = 0; o < 2 * features; o++)
    for (size_t i = 0; i < inputs; i++)
      for (size_t x = 0; x < rows * taps; x++)
        put(m, half_output(o, features, padded(features)), x * inputs + i,
            number(t, ((uint64_t)o * inputs + i) * rows * taps + x));
}

/* [2F, inputs, rows, taps] → a matrix for each point, k = (row, input). */
static void pack_filtered(const matrix *m, const filter *f, tensor t, size_t features, size_t inputs, size_t rows,
                          size_t taps) {
  for (size_t o = 0; o < 2 * features; o++)
    for (size_t i = 0; i < inputs; i++)
      for (size_t r = 0; r < rows; r++) {
        float row[MAX_POINTS], weights[MAX_POINTS];
        for (size_t x = 0; x < taps; x++) row[x] = number(t, (((uint64_t)o * inputs + i) * rows + r) * taps + x);
        transform_taps(row, taps, f->points, weights);
        for (size_t p = 0; p < f->points; p++)
          put(&m[p], half_output(o, features, padded(features)), r * inputs + i, weights[p]);
      }
}

static SELDOM void pack_layer(network *net, const void *file, size_t l, const gpcnn_layer_offsets *at) {
  const gpcnn_spec *spec = &net->model.spec;
  layer *to = &net->layers[l];
  const size_t f = spec->features, inputs = l ? f : gpcnn_inputs(spec);
  const size_t k = l ? spec->kernel_size : spec->first_kernel_size, rows = k / 2 + (l > 0);
  const tensor vertical = tensor_at(file, at->vertical_weight);
  if (l && net->filter.points) pack_filtered(to->vertical, &net->filter, vertical, f, inputs, rows, k);
  else pack_convolution(to->vertical, vertical, f, inputs, rows, k);
  pack_pointwise(&to->link, tensor_at(file, at->link_weight), 2 * f, 2 * f, f, 0);
  pack_convolution(&to->horizontal, tensor_at(file, at->horizontal_weight), f, inputs, 1, rows);
  if (to->out.packed) pack_pointwise(&to->out, tensor_at(file, at->out_weight), f, f, f, 0);
  pack_pointwise(&net->skip, tensor_at(file, at->skip_weight), f, f, f, l * f);
  float *vertical_bias = net->gate_bias + l * 2 * net->gates, *horizontal_bias = vertical_bias + net->gates;
  pack_numbers(vertical_bias, tensor_at(file, at->vertical_bias), 2 * f, f, net->features);
  pack_numbers(horizontal_bias, tensor_at(file, at->horizontal_bias), 2 * f, f, net->features);
  for (size_t o = 0; o < f; o++) net->skip_bias[o] += number(tensor_at(file, at->skip_bias), o);
}

/* The head of a mixture: outputs [kinds, M] go to [kinds][M'']. */
static void pack_mixture(network *net, const void *file, const gpcnn_head_offsets *at) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t c = spec->channels, s = spec->head_features, m = spec->mixtures, count = net->components;
  const size_t outputs = gpcnn_component_numbers(spec) * m;
  pack_groups(&net->hidden, tensor_at(file, at->hidden_weight), c * s, spec->features, s, net->head_features, 0);
  pack_groups(&net->mixture, tensor_at(file, at->mixture_weight), outputs, c * s, m, count, 0);
  pack_numbers(net->hidden_bias, tensor_at(file, at->hidden_bias), c * s, s, net->head_features);
  pack_numbers(net->mixture_bias, tensor_at(file, at->mixture_bias), outputs, m, count);
  for (size_t o = m; o < count; o++) net->mixture_bias[o] = -__builtin_inff();
}

static void pack_head(network *net, const void *file, const gpcnn_head_offsets *at) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t c = spec->channels, s = spec->head_features, k = spec->levels, inputs = gpcnn_inputs(spec);
  pack_pointwise(&net->hidden, tensor_at(file, at->hidden_weight), c * s, spec->features, s, 0);
  pack_numbers(net->hidden_bias, tensor_at(file, at->hidden_bias), c * s, s, net->head_features);
  pack_numbers(net->logits_bias, tensor_at(file, at->logits_bias), c * k, k, net->levels);
  for (size_t channel = 0; channel < c; channel++) {
    pack_pointwise(&net->logits[channel], tensor_at(file, at->logits_weight + 4 * (uint64_t)(channel * k * s)), k, s, k, 0);
    for (size_t i = 0; i < s; i++)
      for (size_t earlier = 0; earlier < channel * (inputs / c); earlier++)
        net->earlier[(channel * inputs + earlier) * net->head_features + i] =
            number(tensor_at(file, at->earlier_weight), (channel * s + i) * inputs + earlier);
    for (size_t i = k; i < net->levels; i++) net->logits_bias[channel * net->levels + i] = -__builtin_inff();
  }
}

static void pack_condition(network *net, const void *file, const gpcnn_head_offsets *at) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t f = spec->features, gates = (size_t)spec->layers * 2;
  const size_t size = spec->conditioning == GPCNN_MAP ? spec->map_features : spec->conditioning_size;
  const tensor t = tensor_at(file, at->condition_weight);
  if (spec->conditioning == GPCNN_EMBEDDING || spec->conditioning == GPCNN_MAP)
    pack_groups(&net->embedding, t, gates * 2 * f, size, f, net->features, 0);
  if (spec->conditioning == GPCNN_LABEL)
    for (size_t label = 0; label < size; label++) {
      float *to = net->label_bias + label * gates * net->gates;
      pack_numbers(to, (tensor){t.data + 4 * (uint64_t)(label * gates * 2 * f)}, gates * 2 * f, f, net->features);
      for (size_t x = 0; x < gates * net->gates; x++) to[x] += net->gate_bias[x];
    }
}

/* [G in, G out, rows, columns] of a transposed convolution → outputs (row, column, G out), k = G in. */
static void pack_transposed(const map_stage *stage, tensor t, size_t g) {
  const size_t places = stage->rows * stage->columns;
  for (size_t i = 0; i < g; i++)
    for (size_t o = 0; o < g; o++)
      for (size_t x = 0; x < places; x++)
        put(&stage->up, x * padded(g) + o, i, number(t, ((uint64_t)i * g + o) * places + x));
}

static SELDOM void pack_map_network(network *net, const void *file, const gpcnn_head_offsets *at) {
  const gpcnn_spec *spec = &net->model.spec;
  const size_t g = spec->map_features, inputs = (size_t)gpcnn_map_inputs(spec);
  if (spec->conditioning != GPCNN_MAP) return;
  for (size_t o = 0; o < g; o++) {
    for (size_t i = 0; i < inputs; i++)
      net->map_table[i * net->map_features + o] = number(tensor_at(file, at->map_read_weight), (uint64_t)o * inputs + i);
    net->map_bias[o] = number(tensor_at(file, at->map_read_bias), o);
    for (size_t i = 0; i < GPCNN_MAP_CONTEXT; i++)
      net->map_context_bias[i][o] = number(tensor_at(file, at->map_context_bias[i]), o);
    for (size_t i = 0; i < net->map_stages; i++)
      net->map_stage[i].bias[o] = number(tensor_at(file, at->map_up_bias[i]), o);
  }
  for (size_t c = 0; c < GPCNN_MAP_CONTEXT; c++)
    for (size_t o = 0; o < g; o++)
      for (size_t i = 0; i < g; i++)
        for (size_t x = 0; x < 9; x++)
          put(&net->map_context[c], o, x * g + i,
              number(tensor_at(file, at->map_context_weight[c]), ((uint64_t)o * g + i) * 9 + x));
  for (size_t i = 0; i < net->map_stages; i++)
    pack_transposed(&net->map_stage[i], tensor_at(file, at->map_up_weight[i]), g);
}

static void pack_input_embedding(network *net, const void *file, const gpcnn_head_offsets *at) {
  const size_t floats = (size_t)net->model.spec.levels * net->model.spec.input_size;
  pack_numbers(net->input_embedding, tensor_at(file, at->input_embedding), floats, floats, 0);
}

/* Fills a network that was laid out and is zero; `net->model.spec` is the file's. */
static SELDOM void pack_network(network *net, const void *file, const gpcnn_head_offsets *head) {
  for (uint32_t l = 0; l < net->model.spec.layers; l++) {
    gpcnn_layer_offsets at;
    gpcnn_file_layer(file, &net->model.spec, l, &at);
    pack_layer(net, file, l, &at);
  }
  if (net->components) pack_mixture(net, file, head);
  else pack_head(net, file, head);
  pack_condition(net, file, head);
  pack_input_embedding(net, file, head);
  pack_map_network(net, file, head);
}

static SELDOM gpcnn_status load_network(const gpcnn_kernel *kernel, const void *file, const gpcnn_spec *spec,
                                 const gpcnn_head_offsets *head, void *memory, size_t memory_bytes, gpcnn_model **model) {
  const uint64_t needed = model_bytes(spec);
  if (!needed || memory_bytes < needed) return GPCNN_OUT_OF_MEMORY;
  arena from = {memory, 0, 0};
  network *net = arena_take(&from, sizeof *net, 1, 1, 1, 1);
  lay_out_network(net, spec, &from, &from);
  for (float *x = net->layers[0].vertical[0].packed; x < (float *)(from.base + from.used); x++) *x = 0;
  net->model.kernel = kernel;
  pack_network(net, file, head);
  *model = &net->model;
  return GPCNN_OK;
}
#endif
