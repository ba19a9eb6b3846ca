/* Quantization of the input of an integer product to int8, symmetric: scale = max |x| / 127, halves to even. */
#include "pairs.h"

/* export: quantize_values */
/* A maximum up to this counts as 0: 127 divided by it might overflow. */
#define SEN_MIN_MAGNITUDE 1e-30f

/* Sets the scale of an input with this maximum magnitude; returns the factor from values to quantized values. */
SEN_INLINE float set_scale(float max, void *quantized, sen_input *input)
{
    const float nonzero = max > SEN_MIN_MAGNITUDE ? max : 0, inverse = nonzero > 0 ? 127.0f / nonzero : 0;
    input->quantized = quantized;
    input->scale = nonzero / 127.0f;
    input->sum = 0;
    return inverse;
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
static inline int8x16_t sixteen_rounded(const float *x, float inverse)
{
    int16x4_t rounded[4];
    int k;
    for (k = 0; k < 4; k++)
        rounded[k] = nearest_integers(vmulq_n_f32(vld1q_f32(x + 4 * k), inverse));
    return vcombine_s8(
        vmovn_s16(vcombine_s16(rounded[0], rounded[1])), vmovn_s16(vcombine_s16(rounded[2], rounded[3])));
}

/* Values whose groups are found at once. */
#define BLOCK (8 * SEN_GROUP)

/* A bit for each group of a block that is not all 0. */
static inline uint32_t group_bits(const int8x16_t *block)
{
    const uint16x8_t bits = {1, 2, 4, 8, 16, 32, 64, 128};
#ifdef __ARM_FEATURE_DOTPROD
    const uint32x4_t low = vreinterpretq_u32_s8(block[0]), high = vreinterpretq_u32_s8(block[1]);
    const uint16x8_t kept = vcombine_u16(vmovn_u32(vtstq_u32(low, low)), vmovn_u32(vtstq_u32(high, high)));
    return vaddvq_u16(vandq_u16(kept, bits));
#else
    const uint16x8_t value = vreinterpretq_u16_s8(*block);
    return vaddvq_u16(vandq_u16(vtstq_u16(value, value), bits));
#endif
}

/* The max magnitude of whole vectors of sixteen. Floats that are not negative have the order of their bits, which takes one
 * instruction a vector. */
static float max_of_whole(const float *x, const float *end)
{
    const float *const start = x;
    uint32x4_t bits[4];
    float32x4_t maxima[4];
    uint32_t all;
    float max;
    int k;
    for (k = 0; k < 4; k++)
        bits[k] = vdupq_n_u32(0);
    for (; x != end; x += 16)
        for (k = 0; k < 4; k++)
            bits[k] = vmaxq_u32(bits[k], vreinterpretq_u32_f32(vld1q_f32(x + 4 * k)));
    all = vmaxvq_u32(vmaxq_u32(vmaxq_u32(bits[0], bits[1]), vmaxq_u32(bits[2], bits[3])));
    memcpy(&max, &all, sizeof max);
    if (all <= 0x7F800000u)
        return max;
    for (k = 0; k < 4; k++)
        maxima[k] = vdupq_n_f32(0);
    for (x = start; x != end; x += 16)
        for (k = 0; k < 4; k++)
            maxima[k] = max_magnitude(maxima[k], vld1q_f32(x + 4 * k));
    return vmaxvq_f32(max_magnitude(max_magnitude(maxima[0], maxima[1]), max_magnitude(maxima[2], maxima[3])));
}

static float max_of(const float *x, uint32_t n)
{
    const float *const end = x + n, *const whole = end - n % 16;
    float max = max_of_whole(x, whole);
    x = whole;
    if (max != max) {
        max = 0;
        x = end - n;
    }
    for (; x != end; x++) {
        const float magnitude = *x < 0 ? -*x : *x;
        max = magnitude > max ? magnitude : max;
    }
    return max;
}

/* Quantizes a block, and writes its groups behind `group`, with up to seven words behind them. */
static inline uint16_t *put_block(const float *x, float inverse, int8_t *to, uint16x8_t first, uint16_t *group)
{
    int8x16_t block[BLOCK / 16];
    uint32_t kept, k;
    for (k = 0; k < BLOCK / 16; k++) {
        block[k] = sixteen_rounded(x + 16 * k, inverse);
        vst1q_s8(to + 16 * k, block[k]);
    }
    kept = group_bits(block);
    if (kept) {
        vst1q_u16(group, vaddw_u8(first, vld1_u8(sen_set_bits.position[kept])));
        group += sen_set_bits.count[kept];
    }
    return group;
}

/* Zeros follow the values up to a whole block. */
void SEN_NAME(sen_quantize)(const float *x, uint32_t n, void *quantized, sen_input *input)
{
    const float inverse = set_scale(max_of(x, n), quantized, input);
    const float *const whole = x + n / BLOCK * BLOCK, *const twos = x + n / (2 * BLOCK) * (2 * BLOCK);
    sen_groups *const found = groups_of(quantized, n);
    uint16_t *group = found->group;
    uint16x8_t first = vdupq_n_u16(0);
    int8_t *to = quantized;
    for (; x != twos; x += 2 * BLOCK, to += 2 * BLOCK) {
        group = put_block(x, inverse, to, first, group);
        group = put_block(x + BLOCK, inverse, to + BLOCK, vaddq_u16(first, vdupq_n_u16(8)), group);
        first = vaddq_u16(first, vdupq_n_u16(16));
    }
    if (x != whole) {
        group = put_block(x, inverse, to, first, group);
        first = vaddq_u16(first, vdupq_n_u16(8));
        x += BLOCK;
        to += BLOCK;
    }
    if (n % BLOCK) {
        float last[BLOCK] = {0};
        memcpy(last, x, n % BLOCK * sizeof *last);
        group = put_block(last, inverse, to, first, group);
    }
    found->count = (uint32_t)(group - found->group);
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
