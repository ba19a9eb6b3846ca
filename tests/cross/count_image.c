/* Inferences between markers, as many as the argument says (1 without), for plugin.c to count. The first input is taken
 * each time; 0 if the output is as expected. */
#include "image_case.h"
#include "markers.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    sen_model *model = case_load();
    if (!model)
        return 1;
    for (; runs > 0; runs--) {
        sen_status status;
        sen_count_start();
        status = sen_run(model, case_input(0), case_output);
        sen_count_stop();
        if (status != SEN_OK || case_error(0) > CASE_TOLERANCE)
            return 1;
    }
    printf("%lu e-9\n", case_error(0));
    return 0;
}
