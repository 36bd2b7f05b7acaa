/* gpcnn.h: draw, complete and score images with a Gated PixelCNN. One C kernel for every model; a model file is data.
 *
 * Shapes, row-major: N images, C channels, H rows, W columns, K levels, E numbers of an embedding,
 * P planes of a map of h rows and w columns.
 * No global state, no allocation, no libc: the caller owns all memory. A loaded model is read-only and may be used by any
 * number of threads at once, each with a workspace of its own.
 *
 *     gpcnn_info info;
 *     gpcnn_inspect(file, file_bytes, &info);                             what the file holds; nothing is kept
 *     gpcnn_model *model;
 *     gpcnn_load(file, file_bytes, memory, info.model_bytes, &model);     packs the weights into `memory`
 *     gpcnn_draw(model, &request, workspace, gpcnn_workspace_bytes(model, images));
 */
#ifndef GPCNN_H
#define GPCNN_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GPCNN_ABI 4
#define GPCNN_ALIGNMENT 64 /* of `memory` and `workspace`; other pointers need only their type's alignment */

typedef enum gpcnn_status {
  GPCNN_OK = 0,
  GPCNN_BAD_FILE = 1,        /* not a model file, damaged, cut short, or weights that are not finite */
  GPCNN_BAD_SPEC = 2,        /* the file's spec is out of range, or contradicts its tensors */
  GPCNN_BAD_ARGUMENT = 3,    /* a null pointer, no images, a label, level, temperature or window out of range */
  GPCNN_OUT_OF_MEMORY = 4,   /* `memory` or `workspace` is smaller than was asked for, or misaligned */
  GPCNN_CANCELLED = 5,       /* `*cancel` became nonzero */
  GPCNN_NEWER_FILE = 6       /* written for a newer version of this library */
} gpcnn_status;

typedef enum gpcnn_conditioning {
  GPCNN_UNCONDITIONAL = 0,
  GPCNN_LABEL = 1,
  GPCNN_EMBEDDING = 2,
  GPCNN_MAP = 3
} gpcnn_conditioning;

typedef enum gpcnn_head { /* the distribution of a sub-pixel */
  GPCNN_CATEGORICAL = 0,    /* a softmax over the levels */
  GPCNN_MIXTURE = 1         /* a discretized mixture of logistics */
} gpcnn_head;

/* Dimensions of a model, as gpcnn_deploy.spec.ModelSpec has them. */
typedef struct gpcnn_spec {
  uint32_t height, width, channels, levels, features, layers;
  uint32_t first_kernel_size, kernel_size, head_features;
  uint32_t conditioning, conditioning_size;
  uint32_t input_size; /* D, numbers of a category's vector; 0: levels are read as values */
  uint32_t head, mixtures; /* mixtures: 0 for GPCNN_CATEGORICAL */
  /* Of a map, which has conditioning_size planes; 0 without one. 0 categories: it holds values. */
  uint32_t map_height, map_width, map_features, map_categories;
} gpcnn_spec;

typedef struct gpcnn_info {
  gpcnn_spec spec;
  uint64_t model_bytes;   /* memory that gpcnn_load needs */
  uint64_t metadata_offset, metadata_bytes; /* the file's metadata: JSON as a JSON string, escapes included */
} gpcnn_info;

typedef struct gpcnn_model gpcnn_model;

/* One batch. Set every field, or zero the struct first: zero is the default of each. */
typedef struct gpcnn_request {
  uint32_t images;            /* N, at least 1 */
  uint32_t window;            /* columns guessed at a time, 1 to W, or as many as the workspace
                                 holds; 0: chosen by the library. All draw the same images */
  float temperature;          /* divides the logits before drawing, of a mixture the log-weights, and multiplies its
                                 scales; 0 stands for 1 */
  const float *noise;         /* [N,C,H,W] in [0, 1): the uniforms that decide the images; may be NULL if all is known */
  const int32_t *known;       /* [N,C,H,W] levels to keep where `mask` is nonzero, or NULL */
  const uint8_t *mask;        /* [N,C,H,W], or NULL: nothing is known */
  const int32_t *label;       /* [N], for GPCNN_LABEL */
  const float *embedding;     /* [N,E], for GPCNN_EMBEDDING */
  const volatile int32_t *cancel; /* looked at between pixels; NULL: cannot be cancelled */
  void (*on_row)(void *user, uint32_t row); /* called when a row of all images is drawn, or NULL. A large batch is drawn in
                                               groups: its rows are complete when the last group draws them */
  void *user;
  int32_t *image;             /* out [N,C,H,W]: levels */
  float *log_prob;            /* out [N,C,H,W]: nats, at temperature 1; NULL: not wanted */
  uint64_t *evaluations;      /* out: evaluations of the horizontal stack, windows of any width and number; or NULL */
  const float *map;           /* [N,P,h,w], for GPCNN_MAP: values, or numbers of categories, 0 to map_categories - 1 */
} gpcnn_request;

/* How a model computes. Zero is the default of each. */
typedef struct gpcnn_options {
  uint32_t reproducible;    /* 1: no fused multiply-add, so log-probabilities have the same bits on every machine */
  const char *instructions; /* one of gpcnn_instruction_set, or NULL: the best */
} gpcnn_options;

/* Weights packed beforehand, as `gpcnn-export --format c --static` writes them: they are used where they lie, so read-only
   memory will do. */
typedef struct gpcnn_packed {
  gpcnn_spec spec;
  uint32_t block;           /* GPCNN_PACKED_BLOCK */
  const float *weights;     /* aligned to GPCNN_ALIGNMENT */
  uint64_t bytes;
} gpcnn_packed;

#define GPCNN_PACKED_BLOCK 8 /* outputs side by side: what kernels with vectors of 16 bytes and tiles of two of them read */

/* Bytes that a packed model takes. */
typedef struct gpcnn_packed_needs {
  uint64_t weights;         /* read-only */
  uint64_t memory;          /* of gpcnn_attach, at most */
  uint64_t workspace;       /* of gpcnn_draw with so many images, at most */
} gpcnn_packed_needs;

#if defined(__GNUC__)
#pragma GCC visibility push(default) /* all else in the library is hidden */
#endif

uint32_t gpcnn_abi(void);                 /* GPCNN_ABI of the library */
const char *gpcnn_instructions(void);     /* what it computes with on this CPU, e.g. "x86-64-v3, fused multiply-add" */
const char *gpcnn_instruction_set(uint32_t index); /* names that this CPU can run, the best first; NULL behind the last */
const char *gpcnn_status_text(gpcnn_status status); /* a sentence in English, without a full stop */

gpcnn_status gpcnn_inspect(const void *file, size_t file_bytes, gpcnn_info *info);
gpcnn_status gpcnn_load(const void *file, size_t file_bytes, void *memory, size_t memory_bytes, gpcnn_model **model);
/* gpcnn_load with options, which may be NULL. GPCNN_BAD_ARGUMENT: this CPU or this library has no such instruction set. */
gpcnn_status gpcnn_load_with(const gpcnn_options *options, const void *file, size_t file_bytes, void *memory,
                             size_t memory_bytes, gpcnn_model **model);
gpcnn_status gpcnn_packed_size(const gpcnn_spec *spec, uint32_t images, gpcnn_packed_needs *needs);
/* Packs a model file's weights, on any machine for any other; `memory` is scratch of needs.memory bytes. */
gpcnn_status gpcnn_pack(const void *file, size_t file_bytes, void *memory, size_t memory_bytes, float *weights,
                        size_t weight_bytes);
/* A model on packed weights. GPCNN_BAD_ARGUMENT: they are not of this spec, or no kernel here reads such blocks. */
gpcnn_status gpcnn_attach(const gpcnn_packed *packed, void *memory, size_t memory_bytes, gpcnn_model **model);
const gpcnn_spec *gpcnn_model_spec(const gpcnn_model *model);
const char *gpcnn_model_instructions(const gpcnn_model *model); /* what it computes with, as gpcnn_instructions */

/* Workspace of a batch of so many images; 0 if it does not fit size_t. */
size_t gpcnn_workspace_bytes(const gpcnn_model *model, uint32_t images);
gpcnn_status gpcnn_draw(const gpcnn_model *model, const gpcnn_request *request, void *workspace, size_t workspace_bytes);

/* Uniforms of images first .. first+count-1 of a seed: NumPy's Philox 4x64-10, key (seed, index), as gpcnn_deploy.noise. */
gpcnn_status gpcnn_noise(const gpcnn_spec *spec, uint64_t seed, uint64_t first, uint32_t count, float *noise);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
