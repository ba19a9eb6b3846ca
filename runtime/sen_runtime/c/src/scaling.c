/* What surrounds the layers of a network: standardization of its inputs, restoration and activation of its outputs. */
#include "network.h"

/* export: sen_standardize */
/* to = (x - mean) inverse, of n features. */
SEN_PRIVATE void sen_standardize(
    const float *x, const SEN_FLASH float *mean, const SEN_FLASH float *inverse, uint32_t n, float *to)
{
    uint32_t i;
    for (i = 0; i < n; i++)
        to[i] = (x[i] - mean[i]) * inverse[i];
}
/* end */

/* export: sen_restore */
/* y = y std + mean, of n features. */
SEN_PRIVATE void sen_restore(float *y, const SEN_FLASH float *mean, const SEN_FLASH float *std, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < n; i++)
        y[i] = y[i] * std[i] + mean[i];
}
/* end */

/* export: sen_exp */
/* e^x of x <= 0 within 3e-7 of itself, 0 below e^-87; NaN of NaN. With x = n ln 2 + r it is 2^n times a Taylor series of e^r. Not
 * expf, because a microcontroller may have no libm, and newlib's computes in double. */
static float sen_exp(float x)
{
    float r, series = 1.0f, power;
    int32_t n, k;
    uint32_t bits;
    if (!(x > -87.0f))
        return x < 0 ? 0.0f : x;
    n = (int32_t)(x * 1.44269504f - 0.5f);
    r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    for (k = 7; k > 0; k--)
        series = 1.0f + series * r / (float)k;
    bits = (uint32_t)(n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}
/* end */

/* export: sen_softmax, needs sen_exp */
SEN_PRIVATE void sen_softmax(float *y, uint32_t n)
{
    float largest = y[0], sum = 0.0f;
    uint32_t i;
    for (i = 1; i < n; i++)
        largest = y[i] > largest ? y[i] : largest;
    for (i = 0; i < n; i++) {
        y[i] = sen_exp(y[i] - largest);
        sum += y[i];
    }
    for (i = 0; i < n; i++)
        y[i] /= sum;
}
/* end */

/* export: sen_sigmoid, needs sen_exp */
SEN_PRIVATE void sen_sigmoid(float *y, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < n; i++) {
        const float power = sen_exp(y[i] < 0 ? y[i] : -y[i]);
        y[i] = (y[i] < 0 ? power : 1) / (1 + power);
    }
}
/* end */

const float *sen_standardize_rows(const sen_scaling *scaling, const float *x, size_t rows, float *to)
{
    const size_t n = scaling->n_in;
    size_t row;
    if (!scaling->input_mean)
        return x;
    for (row = 0; row < rows; row++)
        sen_standardize(x + row * n, scaling->input_mean, scaling->input_inverse, scaling->n_in, to + row * n);
    return to;
}

void sen_restore_row(const sen_scaling *scaling, float *y)
{
    if (scaling->output_mean)
        sen_restore(y, scaling->output_mean, scaling->output_std, scaling->n_out);
}

void sen_activate_row(const sen_scaling *scaling, float *y)
{
    if (scaling->activation == SEN_SOFTMAX)
        sen_softmax(y, scaling->n_out);
    else if (scaling->activation == SEN_SIGMOID)
        sen_sigmoid(y, scaling->n_out);
}

void sen_finish_rows(const sen_scaling *scaling, float *y, size_t rows)
{
    for (; rows > 0; rows--, y += scaling->n_out) {
        sen_restore_row(scaling, y);
        sen_activate_row(scaling, y);
    }
}
