#define _POSIX_C_SOURCE 200809L
#include "bandwidth.h"

#include <time.h>

/* Sums that a compiler keeps in registers: eight vectors of 16 bytes, or as many as a 32-bit processor has. */
#if UINTPTR_MAX > 0xFFFFFFFFu
#define SUMS 32u
#else
#define SUMS 8u
#endif
#define LEAST_NS 200000.0

#if defined(SEN_SHARED) && defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint32_t sen_bench_read(const void *data, size_t bytes, unsigned rounds)
{
    const uint32_t *values = (const uint32_t *)data;
    const size_t count = bytes / sizeof *values / 32 * 32;
    uint32_t sums[SUMS] = {0}, total = 0;
    unsigned round;
    size_t i, k;
    for (round = 0; round < rounds; round++)
        for (i = 0; i < count; i += SUMS)
            for (k = 0; k < SUMS; k++)
                sums[k] += values[i + k];
    for (k = 0; k < SUMS; k++)
        total += sums[k];
    return total;
}

static double now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

double sen_bench_bandwidth(const void *data, size_t bytes, double seconds)
{
    const double begun = now_ns();
    volatile uint32_t kept = 0; /* so that no read is left out */
    unsigned rounds = 1;
    double best = 0, start, end;
    do {
        start = now_ns();
        kept = kept + sen_bench_read(data, bytes, rounds);
        end = now_ns();
        if (end - start < LEAST_NS && rounds < 1u << 20) /* too short for the clock */
            rounds *= 2;
        else if (end > start && (double)bytes * rounds / (end - start) > best)
            best = (double)bytes * rounds / (end - start);
    } while (best == 0 || end - begun < seconds * 1e9);
    return best;
}
