/* A kernel: the same source compiled for one instruction set and one class of rounding. library.c chooses one at load. */
#ifndef GPCNN_KERNEL_H
#define GPCNN_KERNEL_H
#include "weights.h"

struct gpcnn_pictures;
struct gpcnn_packed_pictures;
struct gpcnn_decoder;

typedef struct gpcnn_kernel {
  const char *name;  /* "x86-64-v3" */
  const char *text;  /* "x86-64-v3, fused multiply-add" */
  uint32_t block;    /* outputs that lie side by side in its packed weights */
  int fused;         /* multiply-adds round once; 0: twice, as on every machine */
  uint64_t (*model_bytes)(const gpcnn_spec *spec); /* 0: does not fit this machine's memory */
  gpcnn_status (*load)(const struct gpcnn_kernel *kernel, const void *file, const gpcnn_spec *spec,
                       const gpcnn_head_offsets *head, void *memory, size_t memory_bytes, gpcnn_model **model);
  gpcnn_status (*attach)(const struct gpcnn_kernel *kernel, const gpcnn_packed *packed, void *memory,
                         size_t memory_bytes, gpcnn_model **model);
  size_t (*workspace_bytes)(const gpcnn_model *model, uint32_t images);
  /* The request has been checked; the workspace is large enough and aligned. */
  gpcnn_status (*draw)(const gpcnn_model *model, const gpcnn_request *request, void *workspace);
  /* Of a VQ-VAE's decoder, all checked likewise; NULL where there is none: in WebAssembly and in the C source. */
  uint64_t (*decoder_bytes)(const struct gpcnn_pictures *spec);
  struct gpcnn_decoder *(*load_decoder)(const struct gpcnn_kernel *kernel, const struct gpcnn_pictures *spec,
                                        const float *weights, void *memory);
  gpcnn_status (*attach_decoder)(const struct gpcnn_kernel *kernel, const struct gpcnn_packed_pictures *packed,
                                 void *memory, size_t memory_bytes, struct gpcnn_decoder **decoder);
  size_t (*decoder_workspace_bytes)(const struct gpcnn_decoder *decoder);
  void (*decode)(const struct gpcnn_decoder *decoder, uint32_t images, const int32_t *codes, uint8_t *pictures,
                 void *workspace);
} gpcnn_kernel;

/* What every kernel's model begins with. */
struct gpcnn_model {
  const gpcnn_kernel *kernel;
  gpcnn_spec spec;
};
#endif
