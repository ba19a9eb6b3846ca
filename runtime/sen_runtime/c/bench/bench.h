/* What the files of sen_bench share. It measures .sen images as `sen-runtime bench` does, and writes the same record, where
 * there is no Python. Times are in nanoseconds or, where a name says so, in microseconds. */
#ifndef SEN_BENCH_H
#define SEN_BENCH_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "json.h"
#include "sen.h"

#define BENCH_VERSION "0.1.0"
#define BENCH_SCHEMA "sen-edge/bench/1"

/* What files of the kernel may be long; longer text is cut. */
#define BENCH_TEXT 256

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_WRONG = 3, EXIT_INTERRUPTED = 130 };

/* A turn lasts about this long: far above the clock's resolution, far below a scheduler's patience. */
#define TURN_NS 1000000
/* Different inputs that take turns. */
#define MOST_INPUTS 64u
/* Of the record; more turns are measured and an even choice of them is kept. */
#define MOST_TURNS 2000u
#define CONFIDENCE 0.95
#define BINS 60u

/* What the command line says. */
typedef struct bench_options {
    char **files;
    size_t n_files;
    double seconds;
    uint64_t seed;
    long cpu; /* -1: any */
    unsigned kernels; /* a flag of sen.h */
    const char *json, *inputs; /* null: none */
    int is_cold, is_raw, allows_throttled, replaces;
    int argc;
    char **argv;
} bench_options;

/* Numbers that look random: xorshift64*, G. Marsaglia and S. Vigna. */
typedef struct bench_random {
    uint64_t state;
} bench_random;

/* Memory whose use starts at a multiple of SEN_ALIGNMENT. */
typedef struct bench_block {
    void *memory;
    uint8_t *start;
    size_t size;
} bench_block;

/* Numbers that become more. */
typedef struct bench_list {
    double *values;
    size_t count, room;
} bench_list;

typedef struct bench_summary {
    double min, median, mean, mad, p10, p90, p95, p99, p99_5, p99_9;
} bench_summary;

typedef struct bench_ratio {
    double median, low, high;
} bench_ratio;

typedef sen_status bench_call(sen_model *model, const float *x, float *y);

/* Calls on inputs in turn. */
typedef struct bench_loop {
    bench_call *call;
    sen_model *model;
    const float *inputs; /* [n_inputs, values] */
    size_t n_inputs, values, next;
    float *y;
} bench_loop;

/* An image and all that is found out about it. */
typedef struct bench_row {
    const char *path, *file;
    char *name;
    char sha256[65];
    uint64_t bytes;
    int64_t changed[3]; /* device, inode and time of the file when its digest was made */
    const char *kernels;
    uint32_t n_in, n_out, timesteps;
    int takes_train;
    int stores_float16, stores_int8;
    char *origin; /* equal for images of one model; null where the image does not tell */
    size_t arena_bytes;
    double load_us, first_us;
    int64_t rss_growth; /* -1: unknown */
    bench_block image, arena, pad;
    bench_loop loop;
    size_t calls, samples; /* of a sample, of a turn */
    bench_list samples_us, turns_us; /* what is kept of them */
    size_t to; /* row whose outputs its own are compared with; its own number: those of the reference kernels */
    int is_finite, matches;
    double max_error, error_over_std, argmax_percent;
    bench_summary summary;
    bench_ratio ratio;
} bench_row;

/* Inputs of all rows. */
typedef struct bench_inputs {
    float *x; /* [n, values] */
    size_t n, values;
} bench_inputs;

/* What a clock costs. */
typedef struct bench_clock {
    double resolution_ns, timer_ns, loop_ns, step_ns; /* least difference of two readings that is not 0 */
} bench_clock;

/* Governors, clocks and the like at one time; a member that the machine does not tell is empty, -1 or NAN. */
#define MOST_CPUS 256
typedef struct bench_state {
    size_t n_cpus;
    char governor[MOST_CPUS][32];
    double mhz[MOST_CPUS], min_mhz[MOST_CPUS], max_mhz[MOST_CPUS];
    double arm_clock_mhz, celsius, load;
    int64_t throttled, swap_used_bytes;
} bench_state;

/* What happened to the clock while a run was made. */
typedef struct bench_watch {
    int64_t held, told; /* bits of get_throttled: now, since boot */
    bench_list clocks, firmware, kernel; /* MHz; of the last two those samples that have both */
    double next_ns, every_ns;
} bench_watch;

/* A whole run. */
typedef struct bench_run {
    const bench_options *options;
    bench_row *rows;
    size_t n_rows;
    bench_inputs inputs;
    bench_clock clock;
    bench_state before, after;
    bench_watch watch;
    size_t turn_step, sample_step; /* of so many rounds one is kept */
    size_t n_rounds;
    bench_list loads; /* kept rounds between one loading of the models and the next */
    bench_block sweep; /* read ahead of every inference, to empty the caches */
    int sweep_is_small, cpus_verified, is_complete;
    double l2_bytes_per_ns, memory_bytes_per_ns; /* NAN: unknown */
    time_t began;
    int n_slowed;
    char slowed[8][BENCH_TEXT];
} bench_run;

/* sen_bench.c: set by SIGINT, SIGTERM and SIGHUP. */
extern volatile sig_atomic_t bench_is_interrupted;

/* system.c: `error: ...` and, if there is one, `  -> hint` on stderr; the code. */
int bench_fail(int code, const char *hint, const char *format, ...);
double bench_now_ns(void);
void bench_measure_clock(bench_clock *found);
int bench_pin(long cpu);
int bench_is_pinned(long cpu);
/* Bytes that can be had without swapping, as they were within the last second: to ask takes as long as to load a model. */
uint64_t bench_free_bytes(void);
/* Room for so many floats; null where there is no memory. Counts come from files: a product of them is 64 bits wide. */
float *bench_floats(uint64_t count);
void bench_keep_no_memory(void);
/* `size` bytes at a place that `random` shifts; 0 where there is no memory. */
int bench_take(bench_block *block, size_t size, bench_random *random);
void bench_give_back(bench_block *block);
/* Whether there was memory for it. */
int bench_add(bench_list *list, double value);

/* random.c: streams of one seed are independent of each other. */
bench_random bench_seeded(uint64_t seed, uint64_t stream);
uint64_t bench_draw(bench_random *random);

/* rows.c: all return EXIT_OK, or another code after saying why. */
int bench_describe_rows(bench_run *run);
int bench_load(bench_row *row, const bench_options *options, bench_random *random);
int bench_infer(const bench_row *row, const float *x, float *y);
void bench_unload(bench_row *row);

/* origin.c: what an image was made from, and how it was compressed; null where it does not tell. To be freed. */
char *bench_read_origin(const uint8_t *image);

/* coldstart.c */
int bench_cold_start(bench_row *row, const bench_options *options);

/* inputs.c: inputs that fit all rows, and what rows make of them. */
int bench_make_inputs(bench_run *run);
int bench_compare(bench_run *run);

/* rounds.c */
int bench_measure(bench_run *run);
/* Nanoseconds of so many calls. */
double bench_time(bench_loop *loop, size_t calls);

/* statistics.c: `values` may be put in another order where it is not const. */
int bench_summarize(bench_summary *summary, const double *values, size_t count);
double bench_median(double *values, size_t count);
int bench_compare_turns(bench_ratio *ratio, const bench_list *turns, const bench_list *first, const bench_list *loads, uint64_t seed);
/* Edges [BINS + 1] and counts [BINS], up to a percentile that leaves room for most samples. Returns the number of bins. */
size_t bench_histogram(const bench_list *samples, const bench_summary *summary, double *edges, size_t *counts);
/* For qsort: doubles, the least first. */
int bench_ascending(const void *a, const void *b);

/* doubts.c: an item of the array of warnings for each doubt. */
void bench_write_warnings(json *out, const bench_run *run, const bench_row *row);

/* device.c, state.c, watch.c: below `root`, which is empty for this machine. */
void bench_write_device(json *out, const char *root);
size_t bench_read_text(const char *root, const char *path, char *text, size_t size);
/* A line `name: N kB` of a file below /proc as bytes; -1 where there is none. */
int64_t bench_kilobytes(const char *path, const char *name);
void bench_read_state(bench_state *state, const char *root);
void bench_write_state(json *out, const char *key, const bench_state *state);
/* Bytes of the data cache of a level; -1 where the machine does not tell. */
int64_t bench_cache_bytes(const char *root, int level);
/* Notes the state if it is time to. */
void bench_observe(bench_watch *watch, double now_ns);
/* Sentences about what slowed the machine down. */
void bench_judge(bench_run *run);

/* record.c, table.c, output.c */
void bench_write_record(FILE *file, const bench_run *run);
void bench_write_table(FILE *file, const bench_run *run);
/* Whether the record can be written where it shall be. */
int bench_check_output(const bench_options *options);
int bench_save_record(const bench_run *run);
int bench_is_right(const bench_run *run);
/* Name of what the outputs of a row are compared with. */
const char *bench_compared_with(const bench_run *run, const bench_row *row);
/* Load of other programs, if they leave fewer cores than the run needs; else NAN. */
double bench_other_load(const bench_run *run);

#endif
