/* Draws with the models of models.h and prints hashes of what comes out, for comparison between machines.
 *
 * Four lines a model: windows chosen by the library, then the whole row; each as the CPU computes best, then reproducibly.
 * A line is the hash of the images and that of their log-probabilities, bit for bit, and what the CPU computed with. Image
 * i has label i modulo the number of labels; an embedding, or a map, is the beginning of the noise of image i of the
 * next seed, of categories times their number and rounded down. */
#include "gpcnn.h"
#include "linux.h"
#include "models.h" /* SEED, IMAGES, MOST_SUBPIXELS, MODELS: {bytes, size} */

enum { MEMORY = 1 << 24, SUBPIXELS = IMAGES * MOST_SUBPIXELS };

static _Alignas(GPCNN_ALIGNMENT) unsigned char memory[MEMORY], workspace[MEMORY];
static float noise[SUBPIXELS], other[SUBPIXELS], embedding[SUBPIXELS], map[SUBPIXELS], log_prob[SUBPIXELS];
static int32_t image[SUBPIXELS], label[IMAGES];

static void check(gpcnn_status status) {
  if (status == GPCNN_OK) return;
  say(gpcnn_status_text(status));
  say("\n");
  leave(1);
}

static void say_hash(uint64_t hash) {
  char text[18] = {0};
  for (int i = 0; i < 16; i++) text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
  text[16] = ' ';
  say(text);
}

static uint64_t add(uint64_t hash, uint32_t word) { /* FNV-1a of 4 bytes, the lowest first */
  for (int byte = 0; byte < 4; byte++) hash = (hash ^ (word >> 8 * byte & 255)) * 1099511628211ull;
  return hash;
}

static void draw(const gpcnn_model *model, uint32_t window) {
  const gpcnn_spec *spec = gpcnn_model_spec(model);
  const size_t one = (size_t)spec->channels * spec->height * spec->width, length = spec->conditioning_size;
  check(gpcnn_noise(spec, SEED, 0, IMAGES, noise));
  check(gpcnn_noise(spec, SEED + 1, 0, IMAGES, other));
  for (size_t i = 0; i < IMAGES; i++) {
    if (spec->conditioning == GPCNN_LABEL) label[i] = (int32_t)(i % length);
    if (spec->conditioning == GPCNN_EMBEDDING)
      for (size_t e = 0; e < length; e++) embedding[i * length + e] = other[i * one + e];
    if (spec->conditioning != GPCNN_MAP) continue;
    const size_t numbers = length * spec->map_height * spec->map_width;
    for (size_t e = 0; e < numbers; e++) {
      const float u = other[i * one + e];
      map[i * numbers + e] = spec->map_categories ? (float)(int32_t)(u * (float)spec->map_categories) : u;
    }
  }
  gpcnn_request request = {0};
  request.images = IMAGES, request.window = window, request.noise = noise;
  request.label = label, request.embedding = embedding, request.map = map, request.image = image, request.log_prob = log_prob;
  check(gpcnn_draw(model, &request, workspace, sizeof workspace));
  uint64_t images = 14695981039346656037ull, log_probs = images;
  for (size_t i = 0; i < IMAGES * one; i++) {
    const union { float f; uint32_t u; } bits = {log_prob[i]};
    images = add(images, (uint32_t)image[i]);
    log_probs = add(log_probs, bits.u);
  }
  say_hash(images);
  say_hash(log_probs);
  say(gpcnn_model_instructions(model));
  say("\n");
}

static void run(void) {
  for (size_t m = 0; m < sizeof MODELS / sizeof *MODELS; m++)
    for (uint32_t wide = 0; wide < 2; wide++)
      for (uint32_t reproducible = 0; reproducible < 2; reproducible++) {
        const gpcnn_options options = {reproducible, 0};
        gpcnn_model *model;
        check(gpcnn_load_with(&options, MODELS[m].bytes, MODELS[m].size, memory, sizeof memory, &model));
        draw(model, wide ? gpcnn_model_spec(model)->width : 0);
      }
}
