/* Products in integers where there are instructions for pairs of int16: Cortex-M4, M7, M33 and their like. A word of four
 * int8 comes apart into two pairs, the first and third, the second and fourth. sen_quantize_pairs leaves inputs in that
 * order, so that two multiplications take four weights as they lie in memory. */
#include "network.h"

#include <string.h>

#ifdef SEN_PAIRS

/* Keeps a function whose loop needs every register out of its caller. */
#define SEN_ALONE __attribute__((noinline))

/* A few instructions, which belong into the caller even where it is compiled for size. */
#define SEN_TOGETHER __attribute__((always_inline))

/* Hides from the compiler what a pointer has gone through: it would else work out from the number of turns where the pointer
 * will be after a loop, which costs more than to let it run. */
#define SEN_HIDE(variable) __asm__("" : "+r"(variable))

/* Two words, or four, from an address that is a multiple of 4; the address behind them. gcc 12 loads them one by one, and
 * there is no intrinsic, as there is none for the second and fourth byte of a word. */
static inline SEN_TOGETHER const void *load_two(const void *from, uint32_t *a, uint32_t *b)
{
    __asm__ volatile("ldrd %1, %2, [%0], #8" : "+r"(from), "=r"(*a), "=r"(*b) : : "memory");
    return from;
}

static inline SEN_TOGETHER const void *load_four(const void *from, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    /* the instruction takes registers in rising order */
    register uint32_t r4 __asm__("r4"), r5 __asm__("r5"), r6 __asm__("r6"), r8 __asm__("r8");
    __asm__ volatile("ldmia %0!, {%1, %2, %3, %4}" : "+r"(from), "=r"(r4), "=r"(r5), "=r"(r6), "=r"(r8) : : "memory");
    *a = r4;
    *b = r5;
    *c = r6;
    *d = r8;
    return from;
}

static inline SEN_TOGETHER int32_t even_bytes(uint32_t bytes)
{
    return __sxtb16((int8x4_t)bytes);
}

static inline SEN_TOGETHER int32_t odd_bytes(uint32_t bytes)
{
    int32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
}

/* sum + the products of four weights and inputs. */
static inline SEN_TOGETHER int32_t dot_four(uint32_t weights, uint32_t even, uint32_t odd, int32_t sum)
{
    sum = __smlad(even_bytes(weights), (int16x2_t)even, sum);
    return __smlad(odd_bytes(weights), (int16x2_t)odd, sum);
}

/* Four floats, as load_four. */
static inline SEN_TOGETHER const void *load_floats(const void *from, float x[4])
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

static inline SEN_TOGETHER uint32_t greater(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Whether no exponent of four floats is all ones: twice their bits, without the sign, are less than `limit`. */
static inline SEN_TOGETHER int are_finite(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t limit)
{
    __asm__ goto(
        "cmp %0, %1, lsl #1\n\tittt hi\n\tcmphi %0, %2, lsl #1\n\tcmphi %0, %3, lsl #1\n\tcmphi %0, %4, lsl #1\n\tbls %l5"
        : : "r"(limit), "r"(a), "r"(b), "r"(c), "r"(d) : "cc" : nonfinite);
    return 1;
nonfinite:
    return 0;
}

int sen_eights_are_finite(const float *x, size_t n)
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

uint32_t sen_greatest_of_fours(const float *x, uint32_t n)
{
    const void *from = x, *const end = x + (n - n % 4);
    uint32_t greatest = SEN_NOTHING;
    while (from != end) {
        uint32_t a, b, c, d;
        from = load_four(from, &a, &b, &c, &d);
        greatest = greater(sen_magnitude(a), greatest);
        greatest = greater(sen_magnitude(b), greatest);
        greatest = greater(sen_magnitude(c), greatest);
        greatest = greater(sen_magnitude(d), greatest);
    }
    return greatest;
}

/* The bits of two floats. */
static inline SEN_TOGETHER void bits_of(float a, float b, uint32_t *a_bits, uint32_t *b_bits)
{
#ifdef __ARM_FP
    register float s0 __asm__("s0") = a, s1 __asm__("s1") = b;
    __asm__("vmov %0, %1, %2, %3" : "=r"(*a_bits), "=r"(*b_bits) : "t"(s0), "t"(s1));
#else
    memcpy(a_bits, &a, sizeof a);
    memcpy(b_bits, &b, sizeof b);
#endif
}

/* The low halves of two words. */
static inline SEN_TOGETHER uint32_t pack(uint32_t low, uint32_t high)
{
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(low), "r"(high));
    return pair;
}

static inline SEN_TOGETHER uint32_t *quantize_four(const float x[4], float inverse, uint32_t *pairs)
{
    uint32_t a, b, c, d;
    bits_of(x[0] * inverse + SEN_ROUNDING, x[1] * inverse + SEN_ROUNDING, &a, &b);
    bits_of(x[2] * inverse + SEN_ROUNDING, x[3] * inverse + SEN_ROUNDING, &c, &d);
    *pairs++ = pack(a, c);
    *pairs++ = pack(b, d);
    return pairs;
}

/* Zeros fill up the last four. */
void sen_quantize_pairs(const float *x, uint32_t n, float inverse, uint32_t *pairs)
{
    const void *from = x, *const end = x + (n - n % 4);
    while (from != end) {
        float four[4];
        from = load_floats(from, four);
        pairs = quantize_four(four, inverse, pairs);
    }
    if (n % 4) {
        float last[4] = {0};
        memcpy(last, end, n % 4 * sizeof *last);
        (void)quantize_four(last, inverse, pairs);
    }
}

/* Rows whose sums are kept until they are finished together. */
#define SEN_SUMS 32u

#ifdef __ARM_FP

/* A whole number in a register for floats. */
static inline SEN_TOGETHER float as_float(float bits)
{
    float value;
    __asm__("vcvt.f32.s32 %0, %1" : "=t"(value) : "t"(bits));
    return value;
}

/* As finish_rows, four rows at once, with a scale of each. */
static inline SEN_TOGETHER void finish_four(
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

/* y = act(addend + scale sum) of the rows up to the sum at `end`: sen_finish_int8. Part of each caller, who knows whether
 * there is an addend and a ReLU, so that no row asks. */
static inline SEN_TOGETHER void finish_rows(
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

static SEN_ALONE void finish(
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

/* Rows from `row` on whose sums are kept together. */
static inline SEN_TOGETHER uint32_t rows_together(const sen_weights *w, uint32_t row)
{
    return w->rows - row < SEN_SUMS ? w->rows - row : SEN_SUMS;
}

/* sum + the products of one row and the input from column `first` on, a multiple of 4. */
static int32_t dot_row(const int8_t *row, const sen_input *x, uint32_t first, uint32_t columns, int32_t sum)
{
    const uint32_t *pairs = (const uint32_t *)x->quantized + first / 2;
    uint32_t j = first, weights;
    for (; j + 4 <= columns; j += 4, pairs += 2) {
        memcpy(&weights, row + j, sizeof weights);
        sum = dot_four(weights, pairs[0], pairs[1], sum);
    }
    if (j < columns) {
        weights = 0;
        memcpy(&weights, row + j, columns - j);
        sum = dot_four(weights, pairs[0], pairs[1], sum);
    }
    return sum;
}

/* sum + the products of the next eight weights and inputs. */
static inline SEN_TOGETHER int32_t dot_eight(const void **row, const uint32_t x[4], int32_t sum)
{
    uint32_t a, b;
    *row = load_two(*row, &a, &b);
    return dot_four(b, x[2], x[3], dot_four(a, x[0], x[1], sum));
}

/* The sums of two rows at a time, which share the inputs, over the first `whole` columns: a multiple of 16, not 0. `sums` has
 * an even number of places. */
static SEN_ALONE void dot_two_rows(
    const int8_t *row, const void *pairs, uint32_t columns, uint32_t whole, int32_t *sums, const int32_t *end)
{
    const void *upper = row, *lower = row + columns;
    while (sums != end) {
        const void *stop = (const int8_t *)upper + whole, *from = pairs;
        int32_t a = 0, b = 0;
        do {
            uint32_t x[4];
            from = load_four(from, &x[0], &x[1], &x[2], &x[3]);
            a = dot_eight(&upper, x, a);
            b = dot_eight(&lower, x, b);
            from = load_four(from, &x[0], &x[1], &x[2], &x[3]);
            a = dot_eight(&upper, x, a);
            b = dot_eight(&lower, x, b);
        } while (upper != stop);
        *sums++ = a;
        *sums++ = b;
        upper = (const int8_t *)lower + (columns - whole);
        lower = (const int8_t *)upper + columns;
    }
}

static void dot_rows(const int8_t *row, const sen_input *x, uint32_t columns, uint32_t count, int32_t *sums)
{
    const int is_aligned = columns % 4 == 0 && (uintptr_t)row % 4 == 0;
    const uint32_t whole = is_aligned ? columns - columns % 16 : 0, even = whole > 0 ? count - count % 2 : 0;
    uint32_t k;
    dot_two_rows(row, x->quantized, columns, whole, sums, sums + even);
    for (k = whole < columns ? 0 : even; k < count; k++)
        sums[k] = dot_row(row + (size_t)k * columns, x, k < even ? whole : 0, columns, k < even ? sums[k] : 0);
}

void sen_dense_pairs(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = rows_together(w, row);
        dot_rows((const int8_t *)w->values + (size_t)row * w->columns, x, w->columns, count, sums);
        finish(w, x, addend, is_relu, row, sums, count, y);
    }
}

/* Where values begin. A matrix without any has a null, which is no place to count back from. */
static inline SEN_TOGETHER const void *values_of(const sen_weights *w)
{
    return w->values ? w->values : w->starts;
}

/* sum + the products of the next four weights. `q` are the inputs in their own order, a byte each. */
static inline SEN_TOGETHER int32_t add_four(const int8_t *value, const uint16_t *column, const int8_t *q, int32_t sum)
{
    uint32_t bytes;
    int32_t even, odd;
    memcpy(&bytes, value, sizeof bytes);
    even = even_bytes(bytes);
    odd = odd_bytes(bytes);
    sum = __smlabb(even, q[column[0]], sum);
    sum = __smlabb(odd, q[column[1]], sum);
    sum = __smlatb(even, q[column[2]], sum);
    return __smlatb(odd, q[column[3]], sum);
}

/* Sums of rows; `value` and `column` are the matrix's first. */
static SEN_ALONE void add_rows(
    const int32_t *starts, const int8_t *value, const uint16_t *column, const int8_t *q, int32_t *sums, uint32_t count)
{
    const int32_t *const end = sums + count;
    value += *starts;
    column += *starts;
    while (sums != end) {
        const int8_t *next = value - *starts;
        uintptr_t limit;
        int32_t sum = 0;
        next += *++starts;
        limit = (uintptr_t)next - 16;
        while ((uintptr_t)value <= limit) {
            sum = add_four(value, column, q, sum);
            sum = add_four(value + 4, column + 4, q, sum);
            sum = add_four(value + 8, column + 8, q, sum);
            sum = add_four(value + 12, column + 12, q, sum);
            value += 16;
            column += 16;
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        limit += 12;
        while ((uintptr_t)value <= limit) {
            sum = add_four(value, column, q, sum);
            value += 4;
            column += 4;
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        while (value != next) {
            sum += *value++ * q[*column++];
            SEN_HIDE(value);
            SEN_HIDE(column);
        }
        *sums++ = sum;
    }
}

/* The inputs in their own order, written behind the pairs. */
static const int8_t *in_order(const sen_input *x, uint32_t n)
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

void sen_sparse_pairs(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *q = in_order(x, w->columns);
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = rows_together(w, row);
        add_rows(w->starts + row, values_of(w), w->indices, q, sums, count);
        finish(w, x, addend, is_relu, row, sums, count, y);
    }
}

/* sum + the products of a block of 1 x 4. */
static inline SEN_TOGETHER int32_t add_block(uint32_t weights, uint32_t column, const uint32_t *pairs, int32_t sum)
{
    uint32_t even, odd;
    (void)load_two(pairs + 2 * column, &even, &odd);
    return dot_four(weights, even, odd, sum);
}

static SEN_ALONE void add_block_rows(
    const int32_t *starts, const void *block, const uint16_t *column, const uint32_t *pairs, int32_t *sums, uint32_t count)
{
    const int32_t *const end = sums + count;
    block = (const uint32_t *)block + *starts;
    column += *starts;
    while (sums != end) {
        const uint32_t *next = (const uint32_t *)block - *starts;
        uintptr_t limit;
        int32_t sum = 0;
        next += *++starts;
        limit = (uintptr_t)next - 16;
        while ((uintptr_t)block <= limit) {
            uint32_t a, b, c, d;
            block = load_four(block, &a, &b, &c, &d);
            sum = add_block(a, column[0], pairs, sum);
            sum = add_block(b, column[1], pairs, sum);
            sum = add_block(c, column[2], pairs, sum);
            sum = add_block(d, column[3], pairs, sum);
            column += 4;
            SEN_HIDE(column);
        }
        while (block != next) {
            uint32_t weights;
            memcpy(&weights, block, sizeof weights);
            sum = add_block(weights, *column++, pairs, sum);
            block = (const uint32_t *)block + 1;
            SEN_HIDE(block);
        }
        *sums++ = sum;
    }
}

void sen_sparse4_pairs(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = rows_together(w, row);
        add_block_rows(w->starts + row, values_of(w), w->indices, x->quantized, sums, count);
        finish(w, x, addend, is_relu, row, sums, count, y);
    }
}

static inline SEN_TOGETHER const void *load_three(const void *from, uint32_t *a, uint32_t *b, uint32_t *c)
{
    register uint32_t r4 __asm__("r4"), r5 __asm__("r5"), r6 __asm__("r6");
    __asm__ volatile("ldmia %0!, {%1, %2, %3}" : "+r"(from), "=r"(r4), "=r"(r5), "=r"(r6) : : "memory");
    *a = r4;
    *b = r5;
    *c = r6;
    return from;
}

/* A byte of `gaps` further. */
#define SEN_SKIP(from, gaps, rotation) __asm__("uxtab %0, %0, %1, ror #" rotation : "+r"(from) : "r"(gaps))

/* sum + the products of the next group of four single weights, the last of which was at `q`. */
static inline SEN_TOGETHER int32_t add_gaps(const void **group, const int8_t **q, int32_t sum)
{
    uint32_t gaps, first, second;
    const int8_t *at = *q;
    *group = load_three(*group, &gaps, &first, &second);
    __asm__("uxtab %0, %0, %1" : "+r"(at) : "r"(gaps));
    sum = __smlabb((int32_t)first, *at, sum);
    SEN_SKIP(at, gaps, "8");
    sum = __smlatb((int32_t)first, *at, sum);
    SEN_SKIP(at, gaps, "16");
    sum = __smlabb((int32_t)second, *at, sum);
    SEN_SKIP(at, gaps, "24");
    *q = at;
    return __smlatb((int32_t)second, *at, sum);
}

static SEN_ALONE void add_gap_rows(
    const int32_t *starts, const uint32_t *words, const int8_t *q, int32_t *sums, uint32_t count)
{
    const int32_t *const end = sums + count;
    const void *group = words + *starts;
    while (sums != end) {
        uintptr_t limit = (uintptr_t)(words + *++starts) - 4 * 12;
        const int8_t *at = q;
        int32_t sum = 0;
        while ((uintptr_t)group <= limit) {
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
            sum = add_gaps(&group, &at, sum);
        }
        limit += 3 * 12;
        while ((uintptr_t)group <= limit)
            sum = add_gaps(&group, &at, sum);
        *sums++ = sum;
    }
}

void sen_stream_pairs(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const int8_t *q = in_order(x, w->columns);
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = rows_together(w, row);
        add_gap_rows(w->starts + row, values_of(w), q, sums, count);
        finish(w, x, addend, is_relu, row, sums, count, y);
    }
}

/* Behind the pairs: of each four inputs a, b, c, d the pairs 256 a - b, 256 c - d and b, d. The first times weights e, g of
 * a, c and the second times 256 f + e, 256 h + g are together 256 (a e + b f + c g + d h), with one pair of bytes to take
 * apart instead of two. */
static const uint32_t *differences(const sen_input *x, uint32_t n)
{
    const uint32_t *pairs = x->quantized;
    uint32_t *const words = (uint32_t *)x->quantized + ((size_t)n + 63) / 64 * 32, *to = words;
    uint32_t *const end = to + n / 2;
    while (to != end) {
        uint32_t even, odd;
        pairs = load_two(pairs, &even, &odd);
        *to++ = (uint32_t)__ssub16((int16x2_t)(even << 8 & 0xFF00FF00u), (int16x2_t)odd);
        *to++ = odd;
    }
    return words;
}

/* sum + 256 times the products of a block whose inputs are at `from`. */
static inline SEN_TOGETHER int32_t add_halves(uint32_t weights, const void *from, int32_t sum)
{
    uint32_t difference, odd;
    (void)load_two(from, &difference, &odd);
    sum = __smlad((int16x2_t)weights, (int16x2_t)odd, sum);
    return __smlad(even_bytes(weights), (int16x2_t)difference, sum);
}

/* The same of the next group of two blocks. */
static inline SEN_TOGETHER int32_t add_two_blocks(const void **group, const void *inputs, int32_t sum)
{
    uint32_t columns, first, second;
    const void *at;
    *group = load_three(*group, &columns, &first, &second);
    __asm__("uxtah %0, %1, %2" : "=r"(at) : "r"(inputs), "r"(columns));
    sum = add_halves(first, at, sum);
    __asm__("uxtah %0, %1, %2, ror #16" : "=r"(at) : "r"(inputs), "r"(columns));
    return add_halves(second, at, sum);
}

static SEN_ALONE void add_two_block_rows(
    const int32_t *starts, const uint32_t *words, const void *inputs, int32_t *sums, uint32_t count)
{
    const int32_t *const end = sums + count;
    const void *group = words + *starts;
    while (sums != end) {
        uintptr_t limit = (uintptr_t)(words + *++starts) - 2 * 12;
        int32_t sum = 0;
        while ((uintptr_t)group <= limit) {
            sum = add_two_blocks(&group, inputs, sum);
            sum = add_two_blocks(&group, inputs, sum);
        }
        limit += 12;
        if ((uintptr_t)group <= limit)
            sum = add_two_blocks(&group, inputs, sum);
        *sums++ = sum >> 8;
    }
}

void sen_stream4_pairs(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t *inputs = differences(x, w->columns);
    uint32_t row, count;
    for (row = 0; row < w->rows; row += count) {
        int32_t sums[SEN_SUMS];
        count = rows_together(w, row);
        add_two_block_rows(w->starts + row, values_of(w), inputs, sums, count);
        finish(w, x, addend, is_relu, row, sums, count, y);
    }
}

#endif
