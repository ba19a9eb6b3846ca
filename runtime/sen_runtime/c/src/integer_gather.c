/* Blocks of four columns by row, for processors that gather words: the inputs of four blocks of a row are read at once. Rows are
 * filled up to a multiple of four blocks; `indices` are numbers of four inputs, `starts` a byte for each row: its number of fours. */
#include "integer_sums.h"

/* export: sen_integer_gather, needs integer_sums */
/* Biases of rows contain 128 times the sum of their weights: inputs are multiplied less 128, which int8 holds. */
SEN_PRIVATE void sen_integer_gather(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const SEN_FLASH uint8_t *index = w->indices, *count = w->starts, *const end = count + w->rows;
    const SEN_FLASH int8_t *values = w->values;
    int32_t *const sums = scratch, *sum = sums;
#ifdef SEN_HELIUM
    uint8_t *const moved = (uint8_t *)(sums + (w->rows + 3) / 4 * 4), *to = moved;
    __asm__ volatile(
        "vmov.i8 q1, #128\n wlstp.8 lr, %[columns], 2f\n"
        "1: vldrb.u8 q0, [%[x]], #16\n veor q0, q0, q1\n vstrb.8 q0, [%[to]], #16\n letp lr, 1b\n 2:\n"
        : [x] "+l"(x), [to] "+l"(to)
        : [columns] "r"(w->columns)
        : "cc", "memory", "lr", "q0", "q1");
    while (count != end) {
        int32_t total = 0;
        __asm__ volatile(
            "wls lr, %[fours], 2f\n"
            "1: vldrb.u32 q0, [%[index]], #4\n vldrw.u32 q1, [%[moved], q0, uxtw #2]\n vldrb.u8 q2, [%[values]], #16\n"
            "vmladava.s8 %[total], q1, q2\n le lr, 1b\n 2:\n"
            : [index] "+l"(index), [values] "+l"(values), [total] "+Te"(total)
            : [moved] "r"(moved), [fours] "r"((uint32_t)*count++)
            : "memory", "lr", "q0", "q1", "q2");
        *sum++ = total;
    }
#else
    while (count != end) {
        uint32_t left = 4u * *count++;
        int32_t total = 0;
        for (; left > 0; left--, index++, values += 4) {
            const uint8_t *at = x + 4 * (size_t)*index;
            total += values[0] * (at[0] - 128) + values[1] * (at[1] - 128) + values[2] * (at[2] - 128) + values[3] * (at[3] - 128);
        }
        *sum++ = total;
    }
#endif
    requantize_sums(w, sums, 0, y);
}
/* end */
