/* What the dimensions of a decoder may be, and how many numbers its weights have. */
#ifndef GPCNN_PICTURES_SPEC_H
#define GPCNN_PICTURES_SPEC_H
#include "gpcnn_pictures.h"

enum { MOST_PIXELS = 1 << 20, MOST_NUMBERS = 4096, MOST_BLOCKS = 512 };

static int in_bounds(uint32_t x, uint32_t low, uint32_t high) { return low <= x && x <= high; }

static int is_sound(const gpcnn_pictures *s) {
  return s && (s->channels == 1 || s->channels == 3) &&
         (s->downsample == 2 || s->downsample == 4 || s->downsample == 8 || s->downsample == 16) &&
         in_bounds(s->height, 1, MOST_PIXELS) && in_bounds(s->width, 1, MOST_PIXELS) && s->height % s->downsample == 0 &&
         s->width % s->downsample == 0 && (uint64_t)s->height * s->width <= MOST_PIXELS &&
         in_bounds(s->codes, 2, MOST_NUMBERS) && in_bounds(s->code_size, 1, MOST_NUMBERS) &&
         in_bounds(s->features, 1, MOST_NUMBERS) && s->blocks <= MOST_BLOCKS && in_bounds(s->code_levels, 1, 2) &&
         (s->code_levels == 1 || (s->height % (4 * s->downsample) == 0 && s->width % (2 * s->downsample) == 0));
}

#if !GPCNN_PACKED_ONLY
/* Numbers of all tensors together; below 2^45 within the bounds. */
static uint64_t weight_count(const gpcnn_pictures *s) {
  const uint64_t f = s->features, d = s->code_size;
  uint64_t count = s->codes * d + f * d * s->code_levels * 9 + f + s->blocks * (f * f * 10 + 2 * f);
  if (s->code_levels == 2) count += s->codes * d + d * d * 16 + d;
  for (uint32_t x = s->downsample; x > 1; x /= 2) {
    const uint64_t outputs = x > 2 ? f : s->channels;
    count += f * outputs * 16 + outputs;
  }
  return count;
}

/* Whether so many weights are those of a decoder, and all of them finite. */
static gpcnn_status check_weights(const gpcnn_pictures *spec, const float *weights, uint64_t floats) {
  if (floats != weight_count(spec)) return GPCNN_BAD_ARGUMENT;
  for (uint64_t i = 0; i < floats; i++)
    if (!(weights[i] > -__builtin_inff() && weights[i] < __builtin_inff())) return GPCNN_BAD_FILE;
  return GPCNN_OK;
}
#endif
#endif
