#include "recorder.h"

void write_text(FILE *out, const void *bytes, size_t size)
{
    const unsigned char *at = bytes, *end = at + size;
    (void)fputc('"', out);
    for (; at < end; at++)
        if (*at == '"' || *at == '\\')
            (void)fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at > 0x7e)
            (void)fprintf(out, "\\u%04x", *at);
        else
            (void)fputc(*at, out);
    (void)fputc('"', out);
}

/* RFC 4648, section 4. */
void write_base64(FILE *out, const void *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = bytes;
    size_t i, k;
    (void)fputc('"', out);
    for (i = 0; i < size; i += 3) {
        unsigned long group = 0;
        for (k = 0; k < 3; k++)
            group = group << 8 | (i + k < size ? at[i + k] : 0u);
        for (k = 0; k < 4; k++)
            (void)fputc(i + k <= size ? digits[group >> (18 - 6 * k) & 63] : '=', out);
    }
    (void)fputc('"', out);
}
