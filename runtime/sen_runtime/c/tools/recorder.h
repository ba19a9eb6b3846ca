/* Shared by the files of sen_bench: it runs .sen images in interleaved rounds and writes samples, outputs and the text of kernel
 * files to stdout, as JSON lines. `sen-runtime record` evaluates them. docs/how-to/benchmark-without-python.md documents both. */
#ifndef SEN_RECORDER_H
#define SEN_RECORDER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "sen.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };
/* Inputs that take turns, as in sen_runtime/bench/inputs.py; samples of a turn; bytes that empty the caches. */
enum { N_INPUTS = 64, MAX_TURN_SAMPLES = 512, SWEEP_BYTES = 16 << 20 };

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
    float *x;        /* [n_inputs, values] */
    uint64_t *sweep; /* read and written before each sample with --cold-cache */
    size_t *order;   /* [n_rows] of a round */
    int64_t *ns;     /* [n_rows, MAX_TURN_SAMPLES] of a round */
    uint64_t random; /* state of `draw` */
    size_t n_rounds; /* written */
    double seconds;  /* options */
    uint64_t seed;
    unsigned kernels; /* flag of sen.h */
    const char *inputs;
    int is_cold;
};

/* process.c: set by SIGINT, SIGTERM and SIGHUP after `note_signals`; prints `error: ...` on stderr and returns the code; flushes
 * stdout, EXIT_FAILED where that fails; monotonic clock; random numbers. */
extern volatile sig_atomic_t is_interrupted;
void note_signals(void);
int fail(int code, const char *format, ...);
int flush_output(void);
int64_t now_ns(void);
uint64_t draw(uint64_t *random);

/* text.c: strings with one character for each byte (Latin-1), or in base64; the text of a file or of a command's output; an
 * event with a member for each command and file, whose leading slash is left out. */
extern const char *const facts[], *const state[];
void write_text(const void *bytes, size_t size);
void write_base64(const void *bytes, size_t size);
void write_source(const char *name);
void write_sources(const char *event, const char *const *names);

/* images.c: loads an image for the first time and writes its event; loads it again at another address. */
int open_row(struct recorder *run, struct row *row);
int load_row(struct recorder *run, struct row *row);
void write_inputs(const struct recorder *run);

/* rounds.c */
void write_clock(const struct recorder *run);
int write_rounds(struct recorder *run);

#endif
