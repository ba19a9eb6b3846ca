"""Whether a machine ran at full speed during a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: See `device.parse_state`; keys may be missing.
State = Mapping[str, Any]

#: A clock below another by more than this share differs from it, where it is so in at least this share of the samples,
#: and in two: a single one may fall between two turns.
CLOCK_TOLERANCE = 0.1
CLOCK_SHARE, MIN_SAMPLES = 0.05, 2

#: Bits of `vcgencmd get_throttled` that hold now; the bits 16 higher hold since boot.
THROTTLED_BITS = {
    0: "under-voltage: the power supply or its cable is too weak",
    1: "the firmware capped the clock of the cores",
    2: "the cores were throttled",
    3: "the soft temperature limit was reached",
}
SINCE_BOOT = 16
SETTINGS = {"governor": "the governor", "min_mhz": "the min clock", "max_mhz": "the max clock"}


def changes(before: State, after: State, during: Sequence[State] = ()) -> list[str]:
    """A sentence for each change of the machine that invalidates a run.

    - A bit of `get_throttled` holds in a sample during or after the run, or holds since boot and did not before.
    - The clock of samples during the run, when a core was busy, was below their highest. The clock of a sample is the
      firmware's, else that of the fastest core. Before and after a run, cores may idle at any clock; a constantly low
      clock, as of the governor "powersave", is no change.
    - The firmware measured a clock below the kernel's.
    - The governor or the limits of the clock changed.
    """
    return [*_throttling(before, after, during), *_clock_changes(during), *_setting_changes(before, after)]


def fastest_mhz(sample: State) -> float | None:
    """Clock of the fastest core: that of a busy one where cores have clocks of their own."""
    clocks = sample.get("mhz")
    return max(clocks, default=None) if isinstance(clocks, list) else None


def _throttling(before: State, after: State, during: Sequence[State]) -> list[str]:
    happened = 0
    for bits in map(_bits, (*during, after)):
        happened |= bits | bits >> SINCE_BOOT & ~(_bits(before) >> SINCE_BOOT)
    found = {bit: cause for bit, cause in THROTTLED_BITS.items() if happened >> bit & 1}
    return [f"{cause} (vcgencmd get_throttled, bit {bit})" for bit, cause in found.items()]


def _bits(sample: State) -> int:
    try:
        return int(str(sample.get("throttled")), 16)
    except ValueError:
        return 0


def _clock_changes(during: Sequence[State]) -> list[str]:
    pairs = [(_firmware_mhz(sample), fastest_mhz(sample)) for sample in during]
    clocks = [clock for firmware, kernel in pairs if (clock := firmware or kernel)]
    both = [(firmware, kernel) for firmware, kernel in pairs if firmware and kernel]
    low = [clock for clock in clocks if _is_below(clock, max(clocks))]
    apart = [(firmware, kernel) for firmware, kernel in both if _is_below(firmware, kernel)]
    sentences = []
    if _is_often(low, clocks):
        sentences.append(
            f"the clock of the cores fell from {max(clocks):.0f} to {min(low):.0f} MHz "
            f"in {len(low)} of {len(clocks)} samples taken while they were busy"
        )
    if _is_often(apart, both):
        firmware, kernel = min(apart)
        sentences.append(
            f"the cores ran at {firmware:.0f} MHz (vcgencmd measure_clock arm); the kernel reports {kernel:.0f} MHz, "
            f"in {len(apart)} of {len(both)} samples"
        )
    return sentences


def _is_below(mhz: float, other: float) -> bool:
    return mhz < (1 - CLOCK_TOLERANCE) * other


def _is_often(found: Sequence[object], samples: Sequence[object]) -> bool:
    return len(found) >= max(MIN_SAMPLES, CLOCK_SHARE * len(samples))


def _firmware_mhz(sample: State) -> float | None:
    clock = sample.get("arm_clock_mhz")
    return float(clock) if isinstance(clock, (int, float)) else None


def _setting_changes(before: State, after: State) -> list[str]:
    sentences = []
    for key, name in SETTINGS.items():
        values = before.get(key), after.get(key)
        if all(isinstance(value, list) for value in values) and values[0] != values[1]:
            sentences.append(f"{name} changed from {_distinct(values[0])} to {_distinct(values[1])} during the run")
    return sentences


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
