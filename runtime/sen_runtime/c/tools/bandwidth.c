/* How fast this processor loads from its caches and from memory: the roof over every product with weights. The library that
 * Python loads has a version for each width of x86's vectors; sen_bench runs on every processor of its kind, and where vectors
 * are wider than those that all of them have (AVX), loads are faster still. */
#define _POSIX_C_SOURCE 200809L
#include "recorder.h"

#include <time.h>

/* Sums that a compiler keeps in registers: eight vectors of 16 bytes, or as many as a 32-bit processor has. */
#define SUMS (UINTPTR_MAX > 0xFFFFFFFFu ? 32 : 8)
#define MIN_NS 200000 /* less is too short for the clock */

int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if defined(SEN_SHARED) && defined(__GLIBC__) && defined(__x86_64__) && !defined(__ILP32__) /* musl cannot choose at load time */
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint32_t sen_bench_read(const void *data, size_t bytes, unsigned rounds)
{
    const uint32_t *values = (const uint32_t *)data;
    const size_t count = bytes / sizeof *values / 32 * 32;
    uint32_t sums[SUMS] = {0}, total = 0;
    for (unsigned round = 0; round < rounds; round++)
        for (size_t i = 0; i < count; i += SUMS)
            for (size_t k = 0; k < SUMS; k++)
                sums[k] += values[i + k];
    for (size_t k = 0; k < SUMS; k++)
        total += sums[k];
    return total;
}

double sen_bench_bandwidth(const void *data, size_t bytes, double seconds)
{
    const int64_t begin = now_ns();
    volatile uint32_t kept = 0; /* so that no read is left out */
    unsigned rounds = 1;
    double best = 0;
    int64_t end = begin;
    while (best == 0 || (double)(end - begin) < seconds * 1e9) {
        const int64_t start = now_ns();
        kept = kept + sen_bench_read(data, bytes, rounds);
        end = now_ns();
        const double speed = (double)bytes * rounds / (double)(end - start);
        if (end - start < MIN_NS && rounds < 1u << 20)
            rounds *= 2;
        else if (end > start && speed > best)
            best = speed;
    }
    return best;
}
