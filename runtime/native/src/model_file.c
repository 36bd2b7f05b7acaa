/* Reads model files: gpcnn_deploy/model_file.py describes their layout and checks the same things.
 *
 * All that follows the metadata in a file's header is determined by the spec in it: the expected text is generated and
 * compared. So every offset below comes from the spec and none from the file. No libc, no allocation. */
#include "json.h"
#include "text.h"
#include "weights.h"

enum {
  SCHEMA = 1,
  MAX_METADATA_BYTES = 1 << 20,
  MAX_HEADER_BYTES = 2 << 20,
  MAX_PIXELS = 1 << 20,
  MAX_LEVELS = 256,
  MAX_CATEGORIES = 4096,
  MAX_FEATURES = 4096,
  MAX_MIXTURES = 128,
  MAX_PLANES = 256
};

/* ---- the metadata ---- */

/* Dimensions in the order of gpcnn_spec, which follows that of ModelSpec, and their bounds. */
static const struct { const char *name; uint32_t low, high; } dimensions[] = {
  {"height", 1, MAX_PIXELS}, {"width", 1, MAX_PIXELS}, {"channels", 1, 3}, {"levels", 2, MAX_CATEGORIES}, {"features", 1, 4096},
  {"layers", 1, 512}, {"first_kernel_size", 3, 63}, {"kernel_size", 3, 63}, {"head_features", 1, 4096},
  {"conditioning_size", 0, 1000000},
};
enum { DIMENSIONS = sizeof dimensions / sizeof *dimensions };

/* The input, which files of the first version do not say: values. */
static gpcnn_status read_input(gpcnn_json *input, gpcnn_json *input_size, gpcnn_spec *spec) {
  char word[GPCNN_JSON_WORD] = "values";
  int64_t size = 0;
  if (input->now != GPCNN_JSON_BAD && !gpcnn_json_string(input, word)) return GPCNN_BAD_SPEC;
  if (input_size->now != GPCNN_JSON_BAD && !gpcnn_json_number(input_size, &size)) return GPCNN_BAD_SPEC;
  const int categorical = same_text(word, "categorical");
  if (!categorical && !same_text(word, "values")) return GPCNN_BAD_SPEC;
  if (size < categorical || size > (categorical ? MAX_FEATURES : 0)) return GPCNN_BAD_SPEC;
  if (!categorical && spec->levels > MAX_LEVELS) return GPCNN_BAD_SPEC;
  spec->input_size = (uint32_t)size;
  return GPCNN_OK;
}

/* The head, which earlier files do not say: a softmax. A mixture of logistics needs levels in an order. */
static gpcnn_status read_head(gpcnn_json *head, gpcnn_json *mixtures, gpcnn_spec *spec) {
  char word[GPCNN_JSON_WORD] = "categorical";
  int64_t count = 0;
  if (head->now != GPCNN_JSON_BAD && !gpcnn_json_string(head, word)) return GPCNN_BAD_SPEC;
  if (mixtures->now != GPCNN_JSON_BAD && !gpcnn_json_number(mixtures, &count)) return GPCNN_BAD_SPEC;
  const int mixture = same_text(word, "mixture");
  if (!mixture && !same_text(word, "categorical")) return GPCNN_BAD_SPEC;
  if (count < mixture || count > (mixture ? MAX_MIXTURES : 0)) return GPCNN_BAD_SPEC;
  if (mixture && spec->input_size) return GPCNN_BAD_SPEC;
  spec->head = mixture ? GPCNN_MIXTURE : GPCNN_CATEGORICAL;
  spec->mixtures = (uint32_t)count;
  return GPCNN_OK;
}

/* A number that files of the first version do not have, 0 there; UINT32_MAX for what is no number. */
static uint32_t later_number(gpcnn_json *value) {
  int64_t number = 0;
  if (value->now != GPCNN_JSON_BAD && !gpcnn_json_number(value, &number)) return UINT32_MAX;
  return number < 0 || number > MAX_PIXELS ? UINT32_MAX : (uint32_t)number;
}

static int between(uint32_t number, uint32_t low, uint32_t high) { return number >= low && number <= high; }

/* The map: all of it is 0, and its kind that of values, for a model without one. */
static gpcnn_status read_map(gpcnn_json number[4], gpcnn_json *kind, gpcnn_spec *spec) {
  char word[GPCNN_JSON_WORD] = "values";
  if (kind->now != GPCNN_JSON_BAD && !gpcnn_json_string(kind, word)) return GPCNN_BAD_SPEC;
  const int categories = same_text(word, "categories"), picture = same_text(word, "picture");
  if (!categories && !picture && !same_text(word, "values")) return GPCNN_BAD_SPEC;
  spec->map_height = later_number(&number[0]), spec->map_width = later_number(&number[1]);
  spec->map_features = later_number(&number[2]), spec->map_categories = later_number(&number[3]);
  if (spec->conditioning != GPCNN_MAP) {
    const uint32_t any = spec->map_height | spec->map_width | spec->map_features | spec->map_categories;
    return any || categories || picture ? GPCNN_BAD_SPEC : GPCNN_OK;
  }
  if (!between(spec->map_height, 1, spec->height) || !between(spec->map_width, 1, spec->width)) return GPCNN_BAD_SPEC;
  if (spec->height % spec->map_height || spec->width % spec->map_width) return GPCNN_BAD_SPEC;
  if (!between(spec->map_features, 1, MAX_FEATURES) || spec->conditioning_size > MAX_PLANES) return GPCNN_BAD_SPEC;
  if (!between(spec->map_categories, categories ? 2 : 0, categories ? MAX_CATEGORIES : 0)) return GPCNN_BAD_SPEC;
  return picture && spec->conditioning_size != spec->channels ? GPCNN_BAD_SPEC : GPCNN_OK;
}

enum { CONDITIONING = DIMENSIONS, INPUT, INPUT_SIZE, HEAD, MIXTURES,
       MAP_HEIGHT, MAP_WIDTH, MAP_FEATURES, MAP_CATEGORIES, MAP_KIND, NAMES };

static gpcnn_status read_spec(gpcnn_json at, gpcnn_spec *spec) {
  const char *names[NAMES];
  gpcnn_json values[NAMES];
  uint32_t found[DIMENSIONS];
  char conditioning[GPCNN_JSON_WORD];
  int others;
  for (int i = 0; i < DIMENSIONS; i++) names[i] = dimensions[i].name;
  names[CONDITIONING] = "conditioning", names[INPUT] = "input", names[INPUT_SIZE] = "input_size";
  names[HEAD] = "head", names[MIXTURES] = "mixtures";
  names[MAP_HEIGHT] = "map_height", names[MAP_WIDTH] = "map_width", names[MAP_FEATURES] = "map_features";
  names[MAP_CATEGORIES] = "map_categories", names[MAP_KIND] = "map_kind";
  if (!gpcnn_json_object(&at, 1, names, NAMES, values, &others) || others) return GPCNN_BAD_SPEC;
  for (int i = 0; i < DIMENSIONS; i++) {
    int64_t number;
    if (values[i].now == GPCNN_JSON_BAD || !gpcnn_json_number(&values[i], &number)) return GPCNN_BAD_SPEC;
    if (number < dimensions[i].low || number > dimensions[i].high) return GPCNN_BAD_SPEC;
    found[i] = (uint32_t)number;
  }
  if (values[CONDITIONING].now == GPCNN_JSON_BAD) return GPCNN_BAD_SPEC;
  if (!gpcnn_json_string(&values[CONDITIONING], conditioning)) return GPCNN_BAD_SPEC;
  spec->height = found[0], spec->width = found[1], spec->channels = found[2], spec->levels = found[3];
  spec->features = found[4], spec->layers = found[5], spec->first_kernel_size = found[6], spec->kernel_size = found[7];
  spec->head_features = found[8], spec->conditioning_size = found[9];
  if (same_text(conditioning, "none")) spec->conditioning = GPCNN_UNCONDITIONAL;
  else if (same_text(conditioning, "label")) spec->conditioning = GPCNN_LABEL;
  else if (same_text(conditioning, "embedding")) spec->conditioning = GPCNN_EMBEDDING;
  else if (same_text(conditioning, "map")) spec->conditioning = GPCNN_MAP;
  else return GPCNN_BAD_SPEC;
  if ((uint64_t)spec->height * spec->width > MAX_PIXELS || spec->channels == 2) return GPCNN_BAD_SPEC;
  if (spec->first_kernel_size % 2 == 0 || spec->kernel_size % 2 == 0) return GPCNN_BAD_SPEC;
  if ((spec->conditioning == GPCNN_UNCONDITIONAL) != (spec->conditioning_size == 0)) return GPCNN_BAD_SPEC;
  gpcnn_status status = read_map(&values[MAP_HEIGHT], &values[MAP_KIND], spec);
  if (!status) status = read_input(&values[INPUT], &values[INPUT_SIZE], spec);
  return status ? status : read_head(&values[HEAD], &values[MIXTURES], spec);
}

/* Reads the metadata; `at` is behind its opening quote and, in the end, behind its closing one. */
static gpcnn_status read_metadata(const uint8_t **at, const uint8_t *end, gpcnn_spec *spec) {
  static const char *const names[] = {"schema", "role", "spec"};
  gpcnn_json values[3], t = {*at, end, 0};
  char role[GPCNN_JSON_WORD];
  int64_t schema;
  int others;
  gpcnn_json_advance(&t);
  if (!gpcnn_json_object(&t, 0, names, 3, values, &others)) return GPCNN_BAD_FILE;
  gpcnn_json_space(&t);
  if (t.now != GPCNN_JSON_END || t.at - *at - 1 > MAX_METADATA_BYTES) return GPCNN_BAD_FILE;
  *at = t.at;
  if (values[0].now == GPCNN_JSON_BAD || !gpcnn_json_number(&values[0], &schema) || schema < 1) return GPCNN_BAD_FILE;
  if (schema > SCHEMA) return GPCNN_NEWER_FILE;
  if (values[1].now == GPCNN_JSON_BAD || !gpcnn_json_string(&values[1], role)) return GPCNN_BAD_FILE;
  if (!same_text(role, "weights")) return GPCNN_BAD_FILE;
  return values[2].now == GPCNN_JSON_BAD ? GPCNN_BAD_SPEC : read_spec(values[2], spec);
}

/* ---- the tensors: all follows from the spec ---- */

typedef enum kind {
  CONDITION, EARLIER, HIDDEN_BIAS, HIDDEN_WEIGHT, LOGITS_BIAS, LOGITS_WEIGHT, MIXTURE_BIAS, MIXTURE_WEIGHT,
  INPUT_EMBEDDING,
  HORIZONTAL_BIAS, HORIZONTAL_WEIGHT, LINK_WEIGHT, OUT_WEIGHT, SKIP_BIAS, SKIP_WEIGHT, VERTICAL_BIAS, VERTICAL_WEIGHT,
  MAP_CONTEXT_BIAS, MAP_CONTEXT_WEIGHT, MAP_READ_BIAS, MAP_READ_WEIGHT, MAP_UP_BIAS, MAP_UP_WEIGHT,
  KINDS
} kind;

/* In the file's order: by name. */
static const char *const names[KINDS] = {
  "condition_projection.weight", "head.earlier.weight", "head.hidden.bias", "head.hidden.weight", "head.logits.bias",
  "head.logits.weight", "head.mixture.bias", "head.mixture.weight", "input_embedding.weight", "horizontal.bias",
  "horizontal.weight", "link.weight", "out.weight", "skip.bias", "skip.weight",
  "vertical.bias", "vertical.weight",
  "bias", "weight", "map_network.read.bias", "map_network.read.weight", "bias", "weight",
};

/* What stands before the number of a tensor of which the model has several, or NULL. */
static const char *prefix(kind kind) {
  if (kind == MAP_CONTEXT_BIAS || kind == MAP_CONTEXT_WEIGHT) return "map_network.context.";
  if (kind == MAP_UP_BIAS || kind == MAP_UP_WEIGHT) return "map_network.up.";
  return kind >= HORIZONTAL_BIAS && kind <= VERTICAL_WEIGHT ? "layers." : NULL;
}

typedef struct file_tensor {
  kind kind;
  uint32_t layer; /* or number of a convolution of the map's network */
  int axes; /* 0: the model has no such tensor */
  uint64_t shape[4];
  uint64_t offset, bytes; /* offset from the first tensor's data */
} file_tensor;

static void give(file_tensor *t, int axes, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  t->axes = axes;
  t->shape[0] = a, t->shape[1] = b, t->shape[2] = c, t->shape[3] = d;
  t->bytes = axes ? 4 * a * b * c * d : 0; /* below 2^57 within the bounds of a spec */
}

static void give_shape(file_tensor *t, const gpcnn_spec *spec) {
  const uint64_t f = spec->features, c = spec->channels, s = spec->head_features, e = spec->conditioning_size;
  const uint64_t gates = 4 * f * spec->layers, first = t->layer == 0, numbers = gpcnn_inputs(spec);
  const uint64_t inputs = first ? numbers : f, g = spec->map_features;
  const uint64_t size = first ? spec->first_kernel_size : spec->kernel_size, taps = size / 2 + !first;
  const uint64_t mixture = gpcnn_component_numbers(spec) * spec->mixtures; /* 0: a softmax */
  switch (t->kind) {
    case CONDITION:
      if (spec->conditioning == GPCNN_LABEL) give(t, 2, e, gates, 1, 1);
      else if (spec->conditioning == GPCNN_MAP) give(t, 4, gates, g, 1, 1);
      else give(t, spec->conditioning == GPCNN_EMBEDDING ? 2 : 0, gates, e, 1, 1);
      return;
    case EARLIER: give(t, c > 1 && !mixture ? 4 : 0, c * s, numbers, 1, 1); return;
    case HIDDEN_BIAS: give(t, 1, c * s, 1, 1, 1); return;
    case HIDDEN_WEIGHT: give(t, 4, c * s, f, 1, 1); return;
    case LOGITS_BIAS: give(t, mixture ? 0 : 1, c * spec->levels, 1, 1, 1); return;
    case LOGITS_WEIGHT: give(t, mixture ? 0 : 4, c * spec->levels, s, 1, 1); return;
    case MIXTURE_BIAS: give(t, mixture ? 1 : 0, mixture, 1, 1, 1); return;
    case MIXTURE_WEIGHT: give(t, mixture ? 4 : 0, mixture, c * s, 1, 1); return;
    case INPUT_EMBEDDING: give(t, spec->input_size ? 2 : 0, spec->levels, spec->input_size, 1, 1); return;
    case HORIZONTAL_BIAS: case VERTICAL_BIAS: give(t, 1, 2 * f, 1, 1, 1); return;
    case HORIZONTAL_WEIGHT: give(t, 4, 2 * f, inputs, 1, taps); return;
    case LINK_WEIGHT: give(t, 4, 2 * f, 2 * f, 1, 1); return;
    case OUT_WEIGHT: give(t, t->layer + 1 < spec->layers ? 4 : 0, f, f, 1, 1); return;
    case SKIP_BIAS: give(t, 1, f, 1, 1, 1); return;
    case SKIP_WEIGHT: give(t, 4, f, f, 1, 1); return;
    case VERTICAL_WEIGHT: give(t, 4, 2 * f, inputs, taps, size); return;
    case MAP_CONTEXT_WEIGHT: give(t, 4, g, g, 3, 3); return;
    case MAP_CONTEXT_BIAS: case MAP_READ_BIAS: case MAP_UP_BIAS: give(t, 1, g, 1, 1, 1); return;
    case MAP_READ_WEIGHT: give(t, 4, g, gpcnn_map_inputs(spec), 1, 1); return;
    case MAP_UP_WEIGHT: {
      uint32_t rows[GPCNN_MAP_STAGES], columns[GPCNN_MAP_STAGES];
      gpcnn_map_stages(spec, rows, columns);
      give(t, 4, g, g, rows[t->layer], columns[t->layer]);
      return;
    }
    default: give(t, 0, 0, 0, 0, 0);
  }
}

static void first_tensor(file_tensor *t, const gpcnn_spec *spec) {
  t->kind = CONDITION, t->layer = 0, t->offset = 0;
  give_shape(t, spec);
}

/* The layer that comes next by name: 0, 1, 10, 11, 2, …; `layers` behind the last. */
static uint32_t next_layer(uint32_t layer, uint32_t layers) {
  if (layer && layer * 10 < layers) return layer * 10;
  while (layer % 10 == 9 || layer + 1 >= layers)
    if ((layer /= 10) == 0) return layers;
  return layer + 1;
}

/* Moves to the next tensor; 0 behind the last. Kinds that the model has not are passed too, with 0 axes. */
static int next_tensor(file_tensor *t, const gpcnn_spec *spec) {
  const kind last = t->kind;
  t->offset += t->bytes;
  t->kind++;
  if (last == VERTICAL_WEIGHT) {
    t->layer = next_layer(t->layer, spec->layers);
    if (t->layer < spec->layers) t->kind = HORIZONTAL_BIAS;
    else if (spec->conditioning == GPCNN_MAP) t->layer = 0;
    else return 0;
  } else if (last == MAP_CONTEXT_WEIGHT && ++t->layer < GPCNN_MAP_CONTEXT) {
    t->kind = MAP_CONTEXT_BIAS;
  } else if (last == MAP_READ_WEIGHT || last == MAP_UP_WEIGHT) {
    uint32_t rows[GPCNN_MAP_STAGES], columns[GPCNN_MAP_STAGES];
    const uint32_t stages = gpcnn_map_stages(spec, rows, columns);
    t->kind = MAP_UP_BIAS;
    t->layer = last == MAP_READ_WEIGHT ? 0 : next_layer(t->layer, stages);
    if (t->layer >= stages) return 0;
  }
  give_shape(t, spec);
  return 1;
}

/* ---- the header, compared with what the spec says it must be ---- */

typedef struct cursor {
  const uint8_t *at, *end;
  int equal;
} cursor;

static void expect(cursor *c, const char *expected) {
  for (; *expected && c->equal; expected++) c->equal = c->at != c->end && *c->at++ == (uint8_t)*expected;
}

static void expect_number(cursor *c, uint64_t number) {
  char digits[21];
  int at = 20;
  digits[at] = 0;
  do digits[--at] = (char)('0' + number % 10);
  while (number /= 10);
  expect(c, digits + at);
}

static void expect_tensor(cursor *c, const file_tensor *t) {
  expect(c, ",\"");
  if (prefix(t->kind)) {
    expect(c, prefix(t->kind));
    expect_number(c, t->layer);
    expect(c, ".");
  }
  expect(c, names[t->kind]);
  expect(c, "\":{\"dtype\":\"F32\",\"shape\":[");
  for (int i = 0; i < t->axes; i++) {
    if (i) expect(c, ",");
    expect_number(c, t->shape[i]);
  }
  expect(c, "],\"data_offsets\":[");
  expect_number(c, t->offset);
  expect(c, ",");
  expect_number(c, t->offset + t->bytes);
  expect(c, "]}");
}

static uint64_t header_bytes(const uint8_t *file) {
  uint64_t bytes = 0;
  for (int i = 7; i >= 0; i--) bytes = bytes << 8 | file[i];
  return bytes;
}

static const char opening[] = "{\"__metadata__\":{\"gpcnn\":\"";

/* 1 if an exponent of all ones, which infinities and NaNs have, is nowhere in `bytes` of float32. */
static int all_finite(const uint8_t *data, uint64_t bytes) {
  unsigned worst = 0;
  for (uint64_t i = 0; i < bytes; i += 4) {
    unsigned exponent = (data[i + 3] & 0x7fu) << 1 | data[i + 2] >> 7;
    worst |= exponent == 0xff;
  }
  return !worst;
}

static void note_head(gpcnn_head_offsets *head, const file_tensor *t, uint64_t data) {
  const uint64_t offset = t->axes ? data + t->offset : 0;
  switch (t->kind) {
    case CONDITION: head->condition_weight = offset; return;
    case EARLIER: head->earlier_weight = offset; return;
    case HIDDEN_BIAS: head->hidden_bias = offset; return;
    case HIDDEN_WEIGHT: head->hidden_weight = offset; return;
    case LOGITS_BIAS: head->logits_bias = offset; return;
    case LOGITS_WEIGHT: head->logits_weight = offset; return;
    case MIXTURE_BIAS: head->mixture_bias = offset; return;
    case MIXTURE_WEIGHT: head->mixture_weight = offset; return;
    case INPUT_EMBEDDING: head->input_embedding = offset; return;
    case MAP_READ_WEIGHT: head->map_read_weight = offset; return;
    case MAP_READ_BIAS: head->map_read_bias = offset; return;
    case MAP_CONTEXT_WEIGHT: head->map_context_weight[t->layer] = offset; return;
    case MAP_CONTEXT_BIAS: head->map_context_bias[t->layer] = offset; return;
    case MAP_UP_WEIGHT: head->map_up_weight[t->layer] = offset; return;
    case MAP_UP_BIAS: head->map_up_bias[t->layer] = offset; return;
    default: return;
  }
}

gpcnn_status gpcnn_file_read(const void *file, size_t bytes, gpcnn_info *info, gpcnn_head_offsets *head) {
  const uint8_t *const start = file;
  if (!file || !info || !head) return GPCNN_BAD_ARGUMENT;
  *head = (gpcnn_head_offsets){0};
  if (bytes < 8) return GPCNN_BAD_FILE;
  const uint64_t header = header_bytes(start);
  if (header % 8 || header > MAX_HEADER_BYTES || header > bytes - 8) return GPCNN_BAD_FILE;
  const uint64_t data = 8 + header;
  cursor c = {start + 8, start + data, 1};
  expect(&c, opening);
  if (!c.equal) return GPCNN_BAD_FILE;
  info->metadata_offset = (uint64_t)(c.at - start);
  gpcnn_status status = read_metadata(&c.at, c.end, &info->spec);
  if (status) return status;
  info->metadata_bytes = (uint64_t)(c.at - start) - 1 - info->metadata_offset;
  expect(&c, "}");
  file_tensor t;
  first_tensor(&t, &info->spec);
  do {
    if (t.axes) expect_tensor(&c, &t);
    if (!c.equal) return GPCNN_BAD_SPEC;
    note_head(head, &t, data);
  } while (next_tensor(&t, &info->spec));
  expect(&c, "}");
  if (!c.equal) return GPCNN_BAD_SPEC;
  if (c.end - c.at > 7) return GPCNN_BAD_FILE;
  while (c.at != c.end)
    if (*c.at++ != ' ') return GPCNN_BAD_FILE;
  if (t.offset != bytes - data || !all_finite(start + data, t.offset)) return GPCNN_BAD_FILE;
  return GPCNN_OK;
}

void gpcnn_file_layer(const void *file, const gpcnn_spec *spec, uint32_t layer, gpcnn_layer_offsets *offsets) {
  const uint64_t data = 8 + header_bytes(file);
  gpcnn_layer_offsets found = {0};
  file_tensor t;
  first_tensor(&t, spec);
  do {
    if (t.layer != layer || !t.axes) continue;
    switch (t.kind) {
      case VERTICAL_WEIGHT: found.vertical_weight = data + t.offset; break;
      case VERTICAL_BIAS: found.vertical_bias = data + t.offset; break;
      case LINK_WEIGHT: found.link_weight = data + t.offset; break;
      case HORIZONTAL_WEIGHT: found.horizontal_weight = data + t.offset; break;
      case HORIZONTAL_BIAS: found.horizontal_bias = data + t.offset; break;
      case OUT_WEIGHT: found.out_weight = data + t.offset; break;
      case SKIP_WEIGHT: found.skip_weight = data + t.offset; break;
      case SKIP_BIAS: found.skip_bias = data + t.offset; break;
      default: break;
    }
  } while (next_tensor(&t, spec));
  *offsets = found;
}
