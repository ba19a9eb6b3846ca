/* Quantization of inputs and Lif neurons of networks whose activations are int8, on NEON and AVX2. */
#include "integer.h"

#if defined(SEN_ISA) && (defined(__ARM_NEON) || defined(__AVX2__))

#include "vector.h"

#ifdef __ARM_NEON

void SEN_NAME(sen_integer_quantize)(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to)
{
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    for (; n >= 16; n -= 16, to += 16) { /* every step saturates; NaN becomes 0 */
        const float32x4x4_t value = load_16(&x);
        int16x8_t half[2];
        int k;
        for (k = 0; k < 2; k++) {
            const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(value.val[2 * k], inverse_scale));
            const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(value.val[2 * k + 1], inverse_scale));
            half[k] = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zeros);
        }
        vst1q_u8(to, vqmovun_high_s16(vqmovun_s16(half[0]), half[1]));
    }
    sen_integer_quantize(x, n, inverse_scale, zero, to);
}

/* Lif neurons in vectors of eight. Bounds of membranes, and what stays the same over the steps. */
typedef struct lif_lanes {
    int16x8_t threshold, low, high;
    int16_t decay;
} lif_lanes;

static inline __attribute__((always_inline)) int16x8_t next_membrane(
    const lif_lanes *neuron, const uint32_t reset, int16x8_t u, uint16x8_t fired, int16x8_t current)
{
    const int16x8_t given_up = vandq_s16(vreinterpretq_s16_u16(fired), neuron->threshold);
    if (reset == SEN_RESET_BEFORE_DECAY)
        u = vmaxq_s16(vsubq_s16(u, given_up), neuron->low);
    u = vqrdmulhq_n_s16(u, neuron->decay);
    if (reset == SEN_RESET_ZERO)
        u = vbicq_s16(u, vreinterpretq_s16_u16(fired));
    u = vminq_s16(vmaxq_s16(vaddq_s16(u, current), neuron->low), neuron->high);
    return reset == SEN_RESET_SUBTRACT ? vmaxq_s16(vsubq_s16(u, given_up), neuron->low) : u;
}

/* Sixteen neurons at a time; the number of neurons in whole sixteens. */
static inline __attribute__((always_inline)) uint32_t integrate_sixteens(
    const sen_integer_lif *lif, const uint32_t reset, uint32_t n, const uint8_t *current, const int32_t *factors,
    uint32_t steps, int16_t *membrane, uint8_t *total)
{
    const int16x8_t zero = vdupq_n_s16((int16_t)lif->zero);
    const lif_lanes neuron = {
        vdupq_n_s16((int16_t)lif->threshold), vnegq_s16(zero), vsubq_s16(vdupq_n_s16(255), zero), (int16_t)lif->decay};
    uint32_t i, t;
    int k;
    for (i = 0; i + 16 <= n; i += 16) {
        const uint8x16_t stored = vld1q_u8(current + i);
        const int16x8_t arriving[2] = {
            vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(stored))), zero),
            vsubq_s16(vreinterpretq_s16_u16(vmovl_high_u8(stored)), zero)};
        int16x8_t u[2] = {vld1q_s16(membrane + i), vld1q_s16(membrane + i + 8)};
        int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (t = 0; t < steps; t++) {
            const int16x8_t factor = vdupq_n_s16((int16_t)factors[t]);
            for (k = 0; k < 2; k++) {
                u[k] = next_membrane(&neuron, reset, u[k], vcgtq_s16(u[k], neuron.threshold), arriving[k]);
                sum[k] = vaddq_s16(
                    sum[k], vandq_s16(vreinterpretq_s16_u16(vcgtq_s16(u[k], neuron.threshold)), factor));
            }
        }
        vst1q_s16(membrane + i, u[0]);
        vst1q_s16(membrane + i + 8, u[1]);
        vst1q_u8(total + i, vqmovun_high_s16(vqmovun_s16(sum[0]), sum[1]));
    }
    return i;
}

#else

/* Steps of eight inputs; their bounds are integers, so that values may be cut off before they are rounded. */
static inline __m256i eight_rounded(const float *x, float inverse_scale, __m256 low, __m256 high)
{
    const __m256 value = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse_scale));
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(value, low), high));
}

void SEN_NAME(sen_integer_quantize)(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to)
{
    const __m256 low = _mm256_set1_ps((float)-zero), high = _mm256_set1_ps((float)(255 - zero));
    const __m256i zeros = _mm256_set1_epi16((int16_t)zero);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i a = eight_rounded(x + i, inverse_scale, low, high);
        const __m256i b = eight_rounded(x + i + 8, inverse_scale, low, high);
        const __m256i steps = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        _mm_storeu_si128((__m128i *)(void *)(to + i), bytes_of(_mm256_add_epi16(steps, zeros)));
    }
    sen_integer_quantize(x + i, n - i, inverse_scale, zero, to + i);
}

static inline __attribute__((always_inline)) __m256i next_membrane(
    const sen_integer_lif *neuron, const uint32_t reset, __m256i u, __m256i fired, __m256i current)
{
    const __m256i low = _mm256_set1_epi16((int16_t)-neuron->zero), high = _mm256_set1_epi16((int16_t)(255 - neuron->zero));
    const __m256i given_up = _mm256_and_si256(fired, _mm256_set1_epi16((int16_t)neuron->threshold));
    if (reset == SEN_RESET_BEFORE_DECAY)
        u = _mm256_max_epi16(_mm256_sub_epi16(u, given_up), low);
    u = _mm256_mulhrs_epi16(u, _mm256_set1_epi16((int16_t)neuron->decay));
    if (reset == SEN_RESET_ZERO)
        u = _mm256_andnot_si256(fired, u);
    u = _mm256_min_epi16(_mm256_max_epi16(_mm256_add_epi16(u, current), low), high);
    return reset == SEN_RESET_SUBTRACT ? _mm256_max_epi16(_mm256_sub_epi16(u, given_up), low) : u;
}

/* Sixteen neurons at a time; the number of neurons in whole sixteens. */
static inline __attribute__((always_inline)) uint32_t integrate_sixteens(
    const sen_integer_lif *neuron, const uint32_t reset, uint32_t n, const uint8_t *current, const int32_t *factors,
    uint32_t steps, int16_t *membrane, uint8_t *total)
{
    const __m256i threshold = _mm256_set1_epi16((int16_t)neuron->threshold);
    uint32_t i, t;
    for (i = 0; i + 16 <= n; i += 16) {
        const __m256i arriving =
            _mm256_sub_epi16(sixteen_bytes(current + i, 0), _mm256_set1_epi16((int16_t)neuron->zero));
        __m256i u = _mm256_loadu_si256((const __m256i *)(const void *)(membrane + i)), sum = _mm256_setzero_si256();
        for (t = 0; t < steps; t++) {
            u = next_membrane(neuron, reset, u, _mm256_cmpgt_epi16(u, threshold), arriving);
            sum = _mm256_add_epi16(
                sum, _mm256_and_si256(_mm256_cmpgt_epi16(u, threshold), _mm256_set1_epi16((int16_t)factors[t])));
        }
        _mm256_storeu_si256((__m256i *)(void *)(membrane + i), u);
        _mm_storeu_si128((__m128i *)(void *)(total + i), bytes_of(sum));
    }
    return i;
}

#endif

void SEN_NAME(sen_integer_integrate)(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total)
{
    const uint32_t i = SEN_BY_RESET(integrate_sixteens, neuron, n, current, factors, steps, membrane, total);
    sen_integer_integrate(neuron, n - i, current + i, factors, steps, membrane + i, total + i);
}

#endif
