/* Blocks and texts on stdout, errors, memory. */
#include "recorder.h"

#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((uint64_t)1 << 36) /* of a block of memory */
#define CPUFREQ "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"

/* Commands and patterns of sen_runtime/bench/device.py that change during a run. */
const char *const state[] = {
    "vcgencmd get_throttled", "vcgencmd measure_clock arm", "/proc/loadavg", "/proc/meminfo",
    "/sys/class/thermal/thermal_zone*/temp", "/sys/class/thermal/thermal_zone*/type", CPUFREQ "scaling_governor",
    CPUFREQ "scaling_*_freq", CPUFREQ "cpuinfo_*_freq", NULL};

void fail(int code, const char *format, ...)
{
    char text[8192], *at;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?'; /* a file name may hold control sequences of terminals */
    (void)fprintf(stderr, "error: %s\n", text);
    exit(code);
}

void *allocate(uint64_t size)
{
    void *memory = NULL;
    if (size > SIZE_MAX / 2 || size > MAX_BYTES || posix_memalign(&memory, SEN_ALIGNMENT, (size_t)size) != 0)
        fail(EXIT_FAILED, "no memory for %llu bytes", (unsigned long long)size);
    return memory;
}

void write_block(const char *kind, const void *bytes, size_t size)
{
    if (printf("%zu %s\n", size, kind) < 0 || fwrite(bytes, 1, size, stdout) < size || putchar('\n') == EOF)
        fail(EXIT_FAILED, "cannot write to stdout: %s", strerror(errno));
}

void flush_output(void)
{
    if (fflush(stdout) != 0)
        fail(EXIT_FAILED, "cannot write to stdout: %s", strerror(errno));
}

/* The text of a file, or the output of a command; of a program only the head of the ELF file. */
void write_source(const char *kind, const char *name)
{
    static char text[1 << 18], line[128];
    const int is_file = *name == '/';
    const size_t limit = strcmp(name, "/proc/self/exe") == 0 ? 5 : sizeof text;
    FILE *source;
    (void)snprintf(line, sizeof line, "%s 2>/dev/null", name);
    source = is_file ? fopen(name, "rb") : popen(line, "r");
    write_block(kind, text, source ? fread(text, 1, limit, source) : 0);
    if (source)
        (void)(is_file ? fclose : pclose)(source);
}

/* An event, and the text of each command and file; flushes the output. */
void write_sources(const char *event, const char *const *names)
{
    write_block(event, "", 0);
    for (; *names; names++) {
        glob_t found;
        if (glob(*names, **names == '/' ? 0 : GLOB_NOCHECK, NULL, &found) != 0)
            continue;
        for (size_t i = 0; i < found.gl_pathc; i++)
            write_source(found.gl_pathv[i], found.gl_pathv[i]);
        globfree(&found);
    }
    flush_output();
}
