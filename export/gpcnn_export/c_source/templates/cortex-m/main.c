/* The program on a bare Cortex-M: start-up code, and semihosting, by which a debugger or QEMU writes files for it.
 *
 *     draw PICTURE [SEED [LABEL [POSITION]]]
 *
 * Memory is static: there is no heap and no C library. In a product of your own keep `start` and `draw`, and send `picture`
 * to a display in place of a file. */
#include "model.h"

static _Alignas(GPCNN_ALIGNMENT) unsigned char memory[MODEL_MEMORY_BYTES], workspace[MODEL_WORKSPACE_BYTES];
static float noise[MODEL_SUBPIXELS];
static int32_t image[MODEL_SUBPIXELS];
#ifdef MODEL_PICTURE_BYTES /* `image` holds codes, of which the decoder makes a picture */
static _Alignas(GPCNN_ALIGNMENT) unsigned char decoder_memory[MODEL_DECODER_BYTES];
static uint8_t pixels[MODEL_PICTURE_BYTES];
static unsigned char picture[32 + MODEL_PICTURE_BYTES];
#else
static unsigned char picture[32 + MODEL_SUBPIXELS];
#endif

/* ---- semihosting ---- */

enum { OPEN = 0x01, CLOSE = 0x02, WRITE0 = 0x04, WRITE = 0x05, GET_COMMAND_LINE = 0x15, EXIT = 0x20, BINARY_WRITE = 5 };

static int host(int operation, const void *arguments) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static size_t length(const char *text) {
  size_t at = 0;
  while (text[at]) at++;
  return at;
}

static void leave(int code) {
  const uintptr_t arguments[] = {0x20026, (uintptr_t)code};
  host(EXIT, arguments);
  for (;;) {}
}

static void fail(const char *subject, const char *reason) {
  host(WRITE0, "draw: ");
  host(WRITE0, subject);
  host(WRITE0, ": ");
  host(WRITE0, reason);
  host(WRITE0, "\n");
  leave(1);
}

static void write_file(const char *path, const unsigned char *bytes, size_t count) {
  const uintptr_t open[] = {(uintptr_t)path, BINARY_WRITE, length(path)};
  const int file = host(OPEN, open);
  if (file == -1) fail(path, "cannot be written");
  const uintptr_t write[] = {(uintptr_t)file, (uintptr_t)bytes, count}, close[] = {(uintptr_t)file};
  if (host(WRITE, write) || host(CLOSE, close)) fail(path, "cannot be written");
}

/* ---- the program ---- */

static uint64_t number(const char *text) {
  uint64_t value = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++) {
    if (value > (UINT64_MAX - 9) / 10) break;
    value = 10 * value + (uint64_t)(*at - '0');
  }
  if (at == text || *at) fail(text, "expected a number, 0 or more");
  return value;
}

static size_t put_number(unsigned char *to, uint32_t value) {
  unsigned char digits[10];
  size_t count = 0;
  do digits[count++] = (unsigned char)('0' + value % 10);
  while (value /= 10);
  for (size_t i = 0; i < count; i++) to[i] = digits[count - 1 - i];
  return count;
}

#ifdef MODEL_PICTURE_BYTES
#define SHOWN model_decoder.spec
static unsigned char value(size_t at) { return pixels[at]; }
#else
#define SHOWN model_packed.spec
/* Levels 0 .. K-1 spread over 0 .. 255, halves to the even number. */
static unsigned char grey(uint32_t level, uint32_t levels) {
  const uint32_t top = levels - 1, whole = level * 255 / top, rest = level * 255 % top;
  return (unsigned char)(whole + (2 * rest > top || (2 * rest == top && whole % 2)));
}

static unsigned char value(size_t at) { return grey((uint32_t)image[at], model_packed.spec.levels); }
#endif

/* A PGM or PPM file in `picture`; its bytes are returned. */
static size_t make_picture(void) {
  const uint32_t height = SHOWN.height, width = SHOWN.width, channels = SHOWN.channels;
  size_t at = 0;
  picture[at++] = 'P';
  picture[at++] = channels == 1 ? '5' : '6';
  picture[at++] = '\n';
  at += put_number(picture + at, width);
  picture[at++] = ' ';
  at += put_number(picture + at, height);
  for (const char *rest = "\n255\n"; *rest; rest++) picture[at++] = (unsigned char)*rest;
  const size_t count = (size_t)height * width;
  for (size_t i = 0; i < count; i++)
    for (uint32_t c = 0; c < channels; c++) picture[at++] = value(c * count + i);
  return at;
}

static void draw(uint64_t seed, uint64_t label, uint64_t position) {
  gpcnn_model *model;
  gpcnn_status status = gpcnn_attach(&model_packed, memory, sizeof memory, &model);
  if (status) fail("model", gpcnn_status_text(status));
  const gpcnn_spec *spec = gpcnn_model_spec(model);
  if (spec->conditioning == GPCNN_EMBEDDING) fail("model", "it needs an embedding: pass your own to gpcnn_draw");
  if (label >= (spec->conditioning == GPCNN_LABEL ? spec->conditioning_size : 1)) fail("label", "there is none such");
  const int32_t labels[] = {(int32_t)label};
  gpcnn_request request = {.images = 1, .noise = noise, .image = image, .label = labels};
  gpcnn_noise(spec, seed, position, 1, noise);
  status = gpcnn_draw(model, &request, workspace, sizeof workspace);
  if (status) fail("model", gpcnn_status_text(status));
#ifdef MODEL_PICTURE_BYTES
  gpcnn_decoder *decoder;
  status = gpcnn_decoder_attach(model, &model_decoder, decoder_memory, sizeof decoder_memory, &decoder);
  if (!status) status = gpcnn_decode(decoder, 1, image, pixels, workspace, sizeof workspace);
  if (status) fail("decoder", gpcnn_status_text(status));
#endif
}

/* Words of the command line, which the host writes into `line`. */
static int split(char *line, char **words, int most) {
  int count = 0;
  for (char *at = line; *at;) {
    while (*at == ' ') *at++ = 0;
    if (!*at) break;
    if (count == most) fail("usage", "draw PICTURE [SEED [LABEL [POSITION]]]");
    words[count++] = at;
    while (*at && *at != ' ') at++;
  }
  return count;
}

void run(void);
void run(void) {
  static char line[512];
  char *words[5];
  const uintptr_t arguments[] = {(uintptr_t)line, sizeof line - 1};
  if (host(GET_COMMAND_LINE, arguments)) fail("usage", "the host gives no command line");
  const int count = split(line, words, 5);
  if (count < 2) fail("usage", "draw PICTURE [SEED [LABEL [POSITION]]]");
  draw(count > 2 ? number(words[2]) : 0, count > 3 ? number(words[3]) : 0, count > 4 ? number(words[4]) : 0);
  write_file(words[1], picture, make_picture());
  leave(0);
}

/* ---- start-up ---- */

extern unsigned char stack_top[], bss_start[], bss_end[], data_start[], data_end[], data_load[];

void start(void);
void start(void) {
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit is on */
  __asm__ volatile("dsb\n isb" ::: "memory");
  for (volatile unsigned char *at = bss_start; at < bss_end; at++) *at = 0;
  const unsigned char *from = data_load;
  for (volatile unsigned char *at = data_start; at < data_end; at++) *at = *from++;
  run();
}

static void fault(void) { fail("processor", "a fault"); }

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)start, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault};
