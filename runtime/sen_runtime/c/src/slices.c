/* Unstructured sparse weights for processors that look inputs up in registers. Sixteen rows are a slice, one in each lane. A
 * step reads a tile of inputs into registers, and takes the next weights of each row that fall into it; a row that has
 * fewer of them than another gets weights of 0.
 *
 * float32: a tile of 32 columns; a step holds two weights a row: indices uint16 [16], the first in the low byte, and values
 * [2][16]. int8: a tile of 64 columns; four weights a row: indices uint8 [16][4] and values [16][4].
 * `tiles` is the first column of each step, `starts` [slices + 1] the first step of each slice; `sums` [rows] of int8 weights. */
#include "internal.h"

#ifndef SEN_ISA

#define SEN_LANES 16u

/* Where slices are written: counted only, where `values` is null. */
typedef struct slice_writer {
    uint16_t *tiles;
    uint8_t *indices;
    void *values;
    int32_t *starts;
    uint32_t depth; /* weights of a row in a step: 2 of float32, 4 of int8 */
} slice_writer;

static void write_step(
    const slice_writer *to, const sen_weights *w, const int32_t *from, const int32_t *end, int32_t step, uint32_t first)
{
    const uint16_t *columns = w->indices;
    const uint32_t depth = to->depth;
    uint32_t lane, k;
    if (!to->values)
        return;
    to->tiles[step] = (uint16_t)first;
    for (lane = 0; lane < SEN_LANES; lane++)
        for (k = 0; k < depth; k++) {
            const size_t at = (size_t)step * SEN_LANES * depth;
            const int is_there = from[lane] + (int32_t)k < end[lane];
            const size_t source = (size_t)(is_there ? from[lane] + (int32_t)k : 0);
            to->indices[at + lane * depth + k] = is_there ? (uint8_t)(columns[source] - first) : 0;
            if (depth == 2)
                ((float *)to->values)[at + k * SEN_LANES + lane] = is_there ? ((const float *)w->values)[source] : 0;
            else
                ((int8_t *)to->values)[at + lane * depth + k] = is_there ? ((const int8_t *)w->values)[source] : 0;
        }
}

/* The first column that has a weight left; beyond all columns if there is none. An image may claim many columns and hold few
 * weights, so tiles without one are not looked at. */
static uint32_t nearest_column(const uint16_t *column, const int32_t *at, const int32_t *stop)
{
    uint32_t nearest = UINT32_MAX, lane;
    for (lane = 0; lane < SEN_LANES; lane++)
        if (at[lane] < stop[lane] && column[at[lane]] < nearest)
            nearest = column[at[lane]];
    return nearest;
}

/* The steps of one slice, written behind `step`; the number of the next step. */
static int32_t write_slice(const slice_writer *to, const sen_weights *w, uint32_t row, int32_t step)
{
    const uint32_t width = to->depth == 2 ? 32 : 64, columns = w->columns;
    const uint16_t *column = w->indices;
    int32_t at[SEN_LANES], end[SEN_LANES], stop[SEN_LANES];
    uint32_t nearest, lane;
    for (lane = 0; lane < SEN_LANES; lane++) {
        at[lane] = row + lane < w->rows ? w->starts[row + lane] : 0;
        stop[lane] = row + lane < w->rows ? w->starts[row + lane + 1] : 0;
    }
    while ((nearest = nearest_column(column, at, stop)) < columns) {
        /* the last tile begins earlier rather than ends behind the inputs */
        const uint32_t tile = nearest / width * width, first = columns - tile < width ? columns - width : tile;
        int32_t longest = 0;
        for (lane = 0; lane < SEN_LANES; lane++) {
            end[lane] = at[lane];
            while (end[lane] < stop[lane] && column[end[lane]] < first + width)
                end[lane]++;
            longest = end[lane] - at[lane] > longest ? end[lane] - at[lane] : longest;
        }
        for (; longest > 0; longest -= (int32_t)to->depth) {
            write_step(to, w, at, end, step++, first);
            for (lane = 0; lane < SEN_LANES; lane++)
                at[lane] = at[lane] + (int32_t)to->depth < end[lane] ? at[lane] + (int32_t)to->depth : end[lane];
        }
    }
    return step;
}

/* The steps of all slices; their number. */
static int32_t write_slices(const slice_writer *to, const sen_weights *w)
{
    uint32_t row;
    int32_t step = 0;
    for (row = 0; row < w->rows; row += SEN_LANES) {
        step = write_slice(to, w, row, step);
        if (to->values)
            to->starts[row / SEN_LANES + 1] = step;
    }
    return step;
}

void sen_to_slices(sen_loader *loader, sen_weights *w)
{
    slice_writer to = {NULL, NULL, NULL, NULL, w->dtype == SEN_INT8 ? 4 : 2};
    const uint64_t lanes = (uint64_t)write_slices(&to, w) * SEN_LANES, slices = (w->rows - 1) / SEN_LANES + 1;
    sen_arena *arena = &loader->arena;
    const int is_int8 = w->dtype == SEN_INT8;
    int32_t *sums = is_int8 ? sen_take(arena, slices * SEN_LANES, sizeof *sums) : NULL, at;
    uint32_t row;
    to.tiles = sen_take(arena, lanes / SEN_LANES, sizeof *to.tiles);
    to.indices = sen_take(arena, lanes, to.depth);
    to.starts = sen_take(arena, slices + 1, sizeof *to.starts);
    to.values = sen_take(arena, lanes * to.depth, is_int8 ? 1 : sizeof(float));
    if (to.values) {
        to.starts[0] = 0;
        write_slices(&to, w);
        for (row = 0; sums && row < w->rows; row++) {
            sums[row] = 0;
            for (at = w->starts[row]; at < w->starts[row + 1]; at++)
                sums[row] += ((const int8_t *)w->values)[at];
        }
    }
    w->multiply = is_int8 ? loader->isa->slices_int8 : loader->isa->slices_f32;
    w->tiles = to.tiles;
    w->indices = to.indices;
    w->values = to.values;
    w->starts = to.starts;
    w->sums = sums;
}

#elif defined(__AVX512VBMI__)

#include "vector.h"

/* Four sums, because a sum waits some cycles for the one before. */
#define AT_ONCE 4

static inline void two_weights(const float *from, const uint16_t *index, const float *value, __m512 sum[2])
{
    const __m512 low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + LANES);
    const __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)index));
    const __m512i second = _mm512_srli_epi32(first, 8);
    sum[0] = _mm512_fmadd_ps(_mm512_permutex2var_ps(low, first, high), _mm512_loadu_ps(value), sum[0]);
    sum[1] = _mm512_fmadd_ps(_mm512_permutex2var_ps(low, second, high), _mm512_loadu_ps(value + LANES), sum[1]);
}

void SEN_NAME(sen_slices_f32)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const float *value = w->values, *v = x->values;
    const uint16_t *index = w->indices, *tile = w->tiles;
    uint32_t row;
    int32_t step = 0;
    for (row = 0; row < w->rows; row += LANES) {
        const int32_t end = w->starts[row / LANES + 1];
        const uint32_t kept = w->rows - row < LANES ? w->rows - row : LANES;
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        float sums[LANES];
        for (; step + 2 <= end; step += 2, index += 2 * LANES, value += 4 * LANES) {
            two_weights(v + tile[step], index, value, sum);
            two_weights(v + tile[step + 1], index + LANES, value + 2 * LANES, sum + 2);
        }
        for (; step < end; step++, index += LANES, value += 2 * LANES)
            two_weights(v + tile[step], index, value, sum);
        _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
        finish_rows(sums, kept, addend ? addend + row : NULL, is_relu, y + row);
    }
}

/* Inputs become unsigned by a flipped bit, which adds 128 times the weights' sum. */
static inline __m512i four_weights(const int8_t *from, const uint8_t *index, const int8_t *value, __m512i sum)
{
    const __m512i inputs = _mm512_permutexvar_epi8(_mm512_loadu_si512(index), _mm512_loadu_si512(from));
    return _mm512_dpbusd_epi32(
        sum, _mm512_xor_si512(inputs, _mm512_set1_epi8(-128)), _mm512_loadu_si512(value));
}

void SEN_NAME(sen_slices_int8)(const sen_weights *w, const sen_input *x, const float *addend, int is_relu, float *y)
{
    const uint8_t *index = w->indices;
    const int8_t *value = w->values, *q = x->quantized;
    const uint16_t *tile = w->tiles;
    uint32_t row;
    int32_t step = 0, k;
    for (row = 0; row < w->rows; row += LANES) {
        const int32_t end = w->starts[row / LANES + 1];
        __m512i sum[AT_ONCE] = {
            _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (; step + AT_ONCE <= end; step += AT_ONCE, index += 64 * AT_ONCE, value += 64 * AT_ONCE)
            for (k = 0; k < AT_ONCE; k++)
                sum[k] = four_weights(q + tile[step + k], index + 64 * k, value + 64 * k, sum[k]);
        for (; step < end; step++, index += 64, value += 64)
            sum[0] = four_weights(q + tile[step], index, value, sum[0]);
        sum[0] = _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3]));
        sum[0] = _mm512_sub_epi32(sum[0], _mm512_slli_epi32(_mm512_loadu_si512(w->sums + row), 7));
        sen_finish_sixteen(w, x, addend, is_relu, row, sum[0], y);
    }
}

#endif
