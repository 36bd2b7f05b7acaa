/* Vectors of LANES floats, and the functions that a network needs, without a math library: the same bits everywhere.
 *
 * A multiply whose result is added is written as multiply_add and nowhere else, so that every compiler fuses the same
 * ones, or with -ffp-contract=off none. Vectors are loaded and stored at multiples of their size. */
#ifndef GPCNN_VECTOR_H
#define GPCNN_VECTOR_H
#include <stddef.h>
#include <stdint.h>

enum { LANES = GPCNN_VECTOR_BYTES / 4 };

typedef float vec __attribute__((vector_size(GPCNN_VECTOR_BYTES), may_alias));
typedef int32_t vec_int __attribute__((vector_size(GPCNN_VECTOR_BYTES), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec x) { *(vec *)to = x; }
INLINE vec splat(float x) { return x - (vec){0}; }
INLINE vec multiply_add(vec a, vec b, vec c) { return a * b + c; }
INLINE float multiply_add_one(float a, float b, float c) { return a * b + c; }
INLINE vec choose(vec_int mask, vec yes, vec no) { return (vec)((mask & (vec_int)yes) | (~mask & (vec_int)no)); }
INLINE vec smaller(vec a, vec b) { return choose(a < b, a, b); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

/* 2^x for |x| < 127, relative error below 1e-7: x = n + f with |f| <= 1/2, a minimax polynomial of degree 5 in f. */
INLINE vec exp2_bounded(vec x) {
  const vec shift = splat(12582912.0f); /* 1.5 · 2^23: the sum holds round(x) in its lowest bits */
  const vec shifted = x + shift;
  const vec f = x - (shifted - shift);
  vec p = multiply_add(splat(0.0013276472f), f, splat(0.009675541f));
  p = multiply_add(p, f, splat(0.05550713f));
  p = multiply_add(p, f, splat(0.2402212f));
  p = multiply_add(p, f, splat(0.69314694f));
  p = multiply_add(p, f, splat(1.0f));
  return (vec)((vec_int)p + ((vec_int)shifted << 23));
}

/* 1 - 2^x for -126 <= x < 0: where n is 0, the polynomial without its 1, so that nothing cancels. */
INLINE vec one_minus_exp2(vec x) {
  const vec shift = splat(12582912.0f);
  const vec shifted = x + shift;
  const vec n = shifted - shift, f = x - n;
  vec p = multiply_add(splat(0.0013276472f), f, splat(0.009675541f));
  p = multiply_add(p, f, splat(0.05550713f));
  p = multiply_add(p, f, splat(0.2402212f));
  p = multiply_add(p, f, splat(0.69314694f));
  const vec power = (vec)((vec_int)multiply_add(p, f, splat(1.0f)) + ((vec_int)shifted << 23));
  /* f · p is added above, too: where it is not added, no compiler that shares it could fuse it there. */
  return choose(n == splat(0), multiply_add(-f, p, splat(0)), splat(1.0f) - power);
}

/* tanh(a) · sigmoid(b), equation 2, with one division: (1 - x) / ((1 + x)(1 + y)), x = exp(-2a), y = exp(-b). */
INLINE vec gate(vec a, vec b) {
  const vec bound = splat(60.0f), one = splat(1.0f); /* beyond, both functions are 1, -1 or 0 to the last bit */
  const vec x = exp2_bounded(larger(smaller(a * -2.88539008f, bound), -bound));
  const vec y = exp2_bounded(larger(smaller(b * -1.44269504f, bound), -bound));
  const vec sum = one + x;
  return (one - x) / multiply_add(sum, y, sum);
}

/* exp(x) for x <= 0: 0 below 2^-126. */
INLINE vec exp_negative(vec x) {
  const vec scaled = x * 1.44269504f, bound = splat(-126.0f);
  const vec y = exp2_bounded(larger(scaled, bound));
  return (vec)((vec_int)y & (scaled >= bound));
}

/* Binary logarithm of a normal x > 0: log2(2^n · m) with m in [1/√2, √2), as 2 artanh((m - 1) / (m + 1)) / ln 2. */
INLINE float log2_one(float x) {
  union { float f; uint32_t u; } bits = {x};
  const uint32_t offset = bits.u - 0x3f3504f3u; /* 1/√2 */
  const int32_t n = (int32_t)offset >> 23;
  bits.u = (offset & 0x7fffffu) + 0x3f3504f3u;
  const float s = (bits.f - 1) / (bits.f + 1);
  const float square = s * s;
  float p = multiply_add_one(square, 0.32059889f, 0.41219858f);
  p = multiply_add_one(p, square, 0.57707802f);
  p = multiply_add_one(p, square, 0.96179669f);
  p = multiply_add_one(p, square, 2.88539008f);
  return multiply_add_one(s, p, (float)n);
}

/* The same of each of a vector. */
INLINE vec log2_of(vec x) {
  const vec_int offset = (vec_int)x - 0x3f3504f3;
  const vec_int n = offset >> 23;
  const vec m = (vec)((offset & 0x7fffff) + 0x3f3504f3);
  const vec s = (m - splat(1.0f)) / (m + splat(1.0f));
  const vec square = s * s;
  vec p = multiply_add(square, splat(0.32059889f), splat(0.41219858f));
  p = multiply_add(p, square, splat(0.57707802f));
  p = multiply_add(p, square, splat(0.96179669f));
  p = multiply_add(p, square, splat(2.88539008f));
  return multiply_add(s, p, __builtin_convertvector(n, vec));
}
#endif
