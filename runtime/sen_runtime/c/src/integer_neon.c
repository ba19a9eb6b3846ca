/* Products of int8 activations on NEON, of rows as they lie or of panels with groups of columns of a row next to each other.
 *
 * In panels NEON multiplies unsigned by unsigned, so an offset is added to each weight: 128, or on pairs the least for its column.
 * Groups of inputs that are all 0 are skipped. Without dot products, two products add up within 16 bits where weights are at
 * most 128. So they are with the least offset in a column whose weights have one sign, as all weights of a source neuron of a
 * spatially embedded network have. */
#include "integer.h"

#if defined(SEN_ISA) && defined(__ARM_NEON)

#include "vector.h"

/* Rows that a product has in registers: sums of four rows in each. */
#define FOURS (SEN_PANEL / 4)

/* Groups that are not all 0, ascending; on pairs those that are not narrow are apart. `excess` is what the offsets of the
 * weights add to every sum, so sums begin below 0 by it. */
typedef struct input_groups {
    const uint16_t *narrow, *narrow_end, *wide, *wide_end;
    uint32_t excess;
#ifdef __ARM_FEATURE_DOTPROD
    const uint8_t *fours; /* their inputs */
#else
    const uint8_t *x; /* all inputs */
#endif
} input_groups;

/* Appends the groups from `first` on, of which `kept` has a bit each; writes up to eight words more. */
static inline uint16_t *append(uint16_t *to, uint32_t first, uint32_t kept)
{
    vst1q_u16(to, vaddw_u8(vdupq_n_u16((uint16_t)first), vld1_u8(sen_set_bits.position[kept])));
    return to + sen_set_bits.count[kept];
}

/* Sixteen inputs. Behind the last group of `kept` values lies anything: another panel would be read for it. */
static inline uint8x16_t load_inputs(const uint8_t *x, uint32_t kept)
{
    const uint8x16_t place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vandq_u8(vld1q_u8(x), vcltq_u8(place, vdupq_n_u8((uint8_t)(kept < 16 ? kept : 16))));
}

/* Bits of sixteen bytes that are all ones or 0, and of sixteen more. */
static inline uint32_t bits_of(uint8x16_t a, uint8x16_t b)
{
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t sums = vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
    sums = vpaddq_u8(sums, sums);
    return vgetq_lane_u32(vreinterpretq_u32_u8(vpaddq_u8(sums, sums)), 0);
}

#ifdef __ARM_FEATURE_DOTPROD
/* The groups of 32 inputs of which `kept` has a bit each, one after the other; writes up to 32 bytes. */
static inline void store_fours(uint8_t *to, const uint8x16_t *inputs, uint32_t kept)
{
    const uint8x16_t place = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    const uint8x16x2_t from = {{inputs[0], inputs[1]}};
    const uint8x8_t first = vshl_n_u8(vld1_u8(sen_set_bits.position[kept]), 2);
    const uint8x16_t twice = vzip1q_u8(vcombine_u8(first, first), vcombine_u8(first, first));
    vst1q_u8(to, vqtbl2q_u8(from, vaddq_u8(vzip1q_u8(twice, twice), place)));
    vst1q_u8(to + 16, vqtbl2q_u8(from, vaddq_u8(vzip2q_u8(twice, twice), place)));
}
#endif

static input_groups find_groups(const sen_integer_weights *w, const uint8_t *x, uint16_t *narrow)
{
    const uint32_t n = w->columns, end = (n + SEN_GROUP - 1) / SEN_GROUP * SEN_GROUP;
    uint16_t *const wide = narrow + n / 16 * 8 + 40, *narrow_end = narrow, *wide_end = wide; /* aligned for `fours` */
    uint32x4_t excess = vdupq_n_u32(0);
    input_groups found;
    uint32_t i, k;
#ifdef __ARM_FEATURE_DOTPROD
    uint8_t *four = (uint8_t *)wide;
    found.fours = four;
#else
    found.x = x;
#endif
    for (i = 0; i < n; i += 64) {
        uint8x16_t v[4];
        uint32_t kept;
        for (k = 0; k < 4; k++)
            v[k] = vld1q_u8(x + i + 16 * k);
        for (k = 0; k < 4 && end - i < 64; k++)
            v[k] = load_inputs(x + i + 16 * k, end - i < 16 * k ? 0 : end - i - 16 * k);
#ifdef __ARM_FEATURE_DOTPROD
        uint16x8_t half[2];
        for (k = 0; k < 2; k++) {
            const uint32x4_t a = vreinterpretq_u32_u8(v[2 * k]), b = vreinterpretq_u32_u8(v[2 * k + 1]);
            half[k] = vuzp1q_u16(vreinterpretq_u16_u32(vtstq_u32(a, a)), vreinterpretq_u16_u32(vtstq_u32(b, b)));
        }
        kept = bits_of(vuzp1q_u8(vreinterpretq_u8_u16(half[0]), vreinterpretq_u8_u16(half[1])), vdupq_n_u8(0));
        if (!kept)
            continue;
        for (k = 0; k < 2; k++) {
            const uint32_t bits = kept >> 8 * k & 0xFF;
            store_fours(four, v + 2 * k, bits);
            four += 4 * sen_set_bits.count[bits];
            narrow_end = append(narrow_end, i / 4 + 8 * k, bits);
        }
        for (k = 0; k < 4; k++)
            excess = vdotq_u32(excess, v[k], vdupq_n_u8(128));
#else
        uint8x16_t is_kept[2];
        uint32_t is_narrow;
        for (k = 0; k < 2; k++) {
            const uint16x8_t a = vreinterpretq_u16_u8(v[2 * k]), b = vreinterpretq_u16_u8(v[2 * k + 1]);
            is_kept[k] = vuzp1q_u8(vreinterpretq_u8_u16(vtstq_u16(a, a)), vreinterpretq_u8_u16(vtstq_u16(b, b)));
        }
        kept = bits_of(is_kept[0], is_kept[1]);
        if (!kept)
            continue;
        memcpy(&is_narrow, w->narrow + i / 16, sizeof is_narrow);
        for (k = 0; k < 4; k++)
            narrow_end = append(narrow_end, i / 2 + 8 * k, (kept & is_narrow) >> 8 * k & 0xFF);
        for (k = 0; k < 4 && (kept & ~is_narrow); k++)
            wide_end = append(wide_end, i / 2 + 8 * k, (kept & ~is_narrow) >> 8 * k & 0xFF);
        for (k = 0; k < 4; k++) { /* offsets are at most 128 */
            const uint8x16_t offsets = vld1q_u8(w->offsets + i + 16 * k);
            const uint16x8_t low = vmull_u8(vget_low_u8(v[k]), vget_low_u8(offsets));
            excess = vpadalq_u16(excess, vmlal_high_u8(low, v[k], offsets));
        }
#endif
    }
    found.narrow = narrow;
    found.narrow_end = narrow_end;
    found.wide = wide;
    found.wide_end = wide_end;
    found.excess = vaddvq_u32(excess);
    return found;
}

#ifdef __ARM_FEATURE_DOTPROD
static inline uint8x16x4_t load_64(const uint8_t **from)
{
    const uint8x16x4_t value = vld1q_u8_x4(*from);
    *from += 64;
    __asm__ volatile("" : "+r"(*from) : : "memory"); /* gcc 12 loads all weights first, and spills */
    return value;
}
#endif

/* Sums of 4 `fours` rows from `data` on; groups are `stride` bytes apart. */
#ifdef __ARM_FEATURE_DOTPROD

/* Adds a group whose inputs are in a lane, which has to be a constant. */
#define ADD_GROUP(GROUP, INPUTS, LANE)                                                                                     \
    do {                                                                                                                   \
        const uint8_t *from = data + (GROUP) * stride;                                                                     \
        for (k = 0; k < fours; k += 4) {                                                                                   \
            const uint8x16x4_t weights = load_64(&from);                                                                   \
            sum[k] = vdotq_laneq_u32(sum[k], weights.val[0], INPUTS, LANE);                                                \
            sum[k + 1] = vdotq_laneq_u32(sum[k + 1], weights.val[1], INPUTS, LANE);                                        \
            sum[k + 2] = vdotq_laneq_u32(sum[k + 2], weights.val[2], INPUTS, LANE);                                        \
            sum[k + 3] = vdotq_laneq_u32(sum[k + 3], weights.val[3], INPUTS, LANE);                                        \
        }                                                                                                                  \
    } while (0)

static inline __attribute__((always_inline)) void sum_groups(
    const uint8_t *data, size_t stride, const input_groups *groups, uint32x4_t *sums, const int fours)
{
    const uint16_t *group = groups->narrow;
    const uint8_t *four = groups->fours;
    uint32x4_t sum[FOURS];
    int k;
    for (k = 0; k < fours; k++)
        sum[k] = vdupq_n_u32(0 - groups->excess);
    for (; groups->narrow_end - group >= 4; group += 4, four += 16) {
        const uint8x16_t inputs = vld1q_u8(four);
        ADD_GROUP(group[0], inputs, 0);
        ADD_GROUP(group[1], inputs, 1);
        ADD_GROUP(group[2], inputs, 2);
        ADD_GROUP(group[3], inputs, 3);
    }
    for (; group != groups->narrow_end; group++, four += 4) {
        const uint8x16_t inputs = vreinterpretq_u8_u32(vld1q_dup_u32((const uint32_t *)(const void *)four));
        ADD_GROUP(*group, inputs, 0);
    }
    for (k = 0; k < fours; k++)
        sums[k] = sum[k];
}

#else

/* Eight rows of one pair of columns. */
static inline void add_pair(uint32x4_t *sum, uint8x16_t a, uint8x16_t x)
{
    sum[0] = vpadalq_u16(sum[0], vmull_u8(vget_low_u8(a), vget_low_u8(x)));
    sum[1] = vpadalq_u16(sum[1], vmull_high_u8(a, x));
}

/* Eight rows of two narrow pairs, whose products add up within 16 bits. */
static inline void add_two_pairs(uint32x4_t *sum, uint8x16_t a, uint8x16_t x, uint8x16_t b, uint8x16_t y)
{
    const uint16x8_t low = vmlal_u8(vmull_u8(vget_low_u8(a), vget_low_u8(x)), vget_low_u8(b), vget_low_u8(y));
    sum[0] = vpadalq_u16(sum[0], low);
    sum[1] = vpadalq_u16(sum[1], vmlal_high_u8(vmull_high_u8(a, x), b, y));
}

/* 32 rows likewise, in 26 instructions; gcc 12 copies registers that it loads together. */
#ifdef __aarch64__
static inline void add_eight_fours(
    uint32x4_t *sum, const uint8_t **a, uint8x16_t x, const uint8_t **b, uint8x16_t y)
{
#define MULTIPLY(NAME, TO, FROM, BY) NAME " v" TO ".8h, v" FROM ".8b, " BY ".8b\n\t"
#define MULTIPLY_HIGH(NAME, TO, FROM, BY) NAME "2 v" TO ".8h, v" FROM ".16b, " BY ".16b\n\t"
    __asm__("ld1 {v0.16b-v3.16b}, [%8], #64\n\t"
            "ld1 {v4.16b-v7.16b}, [%9], #64\n\t"
            MULTIPLY_HIGH("umull", "16", "0", "%10") MULTIPLY_HIGH("umull", "17", "1", "%10")
            MULTIPLY_HIGH("umull", "18", "2", "%10") MULTIPLY_HIGH("umull", "19", "3", "%10")
            MULTIPLY("umull", "0", "0", "%10") MULTIPLY("umull", "1", "1", "%10")
            MULTIPLY("umull", "2", "2", "%10") MULTIPLY("umull", "3", "3", "%10")
            MULTIPLY_HIGH("umlal", "16", "4", "%11") MULTIPLY_HIGH("umlal", "17", "5", "%11")
            MULTIPLY_HIGH("umlal", "18", "6", "%11") MULTIPLY_HIGH("umlal", "19", "7", "%11")
            MULTIPLY("umlal", "0", "4", "%11") MULTIPLY("umlal", "1", "5", "%11")
            MULTIPLY("umlal", "2", "6", "%11") MULTIPLY("umlal", "3", "7", "%11")
            "uadalp %0.4s, v0.8h\n\tuadalp %1.4s, v16.8h\n\tuadalp %2.4s, v1.8h\n\tuadalp %3.4s, v17.8h\n\t"
            "uadalp %4.4s, v2.8h\n\tuadalp %5.4s, v18.8h\n\tuadalp %6.4s, v3.8h\n\tuadalp %7.4s, v19.8h"
            : "+w"(sum[0]), "+w"(sum[1]), "+w"(sum[2]), "+w"(sum[3]), "+w"(sum[4]), "+w"(sum[5]), "+w"(sum[6]), "+w"(sum[7]),
              "+r"(*a), "+r"(*b)
            : "w"(x), "w"(y), "m"(*(const uint8_t(*)[64])*a), "m"(*(const uint8_t(*)[64])*b)
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19");
#undef MULTIPLY
#undef MULTIPLY_HIGH
}
#endif

static inline uint8x16_t load_pair(const uint8_t *x, uint32_t group)
{
    return vreinterpretq_u8_u16(vld1q_dup_u16((const uint16_t *)(const void *)x + group));
}

/* One group after the other. */
static inline __attribute__((always_inline)) void add_groups(
    const uint8_t *data, size_t stride, const uint8_t *x, const uint16_t *group, const uint16_t *end, uint32x4_t *sum,
    const int fours)
{
    int k;
    while (group != end) {
        const uint8_t *from = data + *group * stride;
        const uint8x16_t value = load_pair(x, *group++);
        for (k = 0; k < fours; k += 4) {
            const uint8x16x2_t a = load_32_unsigned(&from);
            add_pair(sum + k, a.val[0], value);
            add_pair(sum + k + 2, a.val[1], value);
        }
    }
}

static inline __attribute__((always_inline)) void sum_groups(
    const uint8_t *data, size_t stride, const input_groups *groups, uint32x4_t *sums, const int fours)
{
    const uint16_t *group = groups->narrow, *const end = groups->narrow_end;
    const uint8_t *const x = groups->x;
    uint32x4_t sum[FOURS];
    int k;
    for (k = 0; k < fours; k++)
        sum[k] = vdupq_n_u32(0 - groups->excess);
    for (; group + 2 <= end; group += 2) {
        const uint8_t *upper = data + group[0] * stride, *lower = data + group[1] * stride;
        const uint8x16_t first = load_pair(x, group[0]), second = load_pair(x, group[1]);
        k = 0;
#ifdef __aarch64__
        for (; k + 8 <= fours; k += 8)
            add_eight_fours(sum + k, &upper, first, &lower, second);
#endif
        for (; k < fours; k += 4) {
            const uint8x16x2_t a = load_32_unsigned(&upper), b = load_32_unsigned(&lower);
            add_two_pairs(sum + k, a.val[0], first, b.val[0], second);
            add_two_pairs(sum + k + 2, a.val[1], first, b.val[1], second);
        }
    }
    add_groups(data, stride, x, group, end, sum, fours);
    add_groups(data, stride, x, groups->wide, groups->wide_end, sum, fours);
    for (k = 0; k < fours; k++)
        sums[k] = sum[k];
}

#endif

/* Values of `width` rows from `row` on. */
static void write_values(const sen_integer_weights *w, uint32_t row, uint32_t width, const uint32x4_t *sums, uint8_t *y)
{
    const int32_t *bias = w->bias + row, *multiplier = w->multiplier + row, *exponent = w->exponent + row;
    const int16x8_t zero = vdupq_n_s16((int16_t)w->zero);
    const uint8x16_t lowest = vdupq_n_u8((uint8_t)w->low);
    const uint32x4_t *const end = sums + width / 4;
    uint32_t i, k;
    y += row;
    if (w->max_exponent >= 0) {
        for (i = 0; i < width; i++)
            y[i] = sen_requantize(w, row + i, ((const int32_t *)(const void *)sums)[i]);
        return;
    }
    for (; sums != end; sums += 4) { /* of factors below 1/2, for which the top halves of the doubled products suffice */
        const int32x4x4_t added = load_sums(bias), factor = load_sums(multiplier), power = load_sums(exponent);
        int16x4_t four[4];
        int16x8_t low, high;
        for (k = 0; k < 4; k++) {
            const int32x4_t sum = vaddq_s32(vreinterpretq_s32_u32(sums[k]), added.val[k]);
            four[k] = vqmovn_s32(vrshlq_s32(vqdmulhq_s32(sum, factor.val[k]), power.val[k]));
        }
        low = vqaddq_s16(vcombine_s16(four[0], four[1]), zero);
        high = vqaddq_s16(vcombine_s16(four[2], four[3]), zero);
        vst1q_u8(y, vmaxq_u8(vqmovun_high_s16(vqmovun_s16(low), high), lowest));
        bias += 16;
        multiplier += 16;
        exponent += 16;
        y += 16;
    }
}

void SEN_NAME(sen_integer_panels)(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const size_t size = (w->columns + SEN_GROUP - 1) / SEN_GROUP * (size_t)SEN_GROUP;
    const uint32_t sixteen = 16 * SEN_GROUP;
    const input_groups groups = find_groups(w, x, scratch);
    const uint8_t *data = w->values;
    uint32_t row, k;
    for (row = 0; row < w->rows; row += SEN_PANEL) {
        const uint32_t width = sen_panel_width(w->rows, row);
        uint32x4_t sums[FOURS];
        if (width == SEN_PANEL)
            sum_groups(data, width * SEN_GROUP, &groups, sums, FOURS);
        else
            for (k = 0; k < width / 16; k++)
                sum_groups(data + k * sixteen, width * SEN_GROUP, &groups, sums + 4 * k, 4);
        write_values(w, row, width, sums, y);
        data += size * width;
    }
}

/* sum + the products of sixteen weights with inputs. */
static inline int32x4_t add_products(int32x4_t sum, int8x16_t weights, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, weights, x);
#else
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
    return vpadalq_s16(sum, vmull_high_s8(weights, x));
#endif
}

/* Sums of four rows; inputs less 128 are signed. */
static inline void four_sums(const int8_t *const *rows, const uint8_t *x, uint32_t n, uint32x4_t *sums)
{
    const uint32_t whole = n - n % 16;
    int32x4_t sum[4];
    uint32_t total[4], j;
    int k;
    for (k = 0; k < 4; k++)
        sum[k] = vdupq_n_s32(0);
    for (j = 0; j < whole; j += 16) {
        const int8x16_t value = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x + j), vdupq_n_u8(128)));
        for (k = 0; k < 4; k++)
            sum[k] = add_products(sum[k], vld1q_s8(rows[k] + j), value);
    }
    for (k = 0; k < 4; k++) {
        total[k] = vaddvq_u32(vreinterpretq_u32_s32(sum[k]));
        for (j = whole; j < n; j++)
            total[k] += (uint32_t)(rows[k][j] * (x[j] - 128));
    }
    *sums = vld1q_u32(total);
}

void SEN_NAME(sen_integer_dense)(const sen_integer_weights *w, const uint8_t *x, void *scratch, uint8_t *y)
{
    const int8_t *const values = w->values;
    uint32_t first, row, k;
    (void)scratch;
    for (first = 0; first < w->rows; first += 16) {
        uint32x4_t sums[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
        for (row = first; row < first + 16 && row < w->rows; row += 4) {
            const int8_t *rows[4];
            for (k = 0; k < 4; k++) /* the last row again behind it */
                rows[k] = values + (size_t)(row + k < w->rows ? row + k : w->rows - 1) * w->columns;
            four_sums(rows, x, w->columns, &sums[(row - first) / 4]);
        }
        write_values(w, first, 16, sums, y);
    }
}

#endif
