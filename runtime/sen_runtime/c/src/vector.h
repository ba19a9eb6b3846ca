/* Vectors of sixteen floats, in the extensions that gcc and clang share. Where a processor's vectors are shorter, the
 * compiler takes several. Sums are split over accumulators in the source, so no flag that changes arithmetic is needed. */
#ifndef SEN_VECTOR_H
#define SEN_VECTOR_H

#include "network.h"

#include <math.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __ARM_NEON
#include "neon.h"
/* Columns whose products with quantized inputs are summed at once. */
#ifdef __ARM_FEATURE_DOTPROD
#define SEN_GROUP 4u
#else
#define SEN_GROUP 2u
#endif
#endif

#define LANES 16

typedef float vector __attribute__((vector_size(64)));
typedef float vector8 __attribute__((vector_size(32)));
typedef float vector4 __attribute__((vector_size(16)));
typedef int32_t integers __attribute__((vector_size(64)));
typedef int16_t shorts __attribute__((vector_size(32)));
typedef int8_t bytes __attribute__((vector_size(16)));

/* What a register holds. gcc keeps a longer vector in memory, so sums over many steps are arrays of these. */
#ifdef __AVX512F__
typedef vector part;
typedef vector8 part_of_eight;
#elif defined(__AVX2__)
typedef vector8 part, part_of_eight;
#else
typedef vector4 part, part_of_eight;
#endif
typedef int32_t part_integers __attribute__((vector_size(sizeof(part))));
typedef uint32_t words __attribute__((vector_size(sizeof(part))));
typedef uint16_t halves __attribute__((vector_size(sizeof(part) / 2)));
typedef int8_t part_bytes __attribute__((vector_size(sizeof(part) / 4)));
#define PART (sizeof(part) / sizeof(float))
#define PARTS (LANES / PART)

#define LOAD(NAME, VECTOR, TYPE)                                                                                       \
    static inline VECTOR NAME(const TYPE *from)                                                                        \
    {                                                                                                                  \
        VECTOR value;                                                                                                  \
        memcpy(&value, from, sizeof value);                                                                            \
        return value;                                                                                                  \
    }

LOAD(load_part, part, float)
LOAD(load_part_of_eight, part_of_eight, float)
LOAD(load4_f32, vector4, float)
LOAD(load_bytes, bytes, int8_t)

#undef LOAD

#ifdef __ARM_NEON
static inline part load_part_f16(const uint16_t *from)
{
    return float_of_f16(vld1_u16(from));
}
#else
static inline part load_part_f16(const uint16_t *from)
{
    halves packed;
    words bits, sign;
    part value;
    memcpy(&packed, from, sizeof packed);
    bits = __builtin_convertvector(packed, words);
    sign = (bits & 0x8000u) << 16;
    bits = (bits & 0x7FFFu) << 13;
    memcpy(&value, &bits, sizeof value);
    value *= 5.192296858534828e33f; /* 2^112: the exponents differ by that, subnormal numbers included */
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

/* The sum of sixteen floats. */
static inline float add_up(const part *parts)
{
    float half[8];
    unsigned k;
    for (k = 0; k < 8; k++)
        half[k] = parts[k / PART][k % PART] + parts[(k + 8) / PART][(k + 8) % PART];
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

/* Comparisons give -1 for true, so an `and` with a number's bits keeps it or makes it 0. */
static inline part where(part_integers condition, part value)
{
    part_integers bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= condition;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline part square_root(part value)
{
#if defined(__AVX512F__)
    return (part)_mm512_sqrt_ps((__m512)value);
#elif defined(__AVX2__)
    return (part)_mm256_sqrt_ps((__m256)value);
#elif defined(__aarch64__)
    return (part)vsqrtq_f32((float32x4_t)value);
#else
    uint32_t k;
    for (k = 0; k < PART; k++)
        value[k] = sqrtf(value[k]);
    return value;
#endif
}

/* Whether less than `percent` of `n` values are not 0: integers, which a compiler compares in vectors on every processor. */
static inline int has_fewer(const float *x, uint32_t n, uint32_t percent)
{
    const uint32_t limit = (uint32_t)(((uint64_t)n * percent + 99) / 100);
    uint32_t count = 0, bits, i = 0, end;
    while (count < limit && i < n)
        for (end = n - i < 64 ? n : i + 64; i < end; i++) {
            memcpy(&bits, x + i, sizeof bits);
            count += bits << 1 != 0;
        }
    return count < limit;
}

/* y = act(addend + sums) of `n` rows. */
static inline void finish_rows(const float *sums, uint32_t n, const float *addend, int is_relu, float *y)
{
    uint32_t i = 0;
#ifdef __ARM_NEON
    for (; i + 4 <= n; i += 4) {
        float32x4_t value = vld1q_f32(sums + i);
        if (addend)
            value = vaddq_f32(vld1q_f32(addend + i), value);
        vst1q_f32(y + i, is_relu ? positive_part(value) : value);
    }
#else
    const part zero = {0};
    for (; i + PART <= n; i += PART) {
        part value = load_part(sums + i);
        if (addend)
            value = load_part(addend + i) + value;
        if (is_relu)
            value = where(value > zero, value);
        memcpy(y + i, &value, sizeof value);
    }
#endif
    for (; i < n; i++)
        y[i] = sen_finish(addend, is_relu, i, sums[i]);
}

#ifdef __ARM_NEON

/* finish_rows of whole vectors, as far as there are `left` rows; moves behind them. Inlined into callers that know the number of
 * vectors. */
static inline __attribute__((always_inline)) void finish_vectors(
    float32x4_t *sum, const int vectors, uint32_t left, const float **addend, int is_relu, float *y)
{
    int k;
    if (left >= 4 * (uint32_t)vectors) {
        if (*addend)
            for (k = 0; k < vectors; k += 4) {
                const float32x4x4_t value = load_16(addend);
                sum[k] = vaddq_f32(value.val[0], sum[k]);
                sum[k + 1] = vaddq_f32(value.val[1], sum[k + 1]);
                sum[k + 2] = vaddq_f32(value.val[2], sum[k + 2]);
                sum[k + 3] = vaddq_f32(value.val[3], sum[k + 3]);
            }
        if (is_relu)
            for (k = 0; k < vectors; k++)
                sum[k] = positive_part(sum[k]);
        for (k = 0; k < vectors; k++)
            vst1q_f32(y + 4 * k, sum[k]);
    } else {
        float sums[SEN_PANEL];
        for (k = 0; k < vectors; k++)
            vst1q_f32(sums + 4 * k, sum[k]);
        finish_rows(sums, left, *addend, is_relu, y);
    }
}

/* Groups of SEN_GROUP values that are not all 0, ascending. For SEN_USES_GROUPS the quantized values are those of these groups,
 * one behind the other, and this follows them. */
typedef struct sen_groups {
    uint32_t count;
    uint16_t group[];
} sen_groups;

static inline sen_groups *groups_of(const void *quantized, uint32_t n)
{
    return (sen_groups *)(uintptr_t)((const int8_t *)quantized + ((size_t)n + 31) / 32 * 32);
}

/* How sums become outputs, of the rows that come next. */
typedef struct row_outputs {
    const float *scale, *addend; /* of these rows; `scale` of all of them without `has_scales`; `addend` null for 0 */
    float *y, input_scale;
    int has_scales, is_relu;
} row_outputs;

static inline row_outputs outputs_of(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const row_outputs all = {w->scale, addend, y, x->scale, w->scale_step != 0, is_relu};
    return all;
}

#ifdef __aarch64__
/* sen_finish_int8 of the rows of `vectors` vectors, four sums in each, as far as there are `left`. Scales are read in sixteens:
 * those in the arena are padded. */
static inline __attribute__((always_inline)) void finish_int8(
    row_outputs *out, const int32x4_t *sum, const int vectors, uint32_t left)
{
    float32x4_t value[16];
    int k;
    if (out->has_scales) {
        for (k = 0; k < vectors; k += 4) {
            const float32x4x4_t scale = load_16(&out->scale);
            value[k] = vmulq_f32(vmulq_n_f32(scale.val[0], out->input_scale), vcvtq_f32_s32(sum[k]));
            value[k + 1] = vmulq_f32(vmulq_n_f32(scale.val[1], out->input_scale), vcvtq_f32_s32(sum[k + 1]));
            value[k + 2] = vmulq_f32(vmulq_n_f32(scale.val[2], out->input_scale), vcvtq_f32_s32(sum[k + 2]));
            value[k + 3] = vmulq_f32(vmulq_n_f32(scale.val[3], out->input_scale), vcvtq_f32_s32(sum[k + 3]));
        }
    } else {
        const float32x4_t scale = vmulq_n_f32(vdupq_n_f32(*out->scale), out->input_scale);
        for (k = 0; k < vectors; k++)
            value[k] = vmulq_f32(scale, vcvtq_f32_s32(sum[k]));
    }
    finish_vectors(value, vectors, left, &out->addend, out->is_relu, out->y);
    out->y += 4 * vectors;
}

/* sen_finish_int8 of the next `count` rows. */
static inline void finish_sums(row_outputs *out, const int32_t *sums, uint32_t count)
{
    uint32_t i;
    int k;
    for (; count >= 16; count -= 16, sums += 16) {
        int32x4_t sum[4];
        for (k = 0; k < 4; k++)
            sum[k] = vld1q_s32(sums + 4 * k);
        finish_int8(out, sum, 4, 16);
    }
    for (i = 0; i < count; i++) {
        const float factor = out->scale[out->has_scales ? i : 0] * out->input_scale, product = factor * (float)sums[i];
        out->y[i] = sen_finish(out->addend, out->is_relu, i, product);
    }
}
#else
static __attribute__((noinline, unused)) void finish_sums(const row_outputs *out, const int32_t *sums, uint32_t count)
{
    static const float nothing[4] = {-0.0f, -0.0f, -0.0f, -0.0f};
    const float same[4] = {*out->scale, *out->scale, *out->scale, *out->scale}, input_scale = out->input_scale;
    const float *scale = out->has_scales ? out->scale : same, *addend = out->addend ? out->addend : nothing;
    const size_t scale_step = out->has_scales ? 4 : 0, addend_step = out->addend ? 4 : 0;
    const int is_relu = out->is_relu;
    float *y = out->y, *const whole = y + (count - count % 4), *const end = y + count;
    for (; y != whole; y += 4, scale += scale_step, addend += addend_step) {
        const float32x4_t value = exact_outputs(scale, input_scale, &sums, addend);
        vst1q_f32(y, is_relu ? positive_part(value) : value);
    }
    for (; y != end; scale++, addend++) {
        const float factor = *scale * input_scale, product = factor * (float)*sums++;
        *y++ = sen_finish(addend, is_relu, 0, product);
    }
}

static inline __attribute__((always_inline)) void finish_int8(
    row_outputs *out, const int32x4_t *sum, const int vectors, uint32_t left)
{
    const uint32_t count = 4 * (uint32_t)vectors;
    int32_t sums[SEN_PANEL];
    int k;
    for (k = 0; k < vectors; k++)
        vst1q_s32(sums + 4 * k, sum[k]);
    finish_sums(out, sums, left < count ? left : count);
    out->scale += out->has_scales ? count : 0;
    out->addend += out->addend ? count : 0;
    out->y += count;
}
#endif

/* sen_finish_int8 of `count` rows from `row` on. */
static inline void finish_sums_from(
    const sen_weights *w, const sen_input *x, uint32_t row, const int32_t *sums, uint32_t count, const float *addend,
    int is_relu, float *y)
{
    row_outputs out = outputs_of(w, x, addend ? addend + row : NULL, is_relu, y + row);
    out.scale += out.has_scales ? row : 0;
    finish_sums(&out, sums, count);
}
#endif

/* The sum of a row of int8 weights; elsewhere than on NEON a float, which represents it exactly. */
#ifdef __ARM_NEON
typedef int32_t row_sum;
#else
typedef float row_sum;
#endif

/* rows_int8.c: outputs `first` to `first + n` of row `r` from their sums. */
void SEN_NAME(sen_finish_rows_int8)(
    const sen_weights *w, const sen_rows *rows, uint32_t r, uint32_t first, uint32_t n, const row_sum *sums);

#ifdef __AVX2__
/* Bytes of int16 lanes, which saturate; and int16 lanes of sixteen bytes. */
static inline __m128i bytes_of(__m256i steps)
{
    return _mm_packus_epi16(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1));
}

static inline __m256i sixteen_bytes(const void *from, const int is_signed)
{
    const __m128i value = _mm_loadu_si128((const __m128i *)from);
    return is_signed ? _mm256_cvtepi8_epi16(value) : _mm256_cvtepu8_epi16(value);
}
#endif

#ifdef __AVX512F__
/* Those of the sixteen lanes from `first` that lie below `n`. */
static inline __mmask16 sen_lanes_below(uint32_t n, uint32_t first)
{
    return (__mmask16)(first >= n ? 0u : n - first >= LANES ? 0xFFFFu : (1u << (n - first)) - 1u);
}

/* Sixteen rows from their sums. */
static inline void sen_finish_sixteen(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t row, __m512i sum, float *y)
{
    const __mmask16 kept = sen_lanes_below(w->rows, row);
    __m512 scale = w->scale_step ? _mm512_maskz_loadu_ps(kept, w->scale + row) : _mm512_set1_ps(w->scale[0]);
    __m512 value = _mm512_mul_ps(
        _mm512_mul_ps(scale, _mm512_set1_ps(x->scale)), _mm512_cvtepi32_ps(sum));
    if (addend)
        value = _mm512_add_ps(_mm512_maskz_loadu_ps(kept, addend + row), value);
    if (is_relu)
        value = _mm512_max_ps(value, _mm512_setzero_ps()); /* 0 for NaN */
    _mm512_mask_storeu_ps(y + row, kept, value);
}
#endif

/* Calls `function` with the reset as a constant, so that its loops have no branch. */
#define SEN_BY_RESET(function, neuron, ...)                                                                                \
    ((neuron)->reset == SEN_RESET_ZERO           ? function(neuron, SEN_RESET_ZERO, __VA_ARGS__)                           \
     : (neuron)->reset == SEN_RESET_BEFORE_DECAY ? function(neuron, SEN_RESET_BEFORE_DECAY, __VA_ARGS__)                   \
     : (neuron)->reset == SEN_RESET_REFRACTORY   ? function(neuron, SEN_RESET_REFRACTORY, __VA_ARGS__)                     \
                                                 : function(neuron, SEN_RESET_SUBTRACT, __VA_ARGS__))

#endif
