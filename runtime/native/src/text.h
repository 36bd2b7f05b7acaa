/* What is needed of a C library's strings. */
#ifndef GPCNN_TEXT_H
#define GPCNN_TEXT_H

static inline int same_text(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}
#endif
