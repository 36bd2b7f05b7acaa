/* Minimal filtering F(m,k), after Winograd and Toom-Cook: m neighbouring outputs of a filter of k taps from n = m + k - 1
 * products in place of m · k. With d the n inputs and g the k taps:
 *
 *     y = A^T [(G g) · (B^T d)]
 *
 * One product per point x of 0, ±1, ±2, ±1/2 (n = 8) or 0, ±1, ±2 (n = 6), and infinity. Rows of B^T are the coefficients
 * of the product of (x - q) over the other points q: small fractions with powers of two below, exact in float32, and so is
 * A^T. A pair ±q shares its even and odd parts. Only G, which meets the weights at load, rounds. */
#ifndef GPCNN_FILTERING_H
#define GPCNN_FILTERING_H
#include "product.h"

enum { MAX_POINTS = 8, MAX_PAIRS = 3 };

typedef struct filter {
  size_t outputs, points; /* m and n; n = 0: no minimal filtering, the plain form */
} filter;

static const float PAIR[MAX_PAIRS] = {1, 2, 0.5f};

/* The filter of k taps, by accuracy: more than eight points lose digits. It pays where its transforms, which cost about
 * 40 operations a feature and column, are small against the products saved. */
static filter choose_filter(size_t taps, size_t width, size_t features) {
  const filter none = {0, 0};
  if (taps > 7 || features < 8) return none;
  const filter f = {taps == 7 ? 2 : 4, taps == 3 ? 6 : 8};
  const size_t tiles = (width + f.outputs - 1) / f.outputs;
  return tiles * f.points * 5 <= width * taps * 4 ? f : none;
}

/* coefficient[i] of x^(2i) in the product of (x² - q²) over all pairs but `without`. */
INLINE void even_polynomial(float *coefficient, int pairs, int without) {
  int degree = 0;
  coefficient[0] = 1;
  for (int pair = 0; pair < pairs; pair++) {
    if (pair == without) continue;
    const float square = PAIR[pair] * PAIR[pair];
    coefficient[degree + 1] = coefficient[degree];
    for (int i = degree; i > 0; i--) coefficient[i] = multiply_add_one(-square, coefficient[i], coefficient[i - 1]);
    coefficient[0] *= -square;
    degree++;
  }
}

/* G g of one filter: taps at a constant stride → n weights. Point order: 0, +1, -1, +2, -2, …, infinity. */
INLINE void transform_taps(const float *taps, size_t count, size_t points, float *weights) {
  const int pairs = (int)points / 2 - 1;
  double scale = 1;
  for (int pair = 0; pair < pairs; pair++) scale *= -(double)(PAIR[pair] * PAIR[pair]);
  weights[0] = (float)(taps[0] / scale);
  for (int pair = 0; pair < pairs; pair++) {
    const double q = PAIR[pair];
    double even = 0, odd = 0, power = 1, others = 2 * q * q; /* exact */
    for (int other = 0; other < pairs; other++) {
      const double r = PAIR[other];
      if (other != pair) others *= (q - r) * (q + r);
    }
    for (size_t t = 0; t < count; t++, power *= q) {
      double *sum = t % 2 ? &odd : &even;
      *sum = (double)taps[t] * power + *sum; /* powers of two: the product is exact */
    }
    weights[2 * pair + 1] = (float)((even + odd) / others);
    weights[2 * pair + 2] = (float)((even - odd) / others);
  }
  weights[points - 1] = taps[count - 1];
}

/* B^T d for a vector of features: input i at d + i · stride → point p at out + p · point_stride. */
INLINE void transform_input_vector(const float *d, size_t stride, float *out, size_t point_stride, const int pairs) {
  float all[MAX_PAIRS + 1];
  vec x[MAX_POINTS];
  even_polynomial(all, pairs, -1);
  for (int i = 0; i < 2 * pairs + 2; i++) x[i] = load(d + (size_t)i * stride);
  vec zero = x[2 * pairs], infinity = x[2 * pairs + 1];
  for (int i = 0; i < pairs; i++) {
    zero = multiply_add(splat(all[i]), x[2 * i], zero);
    infinity = multiply_add(splat(all[i]), x[2 * i + 1], infinity);
  }
  store(out, zero);
  store(out + (size_t)(2 * pairs + 1) * point_stride, infinity);
  for (int pair = 0; pair < pairs; pair++) {
    float others[MAX_PAIRS];
    even_polynomial(others, pairs, pair);
    vec even = x[2 * pairs], odd = x[2 * pairs - 1];
    for (int i = 0; i < pairs - 1; i++) {
      even = multiply_add(splat(others[i]), x[2 * i + 2], even);
      odd = multiply_add(splat(others[i]), x[2 * i + 1], odd);
    }
    store(out + (size_t)(2 * pair + 1) * point_stride, multiply_add(odd, splat(PAIR[pair]), even));
    store(out + (size_t)(2 * pair + 2) * point_stride, multiply_add(odd, splat(-PAIR[pair]), even));
  }
}

/* A^T m + bias for a vector of outputs: point p at m + p · point_stride → output i at out + i · stride; its bias at
 * bias + i · bias_column. */
INLINE void transform_output_vector(const float *m, size_t point_stride, const float *bias, size_t bias_column, float *out,
                                    size_t stride, const int pairs, const int outputs) {
  vec y[4];
  for (int i = 0; i < outputs; i++) y[i] = load(bias + (size_t)i * bias_column);
  y[0] += load(m);
  y[outputs - 1] += load(m + (size_t)(2 * pairs + 1) * point_stride);
  for (int pair = 0; pair < pairs; pair++) {
    const vec plus = load(m + (size_t)(2 * pair + 1) * point_stride);
    const vec minus = load(m + (size_t)(2 * pair + 2) * point_stride);
    const vec sum = plus + minus, difference = plus - minus;
    float power = 1;
    for (int i = 0; i < outputs; i++, power *= PAIR[pair])
      y[i] = multiply_add(splat(power), i % 2 ? difference : sum, y[i]);
  }
  for (int i = 0; i < outputs; i++) store(out + (size_t)i * stride, y[i]);
}

/* Columns [tiles · m + k - 1][images][features] → [point][tiles][images][features], points at a stride. */
static void transform_input(const filter *f, const float *columns, float *out, size_t point, size_t tiles,
                            size_t images, size_t features) {
  const size_t column = images * features;
  for (size_t tile = 0; tile < tiles; tile++)
    for (size_t x = 0; x < column; x += LANES) {
      const float *d = columns + tile * f->outputs * column + x;
      float *to = out + tile * column + x;
      if (f->points == 6) transform_input_vector(d, column, to, point, 2);
      else transform_input_vector(d, column, to, point, 3);
    }
}

/* Products [point][tiles][images][outputs], points at a stride, → columns [tiles · m][images][outputs], plus the bias of
 * each image, or of each column and image; a stride of 0 makes it the same for all. */
static void transform_output(const filter *f, const float *products, size_t point, float *out, size_t tiles,
                             size_t images, size_t outputs, const float *bias, size_t bias_stride, size_t bias_column) {
  const size_t column = images * outputs;
  for (size_t tile = 0; tile < tiles; tile++)
    for (size_t image = 0; image < images; image++)
      for (size_t x = 0; x < outputs; x += LANES) {
        const size_t at = image * outputs + x;
        const float *m = products + tile * column + at, *b = bias + tile * f->outputs * bias_column + image * bias_stride + x;
        float *to = out + tile * f->outputs * column + at;
        if (f->points == 6) transform_output_vector(m, point, b, bias_column, to, column, 2, 4);
        else if (f->outputs == 4) transform_output_vector(m, point, b, bias_column, to, column, 3, 4);
        else transform_output_vector(m, point, b, bias_column, to, column, 3, 2);
      }
}
#endif
