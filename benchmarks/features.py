"""Log-mel features of sound in numpy; examples/keyword_spotting/logmel.c computes those of `SPEECH` in C.

    python benchmarks/features.py    # writes the tables of the C code: examples/keyword_spotting/logmel_tables.h

A frame is weighted by a Hann window; its power spectrum is summed by triangles that are equally spaced on the mel scale
2595 log10(1 + f / 700); a feature is the logarithm of such a sum plus a floor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "examples/keyword_spotting/logmel_tables.h"
#: Numbers per line of the tables.
PER_LINE = 8


@dataclass(frozen=True)
class LogMel:
    """Parameters of the features.

    Attributes:
        rate: samples per second.
        frame: samples per frame, a power of two.
        n_mel: features per frame.
        low: start of the first triangle in Hz.
        high: end of the last triangle in Hz.
        floor: added to the power before the logarithm.
    """

    rate: int
    frame: int
    n_mel: int
    low: float
    high: float
    floor: float

    @cached_property
    def window(self) -> FloatArray:
        """Hann window `[frame]`."""
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame) / self.frame)).astype(np.float32)

    @cached_property
    def triangles(self) -> FloatArray:
        """Weights `[n_mel, frame / 2 + 1]` of the power spectrum."""
        mels = np.linspace(_mel(self.low), _mel(self.high), self.n_mel + 2)
        edges = 700 * (10 ** (mels / 2595) - 1)
        frequencies = np.arange(self.frame // 2 + 1) * self.rate / self.frame
        rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
        falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
        return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)

    def of_frames(self, frames: FloatArray) -> FloatArray:
        """Return features `[n, n_mel]` of frames `[n, frame]` of samples in [-1, 1]."""
        power = np.square(np.abs(np.fft.rfft(frames * self.window)))
        return np.log(power @ self.triangles.T + self.floor).astype(np.float32)


#: 256 samples are 32 ms.
SPEECH = LogMel(rate=8000, frame=256, n_mel=20, low=100, high=3800, floor=1e-5)
#: Frames per recording, evenly spaced.
SPEECH_FRAMES = 32
#: As in the MLPerf Tiny anomaly detection benchmark: 64 ms, half a frame apart, five in a row are one input.
MACHINE = LogMel(rate=16000, frame=1024, n_mel=128, low=0, high=8000, floor=1e-6)
MACHINE_STEP, MACHINE_FRAMES = 512, 5
#: Bands of the spectrum of a motion, and the power added before the logarithm.
MOTION_BANDS, MOTION_FLOOR = 8, 1e-3


def speech_features(samples: NDArray[np.int16]) -> FloatArray:
    """Return features `[SPEECH_FRAMES, n_mel]` of a recording of any length."""
    padded = np.pad(samples, (0, max(0, SPEECH.frame - len(samples)))).astype(np.float32) / np.float32(32768)
    last, steps = len(padded) - SPEECH.frame, SPEECH_FRAMES - 1
    starts = (np.arange(SPEECH_FRAMES) * last + steps // 2) // steps
    return SPEECH.of_frames(padded[starts[:, None] + np.arange(SPEECH.frame)])


def machine_features(samples: FloatArray) -> FloatArray:
    """Return inputs `[n, MACHINE_FRAMES * n_mel]` of a recording: overlapping groups of frames."""
    frames = MACHINE.of_frames(sliding_window_view(samples, MACHINE.frame)[::MACHINE_STEP])
    n = len(frames) - MACHINE_FRAMES + 1
    return np.concatenate([frames[start : start + n] for start in range(MACHINE_FRAMES)], axis=1)


def motion_features(channels: NDArray[np.float64]) -> FloatArray:
    """Return mean, standard deviation and log energies of `MOTION_BANDS` bands of each channel `[channels, T]`."""
    mean, std = channels.mean(axis=1), channels.std(axis=1)
    power = np.square(np.abs(np.fft.rfft(channels - mean[:, None])))[:, 1:]
    bands = [np.log(band.mean(axis=1) + MOTION_FLOOR) for band in np.array_split(power, MOTION_BANDS, axis=1)]
    return np.concatenate([mean, std, *bands]).astype(np.float32)


def tables() -> str:
    """Return the C header with the tables of `logmel.c`."""
    bins = [np.flatnonzero(row) for row in SPEECH.triangles]
    weights = np.concatenate([row[found] for row, found in zip(SPEECH.triangles, bins, strict=True)])
    angles = 2 * np.pi * np.arange(SPEECH.frame // 2) / SPEECH.frame
    lines = [
        "/* Tables of logmel.c, written by benchmarks/features.py. */",
        "",
        f"#define LOGMEL_FRAME {SPEECH.frame}",
        f"#define LOGMEL_MELS {SPEECH.n_mel}",
        f"#define LOGMEL_FRAMES {SPEECH_FRAMES}",
        f"#define LOGMEL_FLOOR {_number(SPEECH.floor)}",
        "",
        *_array("float", "logmel_window", "LOGMEL_FRAME", map(_number, SPEECH.window)),
        *_array("float", "logmel_cos", "LOGMEL_FRAME / 2", map(_number, np.cos(angles))),
        *_array("float", "logmel_sin", "LOGMEL_FRAME / 2", map(_number, np.sin(angles))),
        "/* First bin, number of bins and weights of each triangle. */",
        *_array("unsigned char", "logmel_first", "LOGMEL_MELS", (str(found[0]) for found in bins)),
        *_array("unsigned char", "logmel_count", "LOGMEL_MELS", (str(len(found)) for found in bins)),
        *_array("float", "logmel_weights", str(len(weights)), map(_number, weights)),
    ]
    return "\n".join(lines)


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


def _number(value: float) -> str:
    text = f"{np.float32(value):.9g}"
    return f"{text}F" if any(mark in text for mark in ".e") else f"{text}.0F"


def _array(kind: str, name: str, size: str, values: Iterable[str]) -> list[str]:
    found = list(values)
    rows = (", ".join(found[start : start + PER_LINE]) for start in range(0, len(found), PER_LINE))
    return [f"static const {kind} {name}[{size}] = {{", *(f"    {row}," for row in rows), "};", ""]


def main() -> None:
    """Write the tables."""
    TABLES.write_text(tables(), encoding="utf-8")


if __name__ == "__main__":
    main()
