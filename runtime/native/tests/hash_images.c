/* Draws with model files and prints hashes of what comes out, for comparison between machines.
 *
 *     hash_images SEED IMAGES WINDOW MODEL...
 *
 * One line a model: the hash of the images and that of their log-probabilities, bit for bit. Image i has label i modulo
 * the number of labels; an embedding is the beginning of the noise of image i of seed SEED + 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpcnn.h"

static void *allocate(size_t bytes) {
  char *block = calloc(1, bytes + 2 * GPCNN_ALIGNMENT);
  if (!block) exit(3);
  return block + (GPCNN_ALIGNMENT - (size_t)block % GPCNN_ALIGNMENT);
}

static void check(gpcnn_status status, const char *what) {
  if (status == GPCNN_OK) return;
  fprintf(stderr, "%s: %s\n", what, gpcnn_status_text(status));
  exit(2);
}

/* FNV-1a of 32-bit words, each as 4 bytes, the lowest first. */
static unsigned long long hash(const void *words, size_t count) {
  unsigned long long h = 14695981039346656037ull;
  for (size_t i = 0; i < count; i++) {
    uint32_t word;
    memcpy(&word, (const char *)words + 4 * i, 4);
    for (int byte = 0; byte < 4; byte++) h = (h ^ (word >> 8 * byte & 255)) * 1099511628211ull;
  }
  return h;
}

static void draw(const char *path, uint64_t seed, uint32_t images, uint32_t window) {
  static unsigned char file[1 << 24];
  FILE *stream = fopen(path, "rb");
  if (!stream) exit(3);
  const size_t bytes = fread(file, 1, sizeof file, stream);
  fclose(stream);
  gpcnn_info info;
  check(gpcnn_inspect(file, bytes, &info), path);
  const gpcnn_spec *spec = &info.spec;
  gpcnn_model *model;
  check(gpcnn_load(file, bytes, allocate((size_t)info.model_bytes), (size_t)info.model_bytes, &model), path);
  const size_t one = (size_t)spec->channels * spec->height * spec->width, all = images * one;
  float *noise = allocate(4 * all), *log_prob = allocate(4 * all), *embedding = NULL;
  int32_t *image = allocate(4 * all), *label = NULL;
  check(gpcnn_noise(spec, seed, 0, images, noise), "noise");
  if (spec->conditioning == GPCNN_LABEL) {
    label = allocate(4 * (size_t)images);
    for (uint32_t i = 0; i < images; i++) label[i] = (int32_t)(i % spec->conditioning_size);
  } else if (spec->conditioning == GPCNN_EMBEDDING) {
    const size_t length = spec->conditioning_size;
    float *other = allocate(4 * all);
    if (length > one) exit(3);
    embedding = allocate(4 * images * length);
    check(gpcnn_noise(spec, seed + 1, 0, images, other), "noise");
    for (uint32_t i = 0; i < images; i++) memcpy(embedding + i * length, other + i * one, 4 * length);
  }
  gpcnn_request request = {0};
  request.images = images, request.window = window, request.noise = noise, request.label = label;
  request.embedding = embedding, request.image = image, request.log_prob = log_prob;
  const size_t need = gpcnn_workspace_bytes(model, images);
  check(gpcnn_draw(model, &request, allocate(need), need), path);
  printf("%016llx %016llx\n", hash(image, all), hash(log_prob, all));
}

int main(int count, char **arguments) {
  if (count < 5) return 3;
  for (int i = 4; i < count; i++)
    draw(arguments[i], strtoull(arguments[1], NULL, 10), (uint32_t)atoi(arguments[2]), (uint32_t)atoi(arguments[3]));
  return 0;
}
