/* Shared by the files of sen_bench: it runs .sen images in interleaved rounds and writes samples, outputs and the text of kernel
 * files as JSON lines. `sen-runtime record` evaluates them. docs/how-to/benchmark-without-python.md documents both. */
#ifndef SEN_RECORDER_H
#define SEN_RECORDER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sen.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* An image and its model. */
struct row {
    const char *path;
    uint8_t *image; /* [size] */
    size_t size, arena_size;
    void *block; /* the arena is somewhere in it */
    sen_model *model;
    float *y;                    /* [n_inputs, n_out] */
    double call_ns;              /* of one inference, from the calibration */
    size_t calls, samples, next; /* calls of a sample, samples of a turn, index of the next input */
};

struct recorder {
    struct row *rows; /* [n_rows] */
    size_t n_rows, n_inputs, values;
    float *x;             /* [n_inputs, values] */
    uint64_t *sweep;      /* [sweep_size]; read and written before each sample with --cold-cache, else null */
    size_t sweep_size;
    size_t *order;        /* [n_rows] of a round */
    int64_t *ns;          /* [n_rows, MAX_TURN_SAMPLES] of a round */
    uint64_t random;      /* state of `draw` */
    size_t n_rounds;      /* written */
    FILE *out;
    double seconds;       /* options */
    uint64_t seed;
    long cpu; /* -1: any */
    unsigned kernels; /* flag of sen.h */
    const char *inputs, *output;
    int is_cold, replaces;
};

enum { MAX_TURN_SAMPLES = 512 };

/* Set by SIGINT, SIGTERM and SIGHUP. */
extern volatile sig_atomic_t is_interrupted;

/* sen_bench.c: prints `error: ...` on stderr and returns the code; flushes the output, EXIT_FAILED where that fails. */
int fail(int code, const char *format, ...);
int flush_output(const struct recorder *run);

/* json.c: a string with one character for each byte (Latin-1), and one in base64. */
void write_text(FILE *out, const void *bytes, size_t size);
void write_base64(FILE *out, const void *bytes, size_t size);

/* machine.c */
int64_t now_ns(void);
uint64_t draw(uint64_t *state);
int pin(long cpu);
void write_file(FILE *out, const char *path);
void write_facts(FILE *out);
void write_state(FILE *out);
void write_bandwidth(FILE *out);
int make_sweep(struct recorder *run);

/* images.c */
int read_rows(struct recorder *run);
int read_inputs(struct recorder *run);
int load_row(struct row *row, unsigned flags, uint64_t *random);
void write_rows(const struct recorder *run);
int write_cold_starts(const struct recorder *run);
int write_outputs(const struct recorder *run);

/* rounds.c */
void write_clock(FILE *out);
int write_rounds(struct recorder *run);

#endif
