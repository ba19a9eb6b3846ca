/* The image as a container: its header, its checksum, and its table of sections. */
#include "records.h"

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
    static const uint8_t zeros[4] = {0, 0, 0, 0};
    if (size < HEADER_BYTES)
        return SEN_TRUNCATED;
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return SEN_MAGIC;
    if ((u32(bytes + 8) & 0xFFFFu) != 1)
        return SEN_VERSION;
    if (u32(bytes + 8) >> 16 != HEADER_BYTES || u32(bytes + 12) == 0 || !all_zero(bytes + 28, 36))
        return SEN_HEADER;
    if (u64(bytes + 16) != size)
        return SEN_TRUNCATED;
    if (flags & SEN_CHECK_CHECKSUM) {
        uint32_t crc = crc32(0, bytes, CHECKSUM_OFFSET);
        crc = crc32(crc, zeros, sizeof zeros);
        crc = crc32(crc, bytes + CHECKSUM_OFFSET + 4, size - CHECKSUM_OFFSET - 4);
        if (crc != u32(bytes + CHECKSUM_OFFSET))
            return SEN_CHECKSUM;
    }
    return SEN_OK;
}

/* Bytes of a value of this type, or 0 if there is no such type. */
static uint32_t value_bytes(uint32_t dtype)
{
    static const uint8_t bytes[] = {0, 4, 2, 1, 4, 2};
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* Whether `rank` sizes and a type need exactly `bytes`. */
static int fits(const uint8_t *row, uint64_t bytes)
{
    const uint32_t width = value_bytes(u32(row + 4)), rank = u32(row + 24);
    uint64_t count = 1;
    uint32_t axis;
    if (width == 0 || rank < 1 || rank > 3)
        return 0;
    for (axis = 0; axis < 3; axis++) {
        const uint64_t length = u32(row + 28 + 4 * axis);
        if (axis >= rank) {
            if (length != 0)
                return 0;
        } else if (length != 0 && count > UINT64_MAX / length / 8) {
            return 0;
        } else {
            count *= length;
        }
    }
    return count * width == bytes;
}

static sen_status check_sections(const uint8_t *bytes, uint64_t size, uint32_t sections)
{
    uint64_t end = HEADER_BYTES + (uint64_t)SECTION_BYTES * sections;
    uint32_t index;
    if (end > size)
        return SEN_SECTION;
    for (index = 0; index < sections; index++) {
        const uint8_t *row = bytes + HEADER_BYTES + (size_t)SECTION_BYTES * index;
        const uint32_t kind = u32(row);
        const uint64_t offset = u64(row + 8), length = u64(row + 16);
        const uint64_t expected = (end + SEN_ALIGNMENT - 1) / SEN_ALIGNMENT * SEN_ALIGNMENT;
        if (offset != expected || offset > size || length > size - offset || u64(row + 40) != 0)
            return SEN_SECTION;
        if (index == 0 ? kind != KIND_PROGRAM : kind != KIND_TENSOR && !(index == 1 && kind == KIND_METADATA))
            return SEN_SECTION;
        if (kind == KIND_TENSOR ? !fits(row, length) : u32(row + 4) != 0 || !all_zero(row + 24, 16))
            return SEN_SECTION;
        end = offset + length;
    }
    return end == size ? SEN_OK : SEN_TRUNCATED;
}

sen_status sen_check_container(const uint8_t *bytes, size_t size, unsigned flags)
{
    const sen_status status = check_header(bytes, size, flags);
    return status == SEN_OK ? check_sections(bytes, size, u32(bytes + 12)) : status;
}
