/* Levels 0 .. K-1 spread over 0 .. 255, halves to the even number. */
static int grey(uint32_t level, uint32_t levels) {
  const uint32_t top = levels - 1, whole = level * 255 / top, rest = level * 255 % top;
  return (int)(whole + (2 * rest > top || (2 * rest == top && whole % 2)));
}

static void write_picture(const char *path, const gpcnn_spec *spec, const int32_t *image) {
  const int piped = strcmp(path, "-") == 0;
  FILE *stream = piped ? stdout : fopen(path, "wb");
  if (!stream) fail(path, strerror(errno));
  fprintf(stream, "P%c\n%lu %lu\n255\n", spec->channels == 1 ? '5' : '6', (unsigned long)spec->width,
          (unsigned long)spec->height);
  const size_t pixels = (size_t)spec->height * spec->width;
  for (size_t i = 0; i < pixels; i++)
    for (uint32_t c = 0; c < spec->channels; c++) putc(grey((uint32_t)image[c * pixels + i], spec->levels), stream);
  if (ferror(stream) || fflush(stream) || (!piped && fclose(stream))) fail(path, "cannot be written");
}
