/* The image as a container: its header, its checksum, and its table of sections. */
#include "internal.h"

/* CRC-32 of zlib, four bits at a time: 64 bytes of table instead of 1024. */
static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t count)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    crc = ~crc;
    while (count--) {
        crc ^= *bytes++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

static sen_status check_header(const uint8_t *bytes, size_t size, unsigned flags)
{
    static const uint8_t magic[8] = {0x89, 'S', 'E', 'N', '\r', '\n', 0x1a, '\n'};
    static const uint8_t zeros[sizeof(uint32_t)] = {0};
    const image_header *head = (const image_header *)(const void *)bytes;
    if (size < sizeof *head)
        return SEN_TRUNCATED;
    if (memcmp(head->magic, magic, sizeof magic) != 0)
        return SEN_MAGIC;
    if (head->version < 1 || head->version > SEN_VERSION_WITH_DELAYS)
        return SEN_VERSION;
    if (head->header_bytes != sizeof *head || head->sections == 0 || !all_zero(head->reserved, sizeof head->reserved))
        return SEN_HEADER;
    if (head->file_bytes != size)
        return SEN_TRUNCATED;
    if (flags & SEN_CHECK_CHECKSUM) {
        uint32_t crc = crc32(0, bytes, offsetof(image_header, checksum));
        crc = crc32(crc, zeros, sizeof zeros);
        crc = crc32(crc, head->reserved, size - offsetof(image_header, reserved));
        if (crc != head->checksum)
            return SEN_CHECKSUM;
    }
    return SEN_OK;
}

/* Whether `rank` sizes and a type need exactly the bytes of the section. */
static int fits(const section_row *row)
{
    const uint32_t width = sen_width(row->dtype);
    uint64_t count = 1;
    uint32_t axis;
    if (width == 0 || row->rank < 1 || row->rank > 3)
        return 0;
    for (axis = 0; axis < 3; axis++) {
        const uint64_t length = row->shape[axis];
        if (axis >= row->rank) {
            if (length != 0)
                return 0;
        } else if (length != 0 && count > UINT64_MAX / length / 8) {
            return 0;
        } else {
            count *= length;
        }
    }
    return count * width == row->nbytes;
}

static sen_status check_sections(const uint8_t *bytes, uint64_t size, uint32_t sections)
{
    uint64_t end = sizeof(image_header) + (uint64_t)sizeof(section_row) * sections;
    uint32_t index;
    if (end > size)
        return SEN_SECTION;
    for (index = 0; index < sections; index++) {
        const section_row *row = section_at(bytes, index);
        const uint32_t kind = row->kind;
        const uint64_t expected = (end + SEN_ALIGNMENT - 1) / SEN_ALIGNMENT * SEN_ALIGNMENT;
        if (row->offset != expected || row->offset > size || row->nbytes > size - row->offset || row->reserved != 0)
            return SEN_SECTION;
        if (index == 0 ? kind != KIND_PROGRAM : kind != KIND_TENSOR && !(index == 1 && kind == KIND_METADATA))
            return SEN_SECTION;
        if (kind == KIND_TENSOR ? !fits(row) : row->dtype || row->rank || !all_zero(row->shape, sizeof row->shape))
            return SEN_SECTION;
        end = row->offset + row->nbytes;
    }
    return end == size ? SEN_OK : SEN_TRUNCATED;
}

sen_status sen_check_container(const uint8_t *bytes, size_t size, unsigned flags)
{
    const sen_status status = check_header(bytes, size, flags);
    return status == SEN_OK ? check_sections(bytes, size, ((const image_header *)(const void *)bytes)->sections) : status;
}
