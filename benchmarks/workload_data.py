"""Data files of the workloads: from packages, from recordings, or synthesized.

    python benchmarks/workload_data.py [--data DIR] [--rows NAME,...]

Tables are written as CSV with a header, everything else as `.npz`. The packages scikit-learn and aeon bundle the data
of most workloads; `DIR/fsdd/fsdd.npz` holds the recordings of the Free Spoken Digit Dataset (Z. Jackson et al.):
`samples` int16, `offsets`, `label`, `index`. DIR is $SEN_EDGE_DATA by default.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from features import MACHINE, machine_features, motion_features, speech_features
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

#: Recordings of a speaker and digit below this index are the official test set.
SPEECH_TEST = 5
#: Steps of a vowel; shorter ones are padded with zeros.
VOWEL_STEPS = 29
#: Seconds of a recording of a machine, number of harmonics, recordings for training, and for test by kind.
SECONDS, HARMONICS, N_TRAINING = 2, 40, 400
N_TEST = {"normal": 150, "bearing": 50, "harmonics": 50, "tone": 50}


def write_table(path: Path, names: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(name.replace(" ", "_") for name in names)
        writer.writerows(rows)


def sklearn_table(path: Path, loader: str, target: str, **options: Any) -> None:
    """Write a table that scikit-learn bundles; classes by their names."""
    from sklearn import datasets

    found = getattr(datasets, loader)(**options)
    names = getattr(found, "target_names", None)
    targets = [str(names[label]) for label in found.target] if names is not None else found.target.tolist()
    rows = ([*row, value] for row, value in zip(found.data.tolist(), targets, strict=True))
    write_table(path, [*found.feature_names, target], rows)


def friedman(path: Path) -> None:
    """Write the first regression of J. Friedman, "Multivariate adaptive regression splines", 1991."""
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(2500, 10, noise=1.0, random_state=0)
    rows = ([*row, value] for row, value in zip(inputs.tolist(), targets.tolist(), strict=True))
    write_table(path, [*(f"x{index}" for index in range(10)), "y"], rows)


def spoken_digits(path: Path) -> None:
    """Write the log-mel features of all recordings, `[n, frames, n_mel]`, with the official split."""
    with np.load(path.parent / "fsdd/fsdd.npz") as found:
        samples, offsets, labels = found["samples"], found["offsets"], found["label"].astype(np.int64)
        is_test = found["index"] < SPEECH_TEST
    parts = [speech_features(samples[start:end]) for start, end in pairwise(offsets)]
    _write_parts(path, np.stack(parts), labels, is_test)


def basic_motions(path: Path) -> None:
    """Write band energies of the accelerometer and gyroscope recordings that aeon bundles."""
    _write_aeon(path, "load_basic_motions", motion_features)


def japanese_vowels(path: Path) -> None:
    """Write the cepstral coefficients of vowels, `[n, T, 12]`, that aeon bundles."""
    _write_aeon(path, "load_japanese_vowels", lambda x: np.pad(x.T, ((0, VOWEL_STEPS - x.shape[1]), (0, 0))))


def machine(path: Path) -> None:
    """Write log-mel frames of a synthetic machine; only test recordings contain faults."""
    rng = np.random.default_rng(1)
    amplitudes = 0.5 / np.arange(1, HARMONICS + 1) ** 0.8 * np.exp(0.5 * rng.standard_normal(HARMONICS))
    training = [machine_features(_recording(rng, amplitudes, "normal"))[::2] for _ in range(N_TRAINING)]
    kinds = [kind for kind, n in N_TEST.items() for _ in range(n)]
    test = [machine_features(_recording(rng, amplitudes, kind)) for kind in kinds]
    sizes = [len(inputs) for inputs in test]
    np.savez(
        path,
        x_train=np.concatenate(training),
        y_train=np.zeros(sum(map(len, training)), np.int64),
        x_test=np.concatenate(test),
        y_test=np.repeat(np.array([kind != "normal" for kind in kinds], np.int64), sizes),
    )


def _recording(rng: np.random.Generator, amplitudes: DoubleArray, kind: str) -> FloatArray:
    """Synthesize a recording of a machine, normal or with one kind of fault.

    A normal machine: harmonics of a rotation frequency between 24 and 30 Hz that drifts, and noise with a resonance at
    2.2 kHz, modulated by the rotation. Faults: impulses of a bearing at 3.57 times the rotation, each a decaying
    oscillation; three harmonics louder or quieter by 9 to 16 dB; an added tone.
    """
    n, rate = SECONDS * MACHINE.rate, MACHINE.rate
    rotation = rng.uniform(24, 30) * (1 + 0.004 * np.cumsum(rng.standard_normal(n)) / np.sqrt(n))
    phase = 2 * np.pi * np.cumsum(rotation) / rate
    levels = amplitudes * np.exp(0.25 * rng.standard_normal(HARMONICS))
    if kind == "harmonics":
        changed = rng.choice(HARMONICS, 3, replace=False)
        levels[changed] *= np.exp(rng.choice([-1, 1], 3) * rng.uniform(1, 1.8, 3))
    order = np.arange(1, HARMONICS + 1)[:, None]
    sound = (levels[:, None] * np.sin(order * phase + rng.uniform(0, 2 * np.pi, (HARMONICS, 1)))).sum(axis=0)
    sound += _noise(rng, n) * (1 + 0.3 * np.sin(phase)) * np.exp(0.2 * rng.standard_normal())
    if kind == "bearing":
        sound += rng.uniform(0.15, 0.5) * _impulses(rng, n, 3.57 * float(rotation.mean()))
    if kind == "tone":
        frequency = rng.uniform(800, 6000)
        sound += rng.uniform(0.01, 0.05) * np.sin(2 * np.pi * frequency * np.arange(n) / rate)
    return (sound * np.exp(0.15 * rng.standard_normal())).astype(np.float32)


def _noise(rng: np.random.Generator, n: int) -> DoubleArray:
    frequencies = np.fft.rfftfreq(n, 1 / MACHINE.rate)
    spectrum = 0.3 / (1 + (frequencies / 1200) ** 1.2) + 0.15 * np.exp(-(((frequencies - 2200) / 300) ** 2))
    shaped: DoubleArray = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * spectrum, n)
    return shaped


def _impulses(rng: np.random.Generator, n: int, frequency: float) -> DoubleArray:
    """Return one decaying oscillation of 25 ms for each impulse, with jitter in time and level."""
    steps = np.arange(400)
    ringing = np.exp(-steps / 60) * np.sin(2 * np.pi * rng.uniform(2500, 4500) * steps / MACHINE.rate)
    count = int(SECONDS * frequency) + 1
    times = (np.arange(count) + 0.01 * rng.standard_normal(count) + rng.uniform(0, 1)) / frequency
    sound = np.zeros(n + len(steps))
    for start in (times * MACHINE.rate).astype(int):
        if 0 <= start < n:
            sound[start : start + len(steps)] += ringing * np.exp(0.3 * rng.standard_normal())
    return sound[:n]


def _write_aeon(path: Path, loader: str, features: Callable[[DoubleArray], Any]) -> None:
    try:
        from aeon import datasets
    except ImportError:
        raise SystemExit(f"{path} is missing; pip install aeon, and run benchmarks/workload_data.py again") from None
    inputs, names = zip(*(getattr(datasets, loader)(split=split) for split in ("train", "test")), strict=True)
    labels = np.unique(np.concatenate(names), return_inverse=True)[1]
    is_test = np.arange(len(labels)) >= len(names[0])
    rows = [features(np.asarray(each)) for part in inputs for each in part]
    _write_parts(path, np.stack(rows).astype(np.float32), labels, is_test)


def _write_parts(path: Path, inputs: FloatArray, labels: NDArray[np.int64], is_test: NDArray[np.bool_]) -> None:
    np.savez(path, x_train=inputs[~is_test], y_train=labels[~is_test], x_test=inputs[is_test], y_test=labels[is_test])


#: File and its writer, by name of the workload.
FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "wine": ("wine.csv", lambda path: sklearn_table(path, "load_wine", "cultivar")),
    "breast-cancer": ("breast_cancer.csv", lambda path: sklearn_table(path, "load_breast_cancer", "diagnosis")),
    "diabetes": ("diabetes.csv", lambda path: sklearn_table(path, "load_diabetes", "progression", scaled=False)),
    "friedman": ("friedman.csv", friedman),
    "spoken-digits": ("spoken_digits.npz", spoken_digits),
    "basic-motions": ("basic_motions.npz", basic_motions),
    "japanese-vowels": ("japanese_vowels.npz", japanese_vowels),
    "machine": ("machine.npz", machine),
}


def prepare(name: str, folder: Path) -> Path:
    """Return the data file of a workload; write it if it is missing."""
    file, write = FILES[name]
    path = folder / file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path)
    return path


def add_data_option(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add `--data DIR` and `--rows NAME,...`."""
    default = Path(os.environ.get("SEN_EDGE_DATA", "."))
    parser.add_argument("--data", type=Path, default=default, metavar="DIR", help="Default: $SEN_EDGE_DATA.")
    known = ",".join(names)
    parser.add_argument("--rows", default=known, metavar="NAME,...", help=f"Default: {known}.")


def main() -> None:
    """Write missing data files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, FILES)
    options = parser.parse_args()
    for name in options.rows.split(","):
        print(prepare(name, options.data))


if __name__ == "__main__":
    main()
