/* What the products of exported C have in common: nonzero inputs, and sums that become values of the output's grid. */
#ifndef SEN_INTEGER_SUMS_H
#define SEN_INTEGER_SUMS_H

#include "integer.h"

/* export: integer_sums, needs integer_types */
/* Microcontrollers whose inner loops are in assembly, because compilers keep their sums in memory. Results are the same. */
#if defined(__GNUC__) && defined(__OPTIMIZE__) && defined(__thumb__) && !defined(__ARM_BIG_ENDIAN) && !defined(SEN_NO_ASSEMBLY)
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define SEN_HELIUM
#elif defined(__thumb2__) && defined(__ARM_FEATURE_SIMD32)
#define SEN_THUMB2
#define SEN_DSP
#elif defined(__thumb2__)
#define SEN_THUMB2
#else
#define SEN_THUMB1
#endif
#endif

/* A nonzero input: where its weights begin, and its value. */
typedef struct sen_active {
    uint32_t offset, value;
} sen_active;

/* Inputs that are multiplied together: sums of as many products of bytes stay below 2^24. */
#define SEN_ACTIVE 256u

/* Whether four inputs can be read as a word, the first in its lowest byte, and their address then. */
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && !defined(__AVR__)
#ifdef __ARM_FEATURE_UNALIGNED
#define SEN_READS_FOUR(x) 1
#define SEN_FOUR(x) (x)
#else
#define SEN_READS_FOUR(x) ((uintptr_t)(x) % 4 == 0)
#define SEN_FOUR(x) __builtin_assume_aligned(x, 4)
#endif
#endif

/* Nonzero inputs from column `*first` on, with offsets of 4 for each column: up to SEN_ACTIVE. Returns their end; `*first` is the
 * first column that is not among them, and `*total` grows by their sum. */
SEN_INLINE sen_active *sen_find_active(const uint8_t *x, uint32_t columns, uint32_t *first, sen_active *active, uint32_t *total)
{
    const sen_active *const end = active + SEN_ACTIVE;
    uint32_t column = *first, sum = *total;
#ifdef SEN_READS_FOUR
    const uint32_t stop = SEN_READS_FOUR(x + column) ? columns : 0;
    for (; column + 4 <= stop && active + 4 <= end; column += 4) {
        uint32_t four, offset = 4 * column;
        memcpy(&four, SEN_FOUR(x + column), sizeof four);
        for (; four; four >>= 8, offset += 4) {
            const uint32_t value = four & 255u;
            if (value) {
                active->offset = offset;
                active->value = value;
                active++;
                sum += value;
            }
        }
    }
#endif
    for (; column < columns && active != end; column++) {
        const uint32_t value = x[column];
        if (value) {
            active->offset = 4 * column;
            active->value = value;
            active++;
            sum += value;
        }
    }
    *first = column;
    *total = sum;
    return active;
}

/* The upper half of a product; b >= 0. Processors without an instruction for it multiply parts of 16 bits. */
SEN_INLINE int32_t sen_upper_half(int32_t a, int32_t b)
{
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__) || defined(__AVR__)
    const uint32_t a_low = (uint32_t)a & 0xFFFFu, b_low = (uint32_t)b & 0xFFFFu;
    const int32_t a_high = a >> 16, b_high = b >> 16;
    const int32_t first = a_high * (int32_t)b_low + (int32_t)(a_low * b_low >> 16);
    const int32_t second = (int32_t)a_low * b_high + (int32_t)((uint32_t)first & 0xFFFFu);
    return a_high * b_high + (first >> 16) + (second >> 16);
#else
    return (int32_t)((int64_t)a * b >> 32);
#endif
}

/* y = values of sums, to each of which `added` and the bias of its row are added. */
SEN_INLINE void requantize_sums(const sen_integer_weights *w, const int32_t *sums, int32_t added, uint8_t *y)
{
    const int32_t *bias = w->bias, *multiplier = w->multiplier;
    const uint8_t *shift = w->shift;
    const uint32_t prescale = w->prescale;
    uint32_t rows = w->rows;
#ifdef SEN_HELIUM
    const int32_t zero = w->zero;
    __asm__ volatile(
        "vmov.i32 q2, #0\n vmov.i32 q3, #255\n dlstp.32 lr, %[rows]\n"
        "1: vldrw.32 q0, [%[sums]], #16\n vldrw.32 q1, [%[bias]], #16\n vadd.i32 q0, q0, q1\n vadd.i32 q0, q0, %[added]\n"
        "vshl.s32 q0, %[prescale]\n vldrw.32 q1, [%[multiplier]], #16\n vmulh.s32 q0, q0, q1\n"
        "vldrb.u32 q1, [%[shift]], #4\n vmvn q1, q1\n vrshl.s32 q0, q0, q1\n vadd.i32 q0, q0, %[zero]\n"
        "vmax.s32 q0, q0, q2\n vmin.s32 q0, q0, q3\n vstrb.32 q0, [%[y]], #4\n letp lr, 1b\n"
        : [sums] "+r"(sums), [bias] "+r"(bias), [multiplier] "+r"(multiplier), [shift] "+l"(shift), [y] "+l"(y)
        : [rows] "r"(rows), [added] "r"(added), [prescale] "r"(prescale), [zero] "r"(zero)
        : "cc", "memory", "lr", "q0", "q1", "q2", "q3");
#else
    const int32_t half = 2 * w->zero + 1;
    for (; rows > 0; rows--) {
        const uint32_t sum = (uint32_t)(*sums++ + added + *bias++) << prescale;
        const int32_t value = ((sen_upper_half((int32_t)sum, *multiplier++) >> *shift++) + half) >> 1;
#ifdef SEN_DSP
        uint32_t clipped;
        __asm__("usat %0, #8, %1" : "=r"(clipped) : "r"(value));
        *y++ = (uint8_t)clipped;
#else
        *y++ = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
#endif
    }
#endif
}
/* end */

#endif
