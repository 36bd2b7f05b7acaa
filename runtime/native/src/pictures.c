/* The public functions of gpcnn_pictures.h: they check what the caller passes, and call the prior's kernel. */
#include "pictures.h"

enum { MOST_PIXELS = 1 << 20, MOST_NUMBERS = 4096, MOST_BLOCKS = 512 };

static int in_bounds(uint32_t x, uint32_t low, uint32_t high) { return low <= x && x <= high; }

static int is_sound(const gpcnn_pictures *s) {
  return s && (s->channels == 1 || s->channels == 3) &&
         (s->downsample == 2 || s->downsample == 4 || s->downsample == 8 || s->downsample == 16) &&
         in_bounds(s->height, 1, MOST_PIXELS) && in_bounds(s->width, 1, MOST_PIXELS) && s->height % s->downsample == 0 &&
         s->width % s->downsample == 0 && (uint64_t)s->height * s->width <= MOST_PIXELS &&
         in_bounds(s->codes, 2, MOST_NUMBERS) && in_bounds(s->code_size, 1, MOST_NUMBERS) &&
         in_bounds(s->features, 1, MOST_NUMBERS) && s->blocks <= MOST_BLOCKS && in_bounds(s->code_levels, 1, 2) &&
         (s->code_levels == 1 || (s->height % (2 * s->downsample) == 0 && s->width % (2 * s->downsample) == 0));
}

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

static int is_aligned(const void *memory) { return memory && (uintptr_t)memory % GPCNN_ALIGNMENT == 0; }

uint64_t gpcnn_decoder_bytes(const gpcnn_model *prior, const gpcnn_pictures *spec) {
  return prior && is_sound(spec) && prior->kernel->decoder_bytes ? prior->kernel->decoder_bytes(spec) : 0;
}

gpcnn_status gpcnn_decoder_load(const gpcnn_model *prior, const gpcnn_pictures *spec, const float *weights, uint64_t floats,
                                void *memory, uint64_t memory_bytes, gpcnn_decoder **decoder) {
  if (!prior || !weights || !decoder) return GPCNN_BAD_ARGUMENT;
  if (!is_sound(spec)) return GPCNN_BAD_SPEC;
  const gpcnn_spec *codes = &prior->spec;
  if (codes->channels != 1 || codes->levels != spec->codes || (uint64_t)codes->height * spec->downsample != spec->height ||
      (uint64_t)codes->width * spec->downsample != spec->width)
    return GPCNN_BAD_SPEC;
  if (floats != weight_count(spec)) return GPCNN_BAD_ARGUMENT;
  for (uint64_t i = 0; i < floats; i++)
    if (!(weights[i] > -__builtin_inff() && weights[i] < __builtin_inff())) return GPCNN_BAD_FILE;
  const uint64_t needed = gpcnn_decoder_bytes(prior, spec);
  if (!needed || memory_bytes < needed || !is_aligned(memory)) return GPCNN_OUT_OF_MEMORY;
  *decoder = prior->kernel->load_decoder(prior->kernel, spec, weights, memory);
  return GPCNN_OK;
}

size_t gpcnn_decoder_workspace_bytes(const gpcnn_decoder *decoder) {
  return decoder->kernel->decoder_workspace_bytes(decoder);
}

gpcnn_status gpcnn_decode(const gpcnn_decoder *decoder, uint32_t images, const int32_t *codes, uint8_t *pictures,
                          void *workspace, size_t workspace_bytes) {
  if (!decoder || !images || !codes || !pictures) return GPCNN_BAD_ARGUMENT;
  const size_t needed = gpcnn_decoder_workspace_bytes(decoder);
  if (!needed || workspace_bytes < needed || !is_aligned(workspace)) return GPCNN_OUT_OF_MEMORY;
  const gpcnn_pictures *spec = &decoder->spec;
  const uint64_t bottom = (uint64_t)(spec->height / spec->downsample) * (spec->width / spec->downsample);
  const uint64_t grid = spec->code_levels == 2 ? bottom + bottom / 4 : bottom;
  for (uint64_t i = 0; i < images * grid; i++)
    if (codes[i] < 0 || (uint32_t)codes[i] >= spec->codes) return GPCNN_BAD_ARGUMENT;
  decoder->kernel->decode(decoder, images, codes, pictures, workspace);
  return GPCNN_OK;
}
