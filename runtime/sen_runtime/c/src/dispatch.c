/* Which kernels this processor can run: asked once, when a model is loaded. */
#include "internal.h"

#ifdef SEN_X86_KERNELS
extern const sen_kernels_table sen_kernels_avx2, sen_kernels_avx512;
#endif
#ifdef SEN_NEON_KERNELS
extern const sen_kernels_table sen_kernels_neon;
#endif

const sen_kernels_table *sen_choose_kernels(unsigned flags)
{
    if (flags & SEN_PLAIN)
        return &sen_kernels_plain;
#ifdef SEN_X86_KERNELS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return &sen_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &sen_kernels_avx2;
#endif
#ifdef SEN_NEON_KERNELS
    return &sen_kernels_neon; /* every 64-bit ARM processor has them */
#else
    return &sen_kernels_plain;
#endif
}
