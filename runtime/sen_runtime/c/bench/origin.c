/* Which model an image is of: what its metadata say it was made from. docs/reference/sen-image.md describes both. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* Of the section table: where it starts, bytes of a row, and the kind of the metadata. */
#define TABLE 64u
#define TABLE_ROW 48u
#define METADATA 2u

/* A JSON text without its quotes, escapes as they are; a null start where there is none. */
typedef struct json_string {
    const char *start;
    size_t size;
} json_string;

static uint64_t read_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    int i;
    for (i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static json_string next_string(const char **at, const char *end)
{
    json_string found = {NULL, 0};
    const char *here = memchr(*at, '"', (size_t)(end - *at));
    if (!here)
        return found;
    found.start = ++here;
    while (here < end && *here != '"')
        here += *here == '\\' && end - here > 1 ? 2 : 1;
    found.size = (size_t)(here - found.start);
    *at = here < end ? here + 1 : end;
    return found;
}

static int is_key(json_string text, const char *key)
{
    return text.size == strlen(key) && memcmp(text.start, key, text.size) == 0;
}

/* The library has checked the section table: row 1 may be metadata, and lies within the image. */
char *bench_read_origin(const uint8_t *image)
{
    const uint8_t *section = image + TABLE + TABLE_ROW;
    json_string source = {NULL, 0}, compression = {NULL, 0}, key, value;
    const char *at, *end;
    char *found;
    if (image[12] < 2 && !image[13] && !image[14] && !image[15])
        return NULL;
    if (section[0] != METADATA)
        return NULL;
    at = (const char *)image + read_u64(section + 8);
    end = at + read_u64(section + 16);
    for (;;) {
        key = next_string(&at, end);
        value = next_string(&at, end);
        if (!key.start || !value.start)
            break;
        if (is_key(key, "checkpoint_sha256") || (is_key(key, "image_sha256") && !source.start))
            source = value;
        else if (is_key(key, "compression"))
            compression = value;
    }
    if (!source.start)
        return NULL;
    found = malloc(source.size + compression.size + 2);
    if (!found)
        return NULL; /* not known */
    memcpy(found, source.start, source.size);
    found[source.size] = ' ';
    if (compression.start)
        memcpy(found + source.size + 1, compression.start, compression.size);
    found[source.size + compression.size + 1] = 0;
    return found;
}
