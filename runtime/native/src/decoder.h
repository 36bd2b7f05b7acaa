/* The decoder of a VQ-VAE: a grid of codes becomes a picture. The network is that of gpcnn_training/vqvae_network.py.
 *
 * Features of h × w places lie as [h + 2][w + 2][F'], with a border of zeros, so that the taps of a convolution are
 * contiguous runs of places, and one product computes all places. It computes the border's columns, too, which are made
 * zero again. A transposed 4×4 convolution of stride 2 is four convolutions 2×2, one for each parity of row and column.
 *
 * Of two levels of codes, a place of the bottom codes has the vector that top_up makes of the top codes, then its own. */
#ifndef GPCNN_DECODER_H
#define GPCNN_DECODER_H
#include "arena.h"
#include "pictures.h"
#include "product.h"

enum { MAX_HALVINGS = 4 };

typedef struct affine {
  matrix weights;
  float *bias; /* padded as the outputs are */
} affine;

typedef struct residual {
  affine wide, out;
} residual;

typedef struct decoder {
  gpcnn_decoder head;  /* first: what gpcnn_pictures.h calls a decoder */
  size_t halvings, h, w, vector, features; /* D' and F' */
  size_t inputs, top;  /* numbers that `first` reads of a place; codes of the top level, or 0 */
  float *codebook;     /* [K][D'] */
  float *top_codebook; /* of two levels, as the next one */
  affine top_up[4];    /* by parity: k = (row, tap, number of the vector) */
  affine first;        /* k = (row, tap, number of the vector) */
  residual *blocks;    /* wide: k = (row, tap, feature); out: k = feature */
  affine up[MAX_HALVINGS][4]; /* by parity of row and column: k = (row, tap, feature) */
  size_t outputs[MAX_HALVINGS]; /* padded outputs of each doubling */
} decoder;

INLINE affine take_affine(arena *from, size_t outputs, size_t depth) {
  const size_t blocks = (outputs + BLOCK - 1) / BLOCK;
  affine taken = {{arena_floats(from, blocks, depth, BLOCK, 1), blocks, depth}, 0};
  taken.bias = arena_floats(from, padded(outputs), 1, 1, 1);
  return taken;
}

/* Lays the decoder out: its sizes and, if the arenas have memory, its pointers. Weights are taken `from` an arena of
 * their own if they are packed beforehand, else from that of the structs. */
static SMALL void lay_out_decoder(decoder *d, const gpcnn_pictures *spec, arena *structs, arena *from) {
  const size_t f = spec->features;
  d->head.spec = *spec;
  d->halvings = 0;
  for (uint32_t x = spec->downsample; x > 1; x /= 2) d->halvings++;
  d->h = spec->height / spec->downsample, d->w = spec->width / spec->downsample;
  d->vector = padded(spec->code_size), d->features = padded(f);
  const int two = spec->code_levels == 2;
  d->inputs = two ? 2 * d->vector : spec->code_size, d->top = two ? d->h / 2 * (d->w / 2) : 0;
  d->codebook = arena_floats(from, spec->codes, d->vector, 1, 1);
  d->top_codebook = two ? arena_floats(from, spec->codes, d->vector, 1, 1) : 0;
  for (size_t parity = 0; two && parity < 4; parity++)
    d->top_up[parity] = take_affine(from, spec->code_size, 4 * (size_t)spec->code_size);
  d->first = take_affine(from, f, 9 * d->inputs);
  d->blocks = (residual *)arena_take(structs, sizeof(residual), spec->blocks ? spec->blocks : 1, 1, 1, 1);
  for (size_t b = 0; b < spec->blocks; b++) {
    const residual taken = {take_affine(from, f, 9 * f), take_affine(from, f, f)};
    if (d->blocks) d->blocks[b] = taken;
  }
  for (size_t u = 0; u < d->halvings; u++) {
    const size_t outputs = u + 1 < d->halvings ? f : spec->channels;
    d->outputs[u] = padded(outputs);
    for (size_t parity = 0; parity < 4; parity++) d->up[u][parity] = take_affine(from, outputs, 4 * f);
  }
}

static uint64_t decoder_bytes(const gpcnn_pictures *spec) {
  decoder d;
  arena from = {0};
  arena_take(&from, sizeof d, 1, 1, 1, 1);
  lay_out_decoder(&d, spec, &from, &from);
  return from.overflow ? 0 : from.used;
}

/* Bytes of packed weights, and of the structs that point into them: together they are a decoder. 0: they do not fit. */
static int packed_decoder_bytes(const gpcnn_pictures *spec, uint64_t *struct_bytes, uint64_t *weight_bytes) {
  decoder d;
  arena structs = {0}, weights = {0};
  arena_take(&structs, sizeof d, 1, 1, 1, 1);
  lay_out_decoder(&d, spec, &structs, &weights);
  *struct_bytes = structs.used;
  *weight_bytes = weights.used;
  return !structs.overflow && !weights.overflow;
}

/* A decoder whose weights were packed before and stay where they are: read-only memory will do. */
static gpcnn_status attach_decoder(const gpcnn_kernel *kernel, const gpcnn_packed_pictures *packed, void *memory,
                                   size_t memory_bytes, gpcnn_decoder **made) {
  uint64_t struct_bytes, weight_bytes;
  if (!packed_decoder_bytes(&packed->spec, &struct_bytes, &weight_bytes)) return GPCNN_BAD_SPEC;
  if (packed->bytes != weight_bytes) return GPCNN_BAD_ARGUMENT;
  if (memory_bytes < struct_bytes) return GPCNN_OUT_OF_MEMORY;
  arena structs = {memory, 0, 0}, weights = {(unsigned char *)(uintptr_t)packed->weights, 0, 0};
  decoder *d = arena_take(&structs, sizeof *d, 1, 1, 1, 1);
  lay_out_decoder(d, &packed->spec, &structs, &weights);
  d->head.kernel = kernel;
  *made = &d->head;
  return GPCNN_OK;
}

static void wipe(float *x, size_t floats) {
  for (size_t i = 0; i < floats; i += LANES) store(x + i, splat(0));
}

/* ---- packing ---- */

#if !GPCNN_PACKED_ONLY
INLINE void place(const matrix *m, size_t output, size_t k, float value) {
  m->packed[(output / BLOCK * m->depth + k) * BLOCK + output % BLOCK] = value;
}

/* [K, D] → [K][D']; returns what follows. */
static const float *pack_codebook(float *to, const float *from, size_t codes, size_t size) {
  for (size_t k = 0; k < codes; k++)
    for (size_t i = 0; i < size; i++) to[k * padded(size) + i] = *from++;
  return from;
}

/* [outputs, parts · inputs, size, size], then [outputs]; of several parts, each is padded. Returns what follows. */
static const float *pack_affine(affine *to, const float *from, size_t outputs, size_t inputs, size_t size, size_t parts) {
  const size_t stride = parts > 1 ? padded(inputs) : inputs;
  for (size_t o = 0; o < outputs; o++)
    for (size_t part = 0; part < parts; part++)
      for (size_t i = 0; i < inputs; i++)
        for (size_t x = 0; x < size * size; x++) place(&to->weights, o, (x * parts + part) * stride + i, *from++);
  for (size_t o = 0; o < outputs; o++) to->bias[o] = *from++;
  return from;
}

/* [inputs, outputs, 4, 4], then [outputs]: tap (a, b) of parity (y, x) is weight (3 - y - 2a, 3 - x - 2b). */
static const float *pack_up(affine up[4], const float *from, size_t inputs, size_t outputs) {
  for (size_t parity = 0; parity < 4; parity++)
    for (size_t a = 0; a < 2; a++)
      for (size_t b = 0; b < 2; b++)
        for (size_t i = 0; i < inputs; i++)
          for (size_t o = 0; o < outputs; o++)
            place(&up[parity].weights, o, (a * 2 + b) * inputs + i,
                  from[((i * outputs + o) * 4 + 3 - parity / 2 - 2 * a) * 4 + 3 - parity % 2 - 2 * b]);
  from += inputs * outputs * 16;
  for (size_t parity = 0; parity < 4; parity++)
    for (size_t o = 0; o < outputs; o++) up[parity].bias[o] = from[o];
  return from + outputs;
}

/* Fills a decoder that was laid out and is zero. */
static SELDOM void pack_decoder(decoder *d, const float *weights) {
  const gpcnn_pictures *spec = &d->head.spec;
  const size_t f = spec->features;
  weights = pack_codebook(d->codebook, weights, spec->codes, spec->code_size);
  if (d->top) {
    weights = pack_codebook(d->top_codebook, weights, spec->codes, spec->code_size);
    weights = pack_up(d->top_up, weights, spec->code_size, spec->code_size);
  }
  weights = pack_affine(&d->first, weights, f, spec->code_size, 3, spec->code_levels);
  for (size_t b = 0; b < spec->blocks; b++) {
    weights = pack_affine(&d->blocks[b].wide, weights, f, f, 3, 1);
    weights = pack_affine(&d->blocks[b].out, weights, f, f, 1, 1);
  }
  for (size_t u = 0; u < d->halvings; u++)
    weights = pack_up(d->up[u], weights, f, u + 1 < d->halvings ? f : spec->channels);
}

static SELDOM gpcnn_decoder *load_decoder(const gpcnn_kernel *kernel, const gpcnn_pictures *spec, const float *weights,
                                   void *memory) {
  wipe(memory, (size_t)decoder_bytes(spec) / sizeof(float));
  arena from = {memory, 0, 0};
  decoder *d = arena_take(&from, sizeof *d, 1, 1, 1, 1);
  lay_out_decoder(d, spec, &from, &from);
  d->head.kernel = kernel;
  pack_decoder(d, weights);
  return &d->head;
}
#endif

/* ---- decoding ---- */

/* Features of h × w places with their border. */
typedef struct plane {
  float *at;
  size_t h, w, stride;
} plane;

INLINE size_t plane_floats(const plane *p) { return (p->h + 2) * (p->w + 2) * p->stride; }
INLINE float *at_place(const plane *p, size_t row, size_t column) { return p->at + (row * (p->w + 2) + column) * p->stride; }

static plane take_plane(arena *from, size_t h, size_t w, size_t stride) {
  return (plane){arena_floats(from, h + 2, w + 2, stride, 1), h, w, stride};
}

typedef struct planes {
  plane top, vectors, x[MAX_HALVINGS + 1], relu[MAX_HALVINGS], hidden;
} planes;

static void lay_out_planes(planes *p, const decoder *d, arena *from) {
  if (d->top) p->top = take_plane(from, d->h / 2, d->w / 2, d->vector);
  p->vectors = take_plane(from, d->h, d->w, d->top ? 2 * d->vector : d->vector);
  p->hidden = take_plane(from, d->h, d->w, d->features);
  for (size_t u = 0; u <= d->halvings; u++) {
    const size_t stride = u ? d->outputs[u - 1] : d->features;
    p->x[u] = take_plane(from, d->h << u, d->w << u, stride);
    if (u < d->halvings) p->relu[u] = take_plane(from, d->h << u, d->w << u, stride);
  }
}

static size_t decoder_workspace_bytes(const gpcnn_decoder *head) {
  planes p;
  arena from = {0};
  lay_out_planes(&p, (const decoder *)head, &from);
  return from.overflow ? 0 : (size_t)from.used;
}

/* The left and right border's columns: rows 1 to h. */
static void clear_sides(const plane *p) {
  for (size_t row = 1; row <= p->h; row++) wipe(at_place(p, row, 0), p->stride), wipe(at_place(p, row, p->w + 1), p->stride);
}

static __attribute__((noinline)) void relu_plane(const plane *from, const plane *to) {
  const size_t floats = plane_floats(from);
  for (size_t i = 0; i < floats; i += LANES) store(to->at + i, larger(load(from->at + i), splat(0)));
}

/* A convolution of size 3 or 1 over all places; `init` NULL starts from the bias, else from those rows, bias added later. */
static __attribute__((noinline)) void convolve(const affine *by, const plane *from, size_t depth, size_t size,
                                               const plane *to, const float *init) {
  const size_t side = size / 2;
  const float *run[3];
  for (size_t r = 0; r < size; r++) run[r] = at_place(from, 1 - side + r, 1 - side);
  const size_t rows = from->h * (from->w + 2) - 2;
  const product p = {.weights = &by->weights, .run = run, .runs = size, .taps = size, .tap_stride = from->stride,
                     .depth = depth, .row_stride = from->stride, .init = init ? init : by->bias,
                     .init_period = init ? rows : 1, .init_stride = to->stride, .out = at_place(to, 1, 1), .rows = rows,
                     .out_stride = to->stride};
  multiply(&p);
}

static void add_bias(const plane *p, const float *bias) {
  float *x = at_place(p, 1, 1);
  const size_t rows = p->h * (p->w + 2) - 2;
  for (size_t r = 0; r < rows; r++, x += p->stride)
    for (size_t i = 0; i < p->stride; i += LANES) store(x + i, load(x + i) + load(bias + i));
}

/* Each place becomes 2×2. */
static __attribute__((noinline)) void double_plane(const affine up[4], const plane *from, size_t depth,
                                                   const plane *to) {
  for (size_t row = 0; row < from->h; row++)
    for (size_t parity = 0; parity < 4; parity++) {
      const size_t y = parity / 2, x = parity % 2;
      const float *const run[] = {at_place(from, row + y, x), at_place(from, row + y + 1, x)};
      const product p = {.weights = &up[parity].weights, .run = run, .runs = 2, .taps = 2, .tap_stride = from->stride,
                         .depth = depth, .row_stride = from->stride, .init = up[parity].bias, .init_period = 1,
                         .out = at_place(to, 2 * row + y + 1, x + 1), .rows = from->w, .out_stride = 2 * to->stride};
      multiply(&p);
    }
}

/* The vectors of codes, each behind the first `skip` numbers of its place. */
static void look_up(const float *codebook, size_t vector, const int32_t *codes, const plane *to, size_t skip) {
  for (size_t i = 0; i < to->h * to->w; i++) {
    float *at = at_place(to, i / to->w + 1, i % to->w + 1) + skip;
    const float *from = codebook + (size_t)codes[i] * vector;
    for (size_t x = 0; x < vector; x += LANES) store(at + x, load(from + x));
  }
}

/* -1 to 1 → 0 to 255, rounded to the nearest, of two the even one. */
INLINE uint8_t pixel_of(float x) {
  const float scaled = (x + 1) * 127.5f, cut = scaled > 0 ? scaled < 255 ? scaled : 255 : 0;
  const float shift = 8388608.0f; /* 2^23: the sum has no fraction */
  const float shifted = cut + shift;
  return (uint8_t)(shifted - shift);
}

static void decode(const gpcnn_decoder *head, uint32_t images, const int32_t *codes, uint8_t *pictures, void *workspace) {
  const decoder *d = (const decoder *)head;
  const gpcnn_pictures *spec = &d->head.spec;
  planes p;
  arena from = {workspace, 0, 0};
  lay_out_planes(&p, d, &from);
  wipe((float *)workspace, (size_t)from.used / sizeof(float));
  for (uint32_t image = 0; image < images; image++, codes += d->top + d->h * d->w) {
    if (d->top) {
      look_up(d->top_codebook, d->vector, codes, &p.top, 0);
      double_plane(d->top_up, &p.top, spec->code_size, &p.vectors);
    }
    look_up(d->codebook, d->vector, codes + d->top, &p.vectors, d->top ? d->vector : 0);
    const plane *x = &p.x[0];
    convolve(&d->first, &p.vectors, d->inputs, 3, x, 0);
    clear_sides(x);
    for (size_t b = 0; b < spec->blocks; b++) {
      relu_plane(x, &p.relu[0]);
      convolve(&d->blocks[b].wide, &p.relu[0], spec->features, 3, &p.hidden, 0);
      relu_plane(&p.hidden, &p.hidden);
      convolve(&d->blocks[b].out, &p.hidden, spec->features, 1, x, at_place(x, 1, 1));
      add_bias(x, d->blocks[b].out.bias);
      clear_sides(x);
    }
    for (size_t u = 0; u < d->halvings; u++) {
      relu_plane(&p.x[u], &p.relu[u]);
      double_plane(d->up[u], &p.relu[u], spec->features, &p.x[u + 1]);
    }
    const plane *end = &p.x[d->halvings];
    for (size_t c = 0; c < spec->channels; c++)
      for (size_t row = 0; row < end->h; row++)
        for (size_t column = 0; column < end->w; column++) *pictures++ = pixel_of(at_place(end, row + 1, column + 1)[c]);
  }
}
#endif
