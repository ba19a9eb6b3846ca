/* How fast this processor loads from its caches and from memory: the roof over every product with weights.
 *
 * Standard C without anything else of this folder, for it is also a part of the library that Python loads. That one has a
 * version for each width of x86's vectors; sen_bench is compiled for every processor of its kind, and where vectors are wider
 * than those that all of them have (AVX), loads are faster still. */
#ifndef SEN_BENCH_BANDWIDTH_H
#define SEN_BENCH_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

/* Reads `bytes` at `data`, a multiple of 128 aligned to 64, `rounds` times, in independent sums of vectors; their total. */
uint32_t sen_bench_read(const void *data, size_t bytes, unsigned rounds);

#ifdef SEN_SHARED
__attribute__((visibility("default")))
#endif
/* Bytes per nanosecond of such reads, the best of some tries within about `seconds`, but one at least. */
double sen_bench_bandwidth(const void *data, size_t bytes, double seconds);

#endif
