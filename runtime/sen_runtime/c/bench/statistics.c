/* What samples say: a summary, a histogram, and how sure a ratio is. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESAMPLES 1000u
#define NORMAL_QUANTILE 1.959963984540054 /* of CONFIDENCE */
/* The middle four fifths of the samples have at least this share of a histogram's width. */
#define LEAST_BULK 0.1
/* With fewer loads than these nothing is known of how loads differ. */
#define LEAST_LOADS 4u

int bench_ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A percentile of sorted values, between two of them in proportion. */
static double percentile(const double *sorted, size_t count, double percent)
{
    const double at = percent / 100 * (double)(count - 1);
    const size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

/* The value that would be at `k` if all were sorted: C. A. R. Hoare, "Algorithm 65: Find", 1961. */
static double select_value(double *values, size_t count, size_t k)
{
    size_t low = 0, high = count - 1;
    while (low < high) {
        const double pivot = values[k];
        size_t i = low, j = high + 1; /* j is one more than in the algorithm: it is never below 0 */
        while (i < j) {
            while (values[i] < pivot)
                i++;
            while (pivot < values[j - 1])
                j--;
            if (i < j) {
                const double swapped = values[i];
                values[i++] = values[j - 1];
                values[--j] = swapped;
            }
        }
        if (j <= k)
            low = i;
        if (k < i)
            high = j - 1;
    }
    return values[k];
}

double bench_median(double *values, size_t count)
{
    const double upper = select_value(values, count, count / 2);
    double lower;
    size_t i;
    if (count % 2)
        return upper;
    lower = values[0]; /* what is below count / 2 is no greater now */
    for (i = 1; i < count / 2; i++)
        lower = values[i] > lower ? values[i] : lower;
    return (lower + upper) / 2;
}

int bench_summarize(bench_summary *summary, const double *values, size_t count)
{
    double *sorted = malloc(count * sizeof *sorted);
    double sum = 0;
    size_t i;
    if (!sorted)
        return 0;
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, bench_ascending);
    for (i = 0; i < count; i++)
        sum += sorted[i];
    summary->min = sorted[0];
    summary->median = percentile(sorted, count, 50);
    summary->mean = sum / (double)count;
    summary->p10 = percentile(sorted, count, 10);
    summary->p90 = percentile(sorted, count, 90);
    summary->p95 = percentile(sorted, count, 95);
    summary->p99 = percentile(sorted, count, 99);
    summary->p99_5 = percentile(sorted, count, 99.5);
    summary->p99_9 = percentile(sorted, count, 99.9);
    for (i = 0; i < count; i++)
        sorted[i] = fabs(sorted[i] - summary->median);
    summary->mad = bench_median(sorted, count);
    free(sorted);
    return 1;
}

size_t bench_histogram(const bench_list *samples, const bench_summary *summary, double *edges, size_t *counts)
{
    const double ends[] = {summary->p99_5, summary->p99, summary->p95, summary->p90}, low = summary->min;
    const double most = (summary->p90 - summary->p10) / LEAST_BULK;
    const double end = *ends - low <= most ? *ends : ends[1] - low <= most ? ends[1] : ends[2] - low <= most ? ends[2] : ends[3];
    const double wanted = ceil(sqrt((double)samples->count));
    const size_t bins = wanted < BINS ? (size_t)wanted : BINS;
    const double width = end > low ? (end - low) / (double)bins : low * 1e-12 + 1e-12;
    size_t i;
    memset(counts, 0, BINS * sizeof *counts);
    for (i = 0; i <= bins; i++)
        edges[i] = i == bins && end > low ? end : low + (double)i * width;
    for (i = 0; i < samples->count; i++) {
        const double at = (samples->values[i] - low) / width;
        if (samples->values[i] <= end)
            counts[at < (double)(bins - 1) ? (size_t)at : bins - 1]++;
    }
    return bins;
}

/* Of an interval of percentiles over few groups: Student's quantile for the normal one, n for n - 1 (T. Hesterberg, "What
 * Teachers Should Know About the Bootstrap", 2015; the quantile by Abramowitz and Stegun, 26.7.5). */
static double widening(size_t groups)
{
    const double n = (double)groups - 1, z = NORMAL_QUANTILE;
    const double t = z + (pow(z, 3) + z) / (4 * n) + (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * n * n);
    return groups < LEAST_LOADS ? 1 : t / z * sqrt((double)groups / n);
}

/* The ratio of a round, and the group of rounds that it is of. */
typedef struct paired {
    double ratio;
    size_t group;
} paired;

static int by_ratio(const void *a, const void *b)
{
    return bench_ascending(&((const paired *)a)->ratio, &((const paired *)b)->ratio);
}

/* Where each group of rounds ends. What the rounds of a group share is drawn as often as there are groups: where models lie
 * in memory, which each load changes, or, of few loads, the machine's state, which changes in the course of a run. */
static size_t make_groups(size_t *ends, size_t total, const bench_list *loads)
{
    const size_t length = (size_t)ceil(sqrt((double)total));
    size_t count = 0, end = 0, i;
    if (loads->count < LEAST_LOADS) {
        for (end = length; end < total; end += length)
            ends[count++] = end;
        ends[count++] = total;
        return count;
    }
    for (i = 0; i < loads->count; i++) {
        end += (size_t)loads->values[i];
        if (loads->values[i] > 0)
            ends[count++] = end;
    }
    return count;
}

/* Median of all rounds of groups drawn anew; `drawn` [groups] is scratch. */
static double resampled_median(const paired *sorted, size_t total, const size_t *ends, size_t groups, size_t *drawn, bench_random *random)
{
    size_t weight = 0, passed = 0, i;
    memset(drawn, 0, groups * sizeof *drawn);
    for (i = 0; i < groups; i++) {
        const size_t group = (size_t)(bench_draw(random) % groups);
        drawn[group]++;
        weight += ends[group] - (group ? ends[group - 1] : 0);
    }
    for (i = 0; i + 1 < total; i++) {
        passed += drawn[sorted[i].group];
        if (2 * passed >= weight)
            break;
    }
    return sorted[i].ratio;
}

/* A cluster bootstrap: A. Davison and D. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8. */
static void interval(bench_ratio *found, paired *rounds, size_t total, size_t *ends, size_t groups, uint64_t seed)
{
    const double tail = 50 * (1 - CONFIDENCE), wider = widening(groups);
    size_t *drawn = ends + total;
    bench_random random = bench_seeded(seed, 2);
    double medians[RESAMPLES], middle;
    size_t i;
    qsort(rounds, total, sizeof *rounds, by_ratio);
    for (i = 0; i < RESAMPLES; i++)
        medians[i] = resampled_median(rounds, total, ends, groups, drawn, &random);
    qsort(medians, RESAMPLES, sizeof *medians, bench_ascending);
    middle = log((rounds[(total - 1) / 2].ratio + rounds[total / 2].ratio) / 2);
    found->median = exp(middle);
    /* Of few rounds even these percentiles can lie on one side of the median. */
    found->low = exp(middle - wider * fmax(0, middle - log(percentile(medians, RESAMPLES, tail))));
    found->high = exp(middle + wider * fmax(0, log(percentile(medians, RESAMPLES, 100 - tail)) - middle));
}

int bench_compare_turns(bench_ratio *ratio, const bench_list *turns, const bench_list *first, const bench_list *loads, uint64_t seed)
{
    const size_t total = turns->count;
    paired *rounds = malloc(total * sizeof *rounds);
    size_t *ends = malloc(2 * total * sizeof *ends); /* and as many draws */
    const int has_memory = rounds && ends;
    size_t i, group = 0;
    if (has_memory) {
        const size_t groups = make_groups(ends, total, loads);
        for (i = 0; i < total; i++) {
            group += i == ends[group];
            rounds[i].ratio = turns->values[i] / first->values[i];
            rounds[i].group = group;
        }
        interval(ratio, rounds, total, ends, groups, seed);
    }
    free(rounds);
    free(ends);
    return has_memory;
}
