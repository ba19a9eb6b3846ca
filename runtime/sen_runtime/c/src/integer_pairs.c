/* Dense weights for processors with DSP instructions, and inputs that are rarely 0: two rows of two columns in a word, r0c0 r1c0
 * r0c1 r1c1, and two words for four rows of two columns; columns are filled up to a multiple of sixteen, rows to one of four.
 * Weights of even rows are stored plus 128. Sums of odd rows stay within 24 bits. */
#include "integer_sums.h"

/* export: sen_integer_pairs, needs integer_sums */
/* Sums of the products of four rows with the pairs of inputs `at`, less `offset` where weights are stored plus 128. A half of a
 * word is 256 times a weight of an odd row plus one of an even row, and so are the sums of their products, modulo 2^32. Returns
 * the end of the weights. */
static const SEN_FLASH uint8_t *add_pairs(
    const SEN_FLASH uint8_t *values, const uint32_t *at, const uint32_t *end, uint32_t offset, int32_t *sums)
{
    uint32_t even0 = 0, both0 = 0, even1 = 0, both1 = 0;
#ifdef SEN_DSP
#define SEN_TWO_PAIRS(x) \
    "ldrd %[u], %[v], [%[values]], #8\n uxtb16 %[even], %[u]\n smlad %[both0], %[u], %[" x "], %[both0]\n" \
    "smlad %[even0], %[even], %[" x "], %[even0]\n uxtb16 %[even], %[v]\n" \
    "smlad %[both1], %[v], %[" x "], %[both1]\n smlad %[even1], %[even], %[" x "], %[even1]\n"
#define SEN_FOUR_COLUMNS "ldrd %[x0], %[x1], [%[at]], #8\n" SEN_TWO_PAIRS("x0") SEN_TWO_PAIRS("x1")
#ifdef __OPTIMIZE_SIZE__
#define SEN_COLUMNS_OF_PAIRS SEN_FOUR_COLUMNS
#else
#define SEN_COLUMNS_OF_PAIRS SEN_FOUR_COLUMNS SEN_FOUR_COLUMNS SEN_FOUR_COLUMNS SEN_FOUR_COLUMNS
#endif
    uint32_t x0, x1, u, v, even;
    __asm__ volatile(
        "1: " SEN_COLUMNS_OF_PAIRS "cmp %[at], %[end]\n bne 1b\n"
        : [at] "+r"(at), [values] "+r"(values), [even0] "+r"(even0), [both0] "+r"(both0), [even1] "+r"(even1),
          [both1] "+r"(both1), [x0] "=&r"(x0), [x1] "=&r"(x1), [u] "=&r"(u), [v] "=&r"(v), [even] "=&r"(even)
        : [end] "r"(end)
        : "cc", "memory");
#else
    for (; at != end; at++, values += 8) {
        const uint32_t a = *at & 0xFFFFu, b = *at >> 16, even = values[0] * a + values[2] * b, next = values[4] * a + values[6] * b;
        const SEN_FLASH int8_t *odd = (const SEN_FLASH int8_t *)values;
        even0 += even;
        even1 += next;
        both0 += 256u * ((uint32_t)odd[1] * a + (uint32_t)odd[3] * b) + even;
        both1 += 256u * ((uint32_t)odd[5] * a + (uint32_t)odd[7] * b) + next;
    }
#endif
    sums[0] = (int32_t)(even0 - offset);
    sums[1] = (int32_t)(both0 - even0) >> 8;
    sums[2] = (int32_t)(even1 - offset);
    sums[3] = (int32_t)(both1 - even1) >> 8;
    return values;
}

SEN_PRIVATE void sen_integer_pairs(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t rows = (w->rows + 3) / 4 * 4;
    int32_t *const sums = scratch;
    uint32_t *const pairs = (uint32_t *)(void *)(sums + rows), *const end = pairs + (w->columns + 15) / 16 * 8, *pair;
    const SEN_FLASH uint8_t *values = w->values;
    uint32_t column = 0, total = 0, row;
    for (pair = pairs; pair != end; pair++, column += 2) {
        const uint32_t a = column < w->columns ? x[column] : 0, b = column + 1 < w->columns ? x[column + 1] : 0;
        *pair = a | b << 16;
        total += a + b;
    }
    for (row = 0; row < rows; row += 4)
        values = add_pairs(values, pairs, end, 128 * total, sums + row);
    requantize_sums(w, sums, 0, y);
}
/* end */
