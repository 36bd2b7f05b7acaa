/* The noise contract of gpcnn_deploy.noise: image k of seed s is drawn with its own stream of uniforms. */
#include "gpcnn.h"

/* Philox 4x64-10 (Salmon et al. 2011): ten rounds over a counter of four words, with a key of two. */
static void philox(uint64_t block, uint64_t seed, uint64_t image, uint64_t out[4]) {
  uint64_t x[4] = {block, 0, 0, 0}, key[2] = {seed, image};
  for (int round = 0; round < 10; round++) {
    uint64_t product[2][2]; /* [of word 0, of word 2][high, low] */
    static const uint64_t multiplier[2] = {0xD2E7470EE14C6C93u, 0xCA5A826395121157u};
    for (int i = 0; i < 2; i++) {
      const uint64_t a = multiplier[i], b = x[2 * i], mask = 0xFFFFFFFFu;
      const uint64_t low = (a & mask) * (b & mask), middle = (a >> 32) * (b & mask) + (low >> 32);
      const uint64_t other = (a & mask) * (b >> 32) + (middle & mask);
      product[i][0] = (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
      product[i][1] = (other << 32) | (low & mask);
    }
    const uint64_t next[4] = {product[1][0] ^ x[1] ^ key[0], product[1][1], product[0][0] ^ x[3] ^ key[1], product[0][1]};
    for (int i = 0; i < 4; i++) x[i] = next[i];
    key[0] += 0x9E3779B97F4A7C15u; /* the golden ratio */
    key[1] += 0xBB67AE8584CAA73Bu; /* √3 - 1 */
  }
  for (int i = 0; i < 4; i++) out[i] = x[i];
}

gpcnn_status gpcnn_noise(const gpcnn_spec *spec, uint64_t seed, uint64_t first, uint32_t count, float *noise) {
  if (!spec || (count && !noise) || first > UINT64_MAX - count) return GPCNN_BAD_ARGUMENT;
  const size_t channels = spec->channels, pixels = (size_t)spec->height * spec->width;
  for (uint32_t image = 0; image < count; image++) {
    float *out = noise + (size_t)image * channels * pixels;
    uint64_t words[4];
    for (size_t i = 0; i < channels * pixels; i++) { /* raster order: pixel by pixel, channel by channel */
      /* NumPy counts blocks from 1, and takes the lower half of each word first. Of 32 bits, the upper 24 are used. */
      if (i % 8 == 0) philox(i / 8 + 1, seed, first + image, words);
      const uint32_t bits = (uint32_t)(words[i % 8 / 2] >> (i % 2 ? 32 : 0));
      out[i % channels * pixels + i / channels] = (float)(bits >> 8) * (1.0f / 16777216.0f);
    }
  }
  return GPCNN_OK;
}
