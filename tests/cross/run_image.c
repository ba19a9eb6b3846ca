/* Runs an image on all its inputs: 0 if every output is as expected. */
#include "image_case.h"

int main(void)
{
    unsigned long worst = 0;
    unsigned row;
    sen_model *model = case_load();
    if (!model)
        return 1;
    for (row = 0; row < CASE_ROWS; row++) {
        unsigned long error;
        if (sen_run(model, case_input(row), case_output) != SEN_OK)
            return 1;
        error = case_error(row);
        worst = error > worst ? error : worst;
    }
    printf("worst error %lu e-9\n", worst);
    return worst > CASE_TOLERANCE;
}
