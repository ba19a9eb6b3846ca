/* The ends of integer products of pairs (pairs.h), and inputs in their own order. */
#include "pairs.h"

/* export: sen_finish_pairs, needs pairs */
#ifdef SEN_PAIRS

#ifdef __ARM_FP

/* Converts an integer that lies in a floating-point register. */
SEN_TOGETHER float as_float(float bits)
{
    float value;
    __asm__("vcvt.f32.s32 %0, %1" : "=t"(value) : "t"(bits));
    return value;
}

/* Four rows of finish_rows, each with its own scale. */
SEN_TOGETHER void finish_four(
    const float **scale, float input_scale, const int32_t **sums, const float **addend, int has_addend, int is_relu,
    float **y)
{
    register float s0 __asm__("s0"), s1 __asm__("s1"), s2 __asm__("s2"), s3 __asm__("s3");
    float a, b, c, d, x[4];
    *sums = load_floats(*sums, x);
    a = as_float(x[0]);
    b = as_float(x[1]);
    c = as_float(x[2]);
    d = as_float(x[3]);
    *scale = load_floats(*scale, x);
    a = (x[0] * input_scale) * a;
    b = (x[1] * input_scale) * b;
    c = (x[2] * input_scale) * c;
    d = (x[3] * input_scale) * d;
    if (has_addend) {
        *addend = load_floats(*addend, x);
        a = x[0] + a;
        b = x[1] + b;
        c = x[2] + c;
        d = x[3] + d;
    }
    s0 = is_relu && !(a > 0) ? 0.0f : a;
    s1 = is_relu && !(b > 0) ? 0.0f : b;
    s2 = is_relu && !(c > 0) ? 0.0f : c;
    s3 = is_relu && !(d > 0) ? 0.0f : d;
    __asm__ volatile("vstmia %0!, {%1, %2, %3, %4}" : "+r"(*y) : "t"(s0), "t"(s1), "t"(s2), "t"(s3) : "memory");
}

#endif

/* sen_finish_int8 of the rows up to the sum at `end`. Inlined into callers that know `has_addend` and `is_relu`, so that no row
 * tests them. */
SEN_TOGETHER void finish_rows(
    const sen_weights *w, float input_scale, const float *scale, const float *addend, int has_addend, int is_relu,
    const int32_t *sums, const int32_t *end, float *y)
{
    const uint32_t step = w->scale_step;
#ifdef __ARM_FP
    while (step == 1 && end - sums >= 4)
        finish_four(&scale, input_scale, &sums, &addend, has_addend, is_relu, &y);
#endif
    for (; sums != end; scale += step) {
        const float product = (*scale * input_scale) * (float)*sums++;
        const float value = has_addend ? *addend++ + product : product;
        *y++ = is_relu && !(value > 0) ? 0.0f : value;
    }
}

SEN_PRIVATE __attribute__((noinline)) void sen_finish_pairs(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t first, const int32_t *sums,
    uint32_t count, float *y)
{
    const float *scale = w->scale + (size_t)first * w->scale_step;
    const int32_t *end = sums + count;
    if (!addend)
        finish_rows(w, x->scale, scale, NULL, 0, is_relu, sums, end, y + first);
    else if (is_relu)
        finish_rows(w, x->scale, scale, addend + first, 1, 1, sums, end, y + first);
    else
        finish_rows(w, x->scale, scale, addend + first, 1, 0, sums, end, y + first);
}

#endif
/* end */

/* export: sen_in_order, needs pairs */
#ifdef SEN_PAIRS

SEN_PRIVATE const int8_t *sen_in_order(const sen_input *x, uint32_t n)
{
    const uint32_t *pairs = x->quantized;
    uint32_t *const words = (uint32_t *)x->quantized + ((size_t)n + 63) / 64 * 32, *to = words;
    uint32_t *const end = to + (n + 3) / 4;
    while (to != end) {
        uint32_t even, odd;
        pairs = load_two(pairs, &even, &odd);
        *to++ = (even & 0x00FF00FFu) | (odd & 0x00FF00FFu) << 8;
    }
    return (const int8_t *)words;
}

#endif
/* end */
