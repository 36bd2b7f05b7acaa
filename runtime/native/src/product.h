/* The one matrix product: out[row][o] = init[row][o] + sum over k of a[row][k] · w[k][o].
 *
 * The rows of `a` lie at a constant stride, and k runs over contiguous stretches: `runs` pointers, `taps` steps from each,
 * `depth` numbers at each step. So the taps of neighbouring columns need no copy. Every output is one sum in ascending k,
 * whatever tile computes it: its bits do not depend on the number of rows, on packing or on the width of a vector. */
#ifndef GPCNN_PRODUCT_H
#define GPCNN_PRODUCT_H
#include "vector.h"

/* Weights in blocks of BLOCK outputs: [blocks][depth][BLOCK]. */
typedef struct matrix {
  float *packed;
  size_t blocks, depth;
} matrix;

typedef struct product {
  const matrix *weights;      /* depth = runs · taps · depth of the product */
  const float *const *run;    /* [runs] */
  size_t runs, taps, tap_stride, depth, row_stride;
  const float *init;          /* row r starts from init row r mod init_period; may be `out` */
  size_t init_period, init_stride;
  float *out;
  size_t rows, out_stride;
  size_t rows_ahead, init_ahead; /* floats from this product's rows of `a` and of `init` to the next one's, which are
                                    fetched meanwhile; or 0 */
} product;

INLINE size_t first_phase(const product *p, size_t row) {
  return p->init_period == 1 ? 0 : row < p->init_period ? row : row % p->init_period;
}

/* The init row of the next row of a tile. */
INLINE const float *next_init(const product *p, size_t *phase, size_t column) {
  const float *init = p->init + *phase * p->init_stride + column;
  if (++*phase == p->init_period) *phase = 0;
  return init;
}

enum { AHEAD = 128 }; /* steps of k between fetching weights and using them */
INLINE void prefetch(const float *x) { __builtin_prefetch(x, 0, 3); }

#include GPCNN_TILES

enum { ALIGNED = BLOCK > 16 ? BLOCK : 16 }; /* rows of all buffers are padded to so many floats, 64 bytes at least */
INLINE size_t padded(size_t floats) { return (floats + ALIGNED - 1) / ALIGNED * ALIGNED; }

/* Fetches what the next product reads where this one reads its rows row .. row + rows. */
INLINE void fetch_ahead(const product *p, size_t row, size_t rows) {
  if (p->rows_ahead)
    for (size_t run = 0; run < p->runs; run++)
      for (size_t x = 0; x < rows * p->row_stride; x += 16) prefetch(p->run[run] + p->rows_ahead + row * p->row_stride + x);
  if (p->init_ahead)
    for (size_t x = 0; x < rows * p->init_stride; x += 16) prefetch(p->init + p->init_ahead + row * p->init_stride + x);
}

/* Rows `from` to `to`, whose tiles take 2^width blocks where so many are left. */
static void multiply_rows(const product *p, size_t from, size_t to, int width) {
  const size_t blocks = p->weights->blocks, block_floats = p->weights->depth * BLOCK;
  for (size_t block = 0; block < blocks;) {
    int w = width;
    while (blocks - block < (size_t)1 << w) w--;
    for (size_t row = from; row < to;) {
      const size_t left = p->rows - row, rows = left < 2 * TILE_ROWS ? NEXT[left] : TILE_ROWS;
      if (block == 0) fetch_ahead(p, row, rows);
      TILE[w][rows](p, p->weights->packed + block * block_floats, row, block * BLOCK);
      row += rows;
    }
    block += (size_t)1 << w;
  }
}

/* Tiles of equal width go through one block of weights after the other, so that it stays in the nearest cache. */
static void multiply(const product *p) {
  size_t from = 0, row = 0;
  int width = 0;
  while (row < p->rows) {
    const size_t left = p->rows - row, rows = left < 2 * TILE_ROWS ? NEXT[left] : TILE_ROWS;
    int w = WIDTHS - 1;
    while (rows > MOST[w]) w--;
    if (w != width) {
      if (row > from) multiply_rows(p, from, row, width);
      from = row;
      width = w;
    }
    row += rows;
  }
  multiply_rows(p, from, row, width);
}
#endif
