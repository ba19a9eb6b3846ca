/* Baseline for sen-runtime bench: latency of a call in ns, measured by a loop in C. */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <time.h>

typedef int (*run_function)(void *model, const float *x, float *y);

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

/* Returns the mean latency of `calls` calls that cycle through the rows of x `[rows, n_in]`. */
double loop_ns(run_function run, void *model, const float *x, float *y, size_t n_in, size_t rows, size_t calls)
{
    size_t call;
    double start = now_ns();
    for (call = 0; call < calls; call++)
        run(model, x + call % rows * n_in, y);
    return (now_ns() - start) / (double)calls;
}
