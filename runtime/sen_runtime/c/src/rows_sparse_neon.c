/* Sixteen rows of a batch at a time times sparse weights, row by row, on NEON: every weight multiplies vectors of inputs, the
 * same column of all rows, which were transposed before. Sums of floats are those of panels.c, products of int8 are exact. */
#include "network.h"

#if defined(SEN_ISA) && defined(__ARM_NEON)

#include "turn_neon.h"

/* Vectors of four rows whose sums with four outputs are in registers; of fewer rows those with more outputs. */
#ifdef __aarch64__
#define AT_ONCE 4
#else
#define AT_ONCE 2
#endif

/* Inputs of `vectors` times four rows. */
static inline float32x4x4_t load_floats(const float *from, const int vectors)
{
    float32x4x4_t x;
    if (vectors == 4)
        return load_16(&from);
    x.val[0] = vld1q_f32(from);
    x.val[1] = vectors == 2 ? vld1q_f32(from + 4) : x.val[0];
    x.val[2] = x.val[3] = x.val[0];
    return x;
}

static inline int16x8x2_t load_shorts(const int16_t *from, const int vectors)
{
    int16x8x2_t x;
    __asm__("" : "+r"(from)); /* gcc 12 computes two addresses otherwise */
    x.val[0] = vectors == 1 ? vcombine_s16(vld1_s16(from), vdup_n_s16(0)) : vld1q_s16(from);
    x.val[1] = vectors == 4 ? vld1q_s16(from + 8) : x.val[0];
    return x;
}

/* Four weights, and one. */
static inline float32x4_t four_floats(const float *from)
{
    return vld1q_f32(from);
}

static inline float32x4_t one_float(const float *from)
{
    return vld1q_dup_f32(from);
}

static inline int16x4_t four_shorts(const int8_t *from)
{
    uint32_t bits;
    memcpy(&bits, from, sizeof bits);
    return vget_low_s16(vmovl_s8(vcreate_s8(bits)));
}

static inline int16x4_t one_short(const int8_t *from)
{
    return vdup_n_s16(*from);
}

#define HALF_OF(x, v) ((v) % 2 ? vget_high_s16((x).val[(v) / 2]) : vget_low_s16((x).val[(v) / 2]))
#define ADD_FLOATS(sum, x, weights, lane) add_lane(sum, (x).val[v], weights, lane)
#define ADD_SHORTS(sum, x, weights, lane) vmlal_lane_s16(sum, HALF_OF(x, v), weights, lane)

#ifdef __ARM_FEATURE_DOTPROD

/* Blocks of 1x4 int8: as single weights of four bytes each. */
static inline int32x4x4_t load_words(const int32_t *from, const int vectors)
{
    const float32x4x4_t x = load_floats((const float *)(const void *)from, vectors);
    int32x4x4_t bits;
    int k;
    for (k = 0; k < 4; k++)
        bits.val[k] = vreinterpretq_s32_f32(x.val[k]);
    return bits;
}

static inline int8x16_t four_words(const int32_t *from)
{
    return vld1q_s8((const int8_t *)from);
}

static inline int8x16_t one_word(const int32_t *from)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32(from));
}

#define ADD_WORDS(sum, x, weights, lane) vdotq_laneq_s32(sum, vreinterpretq_s8_s32((x).val[v]), weights, lane)

#endif

/* Blocks of a block row. */
typedef struct blocks {
    const uint16_t *column, *end;
    const void *weights; /* of the first */
    size_t size;         /* weights of a block */
} blocks;

/* sum [vectors] += a weight, lane `lane` of `weights`, times the inputs `x` of its column. */
#define ADD_VECTORS(ADD, sum, x, weights, lane)                                                                            \
    for (v = 0; v < vectors; v++)                                                                                          \
    (sum)[v] = ADD((sum)[v], x, weights, lane)

/* Four outputs from `k` on. */
#define ADD_OUTPUTS(ADD, FOUR, WEIGHTS, k)                                                                                 \
    {                                                                                                                      \
        const WEIGHTS weights = FOUR(weight + (k));                                                                        \
        ADD_VECTORS(ADD, sum + (k)*vectors, x, weights, 0);                                                                \
        ADD_VECTORS(ADD, sum + ((k) + 1) * vectors, x, weights, 1);                                                        \
        ADD_VECTORS(ADD, sum + ((k) + 2) * vectors, x, weights, 2);                                                        \
        ADD_VECTORS(ADD, sum + ((k) + 3) * vectors, x, weights, 3);                                                        \
    }

/* sum [vectors] of single weights; sum [4 fours][vectors] of outputs that have a column of each block; and sum [vectors] of
 * blocks of 1x4. */
#define DEFINE_SUMS(NAME, WEIGHT, INPUT, INPUTS, WEIGHTS, SUM, LOAD, FOUR, ONE, ADD)                                       \
    static inline __attribute__((always_inline, unused)) void NAME##_single(                                               \
        const blocks *of, const INPUT *turned, const int vectors, SUM *sum)                                                \
    {                                                                                                                      \
        const uint16_t *column = of->column, *const end = of->end, *const whole = end - (end - column) % 4;                \
        const WEIGHT *weight = of->weights;                                                                                \
        int v;                                                                                                             \
        while (column != whole) {                                                                                          \
            const WEIGHTS weights = FOUR(weight);                                                                          \
            const INPUTS a = LOAD(turned + ROWS * (size_t)column[0], vectors);                                             \
            const INPUTS b = LOAD(turned + ROWS * (size_t)column[1], vectors);                                             \
            const INPUTS c = LOAD(turned + ROWS * (size_t)column[2], vectors);                                             \
            const INPUTS d = LOAD(turned + ROWS * (size_t)column[3], vectors);                                             \
            ADD_VECTORS(ADD, sum, a, weights, 0);                                                                          \
            ADD_VECTORS(ADD, sum, b, weights, 1);                                                                          \
            ADD_VECTORS(ADD, sum, c, weights, 2);                                                                          \
            ADD_VECTORS(ADD, sum, d, weights, 3);                                                                          \
            column += 4;                                                                                                   \
            weight += 4;                                                                                                   \
        }                                                                                                                  \
        while (column != end) {                                                                                            \
            const WEIGHTS weights = ONE(weight++);                                                                         \
            const INPUTS a = LOAD(turned + ROWS * (size_t)*column++, vectors);                                             \
            ADD_VECTORS(ADD, sum, a, weights, 0);                                                                          \
        }                                                                                                                  \
    }

#define DEFINE_BLOCK_SUMS(NAME, WEIGHT, INPUT, INPUTS, WEIGHTS, SUM, LOAD, FOUR, ADD)                                      \
    static inline __attribute__((always_inline, unused)) void NAME##_outputs(                                              \
        const blocks *of, const INPUT *turned, const int fours, const int vectors, SUM *sum)                               \
    {                                                                                                                      \
        const uint16_t *column = of->column, *const end = of->end;                                                         \
        const WEIGHT *weight = of->weights;                                                                                \
        int v;                                                                                                             \
        for (; column != end; column++, weight += of->size) {                                                              \
            const INPUTS x = LOAD(turned + ROWS * (size_t)*column, vectors);                                               \
            ADD_OUTPUTS(ADD, FOUR, WEIGHTS, 0)                                                                             \
            if (fours > 1)                                                                                                 \
                ADD_OUTPUTS(ADD, FOUR, WEIGHTS, 4)                                                                         \
            if (fours > 2) {                                                                                               \
                ADD_OUTPUTS(ADD, FOUR, WEIGHTS, 8)                                                                         \
                ADD_OUTPUTS(ADD, FOUR, WEIGHTS, 12)                                                                        \
            }                                                                                                              \
        }                                                                                                                  \
    }                                                                                                                      \
    static inline __attribute__((always_inline, unused)) void NAME##_columns(                                              \
        const blocks *of, const INPUT *turned, const int vectors, SUM *sum)                                                \
    {                                                                                                                      \
        const uint16_t *column = of->column, *const end = of->end;                                                         \
        const WEIGHT *weight = of->weights;                                                                                \
        int v;                                                                                                             \
        for (; column != end; column++, weight += 4) {                                                                     \
            const WEIGHTS weights = FOUR(weight);                                                                          \
            const INPUT *const from = turned + 4 * ROWS * (size_t)*column;                                                 \
            const INPUTS a = LOAD(from, vectors), b = LOAD(from + ROWS, vectors);                                          \
            const INPUTS c = LOAD(from + 2 * ROWS, vectors), d = LOAD(from + 3 * ROWS, vectors);                           \
            ADD_VECTORS(ADD, sum, a, weights, 0);                                                                          \
            ADD_VECTORS(ADD, sum, b, weights, 1);                                                                          \
            ADD_VECTORS(ADD, sum, c, weights, 2);                                                                          \
            ADD_VECTORS(ADD, sum, d, weights, 3);                                                                          \
        }                                                                                                                  \
    }

DEFINE_SUMS(
    floats, float, float, float32x4x4_t, float32x4_t, float32x4_t, load_floats, four_floats, one_float, ADD_FLOATS)
DEFINE_BLOCK_SUMS(floats, float, float, float32x4x4_t, float32x4_t, float32x4_t, load_floats, four_floats, ADD_FLOATS)
DEFINE_SUMS(shorts, int8_t, int16_t, int16x8x2_t, int16x4_t, int32x4_t, load_shorts, four_shorts, one_short, ADD_SHORTS)
DEFINE_BLOCK_SUMS(shorts, int8_t, int16_t, int16x8x2_t, int16x4_t, int32x4_t, load_shorts, four_shorts, ADD_SHORTS)
#ifdef __ARM_FEATURE_DOTPROD
DEFINE_SUMS(words, int32_t, int32_t, int32x4x4_t, int8x16_t, int32x4_t, load_words, four_words, one_word, ADD_WORDS)

/* sum [vectors] += four single weights times inputs of bytes, which are brought together. */
static inline __attribute__((always_inline)) void add_four_columns(
    uint32_t weights, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d, const int vectors, int32x4_t *sum)
{
    const int8x8_t four = vcreate_s8(weights);
    const int16x8_t upper[2] = {vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip1q_s8(c, d))};
    const int16x8_t lower[2] = {vreinterpretq_s16_s8(vzip2q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(c, d))};
    sum[0] = vdotq_lane_s32(sum[0], vreinterpretq_s8_s16(vzip1q_s16(upper[0], upper[1])), four, 0);
    if (vectors > 1)
        sum[1] = vdotq_lane_s32(sum[1], vreinterpretq_s8_s16(vzip2q_s16(upper[0], upper[1])), four, 0);
    if (vectors > 2) {
        sum[2] = vdotq_lane_s32(sum[2], vreinterpretq_s8_s16(vzip1q_s16(lower[0], lower[1])), four, 0);
        sum[3] = vdotq_lane_s32(sum[3], vreinterpretq_s8_s16(vzip2q_s16(lower[0], lower[1])), four, 0);
    }
}

static inline int8x16_t load_sixteen(const int8_t *turned, size_t column)
{
    int8x16_t value; /* gcc 12 shifts in an instruction of its own */
    __asm__ volatile("ldr %q0, [%1, %2, lsl #4]" : "=w"(value) : "r"(turned), "r"(column) : "memory");
    return value;
}

static inline __attribute__((always_inline)) void bytes_single(
    const blocks *of, const int8_t *turned, const int vectors, int32x4_t *sum)
{
    const uint16_t *column = of->column, *const end = of->end, *const whole = end - (end - column) % 4;
    const int8_t *weight = of->weights;
    const int8x16_t none = vdupq_n_s8(0);
#define BYTES(k) load_sixteen(turned, column[k])
#define WEIGHT(k) ((uint32_t)(uint8_t)weight[k] << 8 * (k))
    for (; column != whole; column += 4, weight += 4) {
        uint32_t weights;
        memcpy(&weights, weight, sizeof weights);
        add_four_columns(weights, BYTES(0), BYTES(1), BYTES(2), BYTES(3), vectors, sum);
    }
    if (end - column == 1)
        add_four_columns(WEIGHT(0), BYTES(0), none, none, none, vectors, sum);
    else if (end - column == 2)
        add_four_columns(WEIGHT(0) | WEIGHT(1), BYTES(0), BYTES(1), none, none, vectors, sum);
    else if (end - column == 3)
        add_four_columns(WEIGHT(0) | WEIGHT(1) | WEIGHT(2), BYTES(0), BYTES(1), BYTES(2), none, vectors, sum);
#undef BYTES
#undef WEIGHT
}
#endif

static inline blocks blocks_of(const sen_weights *w, uint32_t block_row, size_t width)
{
    const size_t size = (size_t)w->block_rows * w->block_columns, first = (size_t)w->starts[block_row];
    const uint16_t *const columns = w->indices;
    const blocks of = {
        columns + first, columns + w->starts[block_row + 1], (const uint8_t *)w->values + first * size * width, size};
    return of;
}

static inline void store_f32(tile *to, int place, float32x4_t sum)
{
    vst1q_f32(to->floats + place, sum);
}

static inline void store_int32(tile *to, int place, int32x4_t sum)
{
    vst1q_s32(to->words + place, sum);
}

/* Sixteen outputs from `first` on, as far as there are any. */
#define DEFINE_TILES(NAME, SUM_ROW, SUM, STORE, BYTES)                                                                     \
    static inline __attribute__((always_inline)) void NAME(                                                                \
        const sen_weights *w, const void *turned, uint32_t first, const int vectors, tile *sums)                           \
    {                                                                                                                      \
        const int kept = (int)(w->rows - first < LANES ? w->rows - first : LANES);                                         \
        int i, v;                                                                                                          \
        for (i = 0; i < kept; i++) {                                                                                       \
            const blocks of = blocks_of(w, first + (uint32_t)i, BYTES);                                                    \
            SUM sum[4] = {{0}};                                                                                            \
            SUM_ROW(&of, turned, vectors, sum);                                                                            \
            for (v = 0; v < vectors; v++)                                                                                  \
                STORE(sums, i * (int)ROWS + 4 * v, sum[v]);                                                                \
        }                                                                                                                  \
    }

#define DEFINE_COLUMN_TILES(NAME, SUM_OUTPUTS, INPUT, WEIGHT, SUM, STORE)                                                  \
    static inline __attribute__((always_inline)) void NAME(                                                                \
        const sen_weights *w, const void *turned, uint32_t first, const int vectors, tile *sums)                           \
    {                                                                                                                      \
        const int at_once = vectors < AT_ONCE ? vectors : AT_ONCE, fours = AT_ONCE / at_once;                              \
        blocks of = blocks_of(w, first / 16, sizeof(WEIGHT));                                                              \
        int i, k, v;                                                                                                       \
        for (i = 0; i < LANES; i += 4 * fours, of.weights = (const WEIGHT *)of.weights + 4 * fours)                        \
            for (v = 0; v < vectors; v += at_once) {                                                                       \
                SUM sum[4 * AT_ONCE] = {{0}};                                                                              \
                SUM_OUTPUTS(&of, (const INPUT *)turned + 4 * v, fours, at_once, sum);                                      \
                for (k = 0; k < 4 * AT_ONCE; k++)                                                                          \
                    STORE(sums, (i + k / at_once) * (int)ROWS + 4 * (v + k % at_once), sum[k]);                            \
            }                                                                                                              \
    }

DEFINE_TILES(tile_f32, floats_single, float32x4_t, store_f32, sizeof(float))
DEFINE_TILES(tile_1x4_f32, floats_columns, float32x4_t, store_f32, sizeof(float))
DEFINE_COLUMN_TILES(tile_16x1_f32, floats_outputs, float, float, float32x4_t, store_f32)
#ifdef __ARM_FEATURE_DOTPROD
DEFINE_TILES(tile_int8, bytes_single, int32x4_t, store_int32, 1)
DEFINE_TILES(tile_1x4_int8, words_single, int32x4_t, store_int32, 1)
#else
DEFINE_TILES(tile_int8, shorts_single, int32x4_t, store_int32, 1)
DEFINE_TILES(tile_1x4_int8, shorts_columns, int32x4_t, store_int32, 1)
#endif
DEFINE_COLUMN_TILES(tile_16x1_int8, shorts_outputs, int16_t, int8_t, int32x4_t, store_int32)

typedef void sum_tile(const sen_weights *w, const void *turned, uint32_t first, const int vectors, tile *sums);

/* Up to sixteen rows from `row` on. */
static inline __attribute__((always_inline)) void multiply_turned(
    const sen_weights *w, const sen_rows *rows, uint32_t row, const int vectors, sum_tile *sum, const int is_int8)
{
    const uint32_t left = rows->count - row, lanes = left < 4 * (uint32_t)vectors ? left : 4 * (uint32_t)vectors;
    uint32_t first, r;
    for (first = 0; first < w->rows; first += LANES) {
        const uint32_t kept = w->rows - first < LANES ? w->rows - first : LANES;
        tile sums, back;
        sum(w, rows->turned, first, vectors, &sums);
        turn_back(&sums, vectors, &back);
        for (r = 0; r < lanes; r++) {
            const float *const addend = rows->addend[row + r];
            float *const y = rows->y[row + r];
            if (is_int8)
                finish_sums_from(
                    w, &rows->x[row + r], first, back.words + r * LANES, kept, addend, rows->is_relu, y);
            else
                finish_rows(back.floats + r * LANES, kept, addend ? addend + first : NULL, rows->is_relu, y + first);
        }
    }
}

/* `width`: bytes of a turned value. */
static inline __attribute__((always_inline)) void multiply_rows(
    const sen_weights *w, const sen_rows *rows, sum_tile *sum, const int is_int8, const int width)
{
    const void *x[ROWS];
    uint32_t row, r;
    for (row = 0; row < rows->count; row += ROWS) {
        const uint32_t left = rows->count - row;
        const int vectors = left <= 4 ? 1 : left <= 8 ? 2 : 4;
        for (r = 0; r < ROWS; r++) {
            const sen_input *const from = &rows->x[row + (r < left ? r : 0)];
            x[r] = is_int8 ? from->quantized : from->values;
        }
        if (width == 4)
            turn_words(x, is_int8 ? w->columns / 4 : w->columns, vectors, (int32_t *)(void *)rows->turned);
        else
            turn_bytes(x, w->columns, vectors, (int8_t *)(void *)rows->turned, width);
        if (vectors == 4)
            multiply_turned(w, rows, row, 4, sum, is_int8);
        else if (vectors == 2)
            multiply_turned(w, rows, row, 2, sum, is_int8);
        else
            multiply_turned(w, rows, row, 1, sum, is_int8);
    }
}

/* Of single int8 weights, and of blocks of 1x4. */
#ifdef __ARM_FEATURE_DOTPROD
#define WIDTH 1
#define WIDTH_OF_1X4 4
#else
#define WIDTH 2
#define WIDTH_OF_1X4 2
#endif

void SEN_NAME(sen_sparse_rows)(const sen_weights *w, const sen_rows *rows)
{
    const int is_int8 = w->dtype == SEN_INT8;
    if (w->block_rows == 16 && is_int8)
        multiply_rows(w, rows, tile_16x1_int8, 1, 2);
    else if (w->block_rows == 16)
        multiply_rows(w, rows, tile_16x1_f32, 0, 4);
    else if (w->block_columns == 4 && is_int8)
        multiply_rows(w, rows, tile_1x4_int8, 1, WIDTH_OF_1X4);
    else if (w->block_columns == 4)
        multiply_rows(w, rows, tile_1x4_f32, 0, 4);
    else if (is_int8)
        multiply_rows(w, rows, tile_int8, 1, WIDTH);
    else
        multiply_rows(w, rows, tile_f32, 0, 4);
}

sen_multiply SEN_NAME(sen_panels);

int SEN_NAME(sen_sparse_alone)(const sen_weights *w, const float *x)
{
    return w->by_row && has_fewer(x, w->columns, w->by_row->min_percent);
}

/* A few rows take more than their share of sixteen. Alone, their sums are the same unless `multiply` adds floats to the
 * addend. */
uint32_t SEN_NAME(sen_sparse_together)(const sen_weights *w, uint32_t count)
{
    const uint32_t rest = count % ROWS, is_column = w->block_rows == 16;
    const uint32_t cost = rest <= 4 ? 10 - 3 * is_column : rest <= 8 ? 15 - 6 * is_column : 16; /* of sixteen rows 16 */
    const int is_same = (w->uses & SEN_USES_INT8) != 0 || w->multiply == SEN_NAME(sen_panels);
    return w->by_row && is_same && 100 * rest < w->by_row->min_percent * cost ? count - rest : count;
}

#endif
