/* Writes JSON. A member of an object has a key, an item of an array none: null. Strings may hold anything: what is not
 * UTF-8 becomes U+FFFD. Numbers have all their digits; those that are not finite become null. */
#ifndef SEN_BENCH_JSON_H
#define SEN_BENCH_JSON_H

#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH 16

typedef struct json {
    FILE *file;
    int depth;
    int is_empty[JSON_DEPTH], is_flat[JSON_DEPTH];
    char ends[JSON_DEPTH];
} json;

void json_object(json *out, const char *key);
void json_array(json *out, const char *key);
/* An array on one line, for numbers. */
void json_flat_array(json *out, const char *key);
void json_end(json *out);

void json_text(json *out, const char *key, const char *text);
void json_number(json *out, const char *key, double number);
void json_integer(json *out, const char *key, int64_t number);
void json_bool(json *out, const char *key, int value);
void json_null(json *out, const char *key);

#endif
