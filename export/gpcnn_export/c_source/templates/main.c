/* Draws one image and writes it as a picture.
 *
 *     draw PICTURE [SEED [CONDITION [POSITION]]]
 *
 * PICTURE becomes a PGM (grey) or PPM (colour) file; - is standard output. CONDITION is a label (default 0), or for a model
 * conditioned on embeddings or maps a file of float32 numbers. The same seed, label and position in the batch (default 0) give the
 * image that gpcnn-sample draws. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* Ends the program with a line that says what went wrong. */
static void fail(const char *subject, const char *reason) {
  fprintf(stderr, "draw: %s: %s\n", subject, reason);
  exit(1);
}

static unsigned long long number(const char *text) {
  char *end;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno) fail(text, "expected a number, 0 or more");
  return value;
}

@PICTURE@

/* Numbers of an embedding or a map. */
static size_t condition_numbers(const gpcnn_spec *spec) {
  if (spec->conditioning == GPCNN_MAP) return (size_t)spec->conditioning_size * spec->map_height * spec->map_width;
  return spec->conditioning == GPCNN_EMBEDDING ? spec->conditioning_size : 0;
}

static void read_condition(const char *path, float *condition, size_t count) {
  FILE *stream = fopen(path, "rb");
  if (!stream) fail(path, strerror(errno));
  if (fread(condition, sizeof *condition, count, stream) != count || fgetc(stream) != EOF)
    fail(path, "expected as many float32 numbers as an embedding or a map of this model has, and nothing else");
  fclose(stream);
}

@MODEL@
int main(int count, char **arguments) {
  if (count < 2 || count > 5) fail("usage", "draw PICTURE [SEED [CONDITION [POSITION]]]");
@LOAD@
  const gpcnn_spec *spec = gpcnn_model_spec(model);
  const unsigned long long seed = count > 2 ? number(arguments[2]) : 0, position = count > 4 ? number(arguments[4]) : 0;
  gpcnn_status status = gpcnn_noise(@DRAWN@, seed, position, 1, noise);
  if (status) fail("noise", gpcnn_status_text(status));

  gpcnn_request request = {0};
  int32_t label = 0;
  request.images = 1;
  request.noise = noise;
  request.image = image;
  if (spec->conditioning == GPCNN_EMBEDDING || spec->conditioning == GPCNN_MAP) {
    if (count < 4) fail("usage", "this model needs an embedding or a map: draw PICTURE SEED FILE");
    read_condition(arguments[3], condition, condition_numbers(spec));
    request.embedding = request.map = condition;
  } else if (count > 3) {
    const unsigned long long wanted = number(arguments[3]);
    if (wanted >= (spec->conditioning == GPCNN_LABEL ? spec->conditioning_size : 1)) fail(arguments[3], "no such label");
    label = (int32_t)wanted;
  }
  if (spec->conditioning == GPCNN_LABEL) request.label = &label;
  status = gpcnn_draw(model, &request, workspace, workspace_bytes);
  if (status) fail("model", gpcnn_status_text(status));
@WRITE@
  return 0;
}
