/* How the records of an image are read: docs/reference/sen-image.md. */
#ifndef SEN_RECORDS_H
#define SEN_RECORDS_H

#include "internal.h"

#include <string.h>

enum { HEADER_BYTES = 64, SECTION_BYTES = 48, PROGRAM_BYTES = 32, LAYER_BYTES = 32, OPERATOR_BYTES = 64 };
enum { KIND_PROGRAM = 1, KIND_METADATA = 2, KIND_TENSOR = 3 };
enum { CHECKSUM_OFFSET = 24 };

static inline uint32_t u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static inline uint64_t u64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static inline float f32(const uint8_t *bytes)
{
    float value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static inline int all_zero(const uint8_t *bytes, size_t count)
{
    while (count--)
        if (*bytes++)
            return 0;
    return 1;
}

/* container.c: every rule of the header and of the section table; padding is not looked at. */
sen_status sen_check_container(const uint8_t *bytes, size_t size, unsigned flags);

#endif
