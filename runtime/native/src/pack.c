/* Packs weights beforehand, in the blocks of the smallest kernel: for programs that keep them in read-only memory.
 *
 * The packing of packing.h once more, for one width of blocks whatever this machine has, so that every machine writes the
 * same weights for another one. */
#define GPCNN_VECTOR_BYTES 16
#define GPCNN_TILES "tiles_4x2.h"
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function" /* nothing is drawn here */
#endif
#include "draw.h"
#include "packing.h"
#include "decoder.h"
#include "pictures_spec.h"

_Static_assert(BLOCK == GPCNN_PACKED_BLOCK, "blocks of another width");

gpcnn_status gpcnn_packed_size(const gpcnn_spec *spec, uint32_t images, gpcnn_packed_needs *needs) {
  network net;
  arena structs = {0}, weights = {0};
  if (!spec || !images || !needs) return GPCNN_BAD_ARGUMENT;
  if (!packed_bytes(spec, &needs->memory, &needs->weights)) return GPCNN_OUT_OF_MEMORY;
  lay_out_network(&net, spec, &structs, &weights);
  needs->workspace = workspace_bytes(&net.model, images);
  return needs->workspace ? GPCNN_OK : GPCNN_OUT_OF_MEMORY;
}

gpcnn_status gpcnn_pack(const void *file, size_t file_bytes, void *memory, size_t memory_bytes, float *weights,
                        size_t weight_bytes) {
  gpcnn_info info;
  gpcnn_head_offsets head;
  gpcnn_packed_needs needs;
  if (!file) return GPCNN_BAD_ARGUMENT;
  gpcnn_status status = gpcnn_file_read(file, file_bytes, &info, &head);
  if (!status) status = gpcnn_packed_size(&info.spec, 1, &needs);
  if (status) return status;
  if (!memory || !weights || (uintptr_t)memory % GPCNN_ALIGNMENT || (uintptr_t)weights % GPCNN_ALIGNMENT ||
      memory_bytes < needs.memory || weight_bytes < needs.weights)
    return GPCNN_OUT_OF_MEMORY;
  arena structs = {memory, 0, 0}, floats = {(unsigned char *)weights, 0, 0};
  network *net = arena_take(&structs, sizeof *net, 1, 1, 1, 1);
  lay_out_network(net, &info.spec, &structs, &floats);
  for (size_t i = 0; i < needs.weights / sizeof *weights; i++) weights[i] = 0;
  pack_network(net, file, &head);
  return GPCNN_OK;
}

gpcnn_status gpcnn_decoder_packed_size(const gpcnn_pictures *spec, gpcnn_packed_needs *needs) {
  decoder d;
  arena structs = {0}, weights = {0};
  if (!needs) return GPCNN_BAD_ARGUMENT;
  if (!is_sound(spec)) return GPCNN_BAD_SPEC;
  if (!packed_decoder_bytes(spec, &needs->memory, &needs->weights)) return GPCNN_OUT_OF_MEMORY;
  lay_out_decoder(&d, spec, &structs, &weights);
  needs->workspace = decoder_workspace_bytes(&d.head);
  return needs->workspace ? GPCNN_OK : GPCNN_OUT_OF_MEMORY;
}

gpcnn_status gpcnn_decoder_pack(const gpcnn_pictures *spec, const float *weights, uint64_t floats, void *memory,
                                size_t memory_bytes, float *packed, size_t packed_bytes) {
  gpcnn_packed_needs needs;
  if (!weights) return GPCNN_BAD_ARGUMENT;
  gpcnn_status status = gpcnn_decoder_packed_size(spec, &needs);
  if (!status) status = check_weights(spec, weights, floats);
  if (status) return status;
  if (!memory || !packed || (uintptr_t)memory % GPCNN_ALIGNMENT || (uintptr_t)packed % GPCNN_ALIGNMENT ||
      memory_bytes < needs.memory || packed_bytes < needs.weights)
    return GPCNN_OUT_OF_MEMORY;
  arena structs = {memory, 0, 0}, from = {(unsigned char *)packed, 0, 0};
  decoder *d = arena_take(&structs, sizeof *d, 1, 1, 1, 1);
  lay_out_decoder(d, spec, &structs, &from);
  for (size_t i = 0; i < needs.weights / sizeof *packed; i++) packed[i] = 0;
  pack_decoder(d, weights);
  return GPCNN_OK;
}
