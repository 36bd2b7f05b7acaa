/* Draws and completes with each model file named, on every instruction set of this CPU, in both classes of rounding, for
 * several batches and windows, in memory of exactly the size that was asked for: a sanitizer sees all that goes beyond.
 * All of it must agree. One line a file. */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpcnn.h"

enum { IMAGES = 9 };

static void require(int truth, const char *what) {
  if (truth) return;
  fprintf(stderr, "draw_all: %s\n", what);
  exit(1);
}

static void *exactly(size_t bytes) {
  void *memory = NULL;
  require(posix_memalign(&memory, GPCNN_ALIGNMENT, bytes ? bytes : 1) == 0, "memory");
  return memset(memory, 0xa5, bytes);
}

typedef struct results {
  int32_t *image;
  float *log_prob;
} results;

static results draw(const gpcnn_model *model, uint32_t images, uint32_t window, const results *known) {
  const gpcnn_spec *spec = gpcnn_model_spec(model);
  const size_t one = (size_t)spec->channels * spec->height * spec->width, all = images * one;
  const size_t need = gpcnn_workspace_bytes(model, images);
  const size_t numbers = images * (size_t)spec->conditioning_size * (spec->map_height ? spec->map_height * spec->map_width : 1);
  float *noise = exactly(4 * all), *given = exactly(4 * numbers);
  int32_t *label = exactly(4 * (size_t)images);
  unsigned char *mask = exactly(all);
  results out = {exactly(4 * all), exactly(4 * all)};
  uint64_t evaluations = 0;
  require(gpcnn_noise(spec, 1, 0, images, noise) == GPCNN_OK, "noise");
  for (uint32_t i = 0; i < images; i++) label[i] = (int32_t)(spec->conditioning_size ? i % spec->conditioning_size : 0);
  for (size_t e = 0; e < numbers; e++)
    given[e] = spec->map_categories ? (float)(e % spec->map_categories) : (float)(e % 7) / 4 - 1;
  for (size_t x = 0; x < all; x++) mask[x] = x % 3 == 0;
  gpcnn_request request = {0};
  request.images = images, request.window = window, request.noise = noise, request.image = out.image;
  request.log_prob = out.log_prob, request.evaluations = &evaluations;
  if (spec->conditioning == GPCNN_LABEL) request.label = label;
  if (spec->conditioning == GPCNN_EMBEDDING) request.embedding = given;
  if (spec->conditioning == GPCNN_MAP) request.map = given;
  if (known) request.known = known->image, request.mask = mask;
  void *workspace = exactly(need);
  require(gpcnn_draw(model, &request, workspace, need) == GPCNN_OK, "gpcnn_draw");
  require(evaluations > 0, "no evaluations");
  if (need > GPCNN_ALIGNMENT)
    require(gpcnn_draw(model, &request, workspace, need - 1) == GPCNN_OUT_OF_MEMORY, "a workspace too small is taken");
  free(workspace), free(noise), free(given), free(label), free(mask);
  return out;
}

static void same(const results *a, const results *b, size_t subpixels, int bits, const char *what) {
  require(memcmp(a->image, b->image, 4 * subpixels) == 0, what);
  if (bits) require(memcmp(a->log_prob, b->log_prob, 4 * subpixels) == 0, what);
}

static void release(results r) { free(r.image), free(r.log_prob); }

static void draw_all(const char *path) {
  FILE *stream = fopen(path, "rb");
  require(stream != NULL, path);
  fseek(stream, 0, SEEK_END);
  const size_t bytes = (size_t)ftell(stream);
  unsigned char *file = malloc(bytes);
  rewind(stream);
  require(fread(file, 1, bytes, stream) == bytes, path);
  fclose(stream);
  gpcnn_info info;
  require(gpcnn_inspect(file, bytes, &info) == GPCNN_OK, path);
  const size_t one = (size_t)info.spec.channels * info.spec.height * info.spec.width;
  results first[2] = {{0}};
  for (uint32_t set = 0; gpcnn_instruction_set(set); set++)
    for (uint32_t reproducible = 0; reproducible < 2; reproducible++) {
      const gpcnn_options options = {reproducible, gpcnn_instruction_set(set)};
      void *memory = exactly((size_t)info.model_bytes);
      gpcnn_model *model;
      require(gpcnn_load_with(&options, file, bytes, memory, (size_t)info.model_bytes, &model) == GPCNN_OK, "load");
      const int fused = strstr(gpcnn_model_instructions(model), "fused") != NULL;
      const uint32_t windows[] = {0, 1, info.spec.width > 1 ? 2 : 1, (info.spec.width + 1) / 2, info.spec.width};
      for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
        const uint32_t window = windows[w];
        results many = draw(model, IMAGES, window, NULL), few = draw(model, 1, window, NULL);
        same(&many, &few, one, 1, "the batch changes an image");
        if (!first[fused].image) first[fused] = many;
        same(&many, &first[fused], IMAGES * one, 1, "windows or instruction sets differ");
        results completed = draw(model, IMAGES, window, &first[fused]);
        same(&completed, &first[fused], IMAGES * one, 1, "an image completed is another one");
        release(completed), release(few);
        if (many.image != first[fused].image) release(many);
      }
      free(memory);
    }
  if (first[0].image && first[1].image) same(&first[0], &first[1], IMAGES * one, 0, "rounding changes an image");
  release(first[0]), release(first[1]);
  free(file);
  printf("%s\n", path);
}

int main(int count, char **paths) {
  for (int i = 1; i < count; i++) draw_all(paths[i]);
  return 0;
}
