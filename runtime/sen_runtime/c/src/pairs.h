/* Integer products with the instructions for pairs of int16 of Cortex-M4, M7, M33 and similar processors. A word of four int8
 * splits into two pairs, its even bytes and its odd bytes. sen_quantize stores inputs in that order, so two multiplications
 * take four weights as they lie in memory. */
#ifndef SEN_PAIRS_H
#define SEN_PAIRS_H

#include "network.h"

/* export: pairs */
#ifdef SEN_PAIRS

/* Not inlined: its loop needs every register. */
#define SEN_ALONE static __attribute__((noinline))

/* A few instructions, inlined even at -Os. */
#define SEN_TOGETHER static inline __attribute__((always_inline, unused))

/* Hides a pointer's history from the compiler, which would otherwise compute its value after a loop from the number of
 * iterations; that costs more than incrementing it. */
#define SEN_HIDE(variable) __asm__("" : "+r"(variable))

/* Two to four words, or floats, from an address that is a multiple of 4; returns the address behind them. gcc 12 loads them one
 * by one, and there is no intrinsic. The instructions take registers in rising order. */
SEN_TOGETHER const void *load_two(const void *from, uint32_t *a, uint32_t *b)
{
    __asm__ volatile("ldrd %1, %2, [%0], #8" : "+r"(from), "=r"(*a), "=r"(*b) : : "memory");
    return from;
}

SEN_TOGETHER const void *load_three(const void *from, uint32_t *a, uint32_t *b, uint32_t *c)
{
    register uint32_t r4 __asm__("r4"), r5 __asm__("r5"), r6 __asm__("r6");
    __asm__ volatile("ldmia %0!, {%1, %2, %3}" : "+r"(from), "=r"(r4), "=r"(r5), "=r"(r6) : : "memory");
    *a = r4;
    *b = r5;
    *c = r6;
    return from;
}

SEN_TOGETHER const void *load_four(const void *from, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    register uint32_t r4 __asm__("r4"), r5 __asm__("r5"), r6 __asm__("r6"), r8 __asm__("r8");
    __asm__ volatile("ldmia %0!, {%1, %2, %3, %4}" : "+r"(from), "=r"(r4), "=r"(r5), "=r"(r6), "=r"(r8) : : "memory");
    *a = r4;
    *b = r5;
    *c = r6;
    *d = r8;
    return from;
}

SEN_TOGETHER const void *load_floats(const void *from, float x[4])
{
#ifdef __ARM_FP
    register float s0 __asm__("s0"), s1 __asm__("s1"), s2 __asm__("s2"), s3 __asm__("s3");
    __asm__ volatile("vldmia %0!, {%1, %2, %3, %4}" : "+r"(from), "=t"(s0), "=t"(s1), "=t"(s2), "=t"(s3) : : "memory");
    x[0] = s0;
    x[1] = s1;
    x[2] = s2;
    x[3] = s3;
    return from;
#else
    memcpy(x, from, 4 * sizeof *x);
    return (const float *)from + 4;
#endif
}

#endif
/* end */

/* pairs.c: y = act(addend + scale sums) of `count` rows from `first` on. */
void sen_finish_pairs(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t first, const int32_t *sums,
    uint32_t count, float *y);

/* pairs.c: the quantized inputs in their own order, one byte each, written behind the pairs. */
const int8_t *sen_in_order(const sen_input *x, uint32_t n);

/* export: sen_multiply_pairs, needs sen_finish_pairs */
#ifdef SEN_PAIRS

SEN_TOGETHER int32_t even_bytes(uint32_t bytes)
{
    return __sxtb16((int8x4_t)bytes);
}

SEN_TOGETHER int32_t odd_bytes(uint32_t bytes)
{
    int32_t pair; /* no intrinsic rotates */
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
}

/* sum + the products of four weights and inputs. */
SEN_TOGETHER int32_t dot_four(uint32_t weights, uint32_t even, uint32_t odd, int32_t sum)
{
    sum = __smlad(even_bytes(weights), (int16x2_t)even, sum);
    return __smlad(odd_bytes(weights), (int16x2_t)odd, sum);
}

/* First of the values. A matrix without any has a null pointer, to which no offset may be added. */
SEN_TOGETHER const void *values_of(const sen_weights *w)
{
    return w->values ? w->values : w->starts;
}

/* Rows whose sums are kept until they are finished together. */
#define SEN_SUMS 32u

/* Sums of the products of `count` rows from `row` on. */
typedef void sen_sum_rows(const sen_weights *w, const void *inputs, uint32_t row, uint32_t count, int32_t *sums);

/* A sen_multiply whose sums are those of `sum_rows`. */
SEN_TOGETHER void sen_multiply_pairs(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y, sen_sum_rows *sum_rows,
    const void *inputs)
{
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = w->rows - row < SEN_SUMS ? w->rows - row : SEN_SUMS;
        sum_rows(w, inputs, row, count, sums);
        sen_finish_pairs(w, x, addend, is_relu, row, sums, count, y);
    }
}

#endif
/* end */

#endif
