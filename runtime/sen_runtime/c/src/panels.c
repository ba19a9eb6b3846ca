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

#ifdef SEN_NEON_KERNELS

/* How many bits are set in a number of four bits, and the bit `k` of these: a digit of a constant for each number. */
#define COUNT(four) (0x4332322132212110u >> 4 * (four)&15)
#define BIT(four, k)                                                                                                       \
    (((k) == 0 ? 0x0102010301020100u : (k) == 1 ? 0x1223133012201000u : (k) == 2 ? 0x2330300020000000u : (k) == 3 ? 0x3000000000000000u : 0) >> 4 * (four)&15)
#define PLACE(byte, k)                                                                                                     \
    ((k) < COUNT((byte)&15) ? BIT((byte)&15, k) : 4 + BIT((byte) >> 4, (k)-COUNT((byte)&15)))
#define PLACES(byte)                                                                                                       \
    {                                                                                                                      \
        PLACE(byte, 0), PLACE(byte, 1), PLACE(byte, 2), PLACE(byte, 3), PLACE(byte, 4), PLACE(byte, 5), PLACE(byte, 6),    \
            PLACE(byte, 7)                                                                                                 \
    }
#define COUNTS(byte) (COUNT((byte)&15) + COUNT((byte) >> 4))
#define FOUR(OF, byte) OF(byte), OF((byte) + 1u), OF((byte) + 2u), OF((byte) + 3u)
#define SIXTEEN(OF, byte) FOUR(OF, byte), FOUR(OF, (byte) + 4u), FOUR(OF, (byte) + 8u), FOUR(OF, (byte) + 12u)
#define SIXTY_FOUR(OF, byte)                                                                                               \
    SIXTEEN(OF, byte), SIXTEEN(OF, (byte) + 16u), SIXTEEN(OF, (byte) + 32u), SIXTEEN(OF, (byte) + 48u)
#define EVERY(OF) SIXTY_FOUR(OF, 0u), SIXTY_FOUR(OF, 64u), SIXTY_FOUR(OF, 128u), SIXTY_FOUR(OF, 192u)

const sen_bit_table sen_set_bits = {{EVERY(PLACES)}, {EVERY(COUNTS)}};

#endif

#else

#include "vector.h"

#ifdef __ARM_NEON

/* sum [4 fours] += a column of 16 `fours` rows times lane `lane` of `x`. */
#define ADD_COLUMN(column, x, lane)                                                                                        \
    for (k = 0; k < 4 * fours; k += 4) {                                                                                   \
        const float32x4x4_t weights = load_16(&(column));                                                                  \
        sum[k] = add_lane(sum[k], weights.val[0], x, lane);                                                                \
        sum[k + 1] = add_lane(sum[k + 1], weights.val[1], x, lane);                                                        \
        sum[k + 2] = add_lane(sum[k + 2], weights.val[2], x, lane);                                                        \
        sum[k + 3] = add_lane(sum[k + 3], weights.val[3], x, lane);                                                        \
    }

/* The columns of all inputs, which lie one behind the other. */
static inline __attribute__((always_inline)) void add_all(
    const float *column, const float *x, uint32_t n, float32x4_t *sum, const int fours)
{
    const float *const end = x + n, *const whole = end - n % 4;
    int k;
    while (x != whole) {
        const float32x4_t values = vld1q_f32(x);
        x += 4;
        ADD_COLUMN(column, values, 0)
        ADD_COLUMN(column, values, 1)
        ADD_COLUMN(column, values, 2)
        ADD_COLUMN(column, values, 3)
    }
    while (x != end) {
        const float32x4_t value = vld1q_dup_f32(x++);
        ADD_COLUMN(column, value, 0)
    }
}

/* The columns of the events, two at a time. */
static inline __attribute__((always_inline)) void add_events(
    const float *data, const sen_input *x, float32x4_t *sum, const int fours)
{
    const uint32_t *event = x->events, *const end = event + x->count, *const whole = end - x->count % 2;
    const float *const values = x->values;
    const size_t width = 16 * (size_t)fours;
    int k;
    while (event != whole) {
        const uint32_t i = event[0], j = event[1];
        const float *column = data + i * width, *other = data + j * width;
        const float32x4_t value = vld1q_dup_f32(values + i), second = vld1q_dup_f32(values + j);
        event += 2;
        ADD_COLUMN(column, value, 0)
        ADD_COLUMN(other, second, 0)
    }
    if (event != end) {
        const float *column = data + *event * width;
        const float32x4_t value = vld1q_dup_f32(values + *event);
        ADD_COLUMN(column, value, 0)
    }
}

/* One panel of 16 `fours` rows, of which the first `kept` are rows of the matrix. */
static inline __attribute__((always_inline)) void panel(
    const float *data, const sen_input *x, uint32_t columns, uint32_t kept, const float *addend, int is_relu, float *y,
    const int fours)
{
    float32x4_t sum[SEN_PANEL / 4];
    int k;
    for (k = 0; k < 4 * fours; k++)
        sum[k] = vdupq_n_f32(0);
    if (x->count == columns)
        add_all(data, x->values, columns, sum, fours);
    else
        add_events(data, x, sum, fours);
    finish_vectors(sum, 4 * fours, kept, &addend, is_relu, y);
}

void SEN_NAME(sen_panels)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t rows = w->rows, columns = w->columns;
    const float *data = w->values;
    uint32_t first;
    for (first = 0; first < rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(rows, first), kept = rows - first < width ? rows - first : width;
        const float *const from = addend ? addend + first : NULL;
        if (SEN_PANEL > 32 && width == 64)
            panel(data, x, columns, kept, from, is_relu, y + first, 4);
        else if (SEN_PANEL > 32 && width == 48)
            panel(data, x, columns, kept, from, is_relu, y + first, 3);
        else if (width == 32)
            panel(data, x, columns, kept, from, is_relu, y + first, 2);
        else
            panel(data, x, columns, kept, from, is_relu, y + first, 1);
        data += (size_t)columns * width;
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
/* A bit for each of sixteen values that is not 0. */
static inline uint32_t nonzero_bits(const float *x)
{
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
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
    all = vpaddq_u8(all, all);
    return vgetq_lane_u16(vreinterpretq_u16_u8(all), 0);
}

/* Writes the indices `first` + each bit that is set in a byte, and up to eight words behind them. */
static inline uint32_t *put_events(uint32_t *to, uint32x4_t first, uint32_t byte)
{
    const uint16x8_t index = vmovl_u8(vld1_u8(sen_set_bits.position[byte]));
    vst1q_u32(to, vaddw_u16(first, vget_low_u16(index)));
    vst1q_u32(to + 4, vaddw_high_u16(first, index));
    return to + sen_set_bits.count[byte];
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
    uint32x4_t first = vdupq_n_u32(0);
    const float *from = x, *const end = x + n / 16 * 16;
    while (from != end) {
        const uint32_t kept = nonzero_bits(from);
        from += 16;
        if (kept) {
            to = put_events(to, first, kept & 255);
            to = put_events(to, vaddq_u32(first, vdupq_n_u32(8)), kept >> 8);
        }
        first = vaddq_u32(first, vdupq_n_u32(16));
    }
    i = n / 16 * 16;
    count = (uint32_t)(to - events);
#endif
    for (; i < n; i++) {
        events[count] = i;
        count += x[i] != 0;
    }
    return count;
}

#endif
