/* Quantization of the input of an integer product to int8, symmetric: scale = max |x| / 127, halves to even. */
#include "pairs.h"

/* export: quantize_values */
/* A maximum up to this counts as 0: 127 divided by it might overflow. */
#define SEN_MIN_MAGNITUDE 1e-30f

/* Sets the scale of an input with this maximum magnitude; returns the factor from values to quantized values. */
SEN_INLINE float set_scale(float max, void *quantized, sen_input *input)
{
    const int is_zero = !(max > SEN_MIN_MAGNITUDE);
    input->quantized = quantized;
    input->scale = is_zero ? 0 : max / 127.0f;
    input->sum = 0;
    return is_zero ? 0 : 127.0f / max;
}

/* 1.5 * 2^23: added to a small float, it leaves the nearest integer in the low bits. */
#define SEN_ROUNDING 12582912.0f
#define SEN_ROUNDING_BITS 0x4B400000

SEN_INLINE void quantize_values(const float *x, uint32_t n, float inverse, int8_t *to)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        float value = x[i] * inverse;
        uint32_t bits;
        value += SEN_ROUNDING;
        memcpy(&bits, &value, sizeof bits);
        to[i] = (int8_t)(uint8_t)(bits - SEN_ROUNDING_BITS);
    }
}
/* end */

#ifndef SEN_ISA

/* export: sen_quantize, needs quantize_values, pairs */
#ifdef SEN_PAIRS

SEN_TOGETHER void float_bits(float a, float b, uint32_t *a_bits, uint32_t *b_bits)
{
#ifdef __ARM_FP
    register float s0 __asm__("s0") = a, s1 __asm__("s1") = b;
    __asm__("vmov %0, %1, %2, %3" : "=r"(*a_bits), "=r"(*b_bits) : "t"(s0), "t"(s1));
#else
    memcpy(a_bits, &a, sizeof a);
    memcpy(b_bits, &b, sizeof b);
#endif
}

SEN_TOGETHER uint32_t pack_halves(uint32_t low, uint32_t high)
{
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(low), "r"(high));
    return pair;
}

SEN_TOGETHER uint32_t *quantize_four(const float x[4], float inverse, uint32_t *pairs)
{
    uint32_t a, b, c, d;
    float_bits(x[0] * inverse + SEN_ROUNDING, x[1] * inverse + SEN_ROUNDING, &a, &b);
    float_bits(x[2] * inverse + SEN_ROUNDING, x[3] * inverse + SEN_ROUNDING, &c, &d);
    *pairs++ = pack_halves(a, c);
    *pairs++ = pack_halves(b, d);
    return pairs;
}

/* Zeros pad the last four. */
static void quantize_pairs(const float *x, uint32_t n, float inverse, uint32_t *pairs)
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

#endif

/* Twice the bits of a float without its sign, plus SEN_ZERO_KEY: in the order of the magnitudes. The key of NaN exceeds 32 bits
 * and wraps to a value below that of 0. */
#define SEN_ZERO_KEY 0x00FFFFFFu

SEN_INLINE uint32_t max_key(uint32_t bits, uint32_t max)
{
    const uint32_t key = (bits << 1) + SEN_ZERO_KEY;
    return key > max ? key : max;
}

/* Compares bits, which costs a fraction of comparing floats on a processor without an FPU. */
static float max_magnitude(const float *x, uint32_t n)
{
    uint32_t max = SEN_ZERO_KEY, bits, i = 0;
    float value;
#ifdef SEN_PAIRS
    const void *from = x, *const end = x + (n - n % 4);
    while (from != end) {
        uint32_t a, b, c, d;
        from = load_four(from, &a, &b, &c, &d);
        max = max_key(d, max_key(c, max_key(b, max_key(a, max))));
    }
    i = n - n % 4;
#endif
    for (; i < n; i++) {
        value = x[i];
        memcpy(&bits, &value, sizeof bits);
        max = max_key(bits, max);
    }
    max = (max - SEN_ZERO_KEY) >> 1;
    memcpy(&value, &max, sizeof value);
    return value;
}

SEN_PRIVATE void sen_quantize(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    const float inverse = set_scale(max_magnitude(x, n), quantized, input);
#ifdef SEN_PAIRS
    quantize_pairs(x, n, inverse, quantized);
#else
    quantize_values(x, n, inverse, quantized);
#endif
}
/* end */

#else

#include "vector.h"

#ifdef __AVX512VNNI__

/* Quantizes the first `n` of 64 values; zeros follow them. */
static inline __attribute__((always_inline)) __m512i quantize_vectors(
    const float *x, uint32_t n, __m512 inverse, int8_t *to, __m512i sum)
{
    /* packing works within quarters of a vector */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i value[4], packed;
    uint32_t k;
    for (k = 0; k < 4; k++) {
        const __m512 product =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(sen_lanes_below(n, LANES * k), x + LANES * k), inverse);
        /* NaN becomes 0 */
        value[k] = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(product, product, _CMP_ORD_Q), product);
    }
    packed = _mm512_packs_epi16(_mm512_packs_epi32(value[0], value[1]), _mm512_packs_epi32(value[2], value[3]));
    packed = _mm512_permutexvar_epi32(order, packed);
    _mm512_storeu_si512(to, packed);
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), packed);
}

void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    int8_t *to = quantized;
    __m512 maxima[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()}, inverse;
    __m512i sum = _mm512_setzero_si512();
    float max;
    uint32_t i = 0, k;
    /* max_ps returns its second operand if the first is NaN */
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (k = 0; k < 4; k++)
            maxima[k] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i + LANES * k)), maxima[k]);
    for (; i < n; i += LANES)
        maxima[0] = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(sen_lanes_below(n, i), x + i)), maxima[0]);
    max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(maxima[0], maxima[1]), _mm512_max_ps(maxima[2], maxima[3])));
    inverse = _mm512_set1_ps(set_scale(max, quantized, input));
    for (i = 0; i + 64 <= n; i += 64)
        sum = quantize_vectors(x + i, 64, inverse, to + i, sum);
    if (i < n)
        sum = quantize_vectors(x + i, n - i, inverse, to + i, sum);
    input->sum = _mm512_reduce_add_epi32(sum);
}

#elif defined(__ARM_NEON)

/* Sixteen values rounded to nearest, halves to even; NaN becomes 0. */
static inline int8x16_t sixteen_rounded(const float32x4_t value[4], float inverse)
{
    int16x4_t rounded[4];
    int k;
    for (k = 0; k < 4; k++)
        rounded[k] = nearest_integers(vmulq_n_f32(value[k], inverse));
    return vcombine_s8(
        vmovn_s16(vcombine_s16(rounded[0], rounded[1])), vmovn_s16(vcombine_s16(rounded[2], rounded[3])));
}

/* The max magnitude; NaN is left out. */
static float max_of(const float *x, uint32_t n)
{
    const float *const end = x + n, *const whole = end - n % 16, *from = x;
    float32x4_t maxima[4];
    float max;
    int k;
    for (k = 0; k < 4; k++)
        maxima[k] = vdupq_n_f32(0);
    for (; from != whole; from += 16)
        for (k = 0; k < 4; k++)
            maxima[k] = max_magnitude(maxima[k], vld1q_f32(from + 4 * k));
    max = vmaxvq_f32(max_magnitude(max_magnitude(maxima[0], maxima[1]), max_magnitude(maxima[2], maxima[3])));
    if (max != max) {
        max = 0;
        from = x;
    }
    for (; from != end; from++) {
        const float magnitude = *from < 0 ? -*from : *from;
        max = magnitude > max ? magnitude : max;
    }
    return max;
}

/* Zeros follow the values up to whole groups. */
static inline void quantize_in_order(const float *x, uint32_t n, float inverse, int8_t *to)
{
    const float *const whole = x + n / 16 * 16;
    for (; x != whole; x += 16, to += 16) {
        const float32x4_t value[4] = {vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)};
        vst1q_s8(to, sixteen_rounded(value, inverse));
    }
    if (n % 16) {
        vst1q_s8(to, vdupq_n_s8(0));
        quantize_values(x, n % 16, inverse, to);
    }
}

/* Values of four groups. */
#define FOUR_GROUPS (4 * SEN_GROUP)

/* The max of the bits of each of four groups, behind which `x` moves. */
static inline uint32x4_t group_maxima(const float **x)
{
#if SEN_GROUP == 4
    const float32x4x4_t value = load_16(x);
    return vpmaxq_u32(
        vpmaxq_u32(vreinterpretq_u32_f32(value.val[0]), vreinterpretq_u32_f32(value.val[1])),
        vpmaxq_u32(vreinterpretq_u32_f32(value.val[2]), vreinterpretq_u32_f32(value.val[3])));
#else
    const float32x4x2_t value = load_8(x);
    return vpmaxq_u32(vreinterpretq_u32_f32(value.val[0]), vreinterpretq_u32_f32(value.val[1]));
#endif
}

/* Those of the last `n` values, which zeros pad. */
static __attribute__((noinline)) uint32x4_t last_maxima(const float *x, uint32_t n)
{
    float last[FOUR_GROUPS] = {0};
    x = memcpy(last, x, n * sizeof *last);
    return group_maxima(&x);
}

/* Groups that are not all 0, up to the place for the next one, and the max of the bits of the values so far. */
typedef struct found_groups {
    uint16_t *next;
    uint32x4_t maxima;
    const uint8_t *counts; /* of sen_set_bits */
} found_groups;

/* Adds those of eight groups, `first`, that are not all 0; up to seven words behind them are written, too. Values whose upper half
 * of bits is 0 are quantized to 0. */
static inline void add_eight_groups(found_groups *found, uint32x4_t a, uint32x4_t b, uint16x8_t first)
{
    const uint16x8_t bits = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint16x8_t upper = vuzp2q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
    const uint32_t kept = vaddvq_u16(vandq_u16(vtstq_u16(upper, upper), bits));
    found->maxima = vmaxq_u32(vmaxq_u32(found->maxima, a), b);
    if (kept) {
        vst1q_u16(found->next, vaddw_u8(first, vld1_u8(sen_set_bits.position[kept])));
        found->next += found->counts[kept];
    }
}

/* Finds the groups that are not all 0; returns the max magnitude. Floats that are not negative have the order of their bits. */
static float find_groups(const float *x, uint32_t n, sen_groups *groups)
{
    const uint32_t block = 2 * FOUR_GROUPS, left = n % block;
    const float *const twos = x + n / (2 * block) * (2 * block), *const whole = x + (n - left), *from = x;
    const uint32x4_t zero = vdupq_n_u32(0);
    found_groups found = {groups->group, zero, sen_set_bits.count};
    uint16x8_t first = vdupq_n_u16(0);
    uint32_t all;
    float max;
    __asm__("" : "+r"(found.counts)); /* gcc 12 adds its offset to each index otherwise */
    while (from != twos) {
        const uint32x4_t a = group_maxima(&from), b = group_maxima(&from), c = group_maxima(&from), d = group_maxima(&from);
        add_eight_groups(&found, a, b, first);
        add_eight_groups(&found, c, d, vaddq_u16(first, vdupq_n_u16(8)));
        first = vaddq_u16(first, vdupq_n_u16(16));
    }
    if (from != whole) {
        const uint32x4_t a = group_maxima(&from), b = group_maxima(&from);
        add_eight_groups(&found, a, b, first);
        first = vaddq_u16(first, vdupq_n_u16(8));
    }
    if (left > 0) {
        const uint32x4_t a = left < FOUR_GROUPS ? last_maxima(from, left) : group_maxima(&from);
        add_eight_groups(&found, a, left > FOUR_GROUPS ? last_maxima(from, left - FOUR_GROUPS) : zero, first);
    }
    groups->count = (uint32_t)(found.next - groups->group);
    vst1q_u16(found.next, vdupq_n_u16(0));
    all = vmaxvq_u32(found.maxima);
    memcpy(&max, &all, sizeof max);
    return all <= 0x7F800000u ? max : max_of(x, n);
}

/* Four values of the groups from `group` on. */
static inline float32x4_t four_of(const float *x, const uint16_t *group)
{
#if SEN_GROUP == 4
    return load_four_of(x, *group);
#else
    return vcombine_f32(vld1_f32(x + 2 * (size_t)group[0]), vld1_f32(x + 2 * (size_t)group[1]));
#endif
}

/* The groups that were found, one behind the other. The last one may be a part. */
static inline void quantize_groups(const float *x, uint32_t n, float inverse, sen_groups *found, int8_t *to)
{
    const uint32_t count = found->count, is_partial = n % SEN_GROUP && count && found->group[count - 1] == n / SEN_GROUP;
    const uint16_t *group = found->group, *const end = group + count - is_partial;
    int8_t *const last = to + SEN_GROUP * (count - is_partial);
    if (is_partial)
        found->group[count - 1] = 0; /* as those behind: they are read, too */
    while (group < end) {
        /* the first group last, where gcc 12 moves the pointer with the load */
        const float32x4_t d = four_of(x, group + 12 / SEN_GROUP), c = four_of(x, group + 8 / SEN_GROUP);
        const float32x4_t b = four_of(x, group + 4 / SEN_GROUP), a = four_of(x, group);
        const float32x4_t value[4] = {a, b, c, d};
        vst1q_s8(to, sixteen_rounded(value, inverse));
        group += 16 / SEN_GROUP;
        to += 16;
    }
    if (is_partial) {
        float values[SEN_GROUP] = {0};
        found->group[count - 1] = (uint16_t)(n / SEN_GROUP);
        memcpy(values, x + (n - n % SEN_GROUP), n % SEN_GROUP * sizeof *values);
        quantize_values(values, SEN_GROUP, inverse, last);
    }
}

void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    sen_groups *const found = groups_of(quantized, n);
    const int has_groups = (input->uses & SEN_USES_GROUPS) != 0;
    const float inverse = set_scale(has_groups ? find_groups(x, n, found) : max_of(x, n), quantized, input);
    if (has_groups && found->count < (n + SEN_GROUP - 1) / SEN_GROUP)
        quantize_groups(x, n, inverse, found, quantized);
    else
        quantize_in_order(x, n, inverse, quantized);
}

#else

void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    const part zero = {0};
    const uint32_t whole = n - n % (uint32_t)PART;
    int8_t *to = quantized;
    part maxima = zero;
    float max = 0, inverse;
    uint32_t i, k;
    for (i = 0; i < whole; i += PART) {
        const part value = load_part(x + i), magnitude = where(value > zero, value) - where(value < zero, value);
        maxima = where(magnitude > maxima, magnitude) + where(~(magnitude > maxima), maxima);
    }
    for (k = 0; k < PART; k++)
        max = maxima[k] > max ? maxima[k] : max;
    for (i = whole; i < n; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        max = magnitude > max ? magnitude : max;
    }
    inverse = set_scale(max, quantized, input);
    for (i = 0; i < whole; i += PART) {
        part value = load_part(x + i) * inverse;
        part_integers rounded;
        part_bytes narrow;
        value += SEN_ROUNDING;
        memcpy(&rounded, &value, sizeof rounded);
        rounded -= SEN_ROUNDING_BITS;
        narrow = __builtin_convertvector(rounded, part_bytes);
        memcpy(to + i, &narrow, sizeof narrow);
    }
    quantize_values(x + whole, n - whole, inverse, to + whole);
}

#endif
#endif
