/* Draws one image with a model file and writes it as a picture.
 *
 *     draw MODEL PICTURE [SEED [LABEL]]
 *
 * `gpcnn-export --format native` makes MODEL. PICTURE becomes a PGM (grey) or PPM (colour) file. The same seed and label
 * give the image that `gpcnn-sample` draws first. The program needs gpcnn.h, the library and the C library:
 *
 *     cc -O2 -I include examples/draw.c -L . -lgpcnn -o draw
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpcnn.h"

/* Ends the program with a line that says what went wrong. */
static void fail(const char *subject, const char *reason) {
  fprintf(stderr, "draw: %s: %s\n", subject, reason);
  exit(1);
}

/* Memory as the library wants it: its address a multiple of GPCNN_ALIGNMENT. */
static void *allocate(size_t bytes) {
  if (bytes > SIZE_MAX - GPCNN_ALIGNMENT) fail("memory", "the model is too large for this machine");
  char *block = malloc(bytes + GPCNN_ALIGNMENT);
  if (!block) fail("memory", "not enough of it");
  return block + (GPCNN_ALIGNMENT - (size_t)block % GPCNN_ALIGNMENT);
}

static unsigned char *read_file(const char *path, size_t *bytes) {
  FILE *stream = fopen(path, "rb");
  if (!stream) fail(path, strerror(errno));
  if (fseek(stream, 0, SEEK_END)) fail(path, "not a file");
  const long length = ftell(stream);
  rewind(stream);
  if (length < 0) fail(path, "not a file");
  unsigned char *content = malloc((size_t)length + 1);
  if (!content) fail("memory", "not enough of it");
  *bytes = fread(content, 1, (size_t)length, stream);
  if (*bytes != (size_t)length) fail(path, "cannot be read");
  fclose(stream);
  return content;
}

static unsigned long long number(const char *text) {
  char *end;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno) fail(text, "expected a number, 0 or more");
  return value;
}

/* Levels 0 .. K-1 spread over 0 .. 255, halves to the even number. */
static int pixel(int32_t level, uint32_t levels) {
  const double value = level * (255.0 / (levels - 1));
  const int floor = (int)value;
  const double rest = value - floor;
  return floor + (rest > 0.5 || (rest == 0.5 && floor % 2));
}

static void write_picture(const char *path, const gpcnn_spec *spec, const int32_t *image) {
  FILE *stream = fopen(path, "wb");
  if (!stream) fail(path, strerror(errno));
  fprintf(stream, "P%c\n%lu %lu\n255\n", spec->channels == 1 ? '5' : '6', (unsigned long)spec->width,
          (unsigned long)spec->height);
  const size_t pixels = (size_t)spec->height * spec->width;
  for (size_t i = 0; i < pixels; i++)
    for (uint32_t c = 0; c < spec->channels; c++) putc(pixel(image[c * pixels + i], spec->levels), stream);
  if (ferror(stream) || fclose(stream)) fail(path, "cannot be written");
}

int main(int count, char **arguments) {
  if (count < 3 || count > 5) fail("usage", "draw MODEL PICTURE [SEED [LABEL]]");
  const char *path = arguments[1];
  size_t file_bytes;
  unsigned char *file = read_file(path, &file_bytes);

  gpcnn_info info;
  gpcnn_status status = gpcnn_inspect(file, file_bytes, &info);
  if (status) fail(path, gpcnn_status_text(status));
  const gpcnn_spec *spec = &info.spec;
  if (spec->conditioning == GPCNN_EMBEDDING) fail(path, "this model is conditioned on embeddings, not on labels");
  if (spec->conditioning == GPCNN_MAP) fail(path, "this model is conditioned on maps, not on labels");
  if (info.model_bytes > SIZE_MAX) fail(path, "the model is too large for this machine");

  gpcnn_model *model;
  status = gpcnn_load(file, file_bytes, allocate((size_t)info.model_bytes), (size_t)info.model_bytes, &model);
  if (status) fail(path, gpcnn_status_text(status));
  free(file);

  const size_t subpixels = (size_t)spec->channels * spec->height * spec->width;
  float *noise = allocate(subpixels * sizeof *noise);
  int32_t *image = allocate(subpixels * sizeof *image);
  status = gpcnn_noise(spec, count > 3 ? number(arguments[3]) : 0, 0, 1, noise);
  if (status) fail("noise", gpcnn_status_text(status));

  const unsigned long long wanted = count > 4 ? number(arguments[4]) : 0;
  const uint32_t labels = spec->conditioning == GPCNN_LABEL ? spec->conditioning_size : 1;
  if (wanted >= labels) fail("label", "the model has no such label");
  const int32_t label = (int32_t)wanted;

  gpcnn_request request = {0};
  request.images = 1;
  request.noise = noise;
  request.label = spec->conditioning == GPCNN_LABEL ? &label : NULL;
  request.image = image;
  const size_t workspace_bytes = gpcnn_workspace_bytes(model, 1);
  if (!workspace_bytes) fail(path, "the model is too large for this machine");
  status = gpcnn_draw(model, &request, allocate(workspace_bytes), workspace_bytes);
  if (status) fail(path, gpcnn_status_text(status));
  write_picture(arguments[2], spec, image);
  return 0; /* the system takes the memory back */
}
