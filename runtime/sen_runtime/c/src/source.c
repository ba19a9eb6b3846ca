/* Sparse matrices by source: `starts` [block columns + 1], and for each block its uint16 block row and its weights. Blocks of a
 * source are of different rows, so four can be updated at once. Inputs that are 0 are not multiplied; products of int8 give the
 * bits of sen_sparse_int8_reference. */
#include "network.h"

#if defined(SEN_ISA) && defined(__ARM_NEON)

#include "vector.h"

/* The blocks of a source. */
typedef struct source {
    const uint16_t *row, *end;
    size_t first; /* index of the first block */
} source;

/* Copies of what the loops read of a matrix: an output might be the matrix, as far as a compiler knows. */
typedef struct sources {
    const uint16_t *rows;
    const int32_t *starts;
} sources;

static inline sources sources_of(const sen_weights *w)
{
    const sources all = {w->indices, w->starts};
    return all;
}

static inline source source_of(sources all, uint32_t block_column)
{
    const int32_t first = all.starts[block_column], next = all.starts[block_column + 1];
    const source found = {all.rows + first, all.rows + next, (size_t)first};
    return found;
}

/* y = addend, or 0. */
static inline void copy_addend(const float *addend, uint32_t n, float *y)
{
    if (!addend)
        memset(y, 0, n * sizeof *y);
    else if (addend != y)
        memcpy(y, addend, n * sizeof *y);
}

/* y = max(y, 0), 0 for NaN. */
static inline void rectify(uint32_t n, float *y)
{
    const uint32_t whole = n - n % 16;
    uint32_t i, k;
    for (i = 0; i < whole; i += 16, y += 16)
        for (k = 0; k < 16; k += 4)
            vst1q_f32(y + k, positive_part(vld1q_f32(y + k)));
    finish_rows(y, n - whole, NULL, 1, y);
}

/* sums [16] += value block [16]; returns the next block. */
static inline const float *add_block(float *sums, const float *block, float32x4_t value)
{
#ifdef __aarch64__
    /* gcc 12 copies registers that it loads or stores together */
    __asm__("ld1 {v0.4s-v3.4s}, [%0], #64\n\tld1 {v4.4s-v7.4s}, [%2]\n\t"
            "fmla v4.4s, v0.4s, %3.4s\n\tfmla v5.4s, v1.4s, %3.4s\n\tfmla v6.4s, v2.4s, %3.4s\n\tfmla v7.4s, v3.4s, %3.4s\n\t"
            "st1 {v4.4s-v7.4s}, [%2]"
            : "+r"(block), "+m"(*(float(*)[16])sums)
            : "r"(sums), "w"(value), "m"(*(const float(*)[16])block)
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7");
#else
    const float32x4x4_t weights = load_16(&block);
    int k;
    for (k = 0; k < 4; k++)
        vst1q_f32(sums + 4 * k, vfmaq_f32(vld1q_f32(sums + 4 * k), weights.val[k], value));
#endif
    return block;
}

/* Of the `whole` first block rows the sums are in `y`, of the one behind them in `last`. */
static inline __attribute__((always_inline)) void add_events_16x1(
    const sen_weights *w, const sen_input *x, uint32_t whole, float *y, float *last, const int has_last)
{
    const float *const values = x->values, *const blocks = w->values;
    const sources all = sources_of(w);
    const uint32_t *event = x->events, *const end = event + x->count;
    while (event != end) {
        const uint32_t j = *event++;
        source from = source_of(all, j);
        const float *block = blocks + 16 * from.first;
        const float32x4_t value = vld1q_dup_f32(values + j);
        while (from.row != from.end) {
            const size_t row = *from.row++;
            block = add_block(!has_last || row < whole ? y + 16 * row : last, block, value);
        }
    }
}

void SEN_NAME(sen_source_16x1_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t whole = w->rows / 16, kept = w->rows % 16;
    float last[16] = {0};
    copy_addend(addend, whole * 16, y);
    if (kept)
        add_events_16x1(w, x, whole, y, last, 1);
    else
        add_events_16x1(w, x, whole, y, last, 0);
    if (is_relu)
        rectify(whole * 16, y);
    finish_rows(last, kept, addend ? addend + whole * 16 : NULL, is_relu, y + whole * 16);
}

void SEN_NAME(sen_source_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t *event = x->events, *const end = event + x->count;
    const float *const values = x->values, *const weights = w->values;
    const sources all = sources_of(w);
    copy_addend(addend, w->rows, y);
    while (event != end) {
        const uint32_t j = *event++;
        source from = source_of(all, j);
        const float *weight = weights + from.first, value = values[j];
        for (; from.end - from.row >= 4; from.row += 4, weight += 4) {
            float *const a = y + from.row[0], *const b = y + from.row[1];
            float *const c = y + from.row[2], *const d = y + from.row[3];
            const float first = sen_fused(weight[0], value, *a), second = sen_fused(weight[1], value, *b);
            const float third = sen_fused(weight[2], value, *c), fourth = sen_fused(weight[3], value, *d);
            *a = first;
            *b = second;
            *c = third;
            *d = fourth;
        }
        for (; from.row != from.end; from.row++)
            y[*from.row] = sen_fused(*weight++, value, y[*from.row]);
    }
    if (is_relu)
        rectify(w->rows, y);
}

/* The weights of four blocks by input, those of the remaining blocks by block. */
void SEN_NAME(sen_source_1x4_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t *event = x->events, *const end = event + x->count;
    const float *const inputs = x->values, *const blocks = w->values;
    const sources all = sources_of(w);
    uint32_t last = UINT32_MAX;
    copy_addend(addend, w->rows, y);
    for (; event != end; event++) {
        const uint32_t four = *event / 4;
        const float32x4_t values = vld1q_f32(inputs + 4 * (size_t)four);
        const float *block;
        source from;
        if (four == last)
            continue;
        last = four;
        from = source_of(all, four);
        block = blocks + 4 * from.first;
        for (; from.end - from.row >= 4; from.row += 4) {
            float *const a = y + from.row[0], *const b = y + from.row[1];
            float *const c = y + from.row[2], *const d = y + from.row[3];
            const float32x4x4_t weights = load_16(&block);
            float32x4_t sum = vld1q_dup_f32(a);
            sum = vld1q_lane_f32(b, sum, 1);
            sum = vld1q_lane_f32(c, sum, 2);
            sum = vld1q_lane_f32(d, sum, 3);
            sum = vfmaq_laneq_f32(sum, weights.val[0], values, 0);
            sum = vfmaq_laneq_f32(sum, weights.val[1], values, 1);
            sum = vfmaq_laneq_f32(sum, weights.val[2], values, 2);
            sum = vfmaq_laneq_f32(sum, weights.val[3], values, 3);
            vst1q_lane_f32(a, sum, 0);
            vst1q_lane_f32(b, sum, 1);
            vst1q_lane_f32(c, sum, 2);
            vst1q_lane_f32(d, sum, 3);
        }
        for (; from.row != from.end; from.row++, block += 4)
            y[*from.row] += vaddvq_f32(vmulq_f32(vld1q_f32(block), values));
    }
    if (is_relu)
        rectify(w->rows, y);
}

/* sums [rows] += the blocks of a source times the quantized inputs of its block column. */
typedef void sen_add_source(source from, const int8_t *weights, const int8_t *x, int32_t *sums);

/* Scratch behind the quantized inputs, whose memory is the caller's, as several threads may use a model. */
static inline int32_t *sums_behind(const sen_input *x, uint32_t columns)
{
    const uintptr_t start = (uintptr_t)x->quantized;
    return (int32_t *)(start + ((size_t)columns + 63) / 64 * SEN_NEON_QUANTIZED_64);
}

/* Blocks of `width` columns and `block` weights. */
static inline __attribute__((always_inline)) void multiply_int8(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y, sen_add_source *add,
    const uint32_t width, const size_t block)
{
    const sen_groups *const groups = groups_of(x->quantized, w->columns);
    const uint16_t *group = groups->group, *const end = group + groups->count;
    const int8_t *const q = x->quantized, *const weights = w->values;
    int32_t *const sums = sums_behind(x, w->columns);
    const sources all = sources_of(w);
    uint32_t last = UINT32_MAX, k;
    memset(sums, 0, ((size_t)w->rows + 15) / 16 * 16 * sizeof *sums);
    while (group != end) {
        const uint32_t first = SEN_GROUP * *group++;
        for (k = first; k < first + SEN_GROUP; k++)
            if (q[k] != 0 && (width == 1 || k / width != last)) {
                const source from = source_of(all, k / width);
                last = k / width;
                add(from, weights + block * from.first, q + width * last, sums);
            }
    }
    finish_sums(w, x, 0, sums, w->rows, addend, is_relu, y);
}

static inline void add_16x1(source from, const int8_t *block, const int8_t *x, int32_t *sums)
{
    const int8x16_t value = vld1q_dup_s8(x);
    for (; from.row != from.end; block += 16) {
        int32_t *const to = sums + 16 * (size_t)*from.row++;
        const int8x16_t weights = vld1q_s8(block);
        const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(value)), high = vmull_high_s8(weights, value);
        int32x4x4_t sum = load_sums(to);
        sum.val[0] = vaddw_s16(sum.val[0], vget_low_s16(low));
        sum.val[1] = vaddw_high_s16(sum.val[1], low);
        sum.val[2] = vaddw_s16(sum.val[2], vget_low_s16(high));
        sum.val[3] = vaddw_high_s16(sum.val[3], high);
        store_sums(to, sum);
    }
}

static inline void add_single(source from, const int8_t *weight, const int8_t *x, int32_t *sums)
{
    const int32_t value = *x;
    for (; from.end - from.row >= 4; from.row += 4, weight += 4) {
        int32_t *const a = sums + from.row[0], *const b = sums + from.row[1];
        int32_t *const c = sums + from.row[2], *const d = sums + from.row[3];
        const int32_t first = *a + weight[0] * value, second = *b + weight[1] * value;
        const int32_t third = *c + weight[2] * value, fourth = *d + weight[3] * value;
        *a = first;
        *b = second;
        *c = third;
        *d = fourth;
    }
    while (from.row != from.end)
        sums[*from.row++] += *weight++ * value;
}

/* sum + four blocks times the same four inputs, of which `x` has four copies. */
static inline int32x4_t add_four_blocks(int32x4_t sum, int8x16_t blocks, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, blocks, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(blocks), vget_low_s8(x)), high = vmull_high_s8(blocks, x);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}

static inline void add_1x4(source from, const int8_t *block, const int8_t *x, int32_t *sums)
{
    int32_t four;
    int8x16_t values;
    memcpy(&four, x, sizeof four);
    values = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (; from.end - from.row >= 4; from.row += 4, block += 16) {
        int32_t *const a = sums + from.row[0], *const b = sums + from.row[1];
        int32_t *const c = sums + from.row[2], *const d = sums + from.row[3];
        int32x4_t sum = vld1q_dup_s32(a);
        sum = vld1q_lane_s32(b, sum, 1);
        sum = vld1q_lane_s32(c, sum, 2);
        sum = vld1q_lane_s32(d, sum, 3);
        sum = add_four_blocks(sum, vld1q_s8(block), values);
        vst1q_lane_s32(a, sum, 0);
        vst1q_lane_s32(b, sum, 1);
        vst1q_lane_s32(c, sum, 2);
        vst1q_lane_s32(d, sum, 3);
    }
    for (; from.row != from.end; from.row++, block += 4)
        sums[*from.row] += block[0] * x[0] + block[1] * x[1] + block[2] * x[2] + block[3] * x[3];
}

void SEN_NAME(sen_source_16x1_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    multiply_int8(w, x, addend, is_relu, y, add_16x1, 1, 16);
}

void SEN_NAME(sen_source_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    multiply_int8(w, x, addend, is_relu, y, add_single, 1, 1);
}

void SEN_NAME(sen_source_1x4_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    multiply_int8(w, x, addend, is_relu, y, add_1x4, 4, 4);
}

#endif
