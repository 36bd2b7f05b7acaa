/* gpcnn_pictures.h: the decoder of a VQ-VAE, whose prior is a model of gpcnn.h: grids of codes become 8-bit pictures.
 *
 * Shapes, row-major: N pictures, C channels, H rows, W columns; h × w codes of a picture, H and W over `downsample`. Of a
 * VQ-VAE-2 these are the bottom codes; h/2 × w/2 top codes are drawn before them, by a model of their own, and are the map
 * that the model of the bottom codes is conditioned on.
 * As in gpcnn.h there is no global state and no allocation. A decoder is read-only once it is loaded. */
#ifndef GPCNN_PICTURES_H
#define GPCNN_PICTURES_H
#include "gpcnn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Dimensions, as gpcnn_deploy.spec.VqvaeSpec has them. */
typedef struct gpcnn_pictures {
  uint32_t height, width, channels, codes, downsample, code_size, features, blocks, code_levels; /* 1, or 2 of a VQ-VAE-2 */
} gpcnn_pictures;

typedef struct gpcnn_decoder gpcnn_decoder;

/* A decoder's weights packed beforehand, as gpcnn_packed of gpcnn.h has a model's. */
typedef struct gpcnn_packed_pictures {
  gpcnn_pictures spec;
  uint32_t block;           /* GPCNN_PACKED_BLOCK */
  const float *weights;     /* aligned to GPCNN_ALIGNMENT */
  uint64_t bytes;
} gpcnn_packed_pictures;

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* Memory that gpcnn_decoder_load needs; 0: the dimensions are out of range, or do not fit this machine. `prior` is the model
 * of the codes, of two levels that of the bottom codes. */
uint64_t gpcnn_decoder_bytes(const gpcnn_model *prior, const gpcnn_pictures *spec);
/* Packs the weights into `memory`, for what the prior computes with. They are PyTorch's tensors one after another: the
 * codebook; of two levels the top codebook, and `top_up`: weight, bias; `first`: weight, bias; of each block `wide`: weight,
 * bias, `out`: weight, bias; of each doubling: weight, bias. */
gpcnn_status gpcnn_decoder_load(const gpcnn_model *prior, const gpcnn_pictures *spec, const float *weights, uint64_t floats,
                                void *memory, uint64_t memory_bytes, gpcnn_decoder **decoder);
/* What gpcnn_decoder_pack and _attach need; `workspace` is that of gpcnn_decode. */
gpcnn_status gpcnn_decoder_packed_size(const gpcnn_pictures *spec, gpcnn_packed_needs *needs);
/* Packs weights, given as to gpcnn_decoder_load, on any machine for any other; `memory` is scratch of needs.memory bytes. */
gpcnn_status gpcnn_decoder_pack(const gpcnn_pictures *spec, const float *weights, uint64_t floats, void *memory,
                                size_t memory_bytes, float *packed, size_t packed_bytes);
/* A decoder on packed weights, beside a prior of gpcnn_attach. Errors as of gpcnn_attach. */
gpcnn_status gpcnn_decoder_attach(const gpcnn_model *prior, const gpcnn_packed_pictures *packed, void *memory,
                                  size_t memory_bytes, gpcnn_decoder **decoder);
size_t gpcnn_decoder_workspace_bytes(const gpcnn_decoder *decoder);
/* codes [N,h,w], each below `codes` → pictures [N,C,H,W]. Of two levels, codes of a picture are [h/2,w/2], then [h,w]. */
gpcnn_status gpcnn_decode(const gpcnn_decoder *decoder, uint32_t images, const int32_t *codes, uint8_t *pictures,
                          void *workspace, size_t workspace_bytes);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
