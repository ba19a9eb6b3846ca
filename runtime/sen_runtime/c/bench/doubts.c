/* What a reader should know before trusting the figures of a row. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Fewer samples or rounds say little about percentiles and intervals. */
#define LEAST_SAMPLES 1000u
#define LEAST_ROUNDS 50u
/* Samples that take more than so many times the median, and the share of them that is worth a word. */
#define OUTLIER_TIMES 1.5
#define OUTLIERS 0.01
/* Change of the median from the first to the last third of a run. */
#define TREND 0.05
/* Otsu's measure of two groups: 0.64 for a normal distribution, 0.75 for a uniform one, 1 for two values. Both groups must be
 * of that share, and that far apart. */
#define BIMODAL 0.85
#define LEAST_GROUP 0.1
#define LEAST_DISTANCE 0.05
/* From so many loads on it is known well how loads differ. */
#define ENOUGH_LOADS 8u

static void warn(json *out, const char *kind, const char *format, ...)
{
    char text[2 * BENCH_TEXT];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_object(out, NULL);
    json_text(out, "kind", kind);
    json_text(out, "message", text);
    json_end(out);
}

/* Logarithms of the two groups that sorted logarithms fall into, if they do: N. Otsu, 1979. */
static int two_groups(const double *values, size_t n, double *low, double *high)
{
    double total = 0, squares = 0, sum = 0, best = 0, variance;
    size_t i, cut = 0;
    for (i = 0; i < n; i++)
        total += values[i];
    for (i = 0; i < n; i++)
        squares += (values[i] - total / (double)n) * (values[i] - total / (double)n);
    variance = squares / (double)n;
    for (i = 1; i < n; i++) {
        const double share = (double)i / (double)n;
        double between;
        sum += values[i - 1];
        between = sum / (double)i - (total - sum) / (double)(n - i);
        between *= between * share * (1 - share);
        if (between > best) {
            best = between;
            cut = i;
            *low = sum / (double)i;
            *high = (total - sum) / (double)(n - i);
        }
    }
    return variance > 0 && best >= BIMODAL * variance && (double)cut >= LEAST_GROUP * (double)n
        && (double)(n - cut) >= LEAST_GROUP * (double)n && *high - *low >= LEAST_DISTANCE;
}

static void warn_groups(json *out, const bench_list *turns)
{
    double *sorted = malloc(turns->count * sizeof *sorted), low = 0, high = 0;
    const size_t kept = turns->count - turns->count / 20; /* the slowest are outliers, which have a warning of their own */
    size_t i;
    if (sorted) {
        for (i = 0; i < turns->count; i++)
            sorted[i] = log(turns->values[i]);
        qsort(sorted, turns->count, sizeof *sorted, bench_ascending);
        if (kept >= LEAST_ROUNDS && two_groups(sorted, kept, &low, &high))
            warn(out, "bimodal", "two speeds: turns of about %.4g us and of about %.4g us", exp(low), exp(high));
    }
    free(sorted);
}

static void warn_trend(json *out, const bench_list *turns)
{
    const size_t third = turns->count / 3;
    double *part = malloc((third + 1) * sizeof *part);
    if (part && third) {
        double first, change;
        memcpy(part, turns->values, third * sizeof *part);
        first = bench_median(part, third);
        memcpy(part, turns->values + turns->count - third, third * sizeof *part);
        change = bench_median(part, third) / first - 1;
        if (fabs(change) > TREND)
            warn(
                out, "trend", "the last third of the run was %.1f%% %s than the first", 100 * fabs(change),
                change > 0 ? "slower" : "faster");
    }
    free(part);
}

void bench_write_warnings(json *out, const bench_run *run, const bench_row *row)
{
    const bench_list *samples = &row->samples_us;
    size_t beyond = 0, i;
    for (i = 0; i < samples->count; i++)
        beyond += samples->values[i] > OUTLIER_TIMES * row->summary.median;
    if (samples->count < LEAST_SAMPLES || row->turns_us.count < LEAST_ROUNDS)
        warn(
            out, "few-samples", "%lu samples in %lu rounds: measure longer", (unsigned long)samples->count,
            (unsigned long)row->turns_us.count);
    if (run->loads.count < ENOUGH_LOADS)
        warn(
            out, "few-loads",
            "models were loaded %lu times: how much it matters where they lie in memory is hardly in the interval; measure longer",
            (unsigned long)run->loads.count);
    if ((double)beyond > OUTLIERS * (double)samples->count)
        warn(
            out, "outliers", "%.1f%% of the samples took more than %g times the median",
            100 * (double)beyond / (double)samples->count, OUTLIER_TIMES);
    warn_groups(out, &row->turns_us);
    warn_trend(out, &row->turns_us);
    if (run->sweep_is_small)
        warn(
            out, "cold-cache-small",
            "what is read ahead of an inference does not fill the last-level cache: some of it stays warm");
}
