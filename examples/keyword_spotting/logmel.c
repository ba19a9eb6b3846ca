/* Radix-2 Fourier transform in place (J. Cooley and J. Tukey, 1965), power, mel triangles, logarithm. */

#include "logmel.h"

#include <math.h>

#include "logmel_tables.h"

#define FRAME ((size_t)LOGMEL_FRAME)

typedef struct {
    float re, im;
} Complex;

/* Sorts values by the reversed bits of their indices. */
static void reverse_bits(Complex x[FRAME]) {
    size_t j = 0;
    for (size_t i = 1; i < FRAME; i++) {
        size_t bit = FRAME / 2;
        for (; j & bit; bit /= 2) j ^= bit;
        j ^= bit;
        if (i < j) {
            Complex other = x[i];
            x[i] = x[j];
            x[j] = other;
        }
    }
}

static void transform(Complex x[FRAME]) {
    reverse_bits(x);
    for (size_t half = 1; half < FRAME; half *= 2) {
        for (size_t start = 0; start < FRAME; start += 2 * half) {
            for (size_t k = 0; k < half; k++) {
                size_t angle = k * (FRAME / 2 / half);
                Complex *a = &x[start + k], *b = a + half;
                float re = b->re * logmel_cos[angle] + b->im * logmel_sin[angle];
                float im = b->im * logmel_cos[angle] - b->re * logmel_sin[angle];
                b->re = a->re - re;
                b->im = a->im - im;
                a->re += re;
                a->im += im;
            }
        }
    }
}

static void frame_features(const int16_t *samples, size_t n, float features[LOGMEL_MELS]) {
    static Complex x[LOGMEL_FRAME];
    for (size_t i = 0; i < FRAME; i++) {
        x[i].re = i < n ? (float)samples[i] / 32768.0F * logmel_window[i] : 0.0F;
        x[i].im = 0.0F;
    }
    transform(x);
    const float *weight = logmel_weights;
    for (size_t mel = 0; mel < LOGMEL_MELS; mel++) {
        float sum = 0.0F;
        const Complex *bin = &x[logmel_first[mel]];
        for (size_t i = 0; i < logmel_count[mel]; i++) sum += *weight++ * (bin[i].re * bin[i].re + bin[i].im * bin[i].im);
        features[mel] = logf(sum + LOGMEL_FLOOR);
    }
}

void logmel(const int16_t *samples, size_t n, float features[LOGMEL_FEATURES]) {
    size_t steps = LOGMEL_FRAMES - 1, last = n > FRAME ? n - FRAME : 0;
    for (size_t i = 0; i <= steps; i++) {
        size_t start = (i * last + steps / 2) / steps;
        frame_features(samples + start, n - start, features + i * LOGMEL_MELS);
    }
}
