/* JSON strings, and the text of kernel files and commands that sen_runtime/bench/device_texts.py parses. */
#include "recorder.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#define CPUFREQ "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"

/* The commands and patterns of device_texts.py. */
const char *const facts[] = {
    "uname -m", "/proc/device-tree/model", "/proc/device-tree/system/linux,revision", "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/kernel/osrelease", "/proc/self/exe",
    "/etc/os-release", "/usr/lib/os-release", "/sys/devices/system/cpu/cpu0/cache/index*/level",
    "/sys/devices/system/cpu/cpu0/cache/index*/type", "/sys/devices/system/cpu/cpu0/cache/index*/size", NULL};
const char *const state[] = {
    "vcgencmd get_throttled", "vcgencmd measure_clock arm", "/proc/loadavg", "/proc/meminfo",
    "/sys/class/thermal/thermal_zone*/temp", "/sys/class/thermal/thermal_zone*/type", CPUFREQ "scaling_governor",
    CPUFREQ "scaling_*_freq", CPUFREQ "cpuinfo_*_freq", NULL};

void write_text(const void *bytes, size_t size)
{
    const unsigned char *at = bytes, *end = at + size;
    putchar('"');
    for (; at < end; at++)
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if (*at < 0x20 || *at > 0x7e)
            printf("\\u%04x", *at);
        else
            putchar(*at);
    putchar('"');
}

/* RFC 4648, section 4. */
void write_base64(const void *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = bytes;
    size_t i, k;
    putchar('"');
    for (i = 0; i < size; i += 3) {
        unsigned long group = 0;
        for (k = 0; k < 3; k++)
            group = group << 8 | (i + k < size ? at[i + k] : 0u);
        for (k = 0; k < 4; k++)
            putchar(i + k <= size ? digits[group >> (18 - 6 * k) & 63] : '=');
    }
    putchar('"');
}

/* The text of a file, or the output of a command; of a program only the head of the ELF file. */
void write_source(const char *name)
{
    static char text[1 << 18], line[128];
    const int is_file = *name == '/';
    const size_t limit = strcmp(name, "/proc/self/exe") == 0 ? 5 : sizeof text;
    FILE *source;
    (void)snprintf(line, sizeof line, "%s 2>/dev/null", name);
    source = is_file ? fopen(name, "rb") : popen(line, "r");
    write_text(text, source ? fread(text, 1, limit, source) : 0);
    if (source)
        (void)(is_file ? fclose : pclose)(source);
}

void write_sources(const char *event, const char *const *names)
{
    const char *separator = "";
    glob_t found;
    size_t i;
    printf("{\"event\": \"%s\", \"texts\": {", event);
    for (; *names; names++) {
        if (glob(*names, **names == '/' ? 0 : GLOB_NOCHECK, NULL, &found) != 0)
            continue;
        for (i = 0; i < found.gl_pathc; i++, separator = ", ") {
            const char *name = found.gl_pathv[i] + (*found.gl_pathv[i] == '/');
            fputs(separator, stdout);
            write_text(name, strlen(name));
            fputs(": ", stdout);
            write_source(found.gl_pathv[i]);
        }
        globfree(&found);
    }
    puts("}}");
}
