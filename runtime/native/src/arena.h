/* Memory handed out from one block that the caller owns. With no block it only counts: one function lays out a structure
 * and, with the same lines, measures it. Sizes that do not fit size_t are found. */
#ifndef GPCNN_ARENA_H
#define GPCNN_ARENA_H
#include <stddef.h>
#include <stdint.h>
#include "gpcnn.h"

typedef struct arena {
  unsigned char *base; /* aligned to GPCNN_ALIGNMENT, or NULL */
  uint64_t used;
  int overflow;        /* the sizes asked for do not fit */
} arena;

/* a · b · c · d elements of `size` bytes, aligned to GPCNN_ALIGNMENT; NULL when measuring. */
static inline void *arena_take(arena *from, size_t size, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  uint64_t bytes = size, end;
  from->overflow |= __builtin_mul_overflow(bytes, a, &bytes) | __builtin_mul_overflow(bytes, b, &bytes) |
                    __builtin_mul_overflow(bytes, c, &bytes) | __builtin_mul_overflow(bytes, d, &bytes) |
                    __builtin_add_overflow(bytes, GPCNN_ALIGNMENT - 1, &bytes);
  bytes &= ~(uint64_t)(GPCNN_ALIGNMENT - 1);
  from->overflow |= __builtin_add_overflow(from->used, bytes, &end) || end > SIZE_MAX / 2;
  if (from->overflow) return NULL;
  void *taken = from->base ? from->base + from->used : NULL;
  from->used = end;
  return taken;
}
static inline float *arena_floats(arena *from, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return (float *)arena_take(from, sizeof(float), a, b, c, d);
}
#endif
