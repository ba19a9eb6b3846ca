#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

/* Bytes of the UTF-8 sequence at `at`, or 0 if there is none: RFC 3629, section 4. */
static size_t sequence(const unsigned char *at)
{
    const unsigned char lead = at[0];
    const size_t count = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    size_t i;
    for (i = 1; i < count; i++)
        if ((at[i] & 0xc0) != 0x80) /* the zero at the end as well */
            return 0;
    if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f) /* too long; a surrogate */
        || (lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f)) /* too long; beyond U+10FFFF */
        return 0;
    return count;
}

static void quoted(FILE *file, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    (void)fputc('"', file);
    while (*at) {
        const size_t count = sequence(at);
        if (count == 0)
            (void)fputs("\\ufffd", file);
        else if (*at == '"' || *at == '\\')
            (void)fprintf(file, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            (void)fprintf(file, "\\u%04x", (unsigned)*at);
        else
            (void)fwrite(at, 1, count, file);
        at += count ? count : 1;
    }
    (void)fputc('"', file);
}

static void new_line(const json *out)
{
    (void)fprintf(out->file, "\n%*s", 2 * out->depth, "");
}

/* What comes before a value: a comma, white space, the key. */
static void before(json *out, const char *key)
{
    const int level = out->depth - 1;
    if (level >= 0) {
        if (!out->is_empty[level])
            (void)fputc(',', out->file);
        if (!out->is_flat[level])
            new_line(out);
        else if (!out->is_empty[level])
            (void)fputc(' ', out->file);
        out->is_empty[level] = 0;
    }
    if (key) {
        quoted(out->file, key);
        (void)fputs(": ", out->file);
    }
}

static void begin(json *out, const char *key, char start, char end, int is_flat)
{
    before(out, key);
    (void)fputc(start, out->file);
    out->is_empty[out->depth] = 1;
    out->is_flat[out->depth] = is_flat;
    out->ends[out->depth++] = end;
}

void json_object(json *out, const char *key)
{
    begin(out, key, '{', '}', 0);
}

void json_array(json *out, const char *key)
{
    begin(out, key, '[', ']', 0);
}

void json_flat_array(json *out, const char *key)
{
    begin(out, key, '[', ']', 1);
}

void json_end(json *out)
{
    const int level = --out->depth;
    if (!out->is_empty[level] && !out->is_flat[level])
        new_line(out);
    (void)fputc(out->ends[level], out->file);
    if (level == 0)
        (void)fputc('\n', out->file);
}

void json_text(json *out, const char *key, const char *text)
{
    before(out, key);
    quoted(out->file, text);
}

void json_number(json *out, const char *key, double number)
{
    before(out, key);
    if (isfinite(number))
        (void)fprintf(out->file, "%.17g", number);
    else
        (void)fputs("null", out->file);
}

void json_integer(json *out, const char *key, int64_t number)
{
    before(out, key);
    (void)fprintf(out->file, "%" PRId64, number);
}

void json_bool(json *out, const char *key, int value)
{
    before(out, key);
    (void)fputs(value ? "true" : "false", out->file);
}

void json_null(json *out, const char *key)
{
    before(out, key);
    (void)fputs("null", out->file);
}
