/* One inference of an exported network between markers, for plugin.c to count; 0 if the output is near enough to what
 * exported_case.h expects. */
#include "exported_case.h"
#include "markers.h"

#include <math.h>

static CASE_TYPE arena;

int main(void)
{
    static float y[sizeof case_y / sizeof *case_y];
    unsigned i;
    sen_count_start();
    CASE_RUN(&arena, case_x, y);
    sen_count_stop();
    for (i = 0; i < sizeof y / sizeof *y; i++)
        if (!(fabsf(y[i] - case_y[i]) <= CASE_TOLERANCE))
            return 1;
    return 0;
}
