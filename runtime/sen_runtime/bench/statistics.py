"""Statistics of samples: summary, histogram, warnings, and the interval of a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.bootstrap import CONFIDENCE, even_choice, interval, medians, sizes_of_loads

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
#: Loads from which the interval contains their variance well.
ENOUGH_LOADS = 8

FEW_SAMPLES = 1000
LONGER = "measure longer (--seconds)"
OUTLIER_TIMES, OUTLIER_SHARE = 1.5, 0.01
TREND_SHARE, TREND_PARTS, TREND_CORRELATION = 0.03, 10, 0.8
#: Two groups: min share of each, and min distance of their means in deviations and as share of the median.
GROUP_SHARE, GROUP_DEVIATIONS, GROUP_APART = 0.1, 5.0, 0.05


def summary(samples_us: Floats) -> dict[str, float]:
    """Minimum, median, mean, median absolute deviation and percentiles of samples `[n]`, n > 0, in their unit."""
    median = float(np.median(samples_us))
    result = {
        "min": float(samples_us.min()),
        "median": median,
        "mean": float(samples_us.mean()),
        "mad": float(np.median(np.abs(samples_us - median))),
    }
    values = np.percentile(samples_us, list(PERCENTILES.values()))
    return {**result, **dict(zip(PERCENTILES, values.tolist()))}


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


def ratio(times: Floats, baseline: Floats, loads: Sequence[int], seed: int = 0) -> dict[str, float]:
    """Median over the rounds of times / baseline, and its interval.

    Successive rounds share the state of the machine, so they are resampled in blocks. All rounds of a load share the
    addresses of the models, which may affect them more than anything else; so loads are resampled, and blocks within
    each. The interval also contains that of the sign test on the medians of the loads, which holds for any
    distribution: some loads are much slower than the others.

    Args:
        times: of one row, per round `[rounds]`.
        baseline: of the baseline, in the same rounds.
        loads: rounds of each load; their sum is `rounds`.
        seed: of the resampling.
    """
    kept = even_choice(len(times), MAX_ROUNDS)
    ratios, of_load = np.log(times / baseline)[kept], np.repeat(np.arange(len(loads)), loads)[kept]
    by_load = [np.median(ratios[of_load == number]) for number in np.unique(of_load)]
    sign_low, sign_high = _sign_interval(np.array(by_load))
    sizes, median = sizes_of_loads(loads, len(ratios)), float(np.median(ratios))
    low, high = interval(medians(ratios, sizes, seed), median, len(sizes))
    return {
        "median": float(np.exp(median)),
        "low": float(np.exp(min(sign_low, low))),
        "high": float(np.exp(max(sign_high, high))),
        "confidence": CONFIDENCE,
    }


def _sign_interval(values: Floats) -> tuple[float, float]:
    """Interval of the population median of `values [n]` by the sign test; their range for fewer than six."""
    n, outside, tail = len(values), 0, 1 / 2 ** len(values)
    while 2 * tail <= 1 - CONFIDENCE:  # tail: probability that at most `outside` of n lie below the median
        outside += 1
        tail += comb(n, outside) / 2**n
    ordered, first = np.sort(values), max(outside - 1, 0)
    return float(ordered[first]), float(ordered[n - 1 - first])


def warnings(samples_us: Floats, turns_us: Floats, n_loads: int) -> list[dict[str, str]]:
    """Warnings about samples `[n]` and the medians of their turns `[rounds]`."""
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
    return [{"kind": kind, "message": message} for kind, message in found.items() if message]


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
