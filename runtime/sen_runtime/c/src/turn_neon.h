/* Rows of a batch turned into columns, and tiles of products back, on NEON. */
#ifndef SEN_TURN_NEON_H
#define SEN_TURN_NEON_H

#include "vector.h"

/* Rows that are turned at a time. */
#define ROWS 16u

static inline void transpose(int32x4_t *row)
{
    const int32x4x2_t upper = vtrnq_s32(row[0], row[1]), lower = vtrnq_s32(row[2], row[3]);
    row[0] = vcombine_s32(vget_low_s32(upper.val[0]), vget_low_s32(lower.val[0]));
    row[1] = vcombine_s32(vget_low_s32(upper.val[1]), vget_low_s32(lower.val[1]));
    row[2] = vcombine_s32(vget_high_s32(upper.val[0]), vget_high_s32(lower.val[0]));
    row[3] = vcombine_s32(vget_high_s32(upper.val[1]), vget_high_s32(lower.val[1]));
}

/* Column j of up to sixteen rows at turned + 16 j, four rows for each of `vectors`. */
static void turn_words(const void *const *rows, uint32_t columns, int vectors, int32_t *turned)
{
    int g, k;
    for (g = 0; g < vectors; g++, rows += 4, turned += 4) {
        const int32_t *const a = rows[0], *const b = rows[1], *const c = rows[2], *const d = rows[3];
        int32_t *to = turned;
        uint32_t j = 0;
        for (; j + 4 <= columns; j += 4, to += 4 * ROWS) {
            int32x4_t four[4] = {vld1q_s32(a + j), vld1q_s32(b + j), vld1q_s32(c + j), vld1q_s32(d + j)};
            transpose(four);
            for (k = 0; k < 4; k++)
                vst1q_s32(to + (int)ROWS * k, four[k]);
        }
        for (; j < columns; j++, to += ROWS) {
            to[0] = a[j];
            to[1] = b[j];
            to[2] = c[j];
            to[3] = d[j];
        }
    }
}

/* The same of int8, with one byte each or two. */
static inline __attribute__((always_inline)) void turn_bytes(
    const void *const *rows, uint32_t columns, int vectors, int8_t *turned, const int bytes_each)
{
    const size_t step = ROWS * (size_t)bytes_each;
    int g, k;
    for (g = 0; g < vectors; g += 2, rows += 8, turned += 8 * bytes_each) {
        int8_t *to = turned;
        uint32_t j = 0;
        for (; j + 8 <= columns; j += 8) {
            int8x8x2_t two[4];
            int16x4x2_t four[4];
            int8x8_t column[8];
            for (k = 0; k < 4; k++)
                two[k] = vtrn_s8(vld1_s8((const int8_t *)rows[2 * k] + j), vld1_s8((const int8_t *)rows[2 * k + 1] + j));
            for (k = 0; k < 4; k++) /* even columns of the first rows, odd ones, and those of the others */
                four[k] = vtrn_s16(
                    vreinterpret_s16_s8(two[k / 2 * 2].val[k % 2]), vreinterpret_s16_s8(two[k / 2 * 2 + 1].val[k % 2]));
            for (k = 0; k < 4; k++) {
                const int32x2x2_t eight = vtrn_s32(
                    vreinterpret_s32_s16(four[k % 2].val[k / 2]), vreinterpret_s32_s16(four[2 + k % 2].val[k / 2]));
                column[k] = vreinterpret_s8_s32(eight.val[0]);
                column[k + 4] = vreinterpret_s8_s32(eight.val[1]);
            }
            for (k = 0; k < 8; k++, to += step)
                if (bytes_each == 1)
                    vst1_s8(to, column[k]);
                else
                    vst1q_s16((int16_t *)(void *)to, vmovl_s8(column[k]));
        }
        for (; j < columns; j++, to += step)
            for (k = 0; k < 8; k++)
                if (bytes_each == 1)
                    to[k] = ((const int8_t *)rows[k])[j];
                else
                    ((int16_t *)(void *)to)[k] = ((const int8_t *)rows[k])[j];
    }
}

/* Sums of sixteen outputs, [16 outputs][16 rows] and then [16 rows][16 outputs]. */
typedef union tile {
    float floats[ROWS * LANES];
    int32_t words[ROWS * LANES];
} tile;

static void turn_back(const tile *from, int vectors, tile *to)
{
    int g, i, k;
    for (g = 0; g < vectors; g++)
        for (i = 0; i < LANES; i += 4) {
            int32x4_t four[4];
            for (k = 0; k < 4; k++)
                four[k] = vld1q_s32(from->words + (i + k) * (int)ROWS + 4 * g);
            transpose(four);
            for (k = 0; k < 4; k++)
                vst1q_s32(to->words + (4 * g + k) * LANES + i, four[k]);
        }
}

#endif
