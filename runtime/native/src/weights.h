/* Between the reader of model files and the kernel: where each tensor lies in the file, found and checked. */
#ifndef GPCNN_WEIGHTS_H
#define GPCNN_WEIGHTS_H
#include "gpcnn.h"

/* I: numbers of a pixel that the network reads, C values or C vectors of categories. */
static inline uint32_t gpcnn_inputs(const gpcnn_spec *spec) {
  return spec->channels * (spec->input_size ? spec->input_size : 1);
}

/* Numbers of a component of a mixture: a log-weight, C means, C log-scales, and what makes means depend on earlier
   channels. */
static inline uint32_t gpcnn_component_numbers(const gpcnn_spec *spec) {
  const uint32_t c = spec->channels;
  return 1 + 2 * c + c * (c - 1) / 2;
}

enum {
  GPCNN_MAP_CONTEXT = 2, /* 3×3 convolutions at the size of the map */
  GPCNN_MAP_STAGES = 20  /* transposed convolutions at most: an image has at most 2^20 pixels */
};

/* How many rows, or columns, the next transposed convolution makes of one: the smallest prime factor of what is left. */
static inline uint32_t gpcnn_next_factor(uint32_t *left) {
  uint32_t factor = 2;
  if (*left < 2) return 1;
  while (*left % factor) factor++;
  *left /= factor;
  return factor;
}

/* How many transposed convolutions bring a map to the size of the image, and their factors. */
static inline uint32_t gpcnn_map_stages(const gpcnn_spec *spec, uint32_t rows[GPCNN_MAP_STAGES],
                                        uint32_t columns[GPCNN_MAP_STAGES]) {
  uint32_t count = 0;
  if (spec->conditioning != GPCNN_MAP) return 0;
  uint32_t down = spec->height / spec->map_height, across = spec->width / spec->map_width;
  for (; (down > 1 || across > 1) && count < GPCNN_MAP_STAGES; count++) {
    rows[count] = gpcnn_next_factor(&down);
    columns[count] = gpcnn_next_factor(&across);
  }
  return count;
}

/* Rows of the table by which a map's network reads a pixel: one for each plane of values, or for each category of each. */
static inline uint64_t gpcnn_map_inputs(const gpcnn_spec *spec) {
  return (uint64_t)spec->conditioning_size * (spec->map_categories ? spec->map_categories : 1);
}

/* Offsets in bytes from the file's start, of little-endian float32 data that may be unaligned; 0: the model has none. */
typedef struct gpcnn_layer_offsets {
  uint64_t vertical_weight, vertical_bias;     /* [2F, inputs, rows, k] [2F] */
  uint64_t link_weight;                        /* [2F, 2F, 1, 1] */
  uint64_t horizontal_weight, horizontal_bias; /* [2F, inputs, 1, columns] [2F] */
  uint64_t out_weight;                         /* [F, F, 1, 1]; 0 in the last layer */
  uint64_t skip_weight, skip_bias;             /* [F, F, 1, 1] [F] */
} gpcnn_layer_offsets;

typedef struct gpcnn_head_offsets {
  uint64_t hidden_weight, hidden_bias;         /* [C*S, F, 1, 1] [C*S] */
  uint64_t earlier_weight;                     /* [C*S, I, 1, 1]; 0 for one channel or a mixture; not yet masked */
  uint64_t logits_weight, logits_bias;         /* [C*K, S, 1, 1] [C*K]; 0 for a mixture */
  uint64_t mixture_weight, mixture_bias;       /* [kinds*M, C*S, 1, 1] [kinds*M]; 0 for a softmax */
  uint64_t input_embedding;                    /* [K, D]; 0 where levels are values */
  uint64_t condition_weight;                   /* label: [classes, L*2*2F]; embedding or map: [L*2*2F, E or G]; else 0 */
  uint64_t map_read_weight, map_read_bias;     /* [G, inputs of a map, 1, 1] [G] */
  uint64_t map_context_weight[GPCNN_MAP_CONTEXT], map_context_bias[GPCNN_MAP_CONTEXT]; /* [G, G, 3, 3] [G] */
  uint64_t map_up_weight[GPCNN_MAP_STAGES], map_up_bias[GPCNN_MAP_STAGES]; /* [G in, G out, rows, columns] [G] */
} gpcnn_head_offsets;

/* Checks the whole file (spec in bounds, every tensor present once with its shape, no overlap, exact length, all weights
   finite) and fills `info` but for model_bytes, and `head`. */
gpcnn_status gpcnn_file_read(const void *file, size_t bytes, gpcnn_info *info, gpcnn_head_offsets *head);
/* Offsets of one layer of a file that gpcnn_file_read has accepted, with the spec that it found. */
void gpcnn_file_layer(const void *file, const gpcnn_spec *spec, uint32_t layer, gpcnn_layer_offsets *offsets);
#endif
