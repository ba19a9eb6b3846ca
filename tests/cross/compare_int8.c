/* The products of int8 that this processor has, and its quantization, compared with the reference to the bit: matrices of
 * many shapes, inputs of many kinds. Prints the first that differs. */
#include "network.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_ROWS 35u
#define MOST_COLUMNS 70u
#define MOST_VALUES (MOST_ROWS * (MOST_COLUMNS + 2))
#define STREAMED_BYTES ((MOST_COLUMNS + 63) / 64 * 256) /* of inputs of streams.c, which images have not */
#define GUARD 0x5A

static uint32_t stream[1200];
static int32_t stream_starts[MOST_ROWS + 1];
static int8_t weights[MOST_VALUES + 4] __attribute__((aligned(4)));
static uint16_t indices[MOST_VALUES];
static int32_t starts[MOST_ROWS + 1];
static float scales[MOST_ROWS], input[MOST_COLUMNS], addend[MOST_ROWS];
static float expected[MOST_ROWS], found[MOST_ROWS + 1];
static uint8_t quantized[STREAMED_BYTES + 4] __attribute__((aligned(4)));
static uint32_t state = 1;

static uint32_t draw(uint32_t below)
{
    state = state * 1103515245u + 12345u;
    return (state >> 8) % below;
}

static float number(void)
{
    return ((float)draw(20001) - 10000.0f) / 10000.0f;
}

enum { ORDINARY, ZEROS, TINY, TOO_SMALL, HUGE, INFINITE, NOT_A_NUMBER, KINDS };

static void draw_input(uint32_t n, int kind)
{
    static const float factors[KINDS] = {1.0f, 1.0f, 1e-25f, 1e-35f, 3e38f, 1.0f, 1.0f};
    uint32_t j;
    for (j = 0; j < n; j++) {
        input[j] = number() * factors[kind];
        if (kind == ZEROS && draw(4) > 0)
            input[j] = draw(2) ? 0.0f : -0.0f;
    }
    if (kind == INFINITE)
        input[draw(n)] = -INFINITY;
    if (kind == NOT_A_NUMBER)
        input[draw(n)] = NAN;
}

/* Whether sen_quantize does what its formula says, and stays within its memory. */
static int quantizes(uint32_t n, int kind, sen_input *x)
{
    const size_t size = SEN_QUANTIZED_BYTES(n);
    float greatest = 0, inverse;
    uint32_t j;
    memset(quantized, GUARD, sizeof quantized);
    memset(x, 0, sizeof *x);
    x->values = input;
    sen_quantize(input, n, quantized, x);
    for (j = 0; j < n; j++)
        greatest = fabsf(input[j]) > greatest ? fabsf(input[j]) : greatest;
    greatest = greatest > 1e-30f ? greatest : 0;
    inverse = greatest > 0 ? 127.0f / greatest : 0;
    for (j = 0; kind < INFINITE && j < n; j++)
        if (sen_quantized(x, j) != (int32_t)rintf(input[j] * inverse))
            return 0;
    return (x->scale == greatest / 127.0f) & (quantized[size] == GUARD);
}

/* Whether two products of a matrix, in two storages, agree: with and without an addend, which may be where the result goes. */
static int agree_with(
    const sen_weights *one, const sen_weights *other, const sen_input *x, sen_multiply *multiply, sen_multiply *another)
{
    int way;
    for (way = 0; way < 6; way++) {
        const size_t size = one->rows * sizeof(float);
        memset(found, GUARD, sizeof found);
        memcpy(expected, addend, size);
        memcpy(found, addend, size);
        multiply(one, x, way / 2 == 0 ? NULL : way / 2 == 1 ? addend : expected, way % 2, expected);
        another(other, x, way / 2 == 0 ? NULL : way / 2 == 1 ? addend : found, way % 2, found);
        if (memcmp(expected, found, size) != 0 || *((uint8_t *)found + size) != GUARD)
            return 0;
    }
    return 1;
}

static int agree(const sen_weights *w, const sen_input *x, sen_multiply *one, sen_multiply *other)
{
    return agree_with(w, w, x, one, other);
}

static sen_weights matrix(uint32_t rows, uint32_t columns, const int8_t *values)
{
    sen_weights w;
    memset(&w, 0, sizeof w);
    w.uses = SEN_USES_INT8;
    w.rows = rows;
    w.columns = columns;
    w.dtype = SEN_INT8;
    w.values = values;
    w.scale = scales;
    w.scale_step = draw(2);
    return w;
}

/* Blocks of 1 x `width` in about a `part`-th of the places; some rows have none, and where `part` is 0 all. */
static sen_weights sparse(uint32_t rows, uint32_t columns, uint32_t width, uint32_t part)
{
    sen_weights w = matrix(rows, columns, weights);
    int32_t count = 0;
    uint32_t row, j;
    for (row = 0; row < rows; row++) {
        const int is_empty = part == 0 || draw(5) == 0;
        starts[row] = count;
        for (j = 0; j < columns / width; j++)
            if (!is_empty && draw(part) == 0)
                indices[count++] = (uint16_t)j;
    }
    starts[rows] = count;
    w.indices = indices;
    w.starts = starts;
    w.index_dtype = SEN_UINT16;
    w.block_rows = 1;
    w.block_columns = width;
    return w;
}

static uint32_t half(int32_t value, unsigned place)
{
    return ((uint32_t)value & 0xFFFF) << 16 * place;
}

/* The matrix of `sparse` as streams.c describes it; of blocks no weight is -128. */
static sen_weights streamed(const sen_weights *w)
{
    const uint32_t in_group = w->block_columns == 1 ? 4 : 2;
    sen_weights s = *w;
    uint32_t *to = stream;
    uint32_t row, k;
    s.values = stream;
    s.starts = stream_starts;
    for (row = 0; row < w->rows; row++) {
        uint32_t before = 0;
        stream_starts[row] = (int32_t)(to - stream);
        for (k = 0; k < (uint32_t)(w->starts[row + 1] - w->starts[row]); k++) {
            const uint32_t at = (uint32_t)w->starts[row] + k, place = k % in_group;
            const int8_t *v = weights + at * w->block_columns;
            if (place == 0) {
                to[0] = to[1] = to[2] = 0;
                to += 3;
            }
            if (in_group == 4) {
                to[-3] |= (indices[at] - before) << 8 * place;
                to[-2 + (int)place / 2] |= half(v[0], place % 2);
                before = indices[at];
            } else {
                to[-3] |= half(8 * indices[at], place);
                to[-2 + (int)place] = half(256 * v[1] + v[0], 0) | half(256 * v[3] + v[2], 1);
            }
        }
    }
    stream_starts[w->rows] = (int32_t)(to - stream);
    return s;
}

static int compare(uint32_t rows, uint32_t columns, int kind)
{
    const uint32_t fours = columns < 4 ? 4 : columns / 4 * 4;
    sen_input x;
    sen_weights w, s;
    uint32_t i;
    int is_same = 1;
    for (i = 0; i < sizeof weights; i++)
        weights[i] = (int8_t)((int32_t)draw(256) - 128);
    for (i = 0; i < rows; i++) {
        scales[i] = number() * 0.01f;
        addend[i] = number();
    }
    draw_input(columns < 4 ? 4 : columns, kind);
    is_same &= quantizes(columns, kind, &x);
    w = matrix(rows, columns, weights);
    is_same &= agree(&w, &x, sen_dense_int8_reference, sen_dense_int8);
    w = matrix(rows, columns, weights + 1 + draw(3));
    is_same &= agree(&w, &x, sen_dense_int8_reference, sen_dense_int8);
    w = sparse(rows, columns, 1, 1 + draw(4));
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_sparse_int8);
    w = sparse(rows, columns, 1, 4);
    s = streamed(&w);
    is_same &= agree_with(&w, &s, &x, sen_sparse_int8_reference, sen_stream_int8);
    is_same &= quantizes(fours, kind, &x);
    w = sparse(rows, fours, 4, 1 + draw(2));
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_sparse_1x4_int8);
    for (i = 0; i < sizeof weights; i++)
        weights[i] = weights[i] < -127 ? -127 : weights[i];
    w = sparse(rows, fours, 4, 2);
    s = streamed(&w);
    is_same &= agree_with(&w, &s, &x, sen_sparse_int8_reference, sen_stream4_int8);
    w = sparse(rows, fours, 4, 0);
    w.values = NULL;
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_sparse_int8);
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_sparse_1x4_int8);
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_stream_int8);
    is_same &= agree(&w, &x, sen_sparse_int8_reference, sen_stream4_int8);
    return is_same || kind >= INFINITE;
}

int main(void)
{
    static const uint32_t row_counts[] = {1, 2, 3, 31, 32, 33, 35};
    static const uint32_t column_counts[] = {1, 3, 4, 5, 15, 16, 17, 20, 32, 36, 64, 70};
    unsigned r, c, count = 0;
    int kind;
    for (r = 0; r < sizeof row_counts / sizeof *row_counts; r++)
        for (c = 0; c < sizeof column_counts / sizeof *column_counts; c++)
            for (kind = 0; kind < KINDS; kind++, count++)
                if (!compare(row_counts[r], column_counts[c], kind)) {
                    printf("%lu x %lu, input %d\n", (unsigned long)row_counts[r], (unsigned long)column_counts[c], kind);
                    return 1;
                }
    printf("%u matrices\n", count);
    return 0;
}
