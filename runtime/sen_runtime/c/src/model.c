/* A loaded model: properties, and inference; texts of statuses. */
#include "internal.h"

const char *sen_status_text(sen_status status)
{
#define SEN_STATUS_TEXT(status, text) text,
    static const char *const texts[] = {SEN_STATUSES(SEN_STATUS_TEXT)};
    return (unsigned)status < SEN_STATUS_COUNT ? texts[status] : "unknown status";
}

uint32_t sen_inputs(const sen_model *model)
{
    return model->network.n_in;
}

uint32_t sen_outputs(const sen_model *model)
{
    return model->network.n_out;
}

uint32_t sen_timesteps(const sen_model *model)
{
    return model->network.timesteps;
}

int sen_takes_spike_train(const sen_model *model)
{
    return (int)model->network.is_spike_train;
}

const char *sen_kernels_name(const sen_model *model)
{
    return model->network.kernels->name;
}

uint32_t sen_layers(const sen_model *model)
{
    return model->network.layer_count;
}

const float *sen_layer_output(const sen_model *model, uint32_t index, uint32_t *size)
{
    const sen_layer *layer;
    *size = 0;
    if (index >= model->network.layer_count)
        return NULL;
    if (model->integer)
        return sen_integer_layer_output(model->integer, (uint8_t *)model->work, index, size);
    layer = &model->network.layers[index];
    *size = layer->n_out;
    return index == model->network.layer_count - 1 && model->network.timesteps == 0 ? NULL : model->work + layer->out;
}

/* Whether the last layer has a value in each step. */
static int has_steps(const sen_model *model)
{
    return !model->integer || model->integer->lif_count == model->integer->layer_count;
}

sen_status sen_reset(sen_model *model)
{
    if (!model)
        return SEN_NULL;
    if (model->network.timesteps == 0)
        return SEN_NOT_SPIKING;
    if (!model->integer)
        sen_network_reset(&model->network, model->work);
    else
        sen_integer_reset(model->integer, (uint8_t *)model->work);
    return has_steps(model) ? SEN_OK : SEN_NO_STEPS;
}

static int is_refused(const sen_model *model, const float *x, size_t count)
{
    return model->is_finite && !model->is_finite(x, count);
}

static size_t steps_of_input(const sen_model *model)
{
    return model->network.is_spike_train ? model->network.timesteps : 1;
}

size_t sen_values_of_input(const sen_model *model)
{
    return model->network.n_in * steps_of_input(model);
}

size_t sen_accepted_rows(const sen_model *model, const float *x, size_t rows)
{
    const size_t width = sen_values_of_input(model);
    size_t accepted = 0;
    while (accepted < rows && !is_refused(model, x + accepted * width, width))
        accepted++;
    return accepted;
}

/* An input, or `steps` of it, as the first layer takes it; outputs from those of the last layer. */
static const float *prepare(const sen_model *model, float *work, const float *x, size_t steps)
{
    const sen_scaling *scaling = model->batch.scaling;
    return scaling ? sen_standardize_rows(scaling, x, steps, work + scaling->one) : x;
}

static void finish(const sen_model *model, float *y)
{
    if (model->batch.scaling)
        sen_finish_rows(model->batch.scaling, y, 1);
}

sen_status sen_finish_readout(const sen_model *model, float *y)
{
    if (!model || !y)
        return SEN_NULL;
    if (model->batch.scaling && model->network.readout == SEN_SPIKE_COUNT)
        sen_restore_row(model->batch.scaling, y);
    if (model->batch.scaling)
        sen_activate_row(model->batch.scaling, y);
    return SEN_OK;
}

sen_status sen_step(sen_model *model, const float *x, float *y)
{
    if (!model || !x || !y)
        return SEN_NULL;
    if (model->network.timesteps == 0)
        return SEN_NOT_SPIKING;
    if (is_refused(model, x, model->network.n_in))
        return SEN_NONFINITE;
    x = prepare(model, model->work, x, 1);
    if (!model->integer)
        sen_network_step(&model->network, model->work, x, y);
    else
        sen_integer_step(model->integer, (uint8_t *)model->work, x, y);
    if (!has_steps(model))
        return SEN_NO_STEPS;
    if (model->batch.scaling && model->network.readout != SEN_SPIKE_COUNT)
        sen_restore_row(model->batch.scaling, y);
    return SEN_OK;
}

sen_status sen_run(sen_model *model, const float *x, float *y)
{
    return sen_run_batch(model, x, y, 1);
}

void sen_run_network(const sen_model *model, const sen_network *network, float *work, const float *x, float *y)
{
    sen_network_run(network, work, prepare(model, work, x, steps_of_input(model)), y);
    finish(model, y);
}

static void run_integers(const sen_model *model, void *work, const float *x, float *y, size_t rows)
{
    const size_t width = sen_values_of_input(model);
    for (; rows > 0; rows--, x += width, y += model->network.n_out) {
        sen_integer_run(model->integer, work, prepare(model, work, x, steps_of_input(model)), y, NULL);
        finish(model, y);
    }
}

sen_status sen_run_batch(sen_model *model, const float *x, float *y, size_t rows)
{
    size_t row, width;
    if (!model || !x || !y)
        return SEN_NULL;
    width = sen_values_of_input(model);
    for (row = 0; row < rows; row++) {
        if (is_refused(model, x + row * width, width))
            return SEN_NONFINITE;
        if (model->integer)
            run_integers(model, model->work, x + row * width, y + row * model->network.n_out, 1);
        else
            sen_run_network(model, &model->network, model->work, x + row * width, y + row * model->network.n_out);
    }
    return SEN_OK;
}

sen_status sen_profile(sen_model *model, const float *x, float *y, sen_clock *clock, uint64_t *ticks)
{
    sen_laps laps = {clock, ticks, 0};
    if (!model || !x || !y || !clock || !ticks)
        return SEN_NULL;
    if (is_refused(model, x, sen_values_of_input(model)))
        return SEN_NONFINITE;
    laps.last = clock();
    x = prepare(model, model->work, x, steps_of_input(model));
    if (model->integer)
        sen_integer_run(model->integer, (uint8_t *)model->work, x, y, &laps);
    else
        sen_network_profile(&model->network, model->work, x, y, &laps);
    if (model->batch.scaling) {
        finish(model, y);
        sen_lap(&laps, model->network.layer_count - 1);
    }
    return SEN_OK;
}

size_t sen_rows_work_size(const sen_model *model)
{
    return model->batch.bytes;
}

sen_status sen_run_rows(const sen_model *model, void *work, const float *x, float *y, size_t rows)
{
    size_t accepted;
    if (!model || !work || !x || !y)
        return SEN_NULL;
    if ((uintptr_t)work % SEN_ALIGNMENT != 0)
        return SEN_ARENA_ALIGNMENT;
    if (model->batch.bytes == 0)
        return SEN_TOO_LARGE;
    accepted = sen_accepted_rows(model, x, rows);
    if (model->integer) {
        memset(work, 0, model->batch.bytes);
        run_integers(model, work, x, y, accepted);
    } else {
        sen_network_run_rows(&model->batch, work, x, y, accepted);
    }
    return accepted < rows ? SEN_NONFINITE : SEN_OK;
}
