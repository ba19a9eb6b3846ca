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

/* Of loops that need all registers. */
#ifdef __GNUC__
#define SEN_NOINLINE __attribute__((noinline))
#else
#define SEN_NOINLINE
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
    for (; column + 4 <= stop; column += 4) {
        uint32_t four, offset = 4 * column;
        memcpy(&four, SEN_FOUR(x + column), sizeof four);
        if (four == 0)
            continue;
        if (end - active < 4)
            break;
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

/* Sets `rows` sums to 0, a multiple of four. Some C libraries for microcontrollers have a memset that writes single bytes. */
SEN_INLINE void sen_clear_sums(uint32_t *sums, uint32_t rows)
{
#ifdef __OPTIMIZE_SIZE__
    memset(sums, 0, rows * sizeof *sums);
#else
    const uint32_t *const end = sums + rows;
    for (; sums != end; sums += 4) {
        sums[0] = 0;
        sums[1] = 0;
        sums[2] = 0;
        sums[3] = 0;
    }
#endif
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
static SEN_NOINLINE void requantize_sums(const sen_integer_weights *w, const int32_t *sums, int32_t added, uint8_t *y)
{
    const SEN_FLASH int32_t *row = w->bias_multiplier;
    const SEN_FLASH uint8_t *shift = w->shift;
    const uint8_t *const end = y + w->rows;
    const uint32_t prescale = w->prescale;
    const int32_t half = 2 * w->zero + 1; /* twice: the value is rounded after `zero` is added */
#ifdef SEN_HELIUM
    const uint32x4_t first = vidupq_n_u32(0, 8), second = vaddq_n_u32(first, 4);
    __asm__ volatile(
        "vmov.i32 q2, #0\n vmov.i32 q3, #255\n dlstp.32 lr, %[rows]\n"
        "1: vldrw.32 q0, [%[sums]], #16\n vldrw.32 q1, [%[row], %q[first]]\n vadd.i32 q0, q0, q1\n vadd.i32 q0, q0, %[added]\n"
        "vshl.s32 q0, %[prescale]\n vldrw.32 q1, [%[row], %q[second]]\n vmulh.s32 q0, q0, q1\n adds %[row], #32\n"
        "vldrb.u32 q1, [%[shift]], #4\n vneg.s32 q1, q1\n vshl.s32 q0, q0, q1\n vadd.i32 q0, q0, %[half]\n vshr.s32 q0, q0, #1\n"
        "vmax.s32 q0, q0, q2\n vmin.s32 q0, q0, q3\n vstrb.32 q0, [%[y]], #4\n letp lr, 1b\n"
        : [sums] "+r"(sums), [row] "+l"(row), [shift] "+l"(shift), [y] "+l"(y)
        : [rows] "r"(end - y), [added] "r"(added), [prescale] "r"(prescale), [half] "r"(half), [first] "w"(first), [second] "w"(second)
        : "cc", "memory", "lr", "q0", "q1", "q2", "q3");
#elif defined(SEN_THUMB2)
    int32_t value, bias, multiplier;
    if (y == end)
        return;
    __asm__ volatile(
        "1: ldr %[value], [%[sums]], #4\n ldrd %[bias], %[multiplier], [%[row]], #8\n add %[value], %[added]\n add %[value], %[bias]\n"
        "lsl %[value], %[prescale]\n smull %[bias], %[value], %[value], %[multiplier]\n ldrb %[bias], [%[shift]], #1\n"
        "asr %[value], %[bias]\n add %[value], %[half]\n usat %[value], #8, %[value], asr #1\n"
        "strb %[value], [%[y]], #1\n cmp %[y], %[end]\n bne 1b\n"
        : [sums] "+r"(sums), [row] "+r"(row), [shift] "+r"(shift), [y] "+r"(y), [value] "=&r"(value), [bias] "=&r"(bias),
          [multiplier] "=&r"(multiplier)
        : [added] "r"(added), [prescale] "r"(prescale), [half] "r"(half), [end] "r"(end)
        : "cc", "memory");
#elif defined(SEN_THUMB1)
    const uint32_t high[6] = {
        (uint32_t)added, prescale, (uint32_t)(uintptr_t)shift, (uint32_t)half, (uint32_t)(uintptr_t)y, (uint32_t)(uintptr_t)end};
    const uint32_t *part = high; /* to be copied; then a part of the product, which is that of sen_upper_half */
    if (y == end)
        return;
    __asm__ volatile(
        ".syntax unified\n ldmia %[part]!, {r2, r3, r4, r5}\n mov r8, r2\n mov r9, r3\n mov r10, r4\n mov r11, r5\n"
        "ldmia %[part]!, {r2, r3}\n mov r12, r2\n mov lr, r3\n"
        "1: ldmia %[sums]!, {r3}\n ldmia %[row]!, {r4, r5}\n adds r3, r3, r4\n add r3, r8\n mov r4, r9\n lsls r3, r4\n"
        "uxth r4, r3\n asrs r3, r3, #16\n uxth %[part], r5\n asrs r5, r5, #16\n movs r2, r4\n muls r2, %[part]\n"
        "lsrs r2, r2, #16\n muls %[part], r3\n adds r2, r2, %[part]\n muls r3, r5\n muls r4, r5\n"
        "asrs %[part], r2, #16\n adds r3, r3, %[part]\n uxth r2, r2\n adds r2, r2, r4\n asrs r2, r2, #16\n adds r3, r3, r2\n"
        "mov r2, r10\n ldrb r4, [r2]\n adds r2, #1\n mov r10, r2\n asrs r3, r4\n add r3, r11\n asrs r3, r3, #1\n"
        "cmp r3, #255\n bls 2f\n asrs r3, r3, #31\n mvns r3, r3\n"
        "2: mov r2, r12\n strb r3, [r2]\n adds r2, #1\n mov r12, r2\n cmp r2, lr\n bne 1b\n"
        : [sums] "+l"(sums), [row] "+l"(row), [part] "+l"(part)
        :
        : "cc", "memory", "r2", "r3", "r4", "r5", "r8", "r9", "r10", "r11", "r12", "lr");
#else
    while (y != end) {
        const int32_t bias = *row++, multiplier = *row++;
        const uint32_t sum = ((uint32_t)*sums++ + (uint32_t)added + (uint32_t)bias) << prescale; /* it may carry on the way */
        int32_t value = ((sen_upper_half((int32_t)sum, multiplier) >> *shift++) + half) >> 1;
        if ((uint32_t)value > 255u) { /* rare, and also less than 0 */
            if (value < 0)
                value = 0;
            else
                value = 255;
        }
        *y++ = (uint8_t)value;
    }
#endif
}
/* end */

#endif
