/* Records of an image as they lie in it, little-endian and aligned: docs/reference/sen-image.md. */
#ifndef SEN_RECORDS_H
#define SEN_RECORDS_H

#include "internal.h"

#include <string.h>

enum { KIND_PROGRAM = 1, KIND_METADATA = 2, KIND_TENSOR = 3 };

typedef struct image_header {
    uint8_t magic[8];
    uint16_t version, header_bytes;
    uint32_t sections;
    uint64_t file_bytes;
    uint32_t checksum; /* of all bytes, with this field 0 */
    uint8_t reserved[36];
} image_header;

typedef struct section_row {
    uint32_t kind, dtype;
    uint64_t offset, nbytes;
    uint32_t rank, shape[3];
    uint64_t reserved;
} section_row;

/* Fails to compile where a compiler pads records. */
typedef char records_have_no_padding
    [sizeof(image_header) == 64 && sizeof(section_row) == 48 && sizeof(sen_program) == 32 && sizeof(sen_layer_record) == 32
             && sizeof(sen_operator_record) == 64
         ? 1
         : -1];

/* Row `index` of the section table. */
static inline const section_row *section_at(const uint8_t *image, uint32_t index)
{
    return (const section_row *)(const void *)(image + sizeof(image_header)) + index;
}

/* Whether all bytes of a field are 0; -0.0 is not. */
static inline int all_zero(const void *field, size_t count)
{
    const uint8_t *bytes = field;
    while (count--)
        if (*bytes++)
            return 0;
    return 1;
}

/* container.c: every rule of the header and of the section table; padding is not looked at. */
sen_status sen_check_container(const uint8_t *bytes, size_t size, unsigned flags);

#endif
