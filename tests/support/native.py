"""Small `.sen` images, and the ways to load them in the C library."""

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime.engines import native
from tests.support.networks import random_network

#: How a model may be loaded.
WAYS = [{"kernels": kernels, "pack": pack, "expand": pack} for kernels in native.KERNELS for pack in (True, False)]
in_every_way = pytest.mark.parametrize(
    "way", WAYS, ids=lambda way: f"{way['kernels']}-{'packed' if way['pack'] else 'in place'}"
)
SMALL = image.dumps(random_network(np.random.default_rng(0), kinds=("dense",), sizes=(3, 2)))
