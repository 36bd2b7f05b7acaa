/* For libFuzzer: any bytes as a model file. What the reader accepts lies inside the file, loads and draws. */
#include <stdlib.h>
#include <string.h>

#include "../src/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static void require(int truth) {
  if (!truth) abort();
}

static void check_offset(uint64_t offset, size_t size) { require(offset % 4 == 0 && offset < size); }

static void check_layers(const uint8_t *file, size_t size, const gpcnn_spec *spec) {
  for (uint32_t l = 0; l < spec->layers; l++) {
    gpcnn_layer_offsets layer;
    uint64_t offsets[sizeof layer / 8];
    gpcnn_file_layer(file, spec, l, &layer);
    memcpy(offsets, &layer, sizeof layer);
    for (size_t i = 0; i < sizeof layer / 8; i++) check_offset(offsets[i], size);
    require((layer.out_weight == 0) == (l + 1 == spec->layers));
  }
}

static void *aligned(size_t bytes) {
  return aligned_alloc(GPCNN_ALIGNMENT, (bytes + GPCNN_ALIGNMENT - 1) / GPCNN_ALIGNMENT * GPCNN_ALIGNMENT);
}

static void draw(const uint8_t *file, size_t size, const gpcnn_info *info) {
  const gpcnn_spec *spec = &info->spec;
  const size_t all = (size_t)spec->channels * spec->height * spec->width;
  if (all > 64 || spec->conditioning_size > 64 || info->model_bytes > 1 << 22) return;
  if (spec->conditioning_size * spec->map_height * spec->map_width > 64) return;
  void *memory = aligned((size_t)info->model_bytes);
  gpcnn_model *model;
  require(gpcnn_load(file, size, memory, (size_t)info->model_bytes, &model) == GPCNN_OK);
  const size_t need = gpcnn_workspace_bytes(model, 1);
  require(need > 0);
  void *workspace = aligned(need);
  float noise[64], given[64] = {0}, log_prob[64];
  int32_t image[64], label = 0;
  require(gpcnn_noise(spec, 1, 0, 1, noise) == GPCNN_OK);
  gpcnn_request request = {0};
  request.images = 1, request.noise = noise, request.image = image, request.log_prob = log_prob;
  if (spec->conditioning == GPCNN_LABEL) request.label = &label;
  if (spec->conditioning == GPCNN_EMBEDDING) request.embedding = given;
  if (spec->conditioning == GPCNN_MAP) request.map = given;
  require(gpcnn_draw(model, &request, workspace, need) == GPCNN_OK);
  for (size_t i = 0; i < all; i++) require(image[i] >= 0 && (uint32_t)image[i] < spec->levels);
  free(workspace);
  free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  gpcnn_info info = {0};
  gpcnn_head_offsets head;
  gpcnn_status status = gpcnn_file_read(data, size, &info, &head);
  require((int)status >= 0 && status <= GPCNN_NEWER_FILE && *gpcnn_status_text(status));
  gpcnn_info seen;
  require(gpcnn_inspect(data, size, &seen) == status);
  if (status != GPCNN_OK) return 0;
  uint64_t offsets[sizeof head / 8];
  memcpy(offsets, &head, sizeof head);
  for (size_t i = 0; i < sizeof head / 8; i++) check_offset(offsets[i], size);
  require(info.metadata_offset + info.metadata_bytes < size);
  check_layers(data, size, &info.spec);
  draw(data, size, &seen);
  return 0;
}

/* Mutates the header or the data; mostly, the header's length follows: else nearly every file would end there. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  uint64_t header = 0;
  for (int i = 7; i >= 0 && size >= 8; i--) header = header << 8 | data[i];
  if (size < 8 || header > size - 8 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  const size_t end = 8 + (size_t)header, tail = size - end;
  if (seed % 8 == 1) return end + LLVMFuzzerMutate(data + end, tail, most - end);
  uint8_t *rest = malloc(tail + 1), *text = malloc(most + 16);
  memcpy(rest, data + end, tail);
  memcpy(text, data + 8, end - 8);
  size_t length = end - 8;
  while (length && text[length - 1] == ' ') length--;
  length = LLVMFuzzerMutate(text, length, most > tail + 16 ? most - tail - 16 : length);
  while (length % 8) text[length++] = ' ';
  for (int i = 0; i < 8; i++) data[i] = (uint8_t)(length >> 8 * i);
  memcpy(data + 8, text, length);
  memcpy(data + 8 + length, rest, tail);
  free(rest);
  free(text);
  return 8 + length + tail;
}
