/* NEON of 64-bit and of 32-bit ARM under one set of names. AArch32 has sixteen registers instead of 32 and lacks some
 * instructions. Its vector instructions take subnormal floats for 0, so results that are exact to the bit, and may be subnormal,
 * come from scalar ones. */
#ifndef SEN_NEON_H
#define SEN_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#if defined(__aarch64__) || defined(__clang__)

/* Sixteen floats from consecutive addresses, behind which `from` moves. */
static inline float32x4x4_t load_16(const float **from)
{
    const float32x4x4_t value = vld1q_f32_x4(*from);
    *from += 16;
    __asm__("" : "+r"(*from)); /* gcc 12 computes an address for each load otherwise */
    return value;
}

/* Eight floats, or 32 bytes, likewise. */
static inline float32x4x2_t load_8(const float **from)
{
    const float32x4x2_t value = {{vld1q_f32(*from), vld1q_f32(*from + 4)}};
    *from += 8;
    return value;
}

static inline int8x16x2_t load_32(const int8_t **from)
{
    const int8x16x2_t value = {{vld1q_s8(*from), vld1q_s8(*from + 16)}};
    *from += 32;
    return value;
}

static inline uint8x16x2_t load_32_unsigned(const uint8_t **from)
{
    const uint8x16x2_t value = vld1q_u8_x2(*from);
    *from += 32;
    __asm__ volatile("" : "+r"(*from) : : "memory"); /* gcc 12 loads all weights first, and spills */
    return value;
}

static inline int32x4x4_t load_sums(const int32_t *from)
{
    return vld1q_s32_x4(from);
}

static inline void store_sums(int32_t *to, int32x4x4_t value)
{
    vst1q_s32_x4(to, value);
}

#else

/* gcc 12 has no such intrinsics. */
static inline float32x4x4_t load_16(const float **from)
{
    float32x4x4_t value;
    __asm__("vldmia %0!, %h1" : "+r"(*from), "=w"(value) : "m"(*(const float(*)[16])*from));
    return value;
}

static inline float32x4x2_t load_8(const float **from)
{
    float32x4x2_t value;
    __asm__("vldmia %0!, %h1" : "+r"(*from), "=w"(value) : "m"(*(const float(*)[8])*from));
    return value;
}

static inline int8x16x2_t load_32(const int8_t **from)
{
    int8x16x2_t value;
    __asm__("vldmia %0!, %h1" : "+r"(*from), "=w"(value) : "m"(*(const int8_t(*)[32])*from));
    return value;
}

static inline uint8x16x2_t load_32_unsigned(const uint8_t **from)
{
    uint8x16x2_t value;
    __asm__("vldmia %0!, %h1" : "+r"(*from), "=w"(value) : "m"(*(const uint8_t(*)[32])*from));
    return value;
}

static inline int32x4x4_t load_sums(const int32_t *from)
{
    int32x4x4_t value;
    __asm__("vldmia %1, %h0" : "=w"(value) : "r"(from), "m"(*(const int32_t(*)[16])from));
    return value;
}

static inline void store_sums(int32_t *to, int32x4x4_t value)
{
    __asm__("vstmia %1, %h2" : "=m"(*(int32_t(*)[16])to) : "r"(to), "w"(value));
}

#endif

#ifdef __aarch64__

/* sum + a times lane `lane` of b. On 32 bits it is rounded twice, as only that takes a lane. */
#define add_lane(sum, a, b, lane) vfmaq_laneq_f32(sum, a, b, lane)

/* Adds lane `lane` of weights times a float to a float, as sen_fused does. gcc 12 copies the lane first. */
#define FUSED_LANE(sum, weights, lane, value)                                                                              \
    __asm__("fmla %s0, %s1, %2.s[" #lane "]" : "+w"(sum) : "w"(value), "w"(weights))

/* The four floats from x[4 index] on. */
static inline float32x4_t load_four_of(const float *x, size_t index)
{
    float32x4_t value; /* gcc 12 shifts the index with an instruction of its own */
    __asm__("ldr %q0, [%1, %2, lsl #4]" : "=w"(value) : "r"(x), "r"(index), "m"(*(const float(*)[1 << 16])x));
    return value;
}

/* Four numbers of float16. */
static inline float32x4_t float_of_f16(uint16x4_t bits)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

/* max(value, 0); 0 for NaN. */
static inline float32x4_t positive_part(float32x4_t value)
{
    return vmaxnmq_f32(value, vdupq_n_f32(0));
}

/* max(max, |value|); if one is NaN, either. */
static inline float32x4_t max_magnitude(float32x4_t max, float32x4_t value)
{
    return vmaxnmq_f32(max, vabsq_f32(value));
}

/* Nearest integers, halves to even, of values up to 2^15; 0 for NaN. */
static inline int16x4_t nearest_integers(float32x4_t value)
{
    return vmovn_s32(vcvtnq_s32_f32(value));
}

#else

static inline float32x4_t float_of_f16(uint16x4_t bits)
{
    float32x4_t value; /* the intrinsic needs a flag that chooses between formats of float16 */
    __asm__("vcvt.f32.f16 %q0, %P1" : "=w"(value) : "w"(bits));
    return value;
}

static inline float32x4_t positive_part(float32x4_t value)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(value), infinity = vdupq_n_u32(0x7F800000);
    return vreinterpretq_f32_u32(vandq_u32(bits, vcltq_u32(vsubq_u32(bits, vdupq_n_u32(1)), infinity)));
}

static inline float32x4_t max_magnitude(float32x4_t max, float32x4_t value)
{
    return vmaxq_f32(max, vabsq_f32(value));
}

static inline int16x4_t nearest_integers(float32x4_t value)
{
    /* added to 1.5 * 2^23, values leave their nearest integers in the low bits */
    return vmovn_s32(vreinterpretq_s32_f32(vaddq_f32(value, vdupq_n_f32(12582912.0f))));
}

/* addend + (scale input_scale) sums of four rows, rounded after each operation; `sums` moves behind them. */
static inline float32x4_t exact_outputs(const float *scale, float input_scale, const int32_t **sums, const float *addend)
{
    float32x4_t value;
    __asm__("vldmia %1!, {s4-s7}\n\tvldmia %2, {s0-s3}\n\tvldmia %3, {s8-s11}\n\tvcvt.f32.s32 q1, q1\n\t"
            "vmul.f32 s0, s0, %4\n\tvmul.f32 s1, s1, %4\n\tvmul.f32 s2, s2, %4\n\tvmul.f32 s3, s3, %4\n\t"
            "vmul.f32 s0, s0, s4\n\tvmul.f32 s1, s1, s5\n\tvmul.f32 s2, s2, s6\n\tvmul.f32 s3, s3, s7\n\t"
            "vadd.f32 s0, s8, s0\n\tvadd.f32 s1, s9, s1\n\tvadd.f32 s2, s10, s2\n\tvadd.f32 s3, s11, s3\n\t"
            "vmov %q0, q0"
            : "=w"(value), "+r"(*sums)
            : "r"(scale), "r"(addend), "t"(input_scale), "m"(*(const float(*)[4])scale),
              "m"(*(const int32_t(*)[4])*sums), "m"(*(const float(*)[4])addend)
            : "q0", "q1", "q2");
    return value;
}

#define add_lane(sum, a, b, lane) vmlaq_lane_f32(sum, a, (lane) < 2 ? vget_low_f32(b) : vget_high_f32(b), (lane)&1)

#define FUSED_LANE(sum, weights, lane, value) sum = sen_fused(vgetq_lane_f32(weights, lane), value, sum)

/* Instructions of AArch64, under their names. */
#define vfmaq_laneq_f32(sum, a, b, lane)                                                                                   \
    vfmaq_f32(sum, a, vdupq_lane_f32((lane) < 2 ? vget_low_f32(b) : vget_high_f32(b), (lane)&1))

static inline float vmaxvq_f32(float32x4_t value)
{
    const float32x2_t half = vpmax_f32(vget_low_f32(value), vget_high_f32(value));
    return vget_lane_f32(vpmax_f32(half, half), 0);
}

static inline uint32_t vmaxvq_u32(uint32x4_t value)
{
    const uint32x2_t half = vpmax_u32(vget_low_u32(value), vget_high_u32(value));
    return vget_lane_u32(vpmax_u32(half, half), 0);
}

static inline float vaddvq_f32(float32x4_t value)
{
    const float32x2_t half = vadd_f32(vget_low_f32(value), vget_high_f32(value));
    return vget_lane_f32(vpadd_f32(half, half), 0);
}

static inline int32_t vaddvq_s32(int32x4_t value)
{
    const int32x2_t half = vadd_s32(vget_low_s32(value), vget_high_s32(value));
    return vget_lane_s32(vpadd_s32(half, half), 0);
}

static inline uint16_t vaddvq_u16(uint16x8_t value)
{
    const uint16x4_t half = vadd_u16(vget_low_u16(value), vget_high_u16(value)), quarter = vpadd_u16(half, half);
    return vget_lane_u16(vpadd_u16(quarter, quarter), 0);
}

static inline int32x4_t vpaddq_s32(int32x4_t a, int32x4_t b)
{
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}

static inline uint8x16_t vpaddq_u8(uint8x16_t a, uint8x16_t b)
{
    return vcombine_u8(vpadd_u8(vget_low_u8(a), vget_high_u8(a)), vpadd_u8(vget_low_u8(b), vget_high_u8(b)));
}

static inline uint32x4_t vpmaxq_u32(uint32x4_t a, uint32x4_t b)
{
    return vcombine_u32(vpmax_u32(vget_low_u32(a), vget_high_u32(a)), vpmax_u32(vget_low_u32(b), vget_high_u32(b)));
}

static inline uint16x8_t vuzp2q_u16(uint16x8_t a, uint16x8_t b)
{
    return vcombine_u16(vshrn_n_u32(vreinterpretq_u32_u16(a), 16), vshrn_n_u32(vreinterpretq_u32_u16(b), 16));
}

static inline uint8x16_t vuzp1q_u8(uint8x16_t a, uint8x16_t b)
{
    return vuzpq_u8(a, b).val[0];
}

static inline uint16x8_t vuzp1q_u16(uint16x8_t a, uint16x8_t b)
{
    return vuzpq_u16(a, b).val[0];
}

static inline uint32x4_t vceqzq_f32(float32x4_t value)
{
    return vceqq_f32(value, vdupq_n_f32(0));
}

static inline int16x8_t vmull_high_s8(int8x16_t a, int8x16_t b)
{
    return vmull_s8(vget_high_s8(a), vget_high_s8(b));
}

static inline int16x8_t vmlal_high_s8(int16x8_t sum, int8x16_t a, int8x16_t b)
{
    return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
}

static inline int32x4_t vaddw_high_s16(int32x4_t sum, int16x8_t value)
{
    return vaddw_s16(sum, vget_high_s16(value));
}

static inline uint32x4_t vaddw_high_u16(uint32x4_t sum, uint16x8_t value)
{
    return vaddw_u16(sum, vget_high_u16(value));
}

static inline uint32_t vaddvq_u32(uint32x4_t value)
{
    const uint32x2_t half = vadd_u32(vget_low_u32(value), vget_high_u32(value));
    return vget_lane_u32(vpadd_u32(half, half), 0);
}

static inline uint16x8_t vmull_high_u8(uint8x16_t a, uint8x16_t b)
{
    return vmull_u8(vget_high_u8(a), vget_high_u8(b));
}

static inline uint16x8_t vmlal_high_u8(uint16x8_t sum, uint8x16_t a, uint8x16_t b)
{
    return vmlal_u8(sum, vget_high_u8(a), vget_high_u8(b));
}

static inline uint16x8_t vmovl_high_u8(uint8x16_t value)
{
    return vmovl_u8(vget_high_u8(value));
}

static inline int16x8_t vqmovn_high_s32(int16x4_t low, int32x4_t value)
{
    return vcombine_s16(low, vqmovn_s32(value));
}

static inline uint8x16_t vqmovun_high_s16(uint8x8_t low, int16x8_t value)
{
    return vcombine_u8(low, vqmovun_s16(value));
}

/* Up to 2^16, beyond which only the sign is right. */
static inline int32x4_t vcvtnq_s32_f32(float32x4_t value)
{
    const float32x4_t limit = vdupq_n_f32(65536), magic = vdupq_n_f32(12582912.0f); /* 1.5 * 2^23 */
    const float32x4_t kept = vminq_f32(vmaxq_f32(value, vnegq_f32(limit)), limit);
    return vsubq_s32(vreinterpretq_s32_f32(vaddq_f32(kept, magic)), vreinterpretq_s32_f32(magic));
}

#endif
#endif
