/* Dense float32 weights in the order that caches and vectors like: SEN_PANEL rows (the last time fewer) of every column, one
 * column after the other. A panel's sums stay in registers over all inputs, and inputs that are 0 are not multiplied. */
#include "network.h"

#ifndef SEN_ISA

void sen_panels(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const float *panel = w->values;
    uint32_t first, i, e;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        for (i = 0; i < width && first + i < w->rows; i++) {
            float sum = 0;
            for (e = 0; e < x->count; e++)
                sum += panel[(size_t)x->events[e] * width + i] * x->values[x->events[e]];
            y[first + i] = sen_finish(addend, is_relu, first + i, sum);
        }
        panel += (size_t)w->columns * width;
    }
}

/* export: sen_nonzero */
SEN_PRIVATE uint32_t sen_nonzero(const float *x, uint32_t n, uint32_t *events)
{
    uint32_t count = 0, i;
    for (i = 0; i < n; i++)
        if (x[i] != 0)
            events[count++] = i;
    return count;
}
/* end */

#else

#include "vector.h"

#ifdef __ARM_NEON

/* sums [16 fours] += the columns of the events, `stride` floats apart, times their inputs. */
static inline __attribute__((always_inline)) void add_columns(
    const float *data, size_t stride, const sen_input *x, float *sums, const int fours)
{
    const uint32_t *event = x->events, *const end = event + x->count;
    const float *const values = x->values;
    float32x4_t sum[16];
    int k;
    for (k = 0; k < 4 * fours; k++)
        sum[k] = vdupq_n_f32(0);
    while (event != end) {
        const uint32_t j = *event++;
        const float *column = data + j * stride;
        const float32x4_t value = vld1q_dup_f32(values + j);
        for (k = 0; k < fours; k++) {
            const float32x4x4_t weights = vld1q_f32_x4(column);
            column += 16;
            __asm__("" : "+r"(column)); /* an address for each load otherwise */
            sum[4 * k] = vfmaq_f32(sum[4 * k], weights.val[0], value);
            sum[4 * k + 1] = vfmaq_f32(sum[4 * k + 1], weights.val[1], value);
            sum[4 * k + 2] = vfmaq_f32(sum[4 * k + 2], weights.val[2], value);
            sum[4 * k + 3] = vfmaq_f32(sum[4 * k + 3], weights.val[3], value);
        }
    }
    for (k = 0; k < 4 * fours; k++)
        vst1q_f32(sums + 4 * k, sum[k]);
}

void SEN_NAME(sen_panels)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const float *data = w->values;
    uint32_t first, k;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first), kept = w->rows - first < width ? w->rows - first : width;
        float sums[SEN_PANEL];
        if (width == SEN_PANEL)
            add_columns(data, width, x, sums, 4);
        else
            for (k = 0; k < width; k += 16)
                add_columns(data + k, width, x, sums + k, 1);
        finish_rows(sums, kept, addend ? addend + first : NULL, is_relu, y + first);
        data += (size_t)w->columns * width;
    }
}

#else

/* The event `index`; of inputs without a 0 the events are all of them, in order. */
static inline uint32_t event_at(const sen_input *x, uint32_t index, const int is_full)
{
    return is_full ? index : x->events[index];
}

/* `vectors` times sixteen outputs: `at_once` events have sums of their own, so that no addition waits for the one before. */
static inline __attribute__((always_inline)) void panel_sums(
    const float *data, const sen_input *x, float *sums, const int vectors, const int at_once, const int is_full)
{
    part sum[8 * PARTS] = {{0}};
    const int parts = vectors * (int)PARTS;
    const size_t width = (size_t)vectors * LANES;
    uint32_t event = 0;
    int k, e;
    for (; event + (uint32_t)at_once <= x->count; event += (uint32_t)at_once)
        for (e = 0; e < at_once; e++) {
            const uint32_t j = event_at(x, event + (uint32_t)e, is_full);
            for (k = 0; k < parts; k++)
                sum[e * parts + k] += load_part(data + j * width + (size_t)k * PART) * x->values[j];
        }
    for (; event < x->count; event++) {
        const uint32_t j = event_at(x, event, is_full);
        for (k = 0; k < parts; k++)
            sum[k] += load_part(data + j * width + (size_t)k * PART) * x->values[j];
    }
    for (k = 0; k < parts; k++) {
        for (e = 1; e < at_once; e++)
            sum[k] += sum[e * parts + k];
        memcpy(sums + (size_t)k * PART, &sum[k], sizeof sum[k]);
    }
}

static inline __attribute__((always_inline)) void all_panels(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y, const int is_full)
{
    const float *data = w->values;
    uint32_t first;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        const uint32_t kept = w->rows - first < width ? w->rows - first : width;
        float sums[SEN_PANEL];
        if (width == 4 * LANES)
            panel_sums(data, x, sums, 4, 2, is_full);
        else if (width == 3 * LANES)
            panel_sums(data, x, sums, 3, 2, is_full);
        else if (width == 2 * LANES)
            panel_sums(data, x, sums, 2, 4, is_full);
        else
            panel_sums(data, x, sums, 1, 8, is_full);
        finish_rows(sums, kept, addend ? addend + first : NULL, is_relu, y + first);
        data += (size_t)w->columns * width;
    }
}

void SEN_NAME(sen_panels)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    if (x->count == w->columns)
        all_panels(w, x, addend, is_relu, y, 1);
    else
        all_panels(w, x, addend, is_relu, y, 0);
}

#endif

#ifdef __ARM_NEON
/* In each byte, a bit for each of four values that is not 0. */
static inline uint32_t nonzero_bits(const float *x)
{
    const uint8x16_t bits = {1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
    uint16x8_t half[2];
    uint8x16_t all;
    int k;
    for (k = 0; k < 2; k++, x += 8) {
        const uint32x4_t low = vceqzq_f32(vld1q_f32(x)), high = vceqzq_f32(vld1q_f32(x + 4));
        half[k] = vuzp1q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
    }
    all = vbicq_u8(bits, vuzp1q_u8(vreinterpretq_u8_u16(half[0]), vreinterpretq_u8_u16(half[1])));
    all = vpaddq_u8(all, all);
    all = vpaddq_u8(all, all);
    return vgetq_lane_u32(vreinterpretq_u32_u8(all), 0);
}
#endif

uint32_t SEN_NAME(sen_nonzero)(const float *x, uint32_t n, uint32_t *events)
{
    uint32_t count = 0, i = 0;
#ifdef __AVX512F__
    __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + LANES <= n; i += LANES) {
        const __mmask16 kept = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_si512(events + count, kept == 0xFFFF ? index : _mm512_maskz_compress_epi32(kept, index));
        count += (uint32_t)__builtin_popcount(kept);
        index = _mm512_add_epi32(index, _mm512_set1_epi32(LANES));
    }
#elif defined(__ARM_NEON)
    uint32_t *to = events;
    for (; i + 16 <= n; i += 16) {
        uint32_t kept = nonzero_bits(x + i), k;
        uint32x4_t index = vdupq_n_u32(i);
        if (kept == 0)
            continue;
        for (k = 0; k < 4; k++, kept >>= 8) {
            vst1q_u32(to, vaddw_u16(index, vld1_u16(set_bits[kept & 15])));
            to += set_bit_count[kept & 15];
            index = vaddq_u32(index, vdupq_n_u32(4));
        }
    }
    count = (uint32_t)(to - events);
#endif
    for (; i < n; i++) {
        events[count] = i;
        count += x[i] != 0;
    }
    return count;
}

#endif
