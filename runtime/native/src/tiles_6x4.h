/* Written by tiles.py: register tiles of up to 6 rows × 4 vectors. Do not edit. */
enum { VECTORS = 4, BLOCK = VECTORS * LANES, TILE_ROWS = 6 };
static void tile_1x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec s0 = splat(a0[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
}
static void tile_2x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec s0 = splat(a0[k]);
        vec s1 = splat(a1[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        c1_0 = multiply_add(s1, b0, c1_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        c1_1 = multiply_add(s1, b1, c1_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        c1_2 = multiply_add(s1, b2, c1_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        c1_3 = multiply_add(s1, b3, c1_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
}
static void tile_3x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  const float *i2 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES);
  vec c2_0 = load(i2 + 0 * LANES), c2_1 = load(i2 + 1 * LANES), c2_2 = load(i2 + 2 * LANES), c2_3 = load(i2 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      const float *a2 = a1 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec s0 = splat(a0[k]);
        vec s1 = splat(a1[k]);
        vec s2 = splat(a2[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        c1_0 = multiply_add(s1, b0, c1_0);
        c2_0 = multiply_add(s2, b0, c2_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        c1_1 = multiply_add(s1, b1, c1_1);
        c2_1 = multiply_add(s2, b1, c2_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        c1_2 = multiply_add(s1, b2, c1_2);
        c2_2 = multiply_add(s2, b2, c2_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        c1_3 = multiply_add(s1, b3, c1_3);
        c2_3 = multiply_add(s2, b3, c2_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  out += p->out_stride;
  store(out + 0 * LANES, c2_0);
  store(out + 1 * LANES, c2_1);
  store(out + 2 * LANES, c2_2);
  store(out + 3 * LANES, c2_3);
}
static void tile_4x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  const float *i2 = next_init(p, &phase, column);
  const float *i3 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES);
  vec c2_0 = load(i2 + 0 * LANES), c2_1 = load(i2 + 1 * LANES), c2_2 = load(i2 + 2 * LANES), c2_3 = load(i2 + 3 * LANES);
  vec c3_0 = load(i3 + 0 * LANES), c3_1 = load(i3 + 1 * LANES), c3_2 = load(i3 + 2 * LANES), c3_3 = load(i3 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      const float *a2 = a1 + stride;
      const float *a3 = a2 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec b0 = load(w0 + 0 * LANES);
        vec b1 = load(w0 + 1 * LANES);
        vec b2 = load(w0 + 2 * LANES);
        vec b3 = load(w0 + 3 * LANES);
        vec s0 = splat(a0[k]);
        c0_0 = multiply_add(s0, b0, c0_0);
        c0_1 = multiply_add(s0, b1, c0_1);
        c0_2 = multiply_add(s0, b2, c0_2);
        c0_3 = multiply_add(s0, b3, c0_3);
        vec s1 = splat(a1[k]);
        c1_0 = multiply_add(s1, b0, c1_0);
        c1_1 = multiply_add(s1, b1, c1_1);
        c1_2 = multiply_add(s1, b2, c1_2);
        c1_3 = multiply_add(s1, b3, c1_3);
        vec s2 = splat(a2[k]);
        c2_0 = multiply_add(s2, b0, c2_0);
        c2_1 = multiply_add(s2, b1, c2_1);
        c2_2 = multiply_add(s2, b2, c2_2);
        c2_3 = multiply_add(s2, b3, c2_3);
        vec s3 = splat(a3[k]);
        c3_0 = multiply_add(s3, b0, c3_0);
        c3_1 = multiply_add(s3, b1, c3_1);
        c3_2 = multiply_add(s3, b2, c3_2);
        c3_3 = multiply_add(s3, b3, c3_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  out += p->out_stride;
  store(out + 0 * LANES, c2_0);
  store(out + 1 * LANES, c2_1);
  store(out + 2 * LANES, c2_2);
  store(out + 3 * LANES, c2_3);
  out += p->out_stride;
  store(out + 0 * LANES, c3_0);
  store(out + 1 * LANES, c3_1);
  store(out + 2 * LANES, c3_2);
  store(out + 3 * LANES, c3_3);
}
static void tile_5x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  const float *i2 = next_init(p, &phase, column);
  const float *i3 = next_init(p, &phase, column);
  const float *i4 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES);
  vec c2_0 = load(i2 + 0 * LANES), c2_1 = load(i2 + 1 * LANES), c2_2 = load(i2 + 2 * LANES), c2_3 = load(i2 + 3 * LANES);
  vec c3_0 = load(i3 + 0 * LANES), c3_1 = load(i3 + 1 * LANES), c3_2 = load(i3 + 2 * LANES), c3_3 = load(i3 + 3 * LANES);
  vec c4_0 = load(i4 + 0 * LANES), c4_1 = load(i4 + 1 * LANES), c4_2 = load(i4 + 2 * LANES), c4_3 = load(i4 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      const float *a2 = a1 + stride;
      const float *a3 = a2 + stride;
      const float *a4 = a3 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec b0 = load(w0 + 0 * LANES);
        vec b1 = load(w0 + 1 * LANES);
        vec b2 = load(w0 + 2 * LANES);
        vec b3 = load(w0 + 3 * LANES);
        vec s0 = splat(a0[k]);
        c0_0 = multiply_add(s0, b0, c0_0);
        c0_1 = multiply_add(s0, b1, c0_1);
        c0_2 = multiply_add(s0, b2, c0_2);
        c0_3 = multiply_add(s0, b3, c0_3);
        vec s1 = splat(a1[k]);
        c1_0 = multiply_add(s1, b0, c1_0);
        c1_1 = multiply_add(s1, b1, c1_1);
        c1_2 = multiply_add(s1, b2, c1_2);
        c1_3 = multiply_add(s1, b3, c1_3);
        vec s2 = splat(a2[k]);
        c2_0 = multiply_add(s2, b0, c2_0);
        c2_1 = multiply_add(s2, b1, c2_1);
        c2_2 = multiply_add(s2, b2, c2_2);
        c2_3 = multiply_add(s2, b3, c2_3);
        vec s3 = splat(a3[k]);
        c3_0 = multiply_add(s3, b0, c3_0);
        c3_1 = multiply_add(s3, b1, c3_1);
        c3_2 = multiply_add(s3, b2, c3_2);
        c3_3 = multiply_add(s3, b3, c3_3);
        vec s4 = splat(a4[k]);
        c4_0 = multiply_add(s4, b0, c4_0);
        c4_1 = multiply_add(s4, b1, c4_1);
        c4_2 = multiply_add(s4, b2, c4_2);
        c4_3 = multiply_add(s4, b3, c4_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  out += p->out_stride;
  store(out + 0 * LANES, c2_0);
  store(out + 1 * LANES, c2_1);
  store(out + 2 * LANES, c2_2);
  store(out + 3 * LANES, c2_3);
  out += p->out_stride;
  store(out + 0 * LANES, c3_0);
  store(out + 1 * LANES, c3_1);
  store(out + 2 * LANES, c3_2);
  store(out + 3 * LANES, c3_3);
  out += p->out_stride;
  store(out + 0 * LANES, c4_0);
  store(out + 1 * LANES, c4_1);
  store(out + 2 * LANES, c4_2);
  store(out + 3 * LANES, c4_3);
}
static void tile_6x1(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  const float *i2 = next_init(p, &phase, column);
  const float *i3 = next_init(p, &phase, column);
  const float *i4 = next_init(p, &phase, column);
  const float *i5 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES);
  vec c2_0 = load(i2 + 0 * LANES), c2_1 = load(i2 + 1 * LANES), c2_2 = load(i2 + 2 * LANES), c2_3 = load(i2 + 3 * LANES);
  vec c3_0 = load(i3 + 0 * LANES), c3_1 = load(i3 + 1 * LANES), c3_2 = load(i3 + 2 * LANES), c3_3 = load(i3 + 3 * LANES);
  vec c4_0 = load(i4 + 0 * LANES), c4_1 = load(i4 + 1 * LANES), c4_2 = load(i4 + 2 * LANES), c4_3 = load(i4 + 3 * LANES);
  vec c5_0 = load(i5 + 0 * LANES), c5_1 = load(i5 + 1 * LANES), c5_2 = load(i5 + 2 * LANES), c5_3 = load(i5 + 3 * LANES);
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      const float *a2 = a1 + stride;
      const float *a3 = a2 + stride;
      const float *a4 = a3 + stride;
      const float *a5 = a4 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        prefetch(w0 + AHEAD * BLOCK);
        vec b0 = load(w0 + 0 * LANES);
        vec b1 = load(w0 + 1 * LANES);
        vec b2 = load(w0 + 2 * LANES);
        vec b3 = load(w0 + 3 * LANES);
        vec s0 = splat(a0[k]);
        c0_0 = multiply_add(s0, b0, c0_0);
        c0_1 = multiply_add(s0, b1, c0_1);
        c0_2 = multiply_add(s0, b2, c0_2);
        c0_3 = multiply_add(s0, b3, c0_3);
        vec s1 = splat(a1[k]);
        c1_0 = multiply_add(s1, b0, c1_0);
        c1_1 = multiply_add(s1, b1, c1_1);
        c1_2 = multiply_add(s1, b2, c1_2);
        c1_3 = multiply_add(s1, b3, c1_3);
        vec s2 = splat(a2[k]);
        c2_0 = multiply_add(s2, b0, c2_0);
        c2_1 = multiply_add(s2, b1, c2_1);
        c2_2 = multiply_add(s2, b2, c2_2);
        c2_3 = multiply_add(s2, b3, c2_3);
        vec s3 = splat(a3[k]);
        c3_0 = multiply_add(s3, b0, c3_0);
        c3_1 = multiply_add(s3, b1, c3_1);
        c3_2 = multiply_add(s3, b2, c3_2);
        c3_3 = multiply_add(s3, b3, c3_3);
        vec s4 = splat(a4[k]);
        c4_0 = multiply_add(s4, b0, c4_0);
        c4_1 = multiply_add(s4, b1, c4_1);
        c4_2 = multiply_add(s4, b2, c4_2);
        c4_3 = multiply_add(s4, b3, c4_3);
        vec s5 = splat(a5[k]);
        c5_0 = multiply_add(s5, b0, c5_0);
        c5_1 = multiply_add(s5, b1, c5_1);
        c5_2 = multiply_add(s5, b2, c5_2);
        c5_3 = multiply_add(s5, b3, c5_3);
        w0 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  out += p->out_stride;
  store(out + 0 * LANES, c2_0);
  store(out + 1 * LANES, c2_1);
  store(out + 2 * LANES, c2_2);
  store(out + 3 * LANES, c2_3);
  out += p->out_stride;
  store(out + 0 * LANES, c3_0);
  store(out + 1 * LANES, c3_1);
  store(out + 2 * LANES, c3_2);
  store(out + 3 * LANES, c3_3);
  out += p->out_stride;
  store(out + 0 * LANES, c4_0);
  store(out + 1 * LANES, c4_1);
  store(out + 2 * LANES, c4_2);
  store(out + 3 * LANES, c4_3);
  out += p->out_stride;
  store(out + 0 * LANES, c5_0);
  store(out + 1 * LANES, c5_1);
  store(out + 2 * LANES, c5_2);
  store(out + 3 * LANES, c5_3);
}
static void tile_1x2(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES), c0_4 = load(i0 + 4 * LANES), c0_5 = load(i0 + 5 * LANES), c0_6 = load(i0 + 6 * LANES), c0_7 = load(i0 + 7 * LANES);
  const float *w1 = w0 + p->weights->depth * BLOCK;
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      for (size_t k = 0; k < p->depth; k++) {
        vec s0 = splat(a0[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        vec b4 = load(w1 + 0 * LANES);
        c0_4 = multiply_add(s0, b4, c0_4);
        vec b5 = load(w1 + 1 * LANES);
        c0_5 = multiply_add(s0, b5, c0_5);
        vec b6 = load(w1 + 2 * LANES);
        c0_6 = multiply_add(s0, b6, c0_6);
        vec b7 = load(w1 + 3 * LANES);
        c0_7 = multiply_add(s0, b7, c0_7);
        w0 += BLOCK;
        w1 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  store(out + 4 * LANES, c0_4);
  store(out + 5 * LANES, c0_5);
  store(out + 6 * LANES, c0_6);
  store(out + 7 * LANES, c0_7);
}
static void tile_2x2(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES), c0_4 = load(i0 + 4 * LANES), c0_5 = load(i0 + 5 * LANES), c0_6 = load(i0 + 6 * LANES), c0_7 = load(i0 + 7 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES), c1_4 = load(i1 + 4 * LANES), c1_5 = load(i1 + 5 * LANES), c1_6 = load(i1 + 6 * LANES), c1_7 = load(i1 + 7 * LANES);
  const float *w1 = w0 + p->weights->depth * BLOCK;
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        vec s0 = splat(a0[k]);
        vec s1 = splat(a1[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        c1_0 = multiply_add(s1, b0, c1_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        c1_1 = multiply_add(s1, b1, c1_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        c1_2 = multiply_add(s1, b2, c1_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        c1_3 = multiply_add(s1, b3, c1_3);
        vec b4 = load(w1 + 0 * LANES);
        c0_4 = multiply_add(s0, b4, c0_4);
        c1_4 = multiply_add(s1, b4, c1_4);
        vec b5 = load(w1 + 1 * LANES);
        c0_5 = multiply_add(s0, b5, c0_5);
        c1_5 = multiply_add(s1, b5, c1_5);
        vec b6 = load(w1 + 2 * LANES);
        c0_6 = multiply_add(s0, b6, c0_6);
        c1_6 = multiply_add(s1, b6, c1_6);
        vec b7 = load(w1 + 3 * LANES);
        c0_7 = multiply_add(s0, b7, c0_7);
        c1_7 = multiply_add(s1, b7, c1_7);
        w0 += BLOCK;
        w1 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  store(out + 4 * LANES, c0_4);
  store(out + 5 * LANES, c0_5);
  store(out + 6 * LANES, c0_6);
  store(out + 7 * LANES, c0_7);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  store(out + 4 * LANES, c1_4);
  store(out + 5 * LANES, c1_5);
  store(out + 6 * LANES, c1_6);
  store(out + 7 * LANES, c1_7);
}
static void tile_3x2(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  const float *i1 = next_init(p, &phase, column);
  const float *i2 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES), c0_4 = load(i0 + 4 * LANES), c0_5 = load(i0 + 5 * LANES), c0_6 = load(i0 + 6 * LANES), c0_7 = load(i0 + 7 * LANES);
  vec c1_0 = load(i1 + 0 * LANES), c1_1 = load(i1 + 1 * LANES), c1_2 = load(i1 + 2 * LANES), c1_3 = load(i1 + 3 * LANES), c1_4 = load(i1 + 4 * LANES), c1_5 = load(i1 + 5 * LANES), c1_6 = load(i1 + 6 * LANES), c1_7 = load(i1 + 7 * LANES);
  vec c2_0 = load(i2 + 0 * LANES), c2_1 = load(i2 + 1 * LANES), c2_2 = load(i2 + 2 * LANES), c2_3 = load(i2 + 3 * LANES), c2_4 = load(i2 + 4 * LANES), c2_5 = load(i2 + 5 * LANES), c2_6 = load(i2 + 6 * LANES), c2_7 = load(i2 + 7 * LANES);
  const float *w1 = w0 + p->weights->depth * BLOCK;
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      const float *a1 = a0 + stride;
      const float *a2 = a1 + stride;
      for (size_t k = 0; k < p->depth; k++) {
        vec s0 = splat(a0[k]);
        vec s1 = splat(a1[k]);
        vec s2 = splat(a2[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        c1_0 = multiply_add(s1, b0, c1_0);
        c2_0 = multiply_add(s2, b0, c2_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        c1_1 = multiply_add(s1, b1, c1_1);
        c2_1 = multiply_add(s2, b1, c2_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        c1_2 = multiply_add(s1, b2, c1_2);
        c2_2 = multiply_add(s2, b2, c2_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        c1_3 = multiply_add(s1, b3, c1_3);
        c2_3 = multiply_add(s2, b3, c2_3);
        vec b4 = load(w1 + 0 * LANES);
        c0_4 = multiply_add(s0, b4, c0_4);
        c1_4 = multiply_add(s1, b4, c1_4);
        c2_4 = multiply_add(s2, b4, c2_4);
        vec b5 = load(w1 + 1 * LANES);
        c0_5 = multiply_add(s0, b5, c0_5);
        c1_5 = multiply_add(s1, b5, c1_5);
        c2_5 = multiply_add(s2, b5, c2_5);
        vec b6 = load(w1 + 2 * LANES);
        c0_6 = multiply_add(s0, b6, c0_6);
        c1_6 = multiply_add(s1, b6, c1_6);
        c2_6 = multiply_add(s2, b6, c2_6);
        vec b7 = load(w1 + 3 * LANES);
        c0_7 = multiply_add(s0, b7, c0_7);
        c1_7 = multiply_add(s1, b7, c1_7);
        c2_7 = multiply_add(s2, b7, c2_7);
        w0 += BLOCK;
        w1 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  store(out + 4 * LANES, c0_4);
  store(out + 5 * LANES, c0_5);
  store(out + 6 * LANES, c0_6);
  store(out + 7 * LANES, c0_7);
  out += p->out_stride;
  store(out + 0 * LANES, c1_0);
  store(out + 1 * LANES, c1_1);
  store(out + 2 * LANES, c1_2);
  store(out + 3 * LANES, c1_3);
  store(out + 4 * LANES, c1_4);
  store(out + 5 * LANES, c1_5);
  store(out + 6 * LANES, c1_6);
  store(out + 7 * LANES, c1_7);
  out += p->out_stride;
  store(out + 0 * LANES, c2_0);
  store(out + 1 * LANES, c2_1);
  store(out + 2 * LANES, c2_2);
  store(out + 3 * LANES, c2_3);
  store(out + 4 * LANES, c2_4);
  store(out + 5 * LANES, c2_5);
  store(out + 6 * LANES, c2_6);
  store(out + 7 * LANES, c2_7);
}
static void tile_1x4(const product *p, const float *w0, size_t row, size_t column) {
  size_t phase = first_phase(p, row);
  const float *i0 = next_init(p, &phase, column);
  vec c0_0 = load(i0 + 0 * LANES), c0_1 = load(i0 + 1 * LANES), c0_2 = load(i0 + 2 * LANES), c0_3 = load(i0 + 3 * LANES), c0_4 = load(i0 + 4 * LANES), c0_5 = load(i0 + 5 * LANES), c0_6 = load(i0 + 6 * LANES), c0_7 = load(i0 + 7 * LANES), c0_8 = load(i0 + 8 * LANES), c0_9 = load(i0 + 9 * LANES), c0_10 = load(i0 + 10 * LANES), c0_11 = load(i0 + 11 * LANES), c0_12 = load(i0 + 12 * LANES), c0_13 = load(i0 + 13 * LANES), c0_14 = load(i0 + 14 * LANES), c0_15 = load(i0 + 15 * LANES);
  const float *w1 = w0 + p->weights->depth * BLOCK;
  const float *w2 = w1 + p->weights->depth * BLOCK;
  const float *w3 = w2 + p->weights->depth * BLOCK;
  const size_t stride = p->row_stride;
  for (size_t run = 0; run < p->runs; run++)
    for (size_t tap = 0; tap < p->taps; tap++) {
      const float *a0 = p->run[run] + tap * p->tap_stride + row * stride;
      for (size_t k = 0; k < p->depth; k++) {
        vec s0 = splat(a0[k]);
        vec b0 = load(w0 + 0 * LANES);
        c0_0 = multiply_add(s0, b0, c0_0);
        vec b1 = load(w0 + 1 * LANES);
        c0_1 = multiply_add(s0, b1, c0_1);
        vec b2 = load(w0 + 2 * LANES);
        c0_2 = multiply_add(s0, b2, c0_2);
        vec b3 = load(w0 + 3 * LANES);
        c0_3 = multiply_add(s0, b3, c0_3);
        vec b4 = load(w1 + 0 * LANES);
        c0_4 = multiply_add(s0, b4, c0_4);
        vec b5 = load(w1 + 1 * LANES);
        c0_5 = multiply_add(s0, b5, c0_5);
        vec b6 = load(w1 + 2 * LANES);
        c0_6 = multiply_add(s0, b6, c0_6);
        vec b7 = load(w1 + 3 * LANES);
        c0_7 = multiply_add(s0, b7, c0_7);
        vec b8 = load(w2 + 0 * LANES);
        c0_8 = multiply_add(s0, b8, c0_8);
        vec b9 = load(w2 + 1 * LANES);
        c0_9 = multiply_add(s0, b9, c0_9);
        vec b10 = load(w2 + 2 * LANES);
        c0_10 = multiply_add(s0, b10, c0_10);
        vec b11 = load(w2 + 3 * LANES);
        c0_11 = multiply_add(s0, b11, c0_11);
        vec b12 = load(w3 + 0 * LANES);
        c0_12 = multiply_add(s0, b12, c0_12);
        vec b13 = load(w3 + 1 * LANES);
        c0_13 = multiply_add(s0, b13, c0_13);
        vec b14 = load(w3 + 2 * LANES);
        c0_14 = multiply_add(s0, b14, c0_14);
        vec b15 = load(w3 + 3 * LANES);
        c0_15 = multiply_add(s0, b15, c0_15);
        w0 += BLOCK;
        w1 += BLOCK;
        w2 += BLOCK;
        w3 += BLOCK;
      }
    }
  float *out = p->out + row * p->out_stride + column;
  store(out + 0 * LANES, c0_0);
  store(out + 1 * LANES, c0_1);
  store(out + 2 * LANES, c0_2);
  store(out + 3 * LANES, c0_3);
  store(out + 4 * LANES, c0_4);
  store(out + 5 * LANES, c0_5);
  store(out + 6 * LANES, c0_6);
  store(out + 7 * LANES, c0_7);
  store(out + 8 * LANES, c0_8);
  store(out + 9 * LANES, c0_9);
  store(out + 10 * LANES, c0_10);
  store(out + 11 * LANES, c0_11);
  store(out + 12 * LANES, c0_12);
  store(out + 13 * LANES, c0_13);
  store(out + 14 * LANES, c0_14);
  store(out + 15 * LANES, c0_15);
}
typedef void tile_function(const product *, const float *, size_t row, size_t column);
/* [log2 of the blocks][rows] */
enum { WIDTHS = 3 };
static tile_function *const TILE[WIDTHS][TILE_ROWS + 1] = {
    {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1},
    {NULL, tile_1x2, tile_2x2, tile_3x2},
    {NULL, tile_1x4},
};
/* Most rows of a tile that takes so many blocks. */
static const unsigned char MOST[WIDTHS] = {6, 3, 1};
/* Rows of the next tile when so many rows are left. */
static const unsigned char NEXT[] = {0, 1, 2, 3, 4, 5, 6, 5, 6, 6, 6, 6};
