/* The public functions of gpcnn_pictures.h: they check what the caller passes, and call the prior's kernel. */
#include "pictures.h"
#include "pictures_spec.h"

static int is_aligned(const void *memory) { return memory && (uintptr_t)memory % GPCNN_ALIGNMENT == 0; }

/* Whether a prior draws the codes that a decoder reads. */
static int fits_prior(const gpcnn_model *prior, const gpcnn_pictures *spec) {
  const gpcnn_spec *codes = &prior->spec;
  return codes->channels == 1 && codes->levels == spec->codes &&
         (uint64_t)codes->height * spec->downsample == spec->height &&
         (uint64_t)codes->width * spec->downsample == spec->width;
}

#if !GPCNN_PACKED_ONLY
uint64_t gpcnn_decoder_bytes(const gpcnn_model *prior, const gpcnn_pictures *spec) {
  return prior && is_sound(spec) && prior->kernel->decoder_bytes ? prior->kernel->decoder_bytes(spec) : 0;
}

gpcnn_status gpcnn_decoder_load(const gpcnn_model *prior, const gpcnn_pictures *spec, const float *weights, uint64_t floats,
                                void *memory, uint64_t memory_bytes, gpcnn_decoder **decoder) {
  if (!prior || !weights || !decoder) return GPCNN_BAD_ARGUMENT;
  if (!is_sound(spec)) return GPCNN_BAD_SPEC;
  if (!fits_prior(prior, spec)) return GPCNN_BAD_SPEC;
  const gpcnn_status status = check_weights(spec, weights, floats);
  if (status) return status;
  const uint64_t needed = gpcnn_decoder_bytes(prior, spec);
  if (!needed || memory_bytes < needed || !is_aligned(memory)) return GPCNN_OUT_OF_MEMORY;
  *decoder = prior->kernel->load_decoder(prior->kernel, spec, weights, memory);
  return GPCNN_OK;
}
#endif

gpcnn_status gpcnn_decoder_attach(const gpcnn_model *prior, const gpcnn_packed_pictures *packed, void *memory,
                                  size_t memory_bytes, gpcnn_decoder **decoder) {
  if (!prior || !packed || !packed->weights || (uintptr_t)packed->weights % GPCNN_ALIGNMENT || !decoder)
    return GPCNN_BAD_ARGUMENT;
  if (!is_sound(&packed->spec) || !fits_prior(prior, &packed->spec)) return GPCNN_BAD_SPEC;
  if (!prior->kernel->attach_decoder || packed->block != prior->kernel->block) return GPCNN_BAD_ARGUMENT;
  if (!is_aligned(memory)) return GPCNN_OUT_OF_MEMORY;
  return prior->kernel->attach_decoder(prior->kernel, packed, memory, memory_bytes, decoder);
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
