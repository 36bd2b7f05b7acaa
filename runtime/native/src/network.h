/* A loaded model: the weights packed for this kernel, laid out in the caller's memory.
 *
 * Names are the paper's: see training/gpcnn_training/model.py. F' is F padded to ALIGNED floats; a gate's input is a row of
 * 2F' floats, its a and its b, each padded. */
#ifndef GPCNN_NETWORK_H
#define GPCNN_NETWORK_H
#include "arena.h"
#include "filtering.h"
#include "kernel.h"

typedef struct layer {
  matrix vertical[MAX_POINTS]; /* plain form and layer 1: [0] alone, k = (row, tap, input); else by point, k = (row, input) */
  matrix link, horizontal, out; /* k = (half, feature); (tap, input); feature */
} layer;

/* A transposed convolution whose stride is its kernel: each pixel becomes rows × columns, a product for each. */
typedef struct map_stage {
  size_t rows, columns;
  matrix up;   /* [rows][columns][G'] outputs, k = feature */
  float *bias; /* [G'] */
} map_stage;

typedef struct network {
  gpcnn_model model;           /* first: what gpcnn.h calls a model */
  size_t features, gates;      /* F' and 2F' */
  size_t head_features, levels; /* S' and K', padded */
  filter filter;               /* of layers 2..L */
  layer *layers;               /* [L] */
  float *gate_bias;            /* [L][vertical, horizontal][2F'] */
  float *label_bias;           /* [classes][L][vertical, horizontal][2F'], gate_bias included; or NULL */
  matrix embedding;            /* [L · 2 · 2F'] outputs, k = E, or G of a map; or none */
  size_t map_features;         /* G' of a map, padded */
  float *map_table, *map_bias; /* [inputs of a map][G'] [G']: how a pixel of the map is read */
  matrix map_context[GPCNN_MAP_CONTEXT]; /* k = (row, tap, feature) */
  float *map_context_bias[GPCNN_MAP_CONTEXT]; /* [G'] */
  size_t map_stages;
  map_stage map_stage[GPCNN_MAP_STAGES];
  matrix skip, hidden, logits[3]; /* k = (layer, feature); feature; hidden feature */
  float *skip_bias, *hidden_bias; /* [F'] [C][S'] */
  float *logits_bias;          /* [C][K']: minus infinity behind K */
  float *earlier;              /* [C][I][S']: channel c reads the numbers of channels c' < c */
  float *input_embedding;      /* [K][D], of categories */
  size_t components, mixture_row; /* of a mixture head: M'', M padded to GROUP; floats of a pixel's numbers, padded */
  matrix mixture;              /* k = (channel, hidden feature), outputs [kinds][M'']; instead of logits */
  float *mixture_bias;         /* [kinds][M'']: minus infinity for log-weights behind M */
  float steepest, flattest;    /* bounds of log2(1 / scale) */
  float *zeros;                /* [2F'] */
} network;

/* Columns of layer l's filter above and to the left, k // 2. */
INLINE size_t reach(const network *net, size_t l) {
  return (l ? net->model.spec.kernel_size : net->model.spec.first_kernel_size) / 2;
}

enum { GROUP = 16 }; /* levels or components summed as one tree, whatever the width of a vector */

static matrix take_matrix(arena *from, size_t outputs, size_t depth) {
  const size_t blocks = (outputs + BLOCK - 1) / BLOCK;
  return (matrix){arena_floats(from, blocks, depth, BLOCK, 1), blocks, depth};
}

/* The network m of a map; nothing for a model without one. */
static SMALL void lay_out_map_network(network *net, const gpcnn_spec *spec, arena *from) {
  uint32_t rows[GPCNN_MAP_STAGES], columns[GPCNN_MAP_STAGES];
  const size_t g = spec->map_features;
  net->map_stages = gpcnn_map_stages(spec, rows, columns);
  net->map_features = padded(g);
  if (spec->conditioning != GPCNN_MAP) return;
  net->map_table = arena_floats(from, gpcnn_map_inputs(spec), net->map_features, 1, 1);
  net->map_bias = arena_floats(from, net->map_features, 1, 1, 1);
  for (size_t i = 0; i < GPCNN_MAP_CONTEXT; i++) {
    net->map_context[i] = take_matrix(from, net->map_features, 9 * g);
    net->map_context_bias[i] = arena_floats(from, net->map_features, 1, 1, 1);
  }
  for (size_t i = 0; i < net->map_stages; i++)
    net->map_stage[i] = (map_stage){rows[i], columns[i], take_matrix(from, rows[i] * columns[i] * net->map_features, g),
                                    arena_floats(from, net->map_features, 1, 1, 1)};
}

/* Lays the network out: the sizes of `net` and, if the arenas have memory, its pointers. The layers' structs are taken
 * from `structs`, all weights from `from`, which may be the same arena. */
static SMALL void lay_out_network(network *net, const gpcnn_spec *spec, arena *structs, arena *from) {
  const size_t f = spec->features, c = spec->channels, l = spec->layers;
  net->model.spec = *spec;
  net->features = padded(f);
  net->gates = 2 * net->features;
  net->head_features = padded(spec->head_features);
  net->levels = padded(spec->levels);
  net->filter = choose_filter(spec->kernel_size, spec->width, f);
  net->layers = (layer *)arena_take(structs, sizeof(layer), l, 1, 1, 1);
  for (size_t i = 0; i < l; i++) {
    layer scratch = {0}, *to = net->layers ? &net->layers[i] : &scratch;
    const size_t k = i ? spec->kernel_size : spec->first_kernel_size, inputs = i ? f : gpcnn_inputs(spec), rows = k / 2 + (i > 0);
    *to = scratch;
    if (i && net->filter.points)
      for (size_t p = 0; p < net->filter.points; p++) to->vertical[p] = take_matrix(from, net->gates, rows * inputs);
    else
      to->vertical[0] = take_matrix(from, net->gates, rows * k * inputs);
    to->link = take_matrix(from, net->gates, 2 * f);
    to->horizontal = take_matrix(from, net->gates, rows * inputs);
    if (i + 1 < l) to->out = take_matrix(from, net->features, f);
  }
  net->gate_bias = arena_floats(from, l, 2, net->gates, 1);
  net->label_bias = NULL;
  net->embedding = (matrix){NULL, 0, 0};
  if (spec->conditioning == GPCNN_LABEL) net->label_bias = arena_floats(from, spec->conditioning_size, l, 2, net->gates);
  if (spec->conditioning == GPCNN_EMBEDDING)
    net->embedding = take_matrix(from, l * 2 * net->gates, spec->conditioning_size);
  if (spec->conditioning == GPCNN_MAP) net->embedding = take_matrix(from, l * 2 * net->gates, spec->map_features);
  lay_out_map_network(net, spec, from);
  net->skip = take_matrix(from, net->features, l * f);
  net->hidden = take_matrix(from, c * net->head_features, f);
  net->components = net->mixture_row = 0;
  net->mixture = (matrix){NULL, 0, 0};
  net->mixture_bias = NULL;
  net->steepest = net->flattest = 0;
  if (spec->head == GPCNN_MIXTURE) {
    /* The scale is e^-7 to e^2 at 256 levels, and as many times the distance of two levels at others. */
    const float shift = log2_one((float)(spec->levels - 1) / 255.0f);
    net->components = ((size_t)spec->mixtures + GROUP - 1) / GROUP * GROUP;
    net->mixture_row = padded(gpcnn_component_numbers(spec) * net->components);
    net->mixture = take_matrix(from, net->mixture_row, c * spec->head_features);
    net->steepest = 10.098865f + shift, net->flattest = -2.8853901f + shift;
  } else {
    for (size_t i = 0; i < c; i++) net->logits[i] = take_matrix(from, net->levels, spec->head_features);
  }
  net->skip_bias = arena_floats(from, net->features, 1, 1, 1);
  net->hidden_bias = arena_floats(from, c, net->head_features, 1, 1);
  if (spec->head == GPCNN_MIXTURE) {
    net->mixture_bias = arena_floats(from, net->mixture_row, 1, 1, 1);
    net->logits_bias = net->earlier = NULL;
  } else {
    net->logits_bias = arena_floats(from, c, net->levels, 1, 1);
    net->earlier = arena_floats(from, c, gpcnn_inputs(spec), net->head_features, 1);
  }
  net->zeros = arena_floats(from, net->gates, 1, 1, 1);
  net->input_embedding = arena_floats(from, spec->input_size, spec->levels, 1, 1);
}

static uint64_t model_bytes(const gpcnn_spec *spec) {
  network net;
  arena from = {0};
  arena_take(&from, sizeof net, 1, 1, 1, 1);
  lay_out_network(&net, spec, &from, &from);
  return from.overflow ? 0 : from.used;
}

/* Bytes of packed weights, and of the structs that point into them: together they are a network. 0: they do not fit. */
static int packed_bytes(const gpcnn_spec *spec, uint64_t *struct_bytes, uint64_t *weight_bytes) {
  network net;
  arena structs = {0}, weights = {0};
  arena_take(&structs, sizeof net, 1, 1, 1, 1);
  lay_out_network(&net, spec, &structs, &weights);
  *struct_bytes = structs.used;
  *weight_bytes = weights.used;
  return !structs.overflow && !weights.overflow;
}

/* A network whose weights were packed before and stay where they are: read-only memory will do. */
static gpcnn_status attach_network(const gpcnn_kernel *kernel, const gpcnn_packed *packed, void *memory,
                                   size_t memory_bytes, gpcnn_model **model) {
  uint64_t struct_bytes, weight_bytes;
  if (!packed_bytes(&packed->spec, &struct_bytes, &weight_bytes)) return GPCNN_BAD_SPEC;
  if (packed->bytes != weight_bytes) return GPCNN_BAD_ARGUMENT;
  if (memory_bytes < struct_bytes) return GPCNN_OUT_OF_MEMORY;
  arena structs = {memory, 0, 0}, weights = {(unsigned char *)(uintptr_t)packed->weights, 0, 0};
  network *net = arena_take(&structs, sizeof *net, 1, 1, 1, 1);
  lay_out_network(net, &packed->spec, &structs, &weights);
  net->model.kernel = kernel;
  *model = &net->model;
  return GPCNN_OK;
}
#endif
