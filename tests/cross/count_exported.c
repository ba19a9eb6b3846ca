/* Inferences of an exported network between markers, for plugin.c to count; 0 if all outputs are near enough to what
 * exported_case.h expects. */
#include "exported_case.h"
#include "markers.h"

#include <math.h>

static CASE_ARENA arena;

int main(void)
{
    static CASE_OUTPUT y[sizeof case_y[0] / sizeof case_y[0][0]];
    unsigned row, i;
    for (row = 0; row < sizeof case_x / sizeof case_x[0]; row++) {
        sen_count_start();
        CASE_RUN(&arena, case_x[row], y);
        sen_count_stop();
        for (i = 0; i < sizeof y / sizeof *y; i++)
            if (!(fabsf((float)y[i] - (float)case_y[row][i]) <= CASE_TOLERANCE))
                return 1;
    }
    return 0;
}
