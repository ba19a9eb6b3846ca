/* Dense weights for microcontrollers: four rows of a column in a word, one column after the other, and four rows after the other.
 * Weights are stored plus 128. Columns of inputs that are 0 are skipped. */
#include "integer_sums.h"

/* export: sen_integer_columns, needs integer_sums */
#ifdef SEN_HELIUM

/* Sixteen columns at a time, except where all their inputs are 0. */
typedef struct sen_run {
    uint32_t first, count; /* column; number of sixteens */
} sen_run;

/* Copies x, filled up with zeros, and finds runs of sixteens that are not all 0. */
static sen_run *find_runs(const uint8_t *x, uint32_t columns, uint8_t *padded, sen_run *run, uint32_t *total)
{
    int is_open = 0;
    uint32_t column;
    for (column = 0; column < columns; column += 16) {
        const uint8x16_t sixteen = vldrbq_z_u8(x + column, vctp8q(columns - column));
        vstrbq_u8(padded + column, sixteen);
        *total = vaddvaq_u8(*total, sixteen);
        if (!vcmpneq_n_u8(sixteen, 0)) {
            is_open = 0;
        } else if (is_open) {
            run[-1].count++;
        } else {
            run->first = column;
            run->count = 1;
            run++;
            is_open = 1;
        }
    }
    return run;
}

SEN_PRIVATE void sen_integer_columns(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    int32_t *const sums = scratch, *sum = sums;
    uint8_t *const padded = (uint8_t *)(sums + (w->rows + 3) / 4 * 4);
    sen_run *const runs = (sen_run *)(void *)(padded + (w->columns + 15) / 16 * 16);
    const uint8_t *values = w->values, *four, *at;
    uint32_t total = 0, row, first;
    const sen_run *const end = find_runs(x, w->columns, padded, runs, &total);
    for (row = 0; row < w->rows; row += 4, values += 4 * (size_t)w->columns, sum += 4) {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        const sen_run *run = runs;
        if (run != end)
            __asm__ volatile(
                "1: ldrd %[first], lr, [%[run]], #8\n add %[at], %[padded], %[first]\n"
                "add %[four], %[values], %[first], lsl #2\n dls lr, lr\n"
                "2: vld40.8 {q0, q1, q2, q3}, [%[four]]\n vld41.8 {q0, q1, q2, q3}, [%[four]]\n"
                "vld42.8 {q0, q1, q2, q3}, [%[four]]\n vld43.8 {q0, q1, q2, q3}, [%[four]]!\n"
                "vldrb.u8 q4, [%[at]], #16\n vmladava.u8 %[a], q0, q4\n vmladava.u8 %[b], q1, q4\n"
                "vmladava.u8 %[c], q2, q4\n vmladava.u8 %[d], q3, q4\n le lr, 2b\n cmp %[run], %[end]\n bne 1b\n"
                : [a] "+Te"(a), [b] "+Te"(b), [c] "+Te"(c), [d] "+Te"(d), [four] "=&r"(four), [at] "=&r"(at),
                  [first] "=&r"(first), [run] "+r"(run)
                : [padded] "r"(padded), [values] "r"(values), [end] "r"(end)
                : "cc", "memory", "lr", "q0", "q1", "q2", "q3", "q4");
        __asm__ volatile("strd %[a], %[b], [%[sum]]\n strd %[c], %[d], [%[sum], #8]\n"
                         : : [a] "r"(a), [b] "r"(b), [c] "r"(c), [d] "r"(d), [sum] "r"(sum) : "memory");
    }
    requantize_sums(w, sums, -128 * (int32_t)total, y);
}

#else

/* Columns that a loop multiplies before it ends; lists of inputs are multiples of eight. */
#ifdef __OPTIMIZE_SIZE__
#define SEN_COLUMNS SEN_COLUMN
#else
#define SEN_COLUMNS SEN_COLUMN SEN_COLUMN SEN_COLUMN SEN_COLUMN SEN_COLUMN SEN_COLUMN SEN_COLUMN SEN_COLUMN
#endif

/* Adds the products of four rows with the inputs from `active` to `end`. */
#if defined(SEN_THUMB2)

/* The outer and the inner bytes of a word are 24 bits apart, as far as the sums of their products. */
#define SEN_COLUMN \
    "ldrd %[word], %[x], [%[at]], #8\n ldr %[word], [%[values], %[word]]\n and %[two], %[mask], %[word]\n" \
    "umlal %Q[outer], %R[outer], %[two], %[x]\n and %[two], %[mask], %[word], ror #16\n" \
    "umlal %Q[inner], %R[inner], %[two], %[x]\n"

SEN_INLINE void add_four_rows(const uint8_t *values, const sen_active *active, const sen_active *end, uint32_t *sums)
{
    uint64_t outer = 0, inner = 0;
    uint32_t word, x, two;
    __asm__ volatile(
        "1: " SEN_COLUMNS "cmp %[at], %[end]\n bne 1b\n"
        : [at] "+r"(active), [outer] "+r"(outer), [inner] "+r"(inner), [word] "=&r"(word), [x] "=&r"(x), [two] "=&r"(two)
        : [values] "r"(values), [mask] "r"(0xFF0000FFu), [end] "r"(end)
        : "cc", "memory");
    sums[0] += (uint32_t)outer & 0xFFFFFFu;
    sums[1] += (uint32_t)(inner >> 24);
    sums[2] += (uint32_t)inner & 0xFFFFFFu;
    sums[3] += (uint32_t)(outer >> 24);
}

#elif defined(SEN_THUMB1)

/* Sums are in high registers, which are only added to and moved. */
#define SEN_ROW(place, sum) "ldrb r6, [r4, #" place "]\n muls r6, r5\n add " sum ", r6\n"
#define SEN_COLUMN \
    "ldmia %[at]!, {r4, r5}\n add r4, %[values]\n" \
    SEN_ROW("0", "r8") SEN_ROW("1", "r9") SEN_ROW("2", "r10") SEN_ROW("3", "r11")

SEN_INLINE void add_four_rows(
    const SEN_FLASH uint8_t *values, const sen_active *active, const sen_active *end, uint32_t *sums)
{
    __asm__ volatile(
        ".syntax unified\n ldmia %[sums]!, {r4, r5, r6}\n mov r8, r4\n mov r9, r5\n mov r10, r6\n"
        "ldmia %[sums]!, {r4}\n mov r11, r4\n subs %[sums], #16\n"
        "1: " SEN_COLUMNS "cmp %[at], %[end]\n bne 1b\n"
        "mov r4, r8\n mov r5, r9\n mov r6, r10\n stmia %[sums]!, {r4, r5, r6}\n mov r4, r11\n stmia %[sums]!, {r4}\n"
        : [at] "+l"(active), [sums] "+l"(sums)
        : [values] "l"(values), [end] "l"(end)
        : "cc", "memory", "r4", "r5", "r6", "r8", "r9", "r10", "r11");
}

#else

SEN_INLINE void add_four_rows(
    const SEN_FLASH uint8_t *values, const sen_active *active, const sen_active *end, uint32_t *sums)
{
    uint32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (; active != end; active++) {
        const SEN_FLASH uint8_t *four = values + active->offset;
        a += four[0] * active->value;
        b += four[1] * active->value;
        c += four[2] * active->value;
        d += four[3] * active->value;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

#endif

#if defined(__riscv) && defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
/* The same for eight rows, which fit in the registers; compilers would add sums in another order, in more of them. */
#define SEN_EIGHT_ROWS
#define SEN_COLUMN(at) \
    { \
        const uint32_t x = (at)->value; \
        const uint8_t *p = values + (at)->offset, *q = p + step; \
        a += p[0] * x; \
        b += p[1] * x; \
        c += p[2] * x; \
        d += p[3] * x; \
        e += q[0] * x; \
        f += q[1] * x; \
        g += q[2] * x; \
        h += q[3] * x; \
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h) : : "memory"); \
    }

static SEN_NOINLINE void add_eight_rows(
    const uint8_t *values, size_t step, const sen_active *active, const sen_active *end, uint32_t *sums)
{
    uint32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3], e = sums[4], f = sums[5], g = sums[6], h = sums[7];
    for (; active != end; active += 8) {
        SEN_COLUMN(active)
        SEN_COLUMN(active + 1)
        SEN_COLUMN(active + 2)
        SEN_COLUMN(active + 3)
        SEN_COLUMN(active + 4)
        SEN_COLUMN(active + 5)
        SEN_COLUMN(active + 6)
        SEN_COLUMN(active + 7)
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
    sums[4] = e;
    sums[5] = f;
    sums[6] = g;
    sums[7] = h;
}
#endif

SEN_PRIVATE void sen_integer_columns(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const uint32_t rows = (w->rows + 3) / 4 * 4;
    const size_t step = 4 * (size_t)w->columns;
    uint32_t *const sums = scratch, *const last = sums + rows;
    sen_active *const active = (sen_active *)(void *)last;
    uint32_t column = 0, total = 0;
    sen_clear_sums(sums, rows);
    while (column < w->columns) {
        const SEN_FLASH uint8_t *values = w->values;
        uint32_t *sum = sums;
        sen_active *end = sen_find_active(x, w->columns, &column, active, &total);
        if (end == active)
            break;
        for (; (end - active) % 8 != 0; end++) {
            end->value = 0;
            end->offset = 0;
        }
#ifdef SEN_EIGHT_ROWS
        for (; last - sum >= 8; sum += 8, values += 2 * step)
            add_eight_rows(values, step, active, end, sum);
#endif
        for (; sum != last; sum += 4, values += step)
            add_four_rows(values, active, end, sum);
    }
    requantize_sums(w, (const int32_t *)sums, -128 * (int32_t)total, y);
}

#endif
/* end */
