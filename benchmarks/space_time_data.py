"""Data of docs/results/space-time.md: the Yin-Yang points and the spoken digits, as spikes `[n, T, channels]`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sen_edge.data.datasets import Dataset

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

#: Radius of the disc and of the dots; points for training with validation, and for test.
RADIUS, DOT, POINTS = 0.5, 0.1, (6000, 1000)
#: Steps in which a coordinate spikes, and steps of an input.
YIN_YANG_STEPS, YIN_YANG_T = 40, 60
#: Spoken digits: samples per second, samples of a frame and between frames, bands and their limits in Hz, steps.
RATE, FRAME, HOP, BANDS, LIMITS, DIGITS_T = 8000, 256, 80, 40, (100.0, 3900.0), 64
#: Change of the logarithm of a band's power that spikes; power below this share of the recording's max is noise.
LEVEL, FLOOR = 1.2, 1e-4
#: Augmentation of words: longest shift in steps and in bands, and share of the spikes that are dropped.
SHIFT, DROPPED = (2, 1), 0.05
#: Recordings of a speaker and digit below this index are the official test set.
SPEECH_TEST = 5


def yin_yang(seed: int) -> Dataset:
    """Draw the points of a seed; a validation part is to be held out of the training part.

    Source: L. Kriener, J. Goltz, M. Petrovici, "The Yin-Yang dataset", 2022.
    """
    rng = np.random.default_rng([seed, 2022])
    (points, labels), (test_points, test_labels) = (_points(rng, n) for n in POINTS)
    return Dataset("yin-yang", _spike_times(points), labels, _spike_times(test_points), test_labels, (0.0, 1.0))


def _points(rng: np.random.Generator, n: int) -> tuple[DoubleArray, NDArray[np.int64]]:
    """Draw `n` points `[n, 2]` of the square, each of a class that is drawn first; labels: yin, yang, dot."""
    labels = rng.integers(0, 3, n)
    points = np.empty((n, 2))
    for index, label in enumerate(labels):
        while True:
            points[index] = rng.uniform(0, 2 * RADIUS, 2)
            if class_of(*points[index]) == label:
                break
    return points, labels


def class_of(x: float, y: float) -> int | None:
    """Return 0 or 1 for the halves, 2 for the dots, None outside of the disc."""
    if np.hypot(x - RADIUS, y - RADIUS) > RADIUS:
        return None
    left, right = np.hypot(x - RADIUS / 2, y - RADIUS), np.hypot(x - 3 * RADIUS / 2, y - RADIUS)
    if min(left, right) < DOT:
        return 2
    return int(left <= RADIUS / 2 or (y > RADIUS and right > RADIUS / 2))


def _spike_times(points: DoubleArray) -> FloatArray:
    """Return spikes `[n, T, 4]`: a coordinate x of (x, y, 1 - x, 1 - y) spikes in step x times 39, rounded."""
    values = np.concatenate([points, 2 * RADIUS - points], axis=1)
    steps = np.rint(values / (2 * RADIUS) * (YIN_YANG_STEPS - 1)).astype(int)
    spikes = np.zeros((len(points), YIN_YANG_T, 4), np.float32)
    spikes[np.arange(len(points))[:, None], steps, np.arange(4)] = 1
    return spikes


def spoken_digits(folder: Path) -> Dataset:
    """Read the recordings of `folder/fsdd/fsdd.npz` with the official split."""
    with np.load(folder / "fsdd/fsdd.npz") as found:
        samples, offsets, labels = found["samples"], found["offsets"], found["label"].astype(np.int64)
        is_test = found["index"] < SPEECH_TEST
    spikes = np.stack([level_crossings(log_bands(samples[start:end])) for start, end in pairwise(offsets)])
    return Dataset("spoken digits", spikes[~is_test], labels[~is_test], spikes[is_test], labels[is_test], (0.0, 1.0))


def log_bands(samples: NDArray[np.int16]) -> DoubleArray:
    """Compute logarithms of power `[T, BANDS]` in triangular bands whose centres have equal ratios."""
    n = FRAME + HOP * (DIGITS_T - 1)
    padded = np.zeros(n)
    padded[: len(samples)] = samples[:n]
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.square(np.abs(np.fft.rfft(frames, 2 * FRAME)))
    edges = np.geomspace(*LIMITS, BANDS + 2)
    frequencies = np.fft.rfftfreq(2 * FRAME, 1 / RATE)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    bands = power @ np.clip(np.minimum(rising, falling), 0, None).T
    logarithms: DoubleArray = np.log(bands + FLOOR * bands.max())
    return logarithms


def level_crossings(values: DoubleArray) -> FloatArray:
    """Return spikes `[T, 2 * bands]` of values `[T, bands]`: rises, then falls, of a level since the last spike."""
    reference, spikes = values[0].copy(), []
    for step in values:
        up, down = step - reference >= LEVEL, reference - step >= LEVEL
        reference += LEVEL * (up.astype(float) - down)
        spikes.append(np.concatenate([up, down]))
    return np.array(spikes, np.float32)


def augment_words(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift words `[n, T, 2 * bands]` by up to `SHIFT` steps and bands, and drop a share of the spikes."""
    n, steps, _ = x.shape
    later, higher = SHIFT
    padded = torch.nn.functional.pad(x.view(n, steps, 2, BANDS), (higher, higher, 0, 0, later, later))
    t = torch.randint(0, 2 * later + 1, (n, 1), generator=generator) + torch.arange(steps)
    band = torch.randint(0, 2 * higher + 1, (n, 1), generator=generator) + torch.arange(BANDS)
    rows = torch.arange(n)
    moved = padded[rows[:, None, None, None], t[:, :, None, None], torch.arange(2)[:, None], band[:, None, None]]
    kept = torch.rand(x.shape, generator=generator) >= DROPPED
    return moved.reshape(x.shape) * kept
