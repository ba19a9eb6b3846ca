/* Recognizes a spoken digit: int16 samples at 8 kHz, in the byte order of this machine, from standard input. */

#include <stdio.h>

#include "digits.h"
#include "logmel.h"

#define MAX_SAMPLES 32000

int main(void) {
    static int16_t samples[MAX_SAMPLES];
    static float features[LOGMEL_FEATURES];
    static digits_arena arena;
    float scores[DIGITS_OUTPUTS];
    size_t n = fread(samples, sizeof samples[0], MAX_SAMPLES, stdin);
    if (n == 0) return 1;
    logmel(samples, n, features);
    if (digits_run(&arena, features, scores) != 0) return 1;
    size_t best = 0;
    for (size_t i = 1; i < DIGITS_OUTPUTS; i++) {
        if (scores[i] > scores[best]) best = i;
    }
    return printf("%u\n", (unsigned)best) < 0;
}
