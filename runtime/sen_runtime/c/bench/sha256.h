/* SHA-256 as in FIPS 180-4. */
#ifndef SEN_BENCH_SHA256_H
#define SEN_BENCH_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* The digest of `count` bytes as 64 lower-case digits and a zero. */
void sha256_text(const uint8_t *bytes, size_t count, char text[65]);

#endif
