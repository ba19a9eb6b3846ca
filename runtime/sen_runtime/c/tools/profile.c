/* The time of each layer, for Python: a loop in C over sen_profile. */
#include "recorder.h"

static uint64_t unsigned_ns(void)
{
    return (uint64_t)now_ns();
}

sen_status sen_bench_profile(sen_model *model, const float *x, size_t values, size_t rows, float *y, uint64_t *ns)
{
    const uint32_t layers = sen_layers(model);
    for (size_t row = 0; row < rows; row++) {
        const sen_status status = sen_profile(model, x + row * values, y, unsigned_ns, ns + row * layers);
        if (status != SEN_OK)
            return status;
    }
    return SEN_OK;
}
