static void write_picture(const char *path, const gpcnn_pictures *spec, const uint8_t *picture) {
  const int piped = strcmp(path, "-") == 0;
  FILE *stream = piped ? stdout : fopen(path, "wb");
  if (!stream) fail(path, strerror(errno));
  fprintf(stream, "P%c\n%lu %lu\n255\n", spec->channels == 1 ? '5' : '6', (unsigned long)spec->width,
          (unsigned long)spec->height);
  const size_t pixels = (size_t)spec->height * spec->width;
  for (size_t i = 0; i < pixels; i++)
    for (uint32_t c = 0; c < spec->channels; c++) putc(picture[c * pixels + i], stream);
  if (ferror(stream) || fflush(stream) || (!piped && fclose(stream))) fail(path, "cannot be written");
}
