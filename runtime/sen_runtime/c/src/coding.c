/* Input codings that compute spikes, as sen_runtime/ir/codings.py: what arrives at the first layer in one step. */
#include "network.h"

#ifdef SEN_CODES_INPUTS

/* export: sen_code_rate */
/* Spikes at the rate x, in steps of 1/256; the state is the phase [n_in]. All numbers are multiples of 1/256, and exact. */
SEN_PRIVATE const float *sen_code_rate(const sen_network *network, float *work, const float *x)
{
    float *const spikes = work + network->coded, *const phase = work + network->state;
    uint32_t i;
    for (i = 0; i < network->n_in; i++) {
        const float rate = x[i] > 0 ? x[i] < 1 ? (float)(int32_t)(x[i] * 256.0f + 0.5f) / 256.0f : 1.0f : 0.0f;
        const float charged = phase[i] + rate;
        spikes[i] = charged >= 1.0f ? 1.0f : 0.0f;
        phase[i] = charged - spikes[i];
    }
    return spikes;
}
/* end */

/* export: sen_code_delta */
/* Spikes of the n_in values that rise by delta or more, then of those that fall; the state are the values before [n_in], and
 * whether there are any. */
SEN_PRIVATE const float *sen_code_delta(const sen_network *network, float *work, const float *x)
{
    const uint32_t n = network->n_in;
    float *const rises = work + network->coded, *const falls = rises + n, *const before = work + network->state;
    uint32_t i;
    for (i = 0; i < n; i++) {
        const float change = before[n] > 0 ? x[i] - before[i] : 0.0f;
        rises[i] = change >= network->delta ? 1.0f : 0.0f;
        falls[i] = -change >= network->delta ? 1.0f : 0.0f;
        before[i] = x[i];
    }
    before[n] = 1.0f;
    return rises;
}
/* end */

#endif
