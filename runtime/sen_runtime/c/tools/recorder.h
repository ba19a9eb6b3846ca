/* Shared by the files of sen_bench, which records how .sen images run on a device without Python: it runs them in interleaved
 * rounds and writes samples, outputs and texts of the kernel to stdout. `sen-runtime record` evaluates them.
 * docs/how-to/benchmark-without-python.md documents the format. */
#ifndef SEN_RECORDER_H
#define SEN_RECORDER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "sen.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };
/* Inputs that take turns, as in sen_runtime/bench/loops.py; samples of a turn; bytes that empty the caches. */
enum { N_INPUTS = 64, MAX_TURN_SAMPLES = 512, SWEEP_BYTES = 16 << 20 };

/* An image and its model. */
struct row {
    const char *path;
    const void *image; /* [size] */
    size_t size;
    char *block; /* the arena is somewhere in it */
    sen_model *model;
    float *y;                    /* [n_inputs, n_out] */
    double call_ns;              /* of one inference, from the calibration */
    size_t calls, samples, next; /* calls of a sample, samples of a turn, index of the next input */
    int64_t *ns;                 /* [samples] of the last turn */
};

struct recorder {
    struct row *rows; /* [n_rows] */
    size_t n_rows, n_inputs, values;
    const float *x;  /* [n_inputs, values] */
    uint64_t *sweep; /* read and written before each sample with --cold-cache */
    size_t *order;   /* [n_rows] of a round */
    int64_t *ns;     /* samples of a round */
    uint64_t random; /* state of `draw` */
    int64_t total_ns, seed, is_cold; /* options */
    unsigned kernels;                /* a flag of sen.h */
    const char *inputs;              /* NULL for random ones */
};

/* output.c: prints `error: ...` and exits; exits without memory; writes a block; flushes; writes a file or the output of a
 * command as a block; writes an event of several, such as `state`, and flushes. */
extern const char *const state[];
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 2, 3)))
#endif
void fail(int code, const char *format, ...);
void *allocate(uint64_t size);
void write_block(const char *kind, const void *bytes, size_t size);
void flush_output(void);
void write_source(const char *kind, const char *name);
void write_sources(const char *event, const char *const *names);

/* recorder.c: set by signals; loads an image for the first time and writes its event; writes rounds, and returns their number. */
extern volatile sig_atomic_t is_interrupted;
void open_row(struct recorder *run, struct row *row);
size_t write_rounds(struct recorder *run);

/* bandwidth.c, also a part of the library that Python loads: monotonic clock; best bytes per nanosecond of reads of `bytes`, a
 * multiple of 128 aligned to 64, within about `seconds`, but one at least; total of such reads. */
int64_t now_ns(void);
#ifdef SEN_SHARED
__attribute__((visibility("default")))
#endif
double sen_bench_bandwidth(const void *data, size_t bytes, double seconds);
uint32_t sen_bench_read(const void *data, size_t bytes, unsigned rounds);

/* profile.c, a part of that library only: sen_profile of `rows` inputs one after the other, in nanoseconds: ns [rows, layers]
 * from 0. */
#ifdef SEN_SHARED
__attribute__((visibility("default")))
#endif
sen_status sen_bench_profile(sen_model *model, const float *x, size_t values, size_t rows, float *y, uint64_t *ns);

#endif
