/* int8 activations on NEON: panels with groups of columns of a row next to each other. NEON multiplies unsigned by unsigned, so
 * an offset is added to each weight: 128, or on pairs the least for its column. Groups of inputs that are all 0 are skipped.
 *
 * Without dot products, two products add up within 16 bits where weights are at most 128. So they are with the least offset in
 * a column whose weights have one sign, as all weights of a source neuron of a spatially embedded network have. */
#include "integer.h"

#if defined(SEN_ISA) && defined(__ARM_NEON)

#include "vector.h"

/* Rows that a product has in registers: sums of four rows in each. */
#define FOURS (SEN_PANEL / 4)

/* Groups that are not all 0, ascending; on pairs those that are not narrow are apart. `excess` is what the offsets of the
 * weights add to every sum. */
typedef struct input_groups {
    const uint16_t *narrow, *narrow_end, *wide, *wide_end;
    uint32_t excess;
} input_groups;

/* Appends the groups from `first` on, of which `kept` has a bit each; writes up to seven words more. */
static inline uint16_t *append(uint16_t *to, uint32_t first, uint32_t kept)
{
    if (kept)
        vst1q_u16(to, vaddw_u8(vdupq_n_u16((uint16_t)first), vld1_u8(sen_set_bits.position[kept])));
    return to + sen_set_bits.count[kept];
}

/* Sixteen inputs. Behind the last group of `kept` values lies anything: another panel would be read for it. */
static inline uint8x16_t load_inputs(const uint8_t *x, uint32_t kept)
{
    const uint8x16_t place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint8x16_t values = vld1q_u8(x);
    return kept >= 16 ? values : vandq_u8(values, vcltq_u8(place, vdupq_n_u8((uint8_t)kept)));
}

static input_groups find_groups(const sen_integer_weights *w, const uint8_t *x, uint16_t *narrow)
{
    const uint32_t n = w->columns, end = (n + SEN_GROUP - 1) / SEN_GROUP * SEN_GROUP;
    uint16_t *const wide = narrow + n / 2 + 8, *narrow_end = narrow, *wide_end = wide;
    uint32x4_t excess = vdupq_n_u32(0);
    input_groups found;
    uint32_t i;
    for (i = 0; i < n; i += 16) {
        const uint8x16_t values = load_inputs(x + i, end - i);
#ifdef __ARM_FEATURE_DOTPROD
        const uint32x4_t bits = {1, 2, 4, 8}, value = vreinterpretq_u32_u8(values);
        narrow_end = append(narrow_end, i / 4, vaddvq_u32(vandq_u32(vtstq_u32(value, value), bits)));
        excess = vdotq_u32(excess, values, vdupq_n_u8(128));
#else
        const uint16x8_t bits = {1, 2, 4, 8, 16, 32, 64, 128}, value = vreinterpretq_u16_u8(values);
        const uint32_t kept = vaddvq_u16(vandq_u16(vtstq_u16(value, value), bits));
        const uint8x16_t offsets = vld1q_u8(w->offsets + i);
        narrow_end = append(narrow_end, i / 2, kept & w->narrow[i / 16]);
        wide_end = append(wide_end, i / 2, kept & ~(uint32_t)w->narrow[i / 16]);
        excess = vpadalq_u16(excess, vmull_u8(vget_low_u8(values), vget_low_u8(offsets)));
        excess = vpadalq_u16(excess, vmull_high_u8(values, offsets));
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

static inline __attribute__((always_inline)) void sum_groups(
    const uint8_t *data, size_t stride, const uint8_t *x, const input_groups *groups, uint32x4_t *sums, const int fours)
{
    const uint16_t *group = groups->narrow;
    uint32x4_t sum[FOURS];
    int k;
    for (k = 0; k < fours; k++)
        sum[k] = vdupq_n_u32(0);
    while (group != groups->narrow_end) {
        const uint32_t g = *group++;
        const uint8_t *from = data + g * stride;
        const uint8x16_t value = vreinterpretq_u8_u32(vld1q_dup_u32((const uint32_t *)(const void *)x + g));
        for (k = 0; k < fours; k += 4) {
            const uint8x16x4_t w = load_64(&from);
            sum[k] = vdotq_u32(sum[k], w.val[0], value);
            sum[k + 1] = vdotq_u32(sum[k + 1], w.val[1], value);
            sum[k + 2] = vdotq_u32(sum[k + 2], w.val[2], value);
            sum[k + 3] = vdotq_u32(sum[k + 3], w.val[3], value);
        }
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
    const uint8_t *data, size_t stride, const uint8_t *x, const input_groups *groups, uint32x4_t *sums, const int fours)
{
    const uint16_t *group = groups->narrow, *const end = groups->narrow_end;
    uint32x4_t sum[FOURS];
    int k;
    for (k = 0; k < fours; k++)
        sum[k] = vdupq_n_u32(0);
    for (; group + 2 <= end; group += 2) {
        const uint8_t *upper = data + group[0] * stride, *lower = data + group[1] * stride;
        const uint8x16_t first = load_pair(x, group[0]), second = load_pair(x, group[1]);
        for (k = 0; k < fours; k += 4) {
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

/* Whether the factors of sixteen rows are below 1/2. */
static inline int are_small(const int32_t *exponent)
{
    const int32x4x4_t value = load_sums(exponent);
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(value.val[0], value.val[1]), vmaxq_s32(value.val[2], value.val[3]))) < 0;
}

/* Sixteen values from `row` on. Factors are small, so the top halves of the doubled products are all that rounding needs. */
static inline uint8x16_t sixteen_values(const sen_integer_weights *w, uint32_t row, uint32_t offset, const uint32x4_t *sums)
{
    const int32x4x4_t bias = load_sums(w->bias + row), multiplier = load_sums(w->multiplier + row);
    const int32x4x4_t exponent = load_sums(w->exponent + row);
    const int16x8_t zero = vdupq_n_s16((int16_t)w->zero);
    int16x4_t four[4];
    int16x8_t low, high;
    int k;
    for (k = 0; k < 4; k++) {
        const int32x4_t correction = vsubq_s32(bias.val[k], vreinterpretq_s32_u32(vdupq_n_u32(offset)));
        const int32x4_t sum = vaddq_s32(vreinterpretq_s32_u32(sums[k]), correction);
        four[k] = vqmovn_s32(vrshlq_s32(vqdmulhq_s32(sum, multiplier.val[k]), exponent.val[k]));
    }
    low = vqaddq_s16(vcombine_s16(four[0], four[1]), zero);
    high = vqaddq_s16(vcombine_s16(four[2], four[3]), zero);
    return vmaxq_u8(vqmovun_high_s16(vqmovun_s16(low), high), vdupq_n_u8((uint8_t)w->low));
}

static void write_values(
    const sen_integer_weights *w, uint32_t row, uint32_t width, uint32_t offset, const uint32x4_t *sums, uint8_t *y)
{
    uint32_t k, i;
    for (k = 0; k < width; k += 16) {
        uint32_t total[16];
        if (are_small(w->exponent + row + k)) {
            vst1q_u8(y + row + k, sixteen_values(w, row + k, offset, sums + k / 4));
            continue;
        }
        for (i = 0; i < 4; i++)
            vst1q_u32(total + 4 * i, sums[k / 4 + i]);
        for (i = 0; i < 16; i++)
            y[row + k + i] = sen_requantize(w, row + k + i, (int32_t)(total[i] - offset));
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
            sum_groups(data, width * SEN_GROUP, x, &groups, sums, FOURS);
        else
            for (k = 0; k < width / 16; k++)
                sum_groups(data + k * sixteen, width * SEN_GROUP, x, &groups, sums + 4 * k, 4);
        write_values(w, row, width, groups.excess, sums, y);
        data += size * width;
    }
}

void SEN_NAME(sen_integer_quantize)(const float *x, uint32_t n, float inverse_scale, int32_t zero, uint8_t *to)
{
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) { /* every step saturates; NaN becomes 0 */
        int16x8_t half[2];
        int k;
        for (k = 0; k < 2; k++) {
            const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 8 * k), inverse_scale));
            const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 8 * k + 4), inverse_scale));
            half[k] = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zeros);
        }
        vst1q_u8(to + i, vqmovun_high_s16(vqmovun_s16(half[0]), half[1]));
    }
    sen_integer_quantize(x + i, n - i, inverse_scale, zero, to + i);
}

/* Lif neurons in vectors of eight. Bounds of membranes, and what stays the same over the steps. */
typedef struct lif_lanes {
    int16x8_t threshold, low, high;
    int16_t decay;
} lif_lanes;

static inline __attribute__((always_inline)) int16x8_t next_membrane(
    const lif_lanes *neuron, const uint32_t reset, int16x8_t u, uint16x8_t fired, int16x8_t current)
{
    const int16x8_t given_up = vandq_s16(vreinterpretq_s16_u16(fired), neuron->threshold);
    if (reset == SEN_RESET_BEFORE_DECAY)
        u = vmaxq_s16(vsubq_s16(u, given_up), neuron->low);
    u = vqrdmulhq_n_s16(u, neuron->decay);
    if (reset == SEN_RESET_ZERO)
        u = vbicq_s16(u, vreinterpretq_s16_u16(fired));
    u = vminq_s16(vmaxq_s16(vaddq_s16(u, current), neuron->low), neuron->high);
    return reset == SEN_RESET_SUBTRACT ? vmaxq_s16(vsubq_s16(u, given_up), neuron->low) : u;
}

/* Sixteen neurons at a time; the number of neurons in whole sixteens. */
static inline __attribute__((always_inline)) uint32_t integrate_sixteens(
    const sen_integer_lif *lif, const uint32_t reset, uint32_t n, const uint8_t *current, const int32_t *factors,
    uint32_t steps, int16_t *membrane, uint8_t *total)
{
    const int16x8_t zero = vdupq_n_s16((int16_t)lif->zero);
    const lif_lanes neuron = {
        vdupq_n_s16((int16_t)lif->threshold), vnegq_s16(zero), vsubq_s16(vdupq_n_s16(255), zero), (int16_t)lif->decay};
    uint32_t i, t;
    int k;
    for (i = 0; i + 16 <= n; i += 16) {
        const uint8x16_t stored = vld1q_u8(current + i);
        const int16x8_t arriving[2] = {
            vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(stored))), zero),
            vsubq_s16(vreinterpretq_s16_u16(vmovl_high_u8(stored)), zero)};
        int16x8_t u[2] = {vld1q_s16(membrane + i), vld1q_s16(membrane + i + 8)};
        int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (t = 0; t < steps; t++) {
            const int16x8_t factor = vdupq_n_s16((int16_t)factors[t]);
            for (k = 0; k < 2; k++) {
                u[k] = next_membrane(&neuron, reset, u[k], vcgtq_s16(u[k], neuron.threshold), arriving[k]);
                sum[k] = vaddq_s16(
                    sum[k], vandq_s16(vreinterpretq_s16_u16(vcgtq_s16(u[k], neuron.threshold)), factor));
            }
        }
        vst1q_s16(membrane + i, u[0]);
        vst1q_s16(membrane + i + 8, u[1]);
        vst1q_u8(total + i, vqmovun_high_s16(vqmovun_s16(sum[0]), sum[1]));
    }
    return i;
}

void SEN_NAME(sen_integer_integrate)(
    const sen_integer_lif *neuron, uint32_t n, const uint8_t *current, const int32_t *factors, uint32_t steps,
    int16_t *membrane, uint8_t *total)
{
    const uint32_t i = SEN_BY_RESET(integrate_sixteens, neuron, n, current, factors, steps, membrane, total);
    sen_integer_integrate(neuron, n - i, current + i, factors, steps, membrane + i, total + i);
}

#endif
