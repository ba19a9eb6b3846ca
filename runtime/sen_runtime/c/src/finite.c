/* Rejection of inputs that hold NaN or infinity: ReLU and the rounding to int8 turn both into numbers. */
#include "pairs.h"

#ifndef SEN_ISA

/* export: sen_is_finite, needs pairs */
#define FINITE_BLOCK 64u

/* Exponent bits are tested as integers: -ffast-math removes comparisons of floats, and they are slow without an FPU. Adding
 * one to an exponent of all ones carries into the sign bit. */
static inline uint32_t carry_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7F800000u) + 0x00800000u;
}

#ifdef SEN_PAIRS

/* Whether no exponent of four floats is all ones: twice their bits, without the sign, are less than `limit`. */
SEN_TOGETHER int are_finite(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t limit)
{
    __asm__ goto(
        "cmp %0, %1, lsl #1\n\tittt hi\n\tcmphi %0, %2, lsl #1\n\tcmphi %0, %3, lsl #1\n\tcmphi %0, %4, lsl #1\n\tbls %l5"
        : : "r"(limit), "r"(a), "r"(b), "r"(c), "r"(d) : "cc" : nonfinite);
    return 1;
nonfinite:
    return 0;
}

static int eights_are_finite(const float *x, size_t n)
{
    const void *from = x, *const end = x + (n - n % 8);
    const uint32_t limit = 0xFF000000u;
    while (from != end) {
        uint32_t a, b, c, d;
        from = load_four(from, &a, &b, &c, &d);
        if (!are_finite(a, b, c, d, limit))
            return 0;
        from = load_four(from, &a, &b, &c, &d);
        if (!are_finite(a, b, c, d, limit))
            return 0;
    }
    return 1;
}

#endif

/* Blocks of a constant size are what compilers vectorize at -O2. */
SEN_PRIVATE int sen_is_finite(const float *x, size_t count)
{
    uint32_t carries = 0;
    size_t i = 0;
#ifdef SEN_PAIRS
    if (!eights_are_finite(x, count))
        return 0;
    i = count - count % 8;
#else
    for (; count - i >= FINITE_BLOCK; i += FINITE_BLOCK) {
        uint32_t of_block = 0, k;
        for (k = 0; k < FINITE_BLOCK; k++)
            of_block |= carry_of(x[i + k]);
        carries |= of_block;
    }
#endif
    for (; i < count; i++)
        carries |= carry_of(x[i]);
    return carries >> 31 == 0;
}
/* end */

#elif defined(__ARM_NEON)

#include "vector.h"

/* A sum of products is not finite if a factor is not. Where it is not, each value is checked: it may have overflowed. Built
 * without -ffast-math, unlike exported C. */
int SEN_NAME(sen_is_finite)(const float *x, size_t count)
{
    const float *const start = x, *const end = x + count, *const whole = end - count % 16, *const fours = end - count % 64;
    float32x4_t sum[4];
    float total;
    int k, pair;
    for (k = 0; k < 4; k++)
        sum[k] = vdupq_n_f32(0);
    while (x != fours)
        for (pair = 0; pair < 2; pair++) {
            const float32x4x4_t a = load_16(&x), b = load_16(&x);
            for (k = 0; k < 4; k++)
                sum[k] = vfmaq_f32(sum[k], a.val[k], b.val[k]);
        }
    while (x != whole) {
        const float32x4x4_t a = load_16(&x);
        sum[0] = vfmaq_f32(sum[0], a.val[0], a.val[1]);
        sum[1] = vfmaq_f32(sum[1], a.val[2], a.val[3]);
    }
    total = vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
    while (x != end)
        total += *x++ * 0.0f;
    return total * 0.0f == 0 || sen_is_finite(start, count);
}

#endif
