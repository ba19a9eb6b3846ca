/* Every input of an exported network set to NaN and infinity in turn: 0 if each is refused, and finite ones are not. */
#include "net.h"

#include <string.h>

static net_arena arena;
static float x[NET_INPUTS], y[NET_OUTPUTS];

int main(void)
{
    static const uint32_t bits[] = {0x7F800000u, 0xFF800000u, 0x7F800001u, 0xFFC00000u};
    const uint32_t greatest = 0xFF7FFFFFu;
    unsigned i, k;
    for (i = 0; i < NET_INPUTS; i++) {
        const float before = x[i];
        for (k = 0; k < sizeof bits / sizeof *bits; k++) {
            memcpy(x + i, bits + k, sizeof *x);
            if (net_run(&arena, x, y) != 1)
                return 1;
        }
        memcpy(x + i, &greatest, sizeof *x);
        if (net_run(&arena, x, y) != 0)
            return 2;
        x[i] = before;
    }
    return 0;
}
