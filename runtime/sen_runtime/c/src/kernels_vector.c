/* The kernels on vectors of sixteen floats, in the vector extensions that gcc and clang share: compiled once for each
 * instruction set, with SEN_KERNELS naming the table. Where a processor's vectors are shorter, the compiler takes
 * several. Sums are split over accumulators in the source, so no flag that changes arithmetic is needed. */
#include "internal.h"

#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16

typedef float vector __attribute__((vector_size(64)));
typedef float vector8 __attribute__((vector_size(32)));
typedef float vector4 __attribute__((vector_size(16)));
typedef int32_t integers __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef int8_t bytes __attribute__((vector_size(16)));

#define LOAD(NAME, VECTOR)                                                                                              \
    static inline VECTOR NAME(const float *from)                                                                       \
    {                                                                                                                  \
        VECTOR value;                                                                                                  \
        memcpy(&value, from, sizeof value);                                                                            \
        return value;                                                                                                  \
    }

LOAD(load_f32, vector)
LOAD(load8_f32, vector8)
LOAD(load4_f32, vector4)

#undef LOAD

static inline vector load_f16(const uint16_t *from)
{
    halves packed;
    words bits, sign;
    vector value;
    memcpy(&packed, from, sizeof packed);
    bits = __builtin_convertvector(packed, words);
    sign = (bits & 0x8000u) << 16;
    bits = (bits & 0x7FFFu) << 13;
    memcpy(&value, &bits, sizeof value);
    value *= 5.192296858534828e33f; /* 2^112: the exponents differ by that, subnormal numbers included */
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline vector load_i8(const int8_t *from)
{
    bytes packed;
    memcpy(&packed, from, sizeof packed);
    return __builtin_convertvector(__builtin_convertvector(packed, integers), vector);
}

static inline float add_up(vector v)
{
    float half[8];
    int k;
    for (k = 0; k < 8; k++)
        half[k] = v[k] + v[k + 8];
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

/* Four rows at once, so that an input is loaded once for all of them. */
#define DENSE(NAME, TYPE, LOAD)                                                                                        \
    static void NAME(const sen_matrix *w, const float *x, float *y)                                                    \
    {                                                                                                                  \
        const uint32_t n = w->columns, whole = n - n % LANES;                                                          \
        const TYPE *row = w->data;                                                                                     \
        uint32_t i = 0, j;                                                                                             \
        for (; i + 4 <= w->rows; i += 4, row += (size_t)4 * n) {                                                       \
            const TYPE *row1 = row + n, *row2 = row1 + n, *row3 = row2 + n;                                            \
            vector a = {0}, b = {0}, c = {0}, d = {0};                                                                 \
            float sums[4];                                                                                             \
            for (j = 0; j < whole; j += LANES) {                                                                       \
                const vector v = load_f32(x + j);                                                                      \
                a += LOAD(row + j) * v;                                                                                \
                b += LOAD(row1 + j) * v;                                                                               \
                c += LOAD(row2 + j) * v;                                                                               \
                d += LOAD(row3 + j) * v;                                                                               \
            }                                                                                                          \
            sums[0] = add_up(a);                                                                                       \
            sums[1] = add_up(b);                                                                                       \
            sums[2] = add_up(c);                                                                                       \
            sums[3] = add_up(d);                                                                                       \
            for (; j < n; j++) {                                                                                       \
                sums[0] += sen_value(w->data, w->dtype, (size_t)i * n + j) * x[j];                                     \
                sums[1] += sen_value(w->data, w->dtype, (size_t)(i + 1) * n + j) * x[j];                               \
                sums[2] += sen_value(w->data, w->dtype, (size_t)(i + 2) * n + j) * x[j];                               \
                sums[3] += sen_value(w->data, w->dtype, (size_t)(i + 3) * n + j) * x[j];                               \
            }                                                                                                          \
            for (j = 0; j < 4; j++)                                                                                    \
                y[i + j] += sen_scale(w, i + j) * sums[j];                                                              \
        }                                                                                                              \
        for (; i < w->rows; i++, row += n) {                                                                           \
            vector a = {0};                                                                                            \
            float sum;                                                                                                 \
            for (j = 0; j < whole; j += LANES)                                                                         \
                a += LOAD(row + j) * load_f32(x + j);                                                                  \
            sum = add_up(a);                                                                                           \
            for (; j < n; j++)                                                                                         \
                sum += sen_value(w->data, w->dtype, (size_t)i * n + j) * x[j];                                         \
            y[i] += sen_scale(w, i) * sum;                                                                              \
        }                                                                                                              \
    }

DENSE(dense_f32, float, load_f32)
DENSE(dense_f16, uint16_t, load_f16)
DENSE(dense_i8, int8_t, load_i8)

static void dense(const sen_matrix *w, const float *x, float *y)
{
    if (w->dtype == SEN_FLOAT32)
        dense_f32(w, x, y);
    else if (w->dtype == SEN_FLOAT16)
        dense_f16(w, x, y);
    else
        dense_i8(w, x, y);
}

/* One panel of `vectors` times sixteen outputs, whose sums stay in registers over all events: `at_once` of them have sums
 * of their own, so that no addition waits for the one before. */
static inline __attribute__((always_inline)) void panel(
    const float *data, const float *x, const uint32_t *events, uint32_t count, float *sums, const int vectors,
    const int at_once)
{
    vector sum[8] = {{0}};
    const size_t width = (size_t)vectors * LANES;
    uint32_t event = 0;
    int k, e;
    for (; event + (uint32_t)at_once <= count; event += (uint32_t)at_once)
        for (e = 0; e < at_once; e++) {
            const float *column = data + events[event + (uint32_t)e] * width;
            const float value = x[events[event + (uint32_t)e]];
            for (k = 0; k < vectors; k++)
                sum[e * vectors + k] += load_f32(column + k * LANES) * value;
        }
    for (; event < count; event++)
        for (k = 0; k < vectors; k++)
            sum[k] += load_f32(data + events[event] * width + k * LANES) * x[events[event]];
    for (k = 0; k < vectors; k++) {
        for (e = 1; e < at_once; e++)
            sum[k] += sum[e * vectors + k];
        memcpy(sums + k * LANES, &sum[k], sizeof sum[k]);
    }
}

static uint32_t nonzero(const float *x, uint32_t n, uint32_t *events)
{
    uint32_t count = 0, i = 0;
#ifdef __AVX512F__
    __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + LANES <= n; i += LANES) {
        const __mmask16 kept = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_si512(events + count, _mm512_maskz_compress_epi32(kept, index));
        count += (uint32_t)__builtin_popcount(kept);
        index = _mm512_add_epi32(index, _mm512_set1_epi32(LANES));
    }
#endif
    for (; i < n; i++) {
        events[count] = i;
        count += x[i] != 0;
    }
    return count;
}

static void panels(const sen_panels *w, const float *x, const uint32_t *events, uint32_t count, float *y)
{
    const float *data = w->data;
    uint32_t first, i;
    for (first = 0; first < w->rows; first += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, first);
        const uint32_t kept = w->rows - first < width ? w->rows - first : width;
        float sums[SEN_PANEL];
        if (width == 4 * LANES)
            panel(data, x, events, count, sums, 4, 2);
        else if (width == 3 * LANES)
            panel(data, x, events, count, sums, 3, 2);
        else if (width == 2 * LANES)
            panel(data, x, events, count, sums, 2, 4);
        else
            panel(data, x, events, count, sums, 1, 8);
        for (i = 0; i < kept; i++)
            y[first + i] += sums[i];
        data += (size_t)w->columns * width;
    }
}

/* Blocks of `lanes` x 1: one input feeds a vector of outputs. */
#define COLUMNS(NAME, TYPE, VECTOR, LOAD, WIDTH)                                                                       \
    static void NAME(const sen_blocks *w, const float *x, float *y)                                                    \
    {                                                                                                                  \
        const TYPE *block = w->values.data;                                                                            \
        const uint32_t block_rows = w->rows / WIDTH + (w->rows % WIDTH != 0);                                          \
        uint32_t r, k;                                                                                                 \
        int32_t at = 0;                                                                                                \
        for (r = 0; r < block_rows; r++) {                                                                             \
            const int32_t end = w->starts[r + 1];                                                                      \
            const uint32_t row = r * WIDTH, kept = w->rows - row < WIDTH ? w->rows - row : WIDTH;                      \
            VECTOR a = {0}, b = {0}, c = {0}, d = {0};                                                                 \
            for (; at + 4 <= end; at += 4, block += 4 * WIDTH) {                                                       \
                a += LOAD(block) * x[w->columns[at]];                                                                  \
                b += LOAD(block + WIDTH) * x[w->columns[at + 1]];                                                      \
                c += LOAD(block + 2 * WIDTH) * x[w->columns[at + 2]];                                                  \
                d += LOAD(block + 3 * WIDTH) * x[w->columns[at + 3]];                                                  \
            }                                                                                                          \
            for (; at < end; at++, block += WIDTH)                                                                     \
                a += LOAD(block) * x[w->columns[at]];                                                                  \
            a = (a + b) + (c + d);                                                                                     \
            for (k = 0; k < kept; k++)                                                                                 \
                y[row + k] += sen_scale(&w->values, row + k) * a[k];                                                    \
        }                                                                                                              \
    }

COLUMNS(columns16_f32, float, vector, load_f32, 16)
COLUMNS(columns16_f16, uint16_t, vector, load_f16, 16)
COLUMNS(columns16_i8, int8_t, vector, load_i8, 16)
COLUMNS(columns8_f32, float, vector8, load8_f32, 8)

/* Blocks of 1 x 4: a vector of inputs feeds one output. */
static void rows4_f32(const sen_blocks *w, const float *x, float *y)
{
    const float *block = w->values.data;
    uint32_t r;
    int32_t at = 0;
    for (r = 0; r < w->rows; r++) {
        const int32_t end = w->starts[r + 1];
        vector4 a = {0}, b = {0};
        for (; at + 2 <= end; at += 2, block += 8) {
            a += load4_f32(block) * load4_f32(x + 4 * w->columns[at]);
            b += load4_f32(block + 4) * load4_f32(x + 4 * w->columns[at + 1]);
        }
        for (; at < end; at++, block += 4)
            a += load4_f32(block) * load4_f32(x + 4 * w->columns[at]);
        a += b;
        y[r] += (a[0] + a[2]) + (a[1] + a[3]);
    }
}

/* Single weights: four sums, so that one addition need not wait for another. */
static void single(const sen_blocks *w, const float *x, float *y)
{
    const float *value = w->values.data;
    const int32_t *column = w->columns;
    uint32_t r;
    int32_t at = 0;
    for (r = 0; r < w->rows; r++) {
        const int32_t end = w->starts[r + 1];
        float a = 0, b = 0, c = 0, d = 0;
        for (; at + 4 <= end; at += 4) {
            a += value[at] * x[column[at]];
            b += value[at + 1] * x[column[at + 1]];
            c += value[at + 2] * x[column[at + 2]];
            d += value[at + 3] * x[column[at + 3]];
        }
        for (; at < end; at++)
            a += value[at] * x[column[at]];
        y[r] += (a + b) + (c + d);
    }
}

static void sparse(const sen_blocks *w, const float *x, float *y)
{
    const uint32_t dtype = w->values.dtype;
    if (w->block_columns == 1 && w->block_rows == 16 && dtype == SEN_FLOAT32)
        columns16_f32(w, x, y);
    else if (w->block_columns == 1 && w->block_rows == 16 && dtype == SEN_FLOAT16)
        columns16_f16(w, x, y);
    else if (w->block_columns == 1 && w->block_rows == 16)
        columns16_i8(w, x, y);
    else if (w->block_columns == 1 && w->block_rows == 8 && dtype == SEN_FLOAT32)
        columns8_f32(w, x, y);
    else if (w->block_columns == 4 && w->block_rows == 1 && dtype == SEN_FLOAT32 && w->columns_in % 4 == 0)
        rows4_f32(w, x, y);
    else if (w->block_columns == 1 && w->block_rows == 1 && dtype == SEN_FLOAT32)
        single(w, x, y);
    else
        sen_kernels_plain.sparse(w, x, y);
}

/* Comparisons give -1 for true, so an `and` with a number's bits keeps it or makes it 0. */
static inline vector where(integers condition, vector value)
{
    integers bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= condition;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void integrate(const sen_lif *neuron, uint32_t n, const float *current, float *membrane, float *spikes)
{
    const vector zero = {0}, threshold = zero + neuron->threshold, one = zero + 1.0f;
    const uint32_t whole = n - n % LANES;
    uint32_t i;
    for (i = 0; i < whole; i += LANES) {
        const vector before = load_f32(membrane + i), arriving = load_f32(current + i);
        const integers fired = before > threshold;
        vector after = before * neuron->beta, spike;
        if (neuron->resets_to_zero)
            after = where(~fired, after) + arriving;
        else
            after = (after + arriving) - where(fired, threshold);
        spike = where(after > threshold, one);
        memcpy(membrane + i, &after, sizeof after);
        memcpy(spikes + i, &spike, sizeof spike);
    }
    sen_kernels_plain.integrate(neuron, n - whole, current + whole, membrane + whole, spikes + whole);
}

const sen_kernels_table SEN_KERNELS = {SEN_KERNELS_NAME, dense, nonzero, panels, sparse, integrate};
