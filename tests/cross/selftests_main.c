/* The self-tests of several exported networks: 0 if all agree. */
#include "selftests.h"

int main(void)
{
    return run_selftests() != 0;
}
