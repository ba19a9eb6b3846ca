/* The self-tests of several exported networks: 0 if all agree; WITH_WRONG adds one that must fail. */
#include "selftests.h"

#ifdef WITH_WRONG
#include "wrong.h"
#endif

int main(void)
{
#ifdef WITH_WRONG
    if (wrong_selftest() == 0)
        return 2;
#endif
    return run_selftests() != 0;
}
