/* Decodes random codes with random weights, in memory of the exact size, by every kernel that this CPU can run: for sanitizers.
 *
 *     decode_all PRIOR.gpcnn downsample channels code_size features blocks */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpcnn_pictures.h"

static void *take(size_t bytes) {
  void *memory = aligned_alloc(GPCNN_ALIGNMENT, (bytes + GPCNN_ALIGNMENT - 1) / GPCNN_ALIGNMENT * GPCNN_ALIGNMENT);
  if (!memory) exit(2);
  memset(memory, 0x7f, bytes); /* numbers that would be seen */
  return memory;
}

static void check(gpcnn_status status, const char *what) {
  if (status == GPCNN_OK) return;
  fprintf(stderr, "%s: %s\n", what, gpcnn_status_text(status));
  exit(1);
}

int main(int count, char **argument) {
  if (count != 7) return 2;
  FILE *stream = fopen(argument[1], "rb");
  if (!stream) return 2;
  static unsigned char file[1 << 20];
  const size_t bytes = fread(file, 1, sizeof file, stream);
  fclose(stream);
  gpcnn_info info;
  check(gpcnn_inspect(file, bytes, &info), "inspect");
  const uint32_t n[] = {(uint32_t)atoi(argument[2]), (uint32_t)atoi(argument[3]), (uint32_t)atoi(argument[4]),
                        (uint32_t)atoi(argument[5]), (uint32_t)atoi(argument[6])};
  const gpcnn_pictures spec = {info.spec.height * n[0], info.spec.width * n[0], n[1], info.spec.levels, n[0], n[2], n[3], n[4]};
  const uint64_t f = spec.features, d = spec.code_size;
  uint64_t floats = spec.codes * d + f * d * 9 + f + spec.blocks * (f * f * 10 + 2 * f);
  for (uint32_t x = spec.downsample; x > 1; x /= 2) floats += (x > 2 ? f : spec.channels) * (f * 16 + 1);
  float *weights = malloc(floats * sizeof *weights);
  for (uint64_t i = 0; i < floats; i++) weights[i] = (float)(rand() % 2001 - 1000) / 4000;
  const uint32_t grid = info.spec.height * info.spec.width, images = 3;
  int32_t *codes = malloc(images * grid * sizeof *codes);
  for (uint32_t i = 0; i < images * grid; i++) codes[i] = rand() % (int32_t)spec.codes;
  const size_t pixels = (size_t)images * spec.channels * spec.height * spec.width;
  uint8_t *first = malloc(pixels), *pictures = malloc(pixels);
  const char *name;
  for (uint32_t k = 0; (name = gpcnn_instruction_set(k)); k++)
    for (uint32_t reproducible = 0; reproducible < 2; reproducible++) {
      const gpcnn_options options = {reproducible, name};
      gpcnn_model *prior;
      gpcnn_decoder *decoder;
      void *memory = take(info.model_bytes);
      check(gpcnn_load_with(&options, file, bytes, memory, info.model_bytes, &prior), "load");
      const uint64_t needed = gpcnn_decoder_bytes(prior, &spec);
      void *packed = take(needed);
      check(gpcnn_decoder_load(prior, &spec, weights, floats, packed, needed, &decoder), "load the decoder");
      const size_t workspace_bytes = gpcnn_decoder_workspace_bytes(decoder);
      void *workspace = take(workspace_bytes);
      check(gpcnn_decode(decoder, images, codes, pictures, workspace, workspace_bytes), "decode");
      if (k == 0 && !reproducible) memcpy(first, pictures, pixels);
      for (size_t i = 0; i < pixels; i++)
        if (abs(first[i] - pictures[i]) > 1) return fprintf(stderr, "%s: pixel %zu differs\n", name, i), 1;
      codes[0] = (int32_t)spec.codes;
      if (gpcnn_decode(decoder, images, codes, pictures, workspace, workspace_bytes) != GPCNN_BAD_ARGUMENT) return 1;
      codes[0] = 0;
      if (gpcnn_decoder_load(prior, &spec, weights, floats - 1, packed, needed, &decoder) != GPCNN_BAD_ARGUMENT) return 1;
      check(gpcnn_decode(decoder, images, codes, k || reproducible ? pictures : first, workspace, workspace_bytes), "again");
      free(memory), free(packed), free(workspace);
    }
  free(weights), free(codes), free(first), free(pictures);
  puts("decoded");
  return 0;
}
