/* Sparse weights for microcontrollers, by the inputs that they multiply: those of inputs that are 0 are not read. Weights of 256
 * rows, a segment, lie together, so that a byte names a row; `starts` has a place for each segment and input, and the end. */
#include "integer_sums.h"

/* export: integer_source, needs integer_sums */
/* Weights of one input in a segment. */
typedef struct sen_span {
    uint32_t start, count;
} sen_span;

/* Bytes of a start; `starts` are of two or four. */
static size_t start_size(const sen_integer_weights *w)
{
    return w->index_dtype == SEN_UINT16 ? 2 : 4;
}

static sen_span find_span(const SEN_FLASH void *starts, size_t size)
{
    sen_span span;
    if (size == 2) {
        const SEN_FLASH uint16_t *at = starts;
        span.start = at[0];
        span.count = (uint32_t)at[1] - at[0];
    } else {
        const SEN_FLASH uint32_t *at = starts;
        span.start = at[0];
        span.count = at[1] - at[0];
    }
    return span;
}
/* end */

/* export: sen_integer_source, needs integer_source */
/* Weights that a loop multiplies before it ends; there is a multiple of four. */
#ifdef __OPTIMIZE_SIZE__
#define SEN_WEIGHTS SEN_WEIGHT
#else
#define SEN_WEIGHTS SEN_WEIGHT SEN_WEIGHT SEN_WEIGHT SEN_WEIGHT
#endif

/* Adds `count` products with the input x, a multiple of four. */
static void add_weights(
    int32_t *sums, const SEN_FLASH uint8_t *rows, const SEN_FLASH int8_t *values, uint32_t count, int32_t x)
{
#if defined(SEN_HELIUM)
    __asm__ volatile(
        "wlstp.32 lr, %[count], 2f\n"
        "1: vldrb.u32 q0, [%[rows]], #4\n vldrb.s32 q1, [%[values]], #4\n vldrw.u32 q2, [%[sums], q0, uxtw #2]\n"
        "vmla.s32 q2, q1, %[x]\n vstrw.32 q2, [%[sums], q0, uxtw #2]\n letp lr, 1b\n 2:\n"
        : [rows] "+l"(rows), [values] "+l"(values)
        : [count] "r"(count), [sums] "r"(sums), [x] "r"(x)
        : "cc", "memory", "lr", "q0", "q1", "q2");
#elif defined(SEN_THUMB2)
#define SEN_WEIGHT \
    "ldrb %[row], [%[rows]], #1\n ldrsb %[value], [%[values]], #1\n ldr %[sum], [%[sums], %[row], lsl #2]\n" \
    "mla %[sum], %[value], %[x], %[sum]\n str %[sum], [%[sums], %[row], lsl #2]\n"
    const uint8_t *const end = rows + count;
    uint32_t row, value, sum;
    __asm__ volatile(
        "b 2f\n 1: " SEN_WEIGHTS "2: cmp %[rows], %[end]\n bne 1b\n"
        : [rows] "+r"(rows), [values] "+r"(values), [row] "=&r"(row), [value] "=&r"(value), [sum] "=&r"(sum)
        : [sums] "r"(sums), [x] "r"(x), [end] "r"(end)
        : "cc", "memory");
#elif defined(SEN_THUMB1)
#define SEN_WEIGHT \
    "ldrb r4, [%[rows]]\n lsls r4, r4, #2\n ldrsb r5, [%[rows], %[step]]\n muls r5, %[x]\n ldr r6, [%[sums], r4]\n" \
    "adds r6, r6, r5\n str r6, [%[sums], r4]\n adds %[rows], #1\n"
    const uint8_t *const end = rows + count;
    const uintptr_t step = (uintptr_t)values - (uintptr_t)rows;
    __asm__ volatile(
        ".syntax unified\n b 2f\n 1: " SEN_WEIGHTS "2: cmp %[rows], %[end]\n bne 1b\n"
        : [rows] "+l"(rows)
        : [step] "l"(step), [sums] "l"(sums), [x] "l"(x), [end] "r"(end)
        : "cc", "memory", "r4", "r5", "r6");
#else
    for (; count > 0; count -= 4, rows += 4, values += 4) {
        sums[rows[0]] += values[0] * x;
        sums[rows[1]] += values[1] * x;
        sums[rows[2]] += values[2] * x;
        sums[rows[3]] += values[3] * x;
    }
#endif
}

SEN_PRIVATE void sen_integer_source(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t rows = (w->rows + 3) / 4 * 4, columns = w->columns;
    const SEN_FLASH uint8_t *const indices = w->indices;
    const SEN_FLASH int8_t *const values = w->values;
    const SEN_FLASH uint8_t *const starts = w->starts;
    const size_t size = start_size(w);
    int32_t *const sums = scratch;
    sen_active *const active = (sen_active *)(void *)(sums + rows);
    uint32_t column = 0, total = 0;
    sen_clear_sums((uint32_t *)sums, rows);
    while (column < columns) {
        const sen_active *const end = sen_find_active(x, columns, &column, active, &total), *at;
        for (at = active; at != end; at++) {
            const SEN_FLASH uint8_t *start = starts + at->offset / 4 * size;
            uint32_t segment;
            for (segment = 0; segment < rows; segment += 256, start += columns * size) {
                const sen_span span = find_span(start, size);
                add_weights(sums + segment, indices + span.start, values + span.start, span.count, (int32_t)at->value);
            }
        }
    }
    requantize_sums(w, sums, 0, y);
}
/* end */

/* export: sen_integer_source4, needs integer_source */
/* Adds the products of `count` blocks with four inputs, an even number, at least two. */
static void add_blocks(
    int32_t *sums, const SEN_FLASH uint8_t *rows, const SEN_FLASH int8_t *values, uint32_t count, const uint8_t *x)
{
    const uint32_t a = x[0], b = x[1], c = x[2], d = x[3];
#if defined(SEN_HELIUM)
    const uint32x4_t first = vidupq_n_u32(0, 4), second = vaddq_n_u32(first, 1), third = vaddq_n_u32(first, 2),
                     fourth = vaddq_n_u32(first, 3);
    __asm__ volatile(
        "dlstp.32 lr, %[count]\n"
        "1: vldrb.u32 q0, [%[rows]], #4\n vldrw.u32 q1, [%[sums], q0, uxtw #2]\n"
        "vldrb.s32 q2, [%[values], %q[first]]\n vmla.s32 q1, q2, %[a]\n vldrb.s32 q2, [%[values], %q[second]]\n vmla.s32 q1, q2, %[b]\n"
        "vldrb.s32 q2, [%[values], %q[third]]\n vmla.s32 q1, q2, %[c]\n vldrb.s32 q2, [%[values], %q[fourth]]\n vmla.s32 q1, q2, %[d]\n"
        "adds %[values], #16\n vstrw.32 q1, [%[sums], q0, uxtw #2]\n letp lr, 1b\n"
        : [rows] "+l"(rows), [values] "+r"(values)
        : [count] "r"(count), [sums] "r"(sums), [first] "w"(first), [second] "w"(second), [third] "w"(third),
          [fourth] "w"(fourth), [a] "r"(a), [b] "r"(b), [c] "r"(c), [d] "r"(d)
        : "cc", "memory", "lr", "q0", "q1", "q2");
#elif defined(SEN_DSP)
#define SEN_BLOCK \
    "ldrb %[row], [%[rows]], #1\n ldr %[word], [%[values]], #4\n ldr %[sum], [%[sums], %[row], lsl #2]\n" \
    "sxtb16 %[two], %[word]\n smlad %[sum], %[two], %[even], %[sum]\n sxtb16 %[two], %[word], ror #8\n" \
    "smlad %[sum], %[two], %[odd], %[sum]\n str %[sum], [%[sums], %[row], lsl #2]\n"
    const uint32_t even = a | c << 16, odd = b | d << 16;
    const uint8_t *const end = rows + count;
    uint32_t row, word, sum, two;
    __asm__ volatile(
        "1: " SEN_BLOCK SEN_BLOCK "cmp %[rows], %[end]\n bne 1b\n"
        : [rows] "+r"(rows), [values] "+r"(values), [row] "=&r"(row), [word] "=&r"(word), [sum] "=&r"(sum), [two] "=&r"(two)
        : [sums] "r"(sums), [even] "r"(even), [odd] "r"(odd), [end] "r"(end)
        : "cc", "memory");
#elif defined(SEN_THUMB2)
#define SEN_PRODUCT(x) "ldrsb %[value], [%[values]], #1\n mla %[sum], %[value], %[" x "], %[sum]\n"
    const uint8_t *const end = rows + count;
    uint32_t row, value, sum;
    __asm__ volatile(
        "1: ldrb %[row], [%[rows]], #1\n ldr %[sum], [%[sums], %[row], lsl #2]\n"
        SEN_PRODUCT("a") SEN_PRODUCT("b") SEN_PRODUCT("c") SEN_PRODUCT("d")
        "str %[sum], [%[sums], %[row], lsl #2]\n cmp %[rows], %[end]\n bne 1b\n"
        : [rows] "+r"(rows), [values] "+r"(values), [row] "=&r"(row), [value] "=&r"(value), [sum] "=&r"(sum)
        : [sums] "r"(sums), [a] "r"(a), [b] "r"(b), [c] "r"(c), [d] "r"(d), [end] "r"(end)
        : "cc", "memory");
#elif defined(SEN_THUMB1)
    /* Inputs, sums and the end are in high registers; the pointer to them is free then. */
#define SEN_PRODUCT(x) "sxtb r5, r4\n mov %[high], " x "\n muls r5, %[high]\n adds r3, r3, r5\n"
    const uint32_t values_of_high[6] = {a, b, c, d, (uint32_t)(uintptr_t)sums, (uint32_t)(uintptr_t)(rows + count)};
    const uint32_t *high = values_of_high;
    __asm__ volatile(
        ".syntax unified\n ldmia %[high]!, {r2, r3, r4, r5}\n mov r8, r2\n mov r9, r3\n mov r10, r4\n mov r11, r5\n"
        "ldmia %[high]!, {r2, r3}\n mov r12, r2\n mov lr, r3\n"
        "1: ldmia %[values]!, {r4}\n ldrb r2, [%[rows]]\n lsls r2, r2, #2\n add r2, r12\n ldr r3, [r2]\n"
        SEN_PRODUCT("r8") "lsrs r4, r4, #8\n" SEN_PRODUCT("r9") "lsrs r4, r4, #8\n" SEN_PRODUCT("r10") "lsrs r4, r4, #8\n"
        SEN_PRODUCT("r11") "str r3, [r2]\n adds %[rows], #1\n cmp %[rows], lr\n bne 1b\n"
        : [rows] "+l"(rows), [values] "+l"(values), [high] "+l"(high)
        :
        : "cc", "memory", "r2", "r3", "r4", "r5", "r8", "r9", "r10", "r11", "r12", "lr");
#else
    for (; count > 0; count--, rows++, values += 4)
        sums[*rows] += values[0] * (int32_t)a + values[1] * (int32_t)b + values[2] * (int32_t)c + values[3] * (int32_t)d;
#endif
}

/* Not 0 if one of four inputs is not. */
static uint32_t find_any(const uint8_t *x)
{
#if defined(SEN_READS_FOUR) && !defined(__OPTIMIZE_SIZE__)
    if (SEN_READS_FOUR(x)) {
        uint32_t four;
        memcpy(&four, SEN_FOUR(x), sizeof four);
        return four;
    }
#endif
    return (uint32_t)(x[0] | x[1] | x[2] | x[3]);
}

/* Blocks of four columns; a place of `starts` is for four inputs. */
SEN_PRIVATE void sen_integer_source4(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t rows = (w->rows + 3) / 4 * 4;
    const SEN_FLASH uint8_t *const indices = w->indices;
    const SEN_FLASH int8_t *const values = w->values;
    const size_t size = start_size(w), step = w->columns / 4 * size;
    const SEN_FLASH uint8_t *first = w->starts;
    const uint8_t *const end = x + w->columns;
    int32_t *const sums = scratch;
    sen_clear_sums((uint32_t *)sums, rows);
    for (; x != end; x += 4, first += size) {
        const SEN_FLASH uint8_t *start = first;
        uint32_t segment;
        if (!find_any(x))
            continue;
        for (segment = 0; segment < rows; segment += 256, start += step) {
            const sen_span span = find_span(start, size);
            if (span.count)
                add_blocks(sums + segment, indices + span.start, values + 4 * (size_t)span.start, span.count, x);
        }
    }
    requantize_sums(w, sums, 0, y);
}
/* end */
