"""Statistics of samples: summary, histogram, warnings, and the intervals of medians and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PERCENTILES = {"p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
MAX_BINS = 60
#: A histogram ends at the first of these percentiles at which the middle four fifths of the samples fill at least this
#: share of its width: with a few long samples it would be a single bar.
HISTOGRAM_ENDS, MIN_BULK = (99.5, 99.0, 95.0, 90.0), 0.1
#: An axis is logarithmic where its ends differ by more than this factor.
LOG_FROM = 8

#: Rounds that are resampled; of more an even choice.
MAX_ROUNDS = 2000
RESAMPLES = 1000
CONFIDENCE, NORMAL_QUANTILE = 0.95, 1.959964
#: Loads from which their variance is estimated, and from which the interval contains it well.
MIN_LOADS, ENOUGH_LOADS = 4, 8
#: Values per draw: 16 MiB.
CHUNK = 1 << 21

FEW_SAMPLES = 1000
LONGER = "measure longer (--seconds)"
OUTLIER_TIMES, OUTLIER_SHARE = 1.5, 0.01
TREND_SHARE, TREND_PARTS, TREND_CORRELATION = 0.03, 10, 0.8
#: Two groups: min share of each, and min distance of their means in deviations and as share of the median.
GROUP_SHARE, GROUP_DEVIATIONS, GROUP_APART = 0.1, 5.0, 0.05


def summary(samples_us: Floats) -> dict[str, float]:
    """Minimum, median, mean, median absolute deviation and percentiles of samples `[n]`, n > 0, in their unit."""
    median = float(np.median(samples_us))
    return {
        "min": float(samples_us.min()),
        "median": median,
        "mean": float(samples_us.mean()),
        "mad": float(np.median(np.abs(samples_us - median))),
        **dict(zip(PERCENTILES, np.percentile(samples_us, list(PERCENTILES.values())).tolist())),
    }


def histogram(samples_us: Floats) -> dict[str, list[Any]]:
    """At most `MAX_BINS` bins of equal width, from the shortest sample to one of `HISTOGRAM_ENDS`.

    Where its ends differ by more than `LOG_FROM`, the logarithms of the bins have equal width.
    """
    low, (tenth, nine_tenths) = samples_us.min(), np.percentile(samples_us, [10, 90])
    ends = np.percentile(samples_us, HISTOGRAM_ENDS)
    end = next((end for end in ends if MIN_BULK * (end - low) <= nine_tenths - tenth), ends[-1])
    bins = min(MAX_BINS, ceil(sqrt(len(samples_us))))
    kept = samples_us[samples_us <= end]
    is_log = 0 < LOG_FROM * low < end
    counts, edges = np.histogram(np.log(kept) if is_log else kept, bins)
    edges = np.exp(edges) if is_log else edges
    return {"edges_us": edges.tolist(), "counts": counts.tolist()}


# --- intervals -----------------------------------------------------------------------------------


def ratio(times: Floats, baseline: Floats, loads: Sequence[int], seed: int = 0) -> dict[str, float]:
    """Median over the rounds of times / baseline `[rounds]`, and its interval; `loads` are the rounds of each load.

    Successive rounds share the state of the machine, so they are resampled in blocks. All rounds of a load share the
    addresses of the models, which may affect them more than anything else; so loads are resampled, and blocks within
    each. The interval also contains that of the sign test on the medians of the loads, which holds for any
    distribution: some loads are much slower than the others.
    """
    ratios = np.log(times / baseline)[even_choice(len(times), MAX_ROUNDS)]
    by_load = np.split(ratios, np.cumsum(_kept_of_loads(loads, len(ratios)))[:-1])
    sign_low, sign_high = _sign_interval(np.array([np.median(part) for part in by_load]))
    low, high = median_interval(ratios, loads, seed)
    return {
        "median": float(np.exp(np.median(ratios))),
        "low": float(np.exp(min(sign_low, low))),
        "high": float(np.exp(max(sign_high, high))),
        "confidence": CONFIDENCE,
    }


def median_interval(values: Floats, loads: Sequence[int] | None, seed: int = 0) -> tuple[float, float]:
    """Interval of the median of `values [n]`, an even choice of the rounds of `loads`."""
    sizes = sizes_of_loads(loads, len(values))
    return interval(medians(values, sizes, seed), float(np.median(values)), len(sizes))


def even_choice(n: int, limit: int) -> NDArray[np.intp]:
    """At most `limit` indices of `n`, spread evenly."""
    return np.linspace(0, n - 1, min(limit, n)).astype(np.intp)


def sizes_of_loads(loads: Sequence[int] | None, n: int) -> NDArray[np.intp]:
    """Values of each load, where `n` values are an even choice of the rounds.

    One group where loads are not known, too few, or have fewer rounds than there are values.
    """
    sizes = np.array([n]) if loads is None or sum(loads) < n else _kept_of_loads(loads, n)
    return sizes if len(sizes) >= MIN_LOADS else np.array([n])


def _kept_of_loads(loads: Sequence[int], n: int) -> NDArray[np.intp]:
    of_load = np.repeat(np.arange(len(loads)), loads)
    kept: NDArray[np.intp] = np.unique(of_load[even_choice(len(of_load), n)], return_counts=True)[1]
    return kept


def medians(values: Floats, sizes: NDArray[np.intp], seed: int = 0) -> Floats:
    """Medians `[RESAMPLES]` of resampled groups, of successive `sizes`, of the series `values [n]`.

    A circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992)
    within resampled groups, with blocks of the root of a group's size: successive latencies share clock, temperature
    and other load, so that resampling them one by one would give too narrow an interval.
    """
    groups, typical = len(sizes), int(np.median(sizes))
    length = ceil(sqrt(typical))
    blocks, starts = ceil(typical / length), np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rng = np.random.default_rng(seed)
    found, step = [], max(1, CHUNK // (groups * blocks * length))
    for done in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - done)
        drawn: NDArray[Any] = rng.integers(0, groups, (count, groups, 1, 1))
        size = sizes[drawn]
        first = (rng.random((count, groups, blocks, 1)) * size).astype(int)
        index = starts[drawn] + (first + np.arange(length)) % size
        found.append(np.median(values[index.reshape(count, -1)], axis=1))
    return np.concatenate(found)


def interval(drawn: Floats, centre: float, groups: int) -> tuple[float, float]:
    """Percentile interval of resampled medians, which contains `centre`.

    For few groups it is widened about the centre: Hesterberg, "What teachers should know about the bootstrap", 2015,
    expanded percentiles.
    """
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    wider = _widening(groups)
    return min(centre - wider * (centre - float(low)), centre), max(centre + wider * (float(high) - centre), centre)


def _widening(groups: int) -> float:
    """Student's quantile over the normal one, and n for n - 1; 1 for a single series."""
    if groups < MIN_LOADS:
        return 1.0
    n, z = groups - 1, NORMAL_QUANTILE
    # Student's quantile by the expansion of Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return t / z * sqrt(groups / n)


def _sign_interval(values: Floats) -> tuple[float, float]:
    """Interval of the population median of `values [n]` by the sign test; their range for fewer than six."""
    n, outside, tail = len(values), 0, 1 / 2 ** len(values)
    while 2 * tail <= 1 - CONFIDENCE:  # tail: probability that at most `outside` of n lie below the median
        outside += 1
        tail += comb(n, outside) / 2**n
    ordered, first = np.sort(values), max(outside - 1, 0)
    return float(ordered[first]), float(ordered[n - 1 - first])


# --- warnings ------------------------------------------------------------------------------------


def warnings(samples_us: Floats, turns_us: Floats, n_loads: int) -> dict[str, str]:
    """Warnings, by kind, about samples `[n]` and the medians of their turns `[rounds]`."""
    n, median, found = len(samples_us), np.median(samples_us), dict[str, str]()
    outliers = float(np.mean(samples_us > OUTLIER_TIMES * median))
    if n < FEW_SAMPLES:
        found["few-samples"] = f"{n} samples are few: p99 and p99.9 need at least {FEW_SAMPLES}; {LONGER}"
    if n_loads < ENOUGH_LOADS:
        times = "once" if n_loads == 1 else f"{n_loads} times"
        found["few-loads"] = (
            f"the model was loaded {times}: the interval hardly contains the effect of its address; {LONGER}"
        )
    if outliers > OUTLIER_SHARE:
        found["outliers"] = (
            f"{100 * outliers:.2g} % of the samples take more than {OUTLIER_TIMES:g} times the median, the longest "
            f"{samples_us.max() / median:.3g} times: another program runs on this machine"
        )
    found["bimodal"], found["trend"] = _two_groups(samples_us), _trend(turns_us)
    return {kind: message for kind, message in found.items() if message}


def _trend(turns_us: Floats) -> str:
    """Rise or fall of the medians of the parts of a run."""
    if len(turns_us) < 5 * TREND_PARTS:
        return ""
    parts = np.array([np.median(part) for part in np.array_split(turns_us, TREND_PARTS)])
    change = float(parts[-1] / parts[0] - 1)
    ranks = parts.argsort().argsort()
    correlation = float(np.corrcoef(np.arange(TREND_PARTS), ranks)[0, 1])  # Spearman's
    if abs(change) < TREND_SHARE or abs(correlation) < TREND_CORRELATION:
        return ""
    word = "longer" if change > 0 else "shorter"
    return f"the last tenth of the turns takes {100 * abs(change):.2g} % {word} than the first: did the clock change?"


def _two_groups(samples_us: Floats) -> str:
    """Two groups of samples: the cut of min variance (Otsu), if the groups are far enough apart."""
    low, high = np.percentile(samples_us, [0.5, 99.5])
    values = np.sort(samples_us[(samples_us >= low) & (samples_us <= high)])
    n = len(values)
    if n < 100:
        return ""
    below = np.arange(1, n)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (n - below)
    between = below * (n - below) * (means[1] - means[0]) ** 2
    cut = int(np.argmax(between))
    size, first, second = int(below[cut]), float(means[0][cut]), float(means[1][cut])
    spread = squares[cut] / size - first**2 + (squares[-1] - squares[cut]) / (n - size) - second**2
    deviation, share = sqrt(max(float(spread) / 2, 0.0)), 1 - size / n
    is_apart = second - first > max(GROUP_DEVIATIONS * deviation, GROUP_APART * float(np.median(values)))
    if not is_apart or not GROUP_SHARE <= share <= 1 - GROUP_SHARE:
        return ""
    return (
        f"the samples fall into two groups, around {first:.4g} and {second:.4g} us ({100 * share:.0f} % in the "
        "second): two clock rates, other load, or inputs on different code paths"
    )
