/* What compilers call without being asked, where there is no C library. Hidden in a shared library. */
#include <stddef.h>

#if defined(__clang__)
#define PLAIN __attribute__((visibility("hidden"), no_builtin))
#else
#define PLAIN __attribute__((visibility("hidden"), optimize("no-tree-loop-distribute-patterns")))
#endif

PLAIN void *memset(void *to, int value, size_t bytes) {
  unsigned char *out = to;
  while (bytes--) *out++ = (unsigned char)value;
  return to;
}

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  unsigned char *out = to;
  const unsigned char *in = from;
  while (bytes--) *out++ = *in++;
  return to;
}
