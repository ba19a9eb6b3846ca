"""Log-mel features of the keyword spotting example: C and numpy."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.tools import find_command

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples/keyword_spotting/logmel.c"
#: Difference of two features in natural units: far below the effect of one step of a quiet sample.
TOLERANCE = 2e-3


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import features as module

    return module


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = find_command("cc")
    if compiler is None:
        pytest.skip("cc is missing")
    out = tmp_path_factory.mktemp("logmel") / "logmel.so"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(SOURCE), "-lm", "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))


def in_c(library: ctypes.CDLL, samples: NDArray[np.int16]) -> NDArray[np.float32]:
    result = np.zeros(640, np.float32)
    library.logmel(
        samples.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(samples)), result.ctypes.data_as(ctypes.c_void_p)
    )
    return result.reshape(32, 20)


def sound(n: int) -> NDArray[np.int16]:
    rng, t = np.random.default_rng(n), np.arange(n) / 8000
    tones = sum(np.sin(2 * np.pi * f * t) for f in (180, 700, 1234, 2900))
    return (3000 * (np.asarray(tones) + rng.standard_normal(n))).astype(np.int16)


@pytest.mark.parametrize("n", [1, 100, 256, 257, 1148, 4000, 18262])
def test_c_computes_the_features_of_training(features: Any, library: ctypes.CDLL, n: int) -> None:
    samples = sound(n)
    assert np.abs(in_c(library, samples) - features.speech_features(samples)).max() < TOLERANCE


def test_silence_gives_the_floor(features: Any, library: ctypes.CDLL) -> None:
    found = in_c(library, np.zeros(1000, np.int16))
    assert found == pytest.approx(np.log(features.SPEECH.floor), rel=1e-6)


def test_a_tone_excites_the_triangle_of_its_frequency(features: Any) -> None:
    n = 4000
    tone = (10_000 * np.sin(2 * np.pi * 1000 * np.arange(n) / 8000)).astype(np.int16)
    loudest = features.speech_features(tone).argmax(axis=1)
    centre = features.SPEECH.triangles[loudest[0]].argmax() * 8000 / 256
    assert (loudest == loudest[0]).all() and abs(centre - 1000) < 150
