/* Nanoseconds to load `bytes` (a multiple of 512) once, in 16 sums of vectors; compiled for this processor by bandwidth.py. */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef int64_t vector __attribute__((vector_size(64)));

double load(const vector *data, size_t bytes, unsigned rounds, int64_t *result);

double load(const vector *data, size_t bytes, unsigned rounds, int64_t *result)
{
    vector sum[8] = {{0}};
    struct timespec start, end;
    unsigned round;
    size_t i;
    int k;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    for (round = 0; round < rounds; round++)
        for (i = 0; i < bytes / sizeof *data; i += 8)
            for (k = 0; k < 8; k++)
                sum[k] += data[i + (size_t)k];
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    for (k = 1; k < 8; k++)
        sum[0] += sum[k];
    *result = sum[0][0];
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / rounds;
}
