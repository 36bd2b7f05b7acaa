/* JSON inside a JSON string, as a model file's metadata is: a stream of code points, unescaped on the way. No recursion, no
   memory. Functions that return int return 0 for what is no JSON. */
#ifndef GPCNN_JSON_H
#define GPCNN_JSON_H
#include <stdint.h>

enum {
  GPCNN_JSON_WORD = 20, /* longest inner string that is looked at, and one more */
  GPCNN_JSON_END = -1,
  GPCNN_JSON_BAD = -2
};

typedef struct gpcnn_json {
  const uint8_t *at, *end;
  int32_t now; /* code point that was not consumed yet, END behind the closing quote, or BAD: no such string */
} gpcnn_json;

/* Moves to the next code point of the string whose opening quote was passed. */
void gpcnn_json_advance(gpcnn_json *json);
void gpcnn_json_space(gpcnn_json *json);
/* Passes over an inner string; `word` gets it if it is short ASCII, else "", which is no name of ours. */
int gpcnn_json_string(gpcnn_json *json, char word[GPCNN_JSON_WORD]);
/* Passes over a number; *value gets it, and at most 2^53, if it is written as an integer that is not negative, else -1. */
int gpcnn_json_number(gpcnn_json *json, int64_t *value);
/* Passes over an object that stands `depth` deep and notes where the values of `names` begin; their `now` is BAD where a
   name is missing. None of `names` may be there twice. `others` counts names that are not among them. */
int gpcnn_json_object(
    gpcnn_json *json, int depth, const char *const *names, int count, gpcnn_json *values, int *others);
#endif
