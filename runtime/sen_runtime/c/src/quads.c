/* Dense int8 weights in panels of SEN_PANEL rows (the last time fewer): a group of columns of every row together, one group
 * behind the other. Every version gives the bits of sen_dense_int8_reference. */
#include "network.h"

#ifdef SEN_ISA

#include "vector.h"

#ifdef __AVX512VNNI__

static inline __m512i four_bytes(const int8_t *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return _mm512_set1_epi32(value);
}

/* One panel of `vectors` times sixteen rows from `row`; `at_once` of the groups of four columns have sums of their own. */
static inline __attribute__((always_inline)) void quad_panel(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, uint32_t row, const uint8_t *data, float *y,
    const uint32_t groups, const int vectors, const int at_once)
{
    const __m512i offset = _mm512_set1_epi32(128 * x->sum);
    const size_t width = (size_t)vectors * 64;
    const int8_t *q = x->quantized;
    uint32_t group = 0;
    __m512i sum[8];
    int k, e;
    for (k = 0; k < vectors * at_once; k++)
        sum[k] = _mm512_setzero_si512();
    for (; group + (uint32_t)at_once <= groups; group += (uint32_t)at_once)
        for (e = 0; e < at_once; e++) {
            const __m512i value = four_bytes(q + 4 * (size_t)(group + (uint32_t)e));
            const uint8_t *from = data + (group + (uint32_t)e) * width;
            for (k = 0; k < vectors; k++)
                sum[e * vectors + k] =
                    _mm512_dpbusd_epi32(sum[e * vectors + k], _mm512_loadu_si512(from + 64 * k), value);
        }
    for (; group < groups; group++)
        for (k = 0; k < vectors; k++)
            sum[k] = _mm512_dpbusd_epi32(
                sum[k], _mm512_loadu_si512(data + group * width + 64 * k), four_bytes(q + 4 * (size_t)group));
    for (k = 0; k < vectors; k++) {
        for (e = 1; e < at_once; e++)
            sum[k] = _mm512_add_epi32(sum[k], sum[e * vectors + k]);
        sen_finish_sixteen(w, x, addend, is_relu, row + LANES * (uint32_t)k, _mm512_sub_epi32(sum[k], offset), y);
    }
}

void SEN_NAME(sen_quads)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t groups = w->columns / 4 + (w->columns % 4 != 0);
    const uint8_t *data = w->values;
    uint32_t row;
    for (row = 0; row < w->rows; row += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, row);
        if (width == 64 && groups == 8) /* of rank 29 to 32: no loop */
            quad_panel(w, x, addend, is_relu, row, data, y, 8, 4, 1);
        else if (width == 64)
            quad_panel(w, x, addend, is_relu, row, data, y, groups, 4, 2);
        else if (width == 48)
            quad_panel(w, x, addend, is_relu, row, data, y, groups, 3, 2);
        else if (width == 32)
            quad_panel(w, x, addend, is_relu, row, data, y, groups, 2, 4);
        else
            quad_panel(w, x, addend, is_relu, row, data, y, groups, 1, 8);
        data += (size_t)groups * 4 * width;
    }
}

#elif defined(__ARM_NEON)

#ifdef __ARM_FEATURE_DOTPROD

typedef int32_t input_group;

/* 64 weights, behind which `from` moves. */
static inline int8x16x4_t load_64(const int8_t **from)
{
    const int8x16x4_t value = vld1q_s8_x4(*from);
    *from += 64;
    __asm__ volatile("" : "+r"(*from) : : "memory"); /* gcc 12 loads all weights first, and spills */
    return value;
}

static inline int8x8_t group_of(const input_group *x)
{
    return vcreate_s8((uint32_t)*x);
}

/* sum [4 fours] += a group of 16 `fours` rows times lane `lane` of `x`. */
#define ADD_GROUP(dot, group, x, lane)                                                                                          \
    for (k = 0; k < 4 * fours; k += 4) {                                                                                   \
        const int8x16x4_t weights = load_64(&(group));                                                                     \
        sum[k] = dot(sum[k], weights.val[0], x, lane);                                                         \
        sum[k + 1] = dot(sum[k + 1], weights.val[1], x, lane);                                                 \
        sum[k + 2] = dot(sum[k + 2], weights.val[2], x, lane);                                                 \
        sum[k + 3] = dot(sum[k + 3], weights.val[3], x, lane);                                                 \
        /* gcc 12 moves sums from register to register otherwise */                                                        \
        __asm__ volatile("" : "+w"(sum[k]), "+w"(sum[k + 1]), "+w"(sum[k + 2]), "+w"(sum[k + 3]));                         \
    }

/* All groups, which lie one behind the other. */
static inline __attribute__((always_inline)) void add_all(
    const int8_t *group, const input_group *x, uint32_t count, int32x4_t *sum, const int fours)
{
    const input_group *const end = x + count, *const whole = end - count % 4;
    int k;
    while (x != whole) {
        const int8x16_t values = vreinterpretq_s8_s32(vld1q_s32(x));
        x += 4;
        ADD_GROUP(vdotq_laneq_s32, group, values, 0)
        ADD_GROUP(vdotq_laneq_s32, group, values, 1)
        ADD_GROUP(vdotq_laneq_s32, group, values, 2)
        ADD_GROUP(vdotq_laneq_s32, group, values, 3)
    }
    while (x != end) {
        const int8x8_t value = group_of(x++);
        ADD_GROUP(vdotq_lane_s32, group, value, 0)
    }
}

/* The groups that are not all 0. */
static inline __attribute__((always_inline)) void add_groups(
    const int8_t *data, const input_group *x, const uint16_t *group, uint32_t count, int32x4_t *sum, const int fours)
{
    const uint16_t *const end = group + count, *const whole = end - count % 4;
    const size_t stride = 64 * (size_t)fours;
    const int8_t *from;
    int k;
#define ADD_LANE(index, lane)                                                                                              \
    from = data + (index) * stride;                                                                                        \
    ADD_GROUP(vdotq_laneq_s32, from, values, lane)
    while (group != whole) {
        const int8x16_t values = vreinterpretq_s8_s32(vld1q_s32(x));
        x += 4;
        ADD_LANE(group[0], 0)
        group += 4;
        ADD_LANE(group[-3], 1)
        ADD_LANE(group[-2], 2)
        ADD_LANE(group[-1], 3)
    }
    while (group != end) {
        const int8x8_t value = group_of(x++);
        from = data + *group++ * stride;
        ADD_GROUP(vdotq_lane_s32, from, value, 0)
    }
}

#else

typedef int16_t input_group;

static inline int8x16_t copies_of(const input_group *pair)
{
    return vreinterpretq_s8_s16(vld1q_dup_s16(pair));
}

/* sum [2] += eight rows of two groups: their products add up within 16 bits. */
static inline void add_eight_rows(int8x16_t a, int8x16_t x, int8x16_t b, int8x16_t y, int32x4_t *sum)
{
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(x)), high = vmull_high_s8(a, x);
    sum[0] = vpadalq_s16(sum[0], vmlal_s8(low, vget_low_s8(b), vget_low_s8(y)));
    sum[1] = vpadalq_s16(sum[1], vmlal_high_s8(high, b, y));
}

/* sum [4 fours] += the groups at `a` and `b`, of 16 `fours` rows, times x and y. */
static inline __attribute__((always_inline)) void add_two(
    const int8_t *a, int8x16_t x, const int8_t *b, int8x16_t y, int32x4_t *sum, const int fours)
{
    int k;
    __asm__("" : "+r"(a), "+r"(b)); /* loads of one register each otherwise */
    for (k = 0; k < 4 * fours; k += 4) {
        const int8x16x2_t first = load_32(&a), second = load_32(&b);
        add_eight_rows(first.val[0], x, second.val[0], y, sum + k);
        add_eight_rows(first.val[1], x, second.val[1], y, sum + k + 2);
        /* gcc 12 multiplies all weights first otherwise, and spills */
        __asm__ volatile("" : "+w"(sum[k]), "+w"(sum[k + 1]), "+w"(sum[k + 2]), "+w"(sum[k + 3]) : "w"(x), "w"(y));
    }
}

/* All groups, which lie one behind the other. */
static inline __attribute__((always_inline)) void add_all(
    const int8_t *data, const input_group *x, uint32_t count, int32x4_t *sum, const int fours)
{
    const input_group *const end = x + count, *const whole = end - count % 2;
    const size_t stride = 32 * (size_t)fours;
    for (; x != whole; x += 2, data += 2 * stride)
        add_two(data, copies_of(x), data + stride, copies_of(x + 1), sum, fours);
    if (x != end)
        add_two(data, copies_of(x), data, vdupq_n_s8(0), sum, fours);
}

/* The groups that are not all 0. */
static inline __attribute__((always_inline)) void add_groups(
    const int8_t *data, const input_group *x, const uint16_t *group, uint32_t count, int32x4_t *sum, const int fours)
{
    const uint16_t *const end = group + count;
    const size_t stride = 32 * (size_t)fours;
#define ADD_TWO(k)                                                                                                         \
    add_two(data + group[k] * stride, copies_of(x + (k)), data + group[(k) + 1] * stride, copies_of(x + (k) + 1), sum, fours)
    for (; end - group >= 4; group += 4, x += 4) {
        ADD_TWO(0);
        ADD_TWO(2);
    }
    for (; end - group >= 2; group += 2, x += 2)
        ADD_TWO(0);
    if (group != end)
        add_two(data + *group * stride, copies_of(x), data, vdupq_n_s8(0), sum, fours);
}

#endif

/* The outputs of a panel of 16 `fours` rows, as far as there are `left`. */
static inline __attribute__((always_inline)) void quad_panel(
    const int8_t *data, const void *quantized, const sen_groups *nonzero, uint32_t count, uint32_t groups, uint32_t left,
    row_outputs *out, const int fours)
{
    int32x4_t sum[SEN_PANEL / 4];
    int k;
    for (k = 0; k < 4 * fours; k++)
        sum[k] = vdupq_n_s32(0);
    if (count == groups)
        add_all(data, quantized, groups, sum, fours);
    else
        add_groups(data, quantized, nonzero->group, count, sum, fours);
    finish_int8(out, sum, 4 * fours, left);
}

void SEN_NAME(sen_quads)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t groups = w->columns / SEN_GROUP + (w->columns % SEN_GROUP != 0);
    const size_t panel = (size_t)groups * SEN_GROUP * SEN_PANEL;
    const void *const quantized = x->quantized;
    const sen_groups *const nonzero = groups_of(quantized, w->columns);
    const uint32_t count = x->uses & SEN_USES_GROUPS ? nonzero->count : groups;
    const int8_t *data = w->values;
    row_outputs out = outputs_of(w, x, addend, is_relu, y);
    int64_t left = w->rows;
    for (; left > 0; left -= SEN_PANEL, data += panel) {
        if (left > SEN_PANEL - 16)
            quad_panel(data, quantized, nonzero, count, groups, (uint32_t)left, &out, SEN_PANEL / 16);
        else if (SEN_PANEL > 32 && left > 32)
            quad_panel(data, quantized, nonzero, count, groups, (uint32_t)left, &out, 3);
        else if (SEN_PANEL > 32 && left > 16)
            quad_panel(data, quantized, nonzero, count, groups, (uint32_t)left, &out, 2);
        else
            quad_panel(data, quantized, nonzero, count, groups, (uint32_t)left, &out, 1);
    }
}

#endif
#endif
