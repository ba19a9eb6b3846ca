"""Images of every version, written by the releases and development versions that had it, with their outputs.

Needs no torch: it runs on every supported Python.
"""

from pathlib import Path

import numpy as np
import pytest

from sen_runtime import engines, reference
from sen_runtime import format as image
from sen_runtime.format import records
from sen_runtime.ir.network import stored_dtype

FILES = Path(__file__).parent / "files"
IMAGES = sorted(FILES.glob("*.sen"))
#: The version in the header.
VERSION_AT = 8


def test_every_version_is_here() -> None:
    versions = {path.read_bytes()[VERSION_AT] for path in IMAGES}
    assert versions == set(range(records.VERSION, records.LATEST + 1))


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_gives_the_outputs_it_gave(path: Path) -> None:
    stored, network = np.load(path.with_suffix(".npz")), image.read(path)
    x, expected = stored["x"], stored["y"]
    np.testing.assert_allclose(reference.run(network, x), expected, rtol=1e-5, atol=1e-6)
    for name in engines.installed(("native",)):  # which quantizes the inputs of integer weights, with 8 bits
        rounding = 0.02 * np.abs(expected).max() if stored_dtype(network).endswith("dynamic") else 1e-5
        np.testing.assert_allclose(engines.engine(name).load(path).run(x), expected, rtol=1e-4, atol=rounding)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_written_as_it_was(path: Path) -> None:
    assert image.dumps(image.read(path)) == path.read_bytes()
