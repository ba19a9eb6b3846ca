/* Sparse matrices by source: `starts` [block columns + 1], and for each block its uint16 block row and its weights. Inputs that
 * are 0 are not multiplied; products of int8 give the bits of sen_sparse_int8_reference. */
#include "network.h"

#ifndef SEN_ISA

/* export: sen_source_reference, needs sen_value */
/* y += W x, for blocks of `height` rows and `width` columns. */
SEN_INLINE void add_sources(const sen_weights *w, const sen_input *x, uint32_t height, uint32_t width, float *y)
{
    const uint32_t rows = w->rows;
    const SEN_FLASH uint16_t *const block_row = w->indices;
    uint32_t i, e;
    for (e = 0; e < x->count; e++) {
        const uint32_t j = x->events[e], source = j / width;
        const int32_t end = w->starts[source + 1];
        const float input = x->values[j];
        int32_t at;
        for (at = w->starts[source]; at < end; at++) {
            const uint32_t row = block_row[at] * height;
            size_t value = (size_t)at * height * width + j % width;
            /* a block at the bottom edge may exceed the matrix */
            for (i = row; i - row < height && i < rows; i++, value += width)
                y[i] += sen_scale(w, i) * sen_value(w->values, w->dtype, value) * input;
        }
    }
}

/* Blocks of any size and dtype. */
SEN_PRIVATE void sen_source_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    uint32_t i;
    for (i = 0; i < w->rows; i++)
        y[i] = addend ? addend[i] : 0;
    if (w->block_rows == 1 && w->block_columns == 1) /* compiled without divisions */
        add_sources(w, x, 1, 1, y);
    else
        add_sources(w, x, w->block_rows, w->block_columns, y);
    for (i = 0; is_relu && i < w->rows; i++)
        y[i] = y[i] > 0 ? y[i] : 0;
}
/* end */

/* The sums are scratch behind the quantized inputs, whose memory is the caller's, as several threads may use a model. */
void sen_source_int8_reference(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t height = w->block_rows, width = w->block_columns;
    const uint16_t *const block_row = w->indices;
    const int8_t *const values = w->values;
    int32_t *const sums = (int32_t *)((uintptr_t)x->quantized + SEN_QUANTIZED_BYTES(w->columns)), at;
    uint32_t i, j;
    memset(sums, 0, w->rows * sizeof *sums);
    for (j = 0; j < w->columns; j++) {
        const int32_t input = sen_quantized(x, j);
        for (at = w->starts[j / width]; input != 0 && at < w->starts[j / width + 1]; at++) {
            const uint32_t first = block_row[at] * height;
            size_t value = (size_t)at * height * width + j % width;
            for (i = first; i - first < height && i < w->rows; i++, value += width)
                sums[i] += values[value] * input;
        }
    }
    for (i = 0; i < w->rows; i++)
        y[i] = sen_finish_int8(w, x, addend, is_relu, i, sums[i]);
}

#elif defined(__ARM_NEON)

/* Blocks of a source are of different rows, so four can be updated at once. */

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
    const int32_t *const start = all.starts + block_column;
    const source found = {all.rows + start[0], all.rows + start[1], (size_t)start[0]};
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

/* y += four weights times value, in the rows at `row`. */
static inline void add_four(const uint16_t *row, float32x4_t weights, float value, float *y)
{
    float *const a = y + row[0], *const b = y + row[1], *const c = y + row[2], *const d = y + row[3];
    float first = *a, second = *b, third = *c, fourth = *d;
    FUSED_LANE(first, weights, 0, value);
    FUSED_LANE(second, weights, 1, value);
    FUSED_LANE(third, weights, 2, value);
    FUSED_LANE(fourth, weights, 3, value);
    *a = first;
    *b = second;
    *c = third;
    *d = fourth;
}

void SEN_NAME(sen_source_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint32_t *event = x->events, *const end = event + x->count;
    const float *const values = x->values, *const weights = w->values;
    const sources all = sources_of(w);
    copy_addend(addend, w->rows, y);
    while (event != end) {
        const uint32_t j = *event++;
        const int32_t *const start = all.starts + j;
        const uint16_t *row = all.rows + start[0];
        const float *weight = weights + start[0], value = values[j];
        int32_t left = start[1] - start[0] - 16, k;
        for (; left >= 0; left -= 16, row += 16) {
            const float32x4x4_t sixteen = load_16(&weight);
            for (k = 0; k < 4; k++)
                add_four(row + 4 * k, sixteen.val[k], value, y);
        }
        for (left += 12; left >= 0; left -= 4, row += 4, weight += 4)
            add_four(row, vld1q_f32(weight), value, y);
        for (left += 4; left > 0; left--, row++)
            y[*row] = sen_fused(*weight++, value, y[*row]);
    }
    if (is_relu)
        rectify(w->rows, y);
}

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
            const float32x4x4_t weights = vld4q_f32(block); /* of four blocks by input */
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
            block += 16;
        }
        for (; from.row != from.end; from.row++, block += 4)
            y[*from.row] += vaddvq_f32(vmulq_f32(vld1q_f32(block), values));
    }
    if (is_relu)
        rectify(w->rows, y);
}

/* sums [rows] += the blocks of a source times the quantized inputs of its block column. */
typedef void sen_add_source(source from, const int8_t *weights, const int8_t *x, int32_t *sums);

/* Sums of 0, as in sen_source_int8_reference. */
static inline int32_t *clear_sums(const sen_weights *w, const sen_input *x)
{
    const uintptr_t start = (uintptr_t)x->quantized;
    int32_t *const sums = (int32_t *)(start + ((size_t)w->columns + 63) / 64 * SEN_NEON_QUANTIZED_64);
    return memset(sums, 0, ((size_t)w->rows + 15) / 16 * 16 * sizeof *sums);
}

/* Blocks of one column and `block` weights. */
static inline __attribute__((always_inline)) void multiply_columns(
    const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y, sen_add_source *add, const size_t block)
{
    const sen_groups *const groups = groups_of(x->quantized, w->columns);
    const uint16_t *group = groups->group, *const end = group + groups->count;
    const int8_t *const weights = w->values, *q = x->quantized;
    int32_t *const sums = clear_sums(w, x);
    row_outputs out = outputs_of(w, x, addend, is_relu, y);
    const sources all = sources_of(w);
    uint32_t k;
    for (; group != end; group++, q += SEN_GROUP)
        for (k = 0; k < SEN_GROUP; k++)
            if (q[k] != 0) {
                const source from = source_of(all, SEN_GROUP * *group + k);
                add(from, weights + block * from.first, q + k, sums);
            }
    finish_sums(&out, sums, w->rows);
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
    multiply_columns(w, x, addend, is_relu, y, add_16x1, 16);
}

void SEN_NAME(sen_source_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    multiply_columns(w, x, addend, is_relu, y, add_single, 1);
}

void SEN_NAME(sen_source_1x4_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const sen_groups *const groups = groups_of(x->quantized, w->columns);
    const uint16_t *group = groups->group, *const end = group + groups->count;
    const int8_t *const weights = w->values, *q = x->quantized;
    int32_t *const sums = clear_sums(w, x);
    row_outputs out = outputs_of(w, x, addend, is_relu, y);
    const sources all = sources_of(w);
    const uint32_t parts = 4 / SEN_GROUP; /* groups of a block */
    while (group != end) {
        const uint32_t j = *group / parts;
        const source from = source_of(all, j);
        int8_t four[4] = {0};
        for (; group != end && *group / parts == j; group++, q += SEN_GROUP)
            memcpy(four + SEN_GROUP * (*group % parts), q, SEN_GROUP);
        add_1x4(from, weights + 4 * from.first, four, sums);
    }
    finish_sums(&out, sums, w->rows);
}

#endif
