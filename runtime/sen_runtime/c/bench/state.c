/* The machine's state: governors, clocks, temperature, what the firmware says about them. */
#include "bench.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Raspberry Pi's own; tests set another. */
#ifndef SEN_VCGENCMD
#define SEN_VCGENCMD "/usr/bin/vcgencmd"
#endif
/* What a thermometer beside a working processor can show. */
#define COLDEST (-60.0)
#define HOTTEST 200.0

/* A whole number that makes up a file; NAN otherwise. */
static double read_number(const char *root, const char *path)
{
    char text[BENCH_TEXT], *end;
    long long number;
    if (!bench_read_text(root, path, text, sizeof text))
        return NAN;
    number = strtoll(text, &end, 10);
    return end == text || *end ? NAN : (double)number;
}

/* A word of what vcgencmd prints, after `label`. Only the one of this machine is asked, and where its system has it. */
static int ask_firmware(const char *root, const char *question, const char *label, char *word, size_t size)
{
    char command[BENCH_TEXT], line[BENCH_TEXT] = "", *found;
    FILE *answer;
    if (*root || access(SEN_VCGENCMD, X_OK) != 0)
        return 0;
    (void)snprintf(command, sizeof command, SEN_VCGENCMD " %s 2>/dev/null", question);
    answer = popen(command, "r");
    if (!answer)
        return 0;
    if (!fgets(line, sizeof line, answer))
        line[0] = 0;
    found = pclose(answer) == 0 ? strstr(line, label) : NULL;
    if (!found)
        return 0;
    (void)snprintf(word, size, "%s", found + strlen(label));
    word[strcspn(word, "\r\n \t")] = 0;
    return *word != 0;
}

static int64_t read_throttled(const char *root)
{
    char word[32], *end;
    unsigned long long bits;
    if (!ask_firmware(root, "get_throttled", "throttled=0x", word, sizeof word))
        return -1;
    bits = strtoull(word, &end, 16);
    return *end || bits > UINT32_MAX ? -1 : (int64_t)bits;
}

static double read_arm_clock(const char *root)
{
    char word[32], *end;
    double hertz;
    if (!ask_firmware(root, "measure_clock arm", ")=", word, sizeof word))
        return NAN;
    hertz = strtod(word, &end);
    return *end || !(hertz > 0) ? NAN : hertz / 1e6;
}

/* The processor's temperature, or that of the first zone that says anything. */
static double read_celsius(const char *root)
{
    static const char *const kinds[] = {"cpu", "x86_pkg", "soc"};
    double best = NAN;
    size_t best_rank = 4;
    int zone;
    for (zone = 0; zone < 64; zone++) {
        char path[BENCH_TEXT], kind[BENCH_TEXT], *letter;
        double degrees;
        size_t rank = 0;
        (void)snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
        degrees = read_number(root, path) / 1000;
        (void)snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/type", zone);
        if (!bench_read_text(root, path, kind, sizeof kind))
            kind[0] = 0;
        for (letter = kind; *letter; letter++)
            *letter = (char)tolower((unsigned char)*letter);
        while (rank < 3 && !strstr(kind, kinds[rank]))
            rank++;
        if (degrees >= COLDEST && degrees <= HOTTEST && rank < best_rank) {
            best = degrees;
            best_rank = rank;
        }
    }
    return best;
}

static double read_mhz(const char *root, int cpu, const char *name)
{
    static const char *const origins[] = {"scaling", "cpuinfo"};
    double khz = NAN;
    size_t i;
    for (i = 0; i < 2 && !(khz > 0); i++) {
        char path[BENCH_TEXT];
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/%s_%s", cpu, origins[i], name);
        khz = read_number(root, path);
    }
    return khz > 0 ? khz / 1000 : NAN;
}

void bench_read_state(bench_state *state, const char *root)
{
    char path[BENCH_TEXT], text[BENCH_TEXT];
    int64_t total, unused;
    int cpu;
    state->n_cpus = 0;
    for (cpu = 0; cpu < MOST_CPUS; cpu++) {
        const size_t at = state->n_cpus;
        (void)snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d", root, cpu);
        if (access(path, F_OK) != 0)
            break;
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", cpu);
        if (!bench_read_text(root, path, text, sizeof text))
            text[0] = 0;
        (void)snprintf(state->governor[at], sizeof state->governor[at], "%.31s", text);
        state->mhz[at] = read_mhz(root, cpu, "cur_freq");
        state->min_mhz[at] = read_mhz(root, cpu, "min_freq");
        state->max_mhz[at] = read_mhz(root, cpu, "max_freq");
        state->n_cpus += text[0] || state->mhz[at] > 0 || state->max_mhz[at] > 0;
    }
    state->arm_clock_mhz = read_arm_clock(root);
    state->throttled = read_throttled(root);
    state->celsius = read_celsius(root);
    state->load = bench_read_text(root, "/proc/loadavg", text, sizeof text) && isdigit((unsigned char)*text)
        ? strtod(text, NULL)
        : NAN;
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    total = bench_kilobytes(path, "SwapTotal");
    unused = bench_kilobytes(path, "SwapFree");
    state->swap_used_bytes = total < 0 || unused < 0 ? -1 : total > unused ? total - unused : 0;
}

static void write_known(json *out, const char *key, double number)
{
    if (isfinite(number))
        json_number(out, key, number);
    else
        json_text(out, key, "unavailable");
}

static void write_clocks(json *out, const char *key, const double *mhz, size_t count)
{
    size_t known = 0, i;
    for (i = 0; i < count; i++)
        known += isfinite(mhz[i]) != 0;
    if (!known) {
        json_text(out, key, "unavailable");
        return;
    }
    json_flat_array(out, key);
    for (i = 0; i < count; i++)
        if (isfinite(mhz[i]))
            json_number(out, NULL, mhz[i]);
    json_end(out);
}

static void write_governors(json *out, const bench_state *state)
{
    size_t known = 0, i;
    for (i = 0; i < state->n_cpus; i++)
        known += state->governor[i][0] != 0;
    if (!known) {
        json_text(out, "governor", "unavailable");
        return;
    }
    json_flat_array(out, "governor");
    for (i = 0; i < state->n_cpus; i++)
        if (state->governor[i][0])
            json_text(out, NULL, state->governor[i]);
    json_end(out);
}

void bench_write_state(json *out, const char *key, const bench_state *state)
{
    char bits[32];
    json_object(out, key);
    write_governors(out, state);
    write_clocks(out, "mhz", state->mhz, state->n_cpus);
    write_clocks(out, "min_mhz", state->min_mhz, state->n_cpus);
    write_clocks(out, "max_mhz", state->max_mhz, state->n_cpus);
    write_known(out, "arm_clock_mhz", state->arm_clock_mhz);
    write_known(out, "celsius", state->celsius);
    (void)snprintf(bits, sizeof bits, "0x%" PRIx64, (uint64_t)state->throttled);
    json_text(out, "throttled", state->throttled < 0 ? "unavailable" : bits);
    write_known(out, "load", state->load);
    if (state->swap_used_bytes < 0)
        json_text(out, "swap_used_bytes", "unavailable");
    else
        json_integer(out, "swap_used_bytes", state->swap_used_bytes);
    json_end(out);
}
