/* Memory handed out from one block that the caller owns. With no block it only counts: one function lays out a structure
 * and, with the same lines, measures it. Sizes that do not fit size_t are found. */
#ifndef GPCNN_ARENA_H
#define GPCNN_ARENA_H
#include <stddef.h>
#include <stdint.h>
#include "gpcnn.h"

/* What is called from many places and takes no time: once in the library, not at every one of them. */
#define NOINLINE static __attribute__((noinline, unused))
/* Of functions that lay memory out, and compute nothing: made small. */
#if defined(__clang__)
#define SMALL __attribute__((minsize, noinline))
#else
#define SMALL __attribute__((optimize("Os"), noinline))
#endif
/* Of functions that run when a model is loaded: made small. What calls one of them always is taken to be as seldom. */
#define SELDOM __attribute__((cold, noinline))

typedef struct arena {
  unsigned char *base; /* aligned to GPCNN_ALIGNMENT, or NULL */
  uint64_t used;
  int overflow;        /* the sizes asked for do not fit */
} arena;

/* a · b, or the largest number if that does not fit. */
static inline uint64_t saturating_product(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* a · b · c · d elements of `size` bytes, aligned to GPCNN_ALIGNMENT; NULL when measuring. */
NOINLINE void *arena_take(arena *from, size_t size, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  const uint64_t most = SIZE_MAX / 2 - GPCNN_ALIGNMENT;
  const uint64_t bytes = saturating_product(saturating_product(saturating_product(size, a), saturating_product(b, c)), d);
  if (from->overflow || bytes > most || from->used > most - bytes) {
    from->overflow = 1;
    return NULL;
  }
  void *taken = from->base ? from->base + from->used : NULL;
  from->used += (bytes + GPCNN_ALIGNMENT - 1) & ~(uint64_t)(GPCNN_ALIGNMENT - 1);
  return taken;
}
static inline float *arena_floats(arena *from, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return (float *)arena_take(from, sizeof(float), a, b, c, d);
}
#endif
