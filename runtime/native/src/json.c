#include "json.h"
#include "text.h"

enum { MAX_DEPTH = 32 }; /* of objects and arrays inside each other */

static int32_t hex4(const uint8_t *at, const uint8_t *end) {
  int32_t value = 0;
  if (end - at < 4) return GPCNN_JSON_BAD;
  for (int i = 0; i < 4; i++) {
    int32_t c = at[i];
    if (c >= '0' && c <= '9') c -= '0';
    else if (c >= 'a' && c <= 'f') c -= 'a' - 10;
    else if (c >= 'A' && c <= 'F') c -= 'A' - 10;
    else return GPCNN_JSON_BAD;
    value = value << 4 | c;
  }
  return value;
}

/* The code point of UTF-8 that `first` begins; *at is behind `first`. */
static int32_t utf8(int32_t first, const uint8_t **at, const uint8_t *end) {
  int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
  int32_t value = first & (0x3f >> more);
  if (first < 0xc2 || first > 0xf4 || end - *at < more) return GPCNN_JSON_BAD;
  for (int i = 0; i < more; i++) {
    int32_t c = *(*at)++;
    if ((c & 0xc0) != 0x80) return GPCNN_JSON_BAD;
    value = value << 6 | (c & 0x3f);
  }
  if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return GPCNN_JSON_BAD;
  return value;
}

/* The character that \ and *at stand for, but for \u. */
static int32_t short_escape(int32_t c) {
  switch (c) {
    case '"': case '\\': case '/': return c;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return GPCNN_JSON_BAD;
  }
}

void gpcnn_json_advance(gpcnn_json *t) {
  if (t->now == GPCNN_JSON_BAD || t->now == GPCNN_JSON_END) return;
  t->now = GPCNN_JSON_BAD;
  if (t->at == t->end) return;
  int32_t c = *t->at++;
  if (c == '"') {
    t->now = GPCNN_JSON_END;
  } else if (c >= 0x80) {
    t->now = utf8(c, &t->at, t->end);
  } else if (c >= 0x20 && c != '\\') {
    t->now = c;
  } else if (c == '\\' && t->at != t->end) {
    c = *t->at++;
    if (c != 'u') {
      t->now = short_escape(c);
      return;
    }
    int32_t value = hex4(t->at, t->end), low;
    if (value == GPCNN_JSON_BAD) return;
    t->at += 4;
    if (value >= 0xd800 && value < 0xe000) { /* half of a pair */
      if (value >= 0xdc00 || t->end - t->at < 6 || t->at[0] != '\\' || t->at[1] != 'u') return;
      low = hex4(t->at + 2, t->end);
      if (low < 0xdc00 || low > 0xdfff) return;
      t->at += 6;
      value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00);
    }
    t->now = value;
  }
}

void gpcnn_json_space(gpcnn_json *t) {
  while (t->now == ' ' || t->now == '\t' || t->now == '\n' || t->now == '\r') gpcnn_json_advance(t);
}

static int take(gpcnn_json *t, int32_t c) {
  if (t->now != c) return 0;
  gpcnn_json_advance(t);
  return 1;
}

static int32_t take_hex4(gpcnn_json *t) {
  uint8_t digits[4];
  for (int i = 0; i < 4; i++) {
    if (t->now < 0 || t->now > 0x7f) return GPCNN_JSON_BAD;
    digits[i] = (uint8_t)t->now;
    gpcnn_json_advance(t);
  }
  return hex4(digits, digits + 4);
}

int gpcnn_json_string(gpcnn_json *t, char word[GPCNN_JSON_WORD]) {
  int length = 0, plain = 1;
  word[0] = 0;
  if (!take(t, '"')) return 0;
  while (t->now != '"') {
    int32_t c = t->now;
    if (c < 0x20) return 0; /* GPCNN_JSON_END and GPCNN_JSON_BAD too */
    gpcnn_json_advance(t);
    if (c == '\\') {
      int32_t kind = t->now;
      gpcnn_json_advance(t);
      if (kind == 'u') {
        c = take_hex4(t);
        if (c >= 0xd800 && c < 0xe000) {
          if (c >= 0xdc00 || !take(t, '\\') || !take(t, 'u')) return 0;
          c = take_hex4(t);
          if (c < 0xdc00 || c > 0xdfff) return 0;
          c = 0x10000; /* which one does not matter */
        }
      } else {
        c = short_escape(kind);
      }
      if (c == GPCNN_JSON_BAD) return 0;
    }
    if (c < 0x20 || c > 0x7e || length == GPCNN_JSON_WORD - 1) plain = 0;
    else word[length++] = (char)c;
  }
  gpcnn_json_advance(t);
  word[plain ? length : 0] = 0;
  return 1;
}

static int digit(const gpcnn_json *t) { return t->now >= '0' && t->now <= '9'; }

int gpcnn_json_number(gpcnn_json *t, int64_t *value) {
  int negative = take(t, '-'), integer = 1;
  int64_t sum = 0;
  if (!digit(t)) return 0;
  if (!take(t, '0')) {
    for (; digit(t); gpcnn_json_advance(t)) {
      sum = sum * 10 + (t->now - '0');
      if (sum > (int64_t)1 << 53) sum = (int64_t)1 << 53;
    }
  }
  if (take(t, '.')) {
    integer = 0;
    if (!digit(t)) return 0;
    while (digit(t)) gpcnn_json_advance(t);
  }
  if (t->now == 'e' || t->now == 'E') {
    integer = 0;
    gpcnn_json_advance(t);
    if (!take(t, '+')) take(t, '-');
    if (!digit(t)) return 0;
    while (digit(t)) gpcnn_json_advance(t);
  }
  *value = !integer || (negative && sum) ? -1 : sum;
  return 1;
}

static int take_literal(gpcnn_json *t, const char *literal) {
  for (; *literal; literal++)
    if (!take(t, *literal)) return 0;
  return 1;
}

/* Passes over a key and its colon, to the value. */
static int read_key(gpcnn_json *t, char word[GPCNN_JSON_WORD]) {
  gpcnn_json_space(t);
  if (!gpcnn_json_string(t, word)) return 0;
  gpcnn_json_space(t);
  return take(t, ':');
}

/* Passes over any value that stands `depth` deep; 0 if it is no JSON, or nested too deeply. */
static int skip_value(gpcnn_json *t, int depth) {
  uint64_t objects = 0; /* bit d: what is open at depth d is an object */
  const int outside = depth;
  char word[GPCNN_JSON_WORD];
  int64_t number;
  for (;;) {
    gpcnn_json_space(t);
    int32_t c = t->now;
    if (c == '{' || c == '[') {
      if (depth == MAX_DEPTH) return 0;
      gpcnn_json_advance(t);
      gpcnn_json_space(t);
      if (!take(t, c == '{' ? '}' : ']')) {
        objects = c == '{' ? objects | (uint64_t)1 << depth : objects & ~((uint64_t)1 << depth);
        depth++;
        if (c == '{' && !read_key(t, word)) return 0;
        continue;
      }
    } else if (c == '"') {
      if (!gpcnn_json_string(t, word)) return 0;
    } else if (c == '-' || digit(t)) {
      if (!gpcnn_json_number(t, &number)) return 0;
    } else if (!take_literal(t, c == 't' ? "true" : c == 'f' ? "false" : "null")) {
      return 0;
    }
    for (;;) { /* a value is complete: what comes next, or closes */
      if (depth == outside) return 1;
      int object = objects >> (depth - 1) & 1;
      gpcnn_json_space(t);
      if (take(t, ',')) {
        if (object && !read_key(t, word)) return 0;
        break;
      }
      if (!take(t, object ? '}' : ']')) return 0;
      depth--;
    }
  }
}

int gpcnn_json_object(gpcnn_json *t, int depth, const char *const *names, int count, gpcnn_json *values, int *others) {
  char word[GPCNN_JSON_WORD];
  for (int i = 0; i < count; i++) values[i].now = GPCNN_JSON_BAD;
  *others = 0;
  gpcnn_json_space(t);
  if (!take(t, '{')) return 0;
  gpcnn_json_space(t);
  if (take(t, '}')) return 1;
  do {
    if (!read_key(t, word)) return 0;
    gpcnn_json_space(t);
    int known = 0;
    for (int i = 0; i < count; i++) {
      if (!same_text(word, names[i])) continue;
      if (values[i].now != GPCNN_JSON_BAD) return 0;
      values[i] = *t;
      known = 1;
    }
    *others += !known;
    if (!skip_value(t, depth + 1)) return 0;
    gpcnn_json_space(t);
  } while (take(t, ','));
  return take(t, '}');
}
