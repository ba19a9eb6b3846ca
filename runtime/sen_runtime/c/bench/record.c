/* The record of a run as JSON: docs/reference/bench.md says what each member means. */
#include "bench.h"

#include <math.h>
#include <string.h>
#include <time.h>

static void write_head(json *out, const bench_run *run)
{
    const struct tm *utc = gmtime(&run->began);
    char created[BENCH_TEXT] = "1970-01-01T00:00:00Z";
    int i;
    if (utc)
        (void)strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", utc);
    json_text(out, "schema", BENCH_SCHEMA);
    json_text(out, "created", created);
    json_object(out, "tool");
    json_text(out, "name", "sen_bench");
    json_text(out, "version", BENCH_VERSION);
    json_end(out);
    json_array(out, "command");
    for (i = 0; i < run->options->argc; i++)
        json_text(out, NULL, run->options->argv[i]);
    json_end(out);
    json_text(out, "status", run->is_complete ? "complete" : "interrupted");
}

int bench_is_right(const bench_run *run)
{
    size_t i;
    for (i = 0; i < run->n_rows; i++)
        if (!run->rows[i].matches)
            return 0;
    return 1;
}

const char *bench_compared_with(const bench_run *run, const bench_row *row)
{
    return run->rows + row->to == row ? "reference" : run->rows[row->to].name;
}

static void write_validity(json *out, const bench_run *run)
{
    char sentence[4 * BENCH_TEXT];
    size_t i;
    int k;
    json_bool(out, "valid", bench_is_right(run) && !run->n_slowed);
    json_array(out, "invalid_because");
    for (i = 0; i < run->n_rows; i++)
        if (!run->rows[i].matches) {
            (void)snprintf(
                sentence, sizeof sentence, run->rows[i].is_finite ? "%s: its outputs are not those of %s"
                                                                  : "%s: its outputs, or those of %s, are not finite",
                run->rows[i].name, bench_compared_with(run, run->rows + i));
            json_text(out, NULL, sentence);
        }
    for (k = 0; k < run->n_slowed; k++)
        json_text(out, NULL, run->slowed[k]);
    json_end(out);
}

static void write_settings(json *out, const bench_run *run)
{
    const bench_options *options = run->options;
    size_t i;
    json_object(out, "settings");
    json_number(out, "seconds", options->seconds);
    json_integer(out, "seed", (int64_t)options->seed);
    json_text(out, "inputs", options->is_cold ? "cold-cache" : options->inputs ? "data" : "random");
    json_integer(out, "n_inputs", (int64_t)run->inputs.n);
    if (options->cpu < 0) {
        json_null(out, "cpus");
    } else {
        json_flat_array(out, "cpus");
        json_integer(out, NULL, options->cpu);
        json_end(out);
    }
    json_bool(out, "cpus_verified", run->cpus_verified);
    json_integer(out, "turn_ns", TURN_NS);
    json_flat_array(out, "loads");
    for (i = 0; i < run->loads.count; i++)
        json_integer(out, NULL, (int64_t)run->loads.values[i]);
    json_end(out);
    json_end(out);
    json_object(out, "clock");
    json_number(out, "resolution_ns", run->clock.resolution_ns);
    json_number(out, "timer_ns", run->clock.timer_ns);
    json_number(out, "loop_ns", run->clock.loop_ns);
    json_end(out);
}

static void write_latency(json *out, const bench_summary *found)
{
    json_object(out, "latency_us");
    json_number(out, "min", found->min);
    json_number(out, "median", found->median);
    json_number(out, "mean", found->mean);
    json_number(out, "mad", found->mad);
    json_number(out, "p90", found->p90);
    json_number(out, "p95", found->p95);
    json_number(out, "p99", found->p99);
    json_number(out, "p99_9", found->p99_9);
    json_end(out);
}

/* What a row is beside the first one. */
static void write_comparison(json *out, const bench_run *run, const bench_row *row)
{
    const int is_first = row == run->rows;
    if (is_first || !(row->ratio.median > 0)) {
        json_null(out, "ratio");
    } else {
        json_object(out, "ratio");
        json_text(out, "to", run->rows->name);
        json_number(out, "median", row->ratio.median);
        json_number(out, "low", row->ratio.low);
        json_number(out, "high", row->ratio.high);
        json_number(out, "confidence", CONFIDENCE);
        json_end(out);
    }
    json_object(out, "agreement");
    json_text(out, "to", bench_compared_with(run, row));
    json_integer(out, "inputs", (int64_t)run->inputs.n);
    json_number(out, "max_error", row->is_finite ? row->max_error : (double)NAN);
    json_number(out, "max_error_over_std", row->is_finite ? row->error_over_std : (double)NAN);
    json_number(out, "argmax_percent", row->argmax_percent);
    json_bool(out, "matches", row->matches);
    json_end(out);
}

/* What the C library does not tell of an image, and what others measure. */
static void write_unknown(json *out)
{
    static const char *const names[] = {
        "call_us", "accuracy_percent", "macs", "nnz", "weight_bytes", "bytes_per_ns", "share_of_l2", "share_of_memory",
        "energy_uj"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        json_null(out, names[i]);
}

static void write_histogram(json *out, const bench_row *row)
{
    double edges[BINS + 1];
    size_t counts[BINS], i;
    const size_t bins = bench_histogram(&row->samples_us, &row->summary, edges, counts);
    json_object(out, "histogram");
    json_flat_array(out, "edges_us");
    for (i = 0; i <= bins; i++)
        json_number(out, NULL, edges[i]);
    json_end(out);
    json_flat_array(out, "counts");
    for (i = 0; i < bins; i++)
        json_integer(out, NULL, (int64_t)counts[i]);
    json_end(out);
    json_end(out);
}

/* At most `most` values, spread evenly, the first and the last among them. */
static void write_values(json *out, const char *key, const bench_list *list, size_t most)
{
    const size_t count = list->count < most ? list->count : most;
    size_t i;
    json_flat_array(out, key);
    for (i = 0; i < count; i++)
        json_number(out, NULL, list->values[count < 2 ? 0 : (size_t)((uint64_t)i * (list->count - 1) / (count - 1))]);
    json_end(out);
}

static void write_row(json *out, const bench_run *run, const bench_row *row)
{
    json_object(out, NULL);
    json_text(out, "name", row->name);
    json_text(out, "file", row->file);
    json_text(out, "sha256", row->sha256);
    json_integer(out, "bytes", (int64_t)row->bytes);
    json_text(out, "engine", "native");
    json_text(out, "engine_version", BENCH_VERSION);
    json_text(out, "kernels", row->kernels);
    json_integer(out, "threads", 1);
    json_integer(out, "n_in", row->n_in);
    json_integer(out, "n_out", row->n_out);
    json_integer(out, "timesteps", row->timesteps);
    json_number(out, "load_us", row->load_us);
    json_number(out, "first_us", row->first_us);
    json_integer(out, "calls_per_sample", (int64_t)row->calls);
    json_integer(out, "n_samples", (int64_t)row->samples_us.count);
    write_latency(out, &row->summary);
    if (row->timesteps)
        json_number(out, "step_us", row->summary.median / row->timesteps);
    else
        json_null(out, "step_us");
    json_number(out, "throughput_per_s", 1e6 / row->summary.mean);
    write_comparison(out, run, row);
    write_unknown(out);
    if (row->rss_growth < 0)
        json_null(out, "rss_growth_bytes");
    else
        json_integer(out, "rss_growth_bytes", row->rss_growth);
    json_integer(out, "arena_bytes", (int64_t)row->arena_bytes);
    json_array(out, "warnings");
    bench_write_warnings(out, run, row);
    json_end(out);
    write_histogram(out, row);
    if (run->options->is_raw)
        write_values(out, "samples_us", &row->samples_us, row->samples_us.count);
    write_values(out, "turns_us", &row->turns_us, MOST_TURNS);
    json_end(out);
}

void bench_write_record(FILE *file, const bench_run *run)
{
    json out = {file, 0, {0}, {0}, {0}};
    size_t i;
    int k;
    json_object(&out, NULL);
    write_head(&out, run);
    write_validity(&out, run);
    write_settings(&out, run);
    json_object(&out, "device");
    bench_write_device(&out, "");
    bench_write_state(&out, "before", &run->before);
    bench_write_state(&out, "after", &run->after);
    json_array(&out, "throttled_during");
    for (k = 0; k < run->n_slowed; k++)
        json_text(&out, NULL, run->slowed[k]);
    json_end(&out);
    json_end(&out);
    json_object(&out, "bandwidth");
    json_number(&out, "l2_bytes_per_ns", run->l2_bytes_per_ns);
    json_number(&out, "memory_bytes_per_ns", run->memory_bytes_per_ns);
    json_end(&out);
    json_array(&out, "rows");
    for (i = 0; i < run->n_rows; i++)
        write_row(&out, run, run->rows + i);
    json_end(&out);
    json_null(&out, "sustained");
    json_null(&out, "energy");
    json_end(&out);
}
