/* Products of every instruction set; loading a model chooses the ones that this processor supports. */
#include "internal.h"

#ifdef SEN_ISA

#include "vector.h"

int SEN_NAME(sen_is_finite)(const float *x, size_t count);
sen_propagator SEN_NAME(sen_propagate_f32_u8), SEN_NAME(sen_propagate_f32_positions);
sen_propagator SEN_NAME(sen_propagate_i32_u8), SEN_NAME(sen_propagate_i32_positions);
sen_quantizer SEN_NAME(sen_quantize);
sen_nonzero_finder SEN_NAME(sen_nonzero);
sen_integrator SEN_NAME(sen_integrate);
sen_constant_integrator SEN_NAME(sen_integrate_constant);
sen_multiply SEN_NAME(sen_coordinates);
void SEN_NAME(sen_coordinate_panels)(const sen_weights *w, float *panels);
sen_multiply SEN_NAME(sen_dense_f32), SEN_NAME(sen_dense_f16), SEN_NAME(sen_dense_int8), SEN_NAME(sen_panels);
sen_multiply SEN_NAME(sen_source_f32), SEN_NAME(sen_source_1x4_f32), SEN_NAME(sen_source_16x1_f32);
sen_multiply SEN_NAME(sen_source_int8), SEN_NAME(sen_source_1x4_int8), SEN_NAME(sen_source_16x1_int8);
sen_multiply SEN_NAME(sen_quads), SEN_NAME(sen_slices_f32), SEN_NAME(sen_slices_int8);
sen_multiply SEN_NAME(sen_sparse_1x4_f32), SEN_NAME(sen_sparse_8x1_f32), SEN_NAME(sen_sparse_16x1_f32);
sen_multiply SEN_NAME(sen_sparse_16x1_f16), SEN_NAME(sen_sparse_1x4_int8), SEN_NAME(sen_sparse_16x1_int8);

sen_multiply_rows SEN_NAME(sen_panels_rows), SEN_NAME(sen_dense_int8_rows), SEN_NAME(sen_sparse_rows);
int SEN_NAME(sen_panels_alone)(const sen_weights *w, const float *x);
uint32_t SEN_NAME(sen_panels_together)(const sen_weights *w, uint32_t count);
#ifdef __ARM_NEON
int SEN_NAME(sen_sparse_alone)(const sen_weights *w, const float *x);
uint32_t SEN_NAME(sen_sparse_together)(const sen_weights *w, uint32_t count);
#define SPARSE_ROWS SEN_NAME(sen_sparse_rows), 1, SEN_NAME(sen_sparse_alone), SEN_NAME(sen_sparse_together)
#else
#define SPARSE_ROWS SEN_NAME(sen_sparse_rows), 1, NULL, NULL
#endif

#ifdef __ARM_FEATURE_DOTPROD
sen_multiply_rows SEN_NAME(sen_quads_rows);
uint32_t SEN_NAME(sen_quads_together)(const sen_weights *w, uint32_t count);
#endif

static const sen_rows_kernel rows_kernels[] = {
    {SEN_NAME(sen_panels), SEN_NAME(sen_panels_rows), 0, SEN_NAME(sen_panels_alone), SEN_NAME(sen_panels_together)},
#ifdef __ARM_FEATURE_DOTPROD
    {SEN_NAME(sen_quads), SEN_NAME(sen_quads_rows), 0, SEN_NAME(sen_panels_alone), SEN_NAME(sen_quads_together)},
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
    {SEN_NAME(sen_dense_int8), SEN_NAME(sen_dense_int8_rows), 1, NULL, NULL},
#endif
    {sen_sparse_f32, SPARSE_ROWS},
    {SEN_NAME(sen_sparse_1x4_f32), SPARSE_ROWS},
    {sen_sparse_int8, SPARSE_ROWS},
#ifdef __AVX2__
    {SEN_NAME(sen_sparse_1x4_int8), SPARSE_ROWS},
#else
    {SEN_NAME(sen_sparse_16x1_f32), SPARSE_ROWS},
    {sen_sparse_1x4_int8, SPARSE_ROWS},
#endif
    {SEN_NAME(sen_sparse_16x1_int8), SPARSE_ROWS},
    {NULL, NULL, 0, NULL, NULL},
};

sen_integer_quantizer SEN_NAME(sen_integer_quantize);
sen_integer_integrator SEN_NAME(sen_integer_integrate);
sen_integer_multiply SEN_NAME(sen_integer_dense), SEN_NAME(sen_integer_panels);

static const sen_integer_kernels integer = {
#if defined(__ARM_NEON) || defined(__AVX2__)
    .quantize = SEN_NAME(sen_integer_quantize),
    .integrate = SEN_NAME(sen_integer_integrate),
    .dense = SEN_NAME(sen_integer_dense),
#else
    .quantize = sen_integer_quantize,
    .integrate = sen_integer_integrate,
    .dense = sen_integer_dense,
#endif
#ifdef __ARM_NEON
    .dense_zero = 128,
    .panels = SEN_NAME(sen_integer_panels),
    .group = SEN_GROUP,
    .offset = 128,
    .has_offsets = SEN_GROUP == 2,
#elif defined(__AVX512VNNI__)
    .panels = SEN_NAME(sen_integer_panels),
    .group = 4,
#endif
};

#define SEN_TEXT(name) SEN_TEXT_OF(name)
#define SEN_TEXT_OF(name) #name

extern const sen_isa SEN_NAME(sen_isa);
const sen_isa SEN_NAME(sen_isa) = {
    .kernels =
        {SEN_TEXT(SEN_ISA), SEN_NAME(sen_quantize), SEN_NAME(sen_nonzero), SEN_NAME(sen_integrate),
         SEN_NAME(sen_integrate_constant), sen_integrate_each},
    .integer = &integer,
#ifndef __ARM_NEON
    .is_finite = sen_is_finite,
#endif
    .coordinates = SEN_NAME(sen_coordinates),
    .coordinate_panels = SEN_NAME(sen_coordinate_panels),
    .dense_f32 = SEN_NAME(sen_dense_f32),
    .dense_f16 = SEN_NAME(sen_dense_f16),
    .dense_int8 = SEN_NAME(sen_dense_int8),
    .panels = SEN_NAME(sen_panels),
#ifdef __ARM_NEON
    .is_finite = SEN_NAME(sen_is_finite),
    .group = SEN_GROUP,
    .quads_use = SEN_USES_INT8 | SEN_USES_GROUPS,
    .max_scattered = 2u << 20,
    .sources =
        {{SEN_FLOAT32, 1, 1, 16, 155, SEN_NAME(sen_source_f32)},
         {SEN_FLOAT32, 1, 4, 6, 130, SEN_NAME(sen_source_1x4_f32)},
         {SEN_FLOAT32, 16, 1, 0, 45, SEN_NAME(sen_source_16x1_f32)},
         {SEN_INT8, 1, 1, 12 * SEN_GROUP, SEN_GROUP == 4 ? 490 : 210, SEN_NAME(sen_source_int8)},
         {SEN_INT8, 1, 4, 4 * SEN_GROUP, 185, SEN_NAME(sen_source_1x4_int8)},
         {SEN_INT8, 16, 1, 0, 40, SEN_NAME(sen_source_16x1_int8)}},
    .quads = SEN_NAME(sen_quads),
#endif
#ifdef __AVX512VNNI__
    .group = 4,
    .offset = 128,
    .quads_use = SEN_USES_INT8,
    .quads = SEN_NAME(sen_quads),
    .slices_f32 = SEN_NAME(sen_slices_f32),
    .slices_int8 = SEN_NAME(sen_slices_int8),
#endif
    .sparse_f32 = sen_sparse_f32,
    .sparse_1x4_f32 = SEN_NAME(sen_sparse_1x4_f32),
    .sparse_8x1_f32 = SEN_NAME(sen_sparse_8x1_f32),
    .sparse_16x1_f32 = SEN_NAME(sen_sparse_16x1_f32),
    .sparse_16x1_f16 = SEN_NAME(sen_sparse_16x1_f16),
    .sparse_int8 = sen_sparse_int8,
#ifdef __AVX2__
    .sparse_1x4_int8 = SEN_NAME(sen_sparse_1x4_int8),
#else
    .sparse_1x4_int8 = sen_sparse_1x4_int8,
#endif
    .sparse_16x1_int8 = SEN_NAME(sen_sparse_16x1_int8),
    .rows_kernels = rows_kernels,
#ifdef __aarch64__
    .table_f32 = SEN_NAME(sen_propagate_f32_u8),
    .table_i32 = SEN_NAME(sen_propagate_i32_u8),
    .positions_f32 = SEN_NAME(sen_propagate_f32_positions),
    .positions_i32 = SEN_NAME(sen_propagate_i32_positions),
#endif
};

#else

static const sen_integer_kernels integer = {
    .quantize = sen_integer_quantize, .integrate = sen_integer_integrate, .dense = sen_integer_dense};

const sen_isa sen_isa_reference = {
    .kernels = {"reference", sen_quantize, sen_nonzero, sen_integrate, sen_integrate_constant, sen_integrate_each},
    .integer = &integer,
    .is_finite = sen_is_finite,
    .dense_f32 = sen_dense_reference,
    .dense_f16 = sen_dense_reference,
    .dense_int8 = sen_dense_int8_reference,
    .panels = sen_panels,
};

#define SEN_PORTABLE_KERNEL(dtype, rows, columns, member, portable) .member = portable,

static const sen_isa portable = {
    .kernels = {"portable", sen_quantize, sen_nonzero, sen_integrate, sen_integrate_constant, sen_integrate_each},
    .integer = &integer,
    .is_finite = sen_is_finite,
    .dense_f32 = sen_dense_f32,
    .dense_f16 = sen_dense_reference,
    .dense_int8 = sen_dense_int8,
    .panels = sen_panels,
    SEN_SPARSE_KERNELS(SEN_PORTABLE_KERNEL)};

#ifdef SEN_X86_KERNELS
extern const sen_isa sen_isa_avx2, sen_isa_avx512;

#include <cpuid.h>

/* Whether the processor has these features of leaf 7 and FMA, and the system saves these registers. Not by
 * __builtin_cpu_supports, whose answer comes from the compiler's run-time library: zig's is always no. */
static int has_features(unsigned features_ebx, unsigned features_ecx, unsigned registers)
{
    unsigned eax, ebx, ecx, edx;
    const unsigned fma_osxsave = 1u << 12 | 1u << 27;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & fma_osxsave) != fma_osxsave)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    if ((ebx & features_ebx) != features_ebx || (ecx & features_ecx) != features_ecx)
        return 0;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (eax & registers) == registers;
}

static int has_avx2(void)
{
    return has_features(1u << 5, 0, 0x06); /* AVX2; xmm, ymm */
}

static int has_avx512(void)
{
    /* F, BW, VL; VBMI, VNNI; xmm, ymm, masks, zmm */
    return has_features(1u << 16 | 1u << 30 | 1u << 31, 1u << 1 | 1u << 11, 0xE6);
}
#endif

#ifdef SEN_NEON_KERNELS
#ifdef __linux__
#include <sys/auxv.h>

static int has_features(unsigned long features)
{
    return (getauxval(AT_HWCAP) & features) == features;
}
#endif

extern const sen_isa sen_isa_neon;
#ifdef __aarch64__
extern const sen_isa sen_isa_neon_dotprod;

static int has_dotprod(void)
{
#if defined(__linux__)
    return has_features(1ul << 20); /* HWCAP_ASIMDDP */
#elif defined(__ARM_FEATURE_DOTPROD)
    return 1;
#else
    return 0;
#endif
}
#endif
#endif

const sen_isa *sen_choose_isa(unsigned flags)
{
    if (flags & SEN_REFERENCE)
        return &sen_isa_reference;
    if (flags & SEN_PORTABLE)
        return &portable;
#ifdef SEN_X86_KERNELS
    if (!(flags & SEN_NARROW) && has_avx512())
        return &sen_isa_avx512;
    if (has_avx2())
        return &sen_isa_avx2;
#endif
#if defined(SEN_NEON_KERNELS) && defined(__aarch64__)
    if (!(flags & SEN_NARROW) && has_dotprod())
        return &sen_isa_neon_dotprod;
    return &sen_isa_neon; /* every 64-bit ARM processor has them */
#elif defined(SEN_NEON_KERNELS)
    return has_features(1ul << 12 | 1ul << 16) ? &sen_isa_neon : &portable; /* HWCAP_NEON, HWCAP_VFPv4 */
#else
    return &portable;
#endif
}

#endif
