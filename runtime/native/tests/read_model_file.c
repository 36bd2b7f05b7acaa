/* Says what gpcnn_file_read makes of each file on standard input: 8 bytes of length, little-endian, then the file. One
 * line a file: the status, and of a sound file its spec, the place of its metadata, and every offset. */
#include <stdio.h>
#include <stdlib.h>
#include "../src/weights.h"

static void print_offsets(const uint64_t *offsets, size_t bytes) {
  for (size_t i = 0; i < bytes / sizeof *offsets; i++) printf(" %llu", (unsigned long long)offsets[i]);
}

static void print_file(const unsigned char *file, size_t bytes) {
  gpcnn_info info = {{0}, 0, 0, 0};
  gpcnn_head_offsets head = {0};
  gpcnn_status status = gpcnn_file_read(file, bytes, &info, &head);
  printf("%d", (int)status);
  if (status == GPCNN_OK) {
    const uint32_t *spec = &info.spec.height;
    for (size_t i = 0; i < sizeof info.spec / sizeof *spec; i++) printf(" %lu", (unsigned long)spec[i]);
    print_offsets(&info.metadata_offset, 2 * sizeof(uint64_t));
    print_offsets((const uint64_t *)&head, sizeof head);
    for (uint32_t l = 0; l < info.spec.layers; l++) {
      gpcnn_layer_offsets layer;
      gpcnn_file_layer(file, &info.spec, l, &layer);
      print_offsets((const uint64_t *)&layer, sizeof layer);
    }
  }
  printf("\n");
  fflush(stdout);
}

int main(void) {
  unsigned char length[8];
  while (fread(length, 1, 8, stdin) == 8) {
    size_t bytes = 0;
    for (int i = 7; i >= 0; i--) bytes = bytes << 8 | length[i];
    unsigned char *file = malloc(bytes ? bytes : 1); /* of its very length: a sanitizer sees what is read beyond */
    if (!file || fread(file, 1, bytes, stdin) != bytes) return 1;
    print_file(file, bytes);
    free(file);
  }
  return 0;
}
