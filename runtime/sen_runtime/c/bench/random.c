/* Numbers that look random, the same ones for the same seed. */
#include "bench.h"

/* One step of SplitMix64 (G. Steele, D. Lea, C. Flood, 2014), so that seeds that resemble each other give other numbers. */
bench_random bench_seeded(uint64_t seed, uint64_t stream)
{
    bench_random random = {seed + (2 * stream + 1) * 0x9e3779b97f4a7c15u};
    random.state = (random.state ^ random.state >> 30) * 0xbf58476d1ce4e5b9u;
    random.state = (random.state ^ random.state >> 27) * 0x94d049bb133111ebu;
    random.state ^= random.state >> 31;
    random.state = random.state ? random.state : 1; /* 0 would stay 0 */
    return random;
}

uint64_t bench_draw(bench_random *random)
{
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return (x * 0x2545f4914f6cdd1du) >> 11; /* the best 53 bits */
}
