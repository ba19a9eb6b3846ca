"""Images for the fuzzer to start from: hostile ones, and one of every kind that is right.

python -m tests.support.corpus FOLDER
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from tests.support.hostile_images import HOSTILE
from tests.support.networks import KINDS, by_source, exact_wired_network, random_network
from tests.support.scalings import HOSTILE_SCALINGS, SCALED_INT8_SAMPLE, SCALED_TINY, scaled


def images() -> Iterator[bytes]:
    """Images of at most 8 KiB."""
    yield from (data for data, _ in {**HOSTILE, **HOSTILE_SCALINGS}.values())
    yield from (SCALED_TINY, SCALED_INT8_SAMPLE)
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for spiking in (False, True):
            network = random_network(rng, spiking=spiking, kinds=(kind,), sizes=(33, 9, 3))
            yield image.dumps(network)
            yield image.dumps(scaled(rng, network))
            if kind != "coordinates":
                yield image.dumps(to_int8_weights(network))
            if kind in ("sparse", "blocks"):
                yield from (image.dumps(by_source(each)) for each in (network, to_int8_weights(network)))
    yield from (image.dumps(exact_wired_network(np.random.default_rng(seed))) for seed in range(20))


def main(folder: Path) -> None:
    """Write each image under its hash, so that what the fuzzer found before stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in images():
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
