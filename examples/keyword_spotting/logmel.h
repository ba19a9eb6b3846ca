/* Log-mel features of a spoken word, as benchmarks/features.py computes them. */

#ifndef LOGMEL_H
#define LOGMEL_H

#include <stddef.h>
#include <stdint.h>

/* Number of features: 32 frames of 20. */
#define LOGMEL_FEATURES 640

/* Computes features [32, 20] of n samples at 8 kHz; frames of 256 samples are spread evenly over the recording. */
void logmel(const int16_t *samples, size_t n, float features[LOGMEL_FEATURES]);

#endif
