/* A record as a table for a terminal. */
#include "bench.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define MOST_NAME 40
#define CELL 32

/* Four significant digits and a unit; `us` microseconds. */
static const char *duration(double us, char *text)
{
    static const struct {
        double us;
        const char *name;
    } units[] = {{1e-3, "ns"}, {1, "us"}, {1e3, "ms"}, {1e6, "s"}};
    size_t unit = 0;
    double value;
    while (unit < 3 && us >= 0.99995 * units[unit + 1].us)
        unit++;
    value = us / units[unit].us;
    (void)snprintf(
        text, CELL, "%.*f %s", value < 9.9995 ? 3 : value < 99.995 ? 2 : value < 999.95 ? 1 : 0, value,
        units[unit].name);
    return text;
}

/* A name without what a terminal would obey, cut in the middle if it is long. */
static void write_name(FILE *file, const char *name, int width)
{
    const size_t length = strlen(name), kept = MOST_NAME / 2 - 1;
    int column = 0;
    size_t i;
    for (i = 0; i < length; i++) {
        const unsigned char letter = (unsigned char)name[i];
        if (length > MOST_NAME && i == kept) {
            (void)fputs("..", file);
            column += 2;
            i = length - kept - 1;
            continue;
        }
        (void)fputc(letter < 0x20 || letter == 0x7f ? '?' : letter, file);
        column += (letter & 0xc0) != 0x80; /* the first byte of a letter */
    }
    (void)fprintf(file, "%*s", column < width ? width - column : 0, "");
}

static void write_row(FILE *file, const bench_run *run, const bench_row *row, int width)
{
    const bench_summary *found = &row->summary;
    const double times[] = {found->median, found->mad, found->min, found->p90, found->p99, found->p99_9};
    char cell[CELL], interval[CELL * 2] = "";
    size_t i;
    write_name(file, row->name, width);
    for (i = 0; i < sizeof times / sizeof *times; i++)
        (void)fprintf(file, "  %9s", duration(times[i], cell));
    if (row != run->rows && row->ratio.median > 0)
        (void)snprintf(
            interval, sizeof interval, "%#.4g (%#.4g to %#.4g)", row->ratio.median, row->ratio.low, row->ratio.high);
    (void)fprintf(file, "  %24s", interval);
    (void)fprintf(file, "  %9s", duration(row->load_us, cell));
    (void)fprintf(file, "  %9s", duration(row->first_us, cell));
    (void)snprintf(cell, sizeof cell, "%.4g", row->argmax_percent);
    (void)fprintf(file, "  %8s%s\n", cell, row->matches ? "" : "  WRONG OUTPUTS");
}

static void write_heading(FILE *file, int width)
{
    static const char *const names[] = {"median", "MAD", "min", "p90", "p99", "p99.9"};
    size_t i;
    (void)fprintf(file, "%-*s", width, "row");
    for (i = 0; i < sizeof names / sizeof *names; i++)
        (void)fprintf(file, "  %9s", names[i]);
    (void)fprintf(file, "  %24s  %9s  %9s  %8s\n", "ratio (95% interval)", "load", "first", "argmax %");
}

void bench_write_table(FILE *file, const bench_run *run)
{
    const double load = bench_other_load(run);
    size_t widest = 3, i;
    char cell[CELL];
    int k;
    for (i = 0; i < run->n_rows; i++)
        widest = strlen(run->rows[i].name) > widest ? strlen(run->rows[i].name) : widest;
    widest = widest < MOST_NAME ? widest : MOST_NAME;
    write_heading(file, (int)widest);
    for (i = 0; i < run->n_rows; i++)
        write_row(file, run, run->rows + i, (int)widest);
    (void)fprintf(file, "\nkernels %s, %lu rounds", run->rows->kernels, (unsigned long)run->n_rounds);
    (void)fprintf(file, "; reading the clock takes %s", duration(run->clock.timer_ns / 1000, cell));
    (void)fprintf(file, ", the loop %s a call\n", duration(run->clock.loop_ns / 1000, cell));
    if (isfinite(run->l2_bytes_per_ns))
        (void)fprintf(file, "the second-level cache gives %.4g bytes/ns\n", run->l2_bytes_per_ns);
    if (isfinite(run->memory_bytes_per_ns))
        (void)fprintf(file, "memory gives %.4g bytes/ns\n", run->memory_bytes_per_ns);
    for (k = 0; k < run->n_slowed; k++)
        (void)fprintf(file, "%s: %s\n", run->options->allows_throttled ? "slowed down" : "NOT VALID", run->slowed[k]);
    if (isfinite(load))
        (void)fprintf(
            file, "BUSY: a load of %.3g from other programs on %ld cores: latencies may be longer, and vary more\n", load,
            sysconf(_SC_NPROCESSORS_ONLN));
    if (!run->is_complete)
        (void)fputs("interrupted: figures are of what was measured until then\n", file);
}
