"""The loader of the C library and the C exporter choose the same kernels for the same stored weights."""

import struct
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.c.program import lower_network
from sen_runtime import format as image
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator
from tests.support.clibrary import LIBRARY, STRICT, compile_c
from tests.support.networks import by_source

PACK, PORTABLE = 4, 32
DTYPES = ("float32", "float16", "int8")
#: Exported C stores these weights in the order of reading, which images do not have.
STREAMS = {"sen_stream_int8": "sen_sparse_int8", "sen_stream4_int8": "sen_sparse_1x4_int8"}
SCALE = np.ones(1, np.float32)


def values(dtype: str, *shape: int) -> tuple[np.ndarray, np.ndarray | None]:
    return np.ones(shape, dtype), SCALE if dtype == "int8" else None


def sparse(dtype: str, block: tuple[int, int], n_out: int, n_in: int) -> Sparse:
    """One block."""
    starts = np.ones(-(-n_out // block[0]) + 1, np.int32)
    starts[0] = 0
    stored, scale = values(dtype, 1, block[0] * block[1])
    return Sparse(stored, np.zeros(1, np.int32), starts, (n_out, n_in), block, scale)


def low_rank(dtype: str) -> LowRank:
    (left, left_scale), (right, right_scale) = values(dtype, 4, 2), values(dtype, 2, 4)
    return LowRank(left, right, left_scale, right_scale)


def operators() -> list[WeightOperator]:
    """Every dtype and block, on both sides of every limit."""
    blocks = [(1, 1), (1, 4), (4, 1), (8, 1), (16, 1), (2, 4), (1, 8)]
    columns = [8, 12, 15, 1 << 16, (1 << 16) + 1, (1 << 16) + 4, 1 << 18, (1 << 18) + 4]
    return [
        *(sparse(dtype, block, 16, n_in) for dtype, block, n_in in product(DTYPES, blocks, columns)),
        *(Dense(*values(dtype, 1, n_in)) for dtype, n_in in product(DTYPES, (3, 1 << 16, (1 << 16) + 1))),
        *map(low_rank, DTYPES),
    ]


@pytest.fixture(scope="module")
def name_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("kernels") / "name_kernels"
    sources = [*(LIBRARY / "src").glob("*.c"), Path(__file__).with_name("name_kernels.c")]
    compile_c("gcc", *STRICT, "-I", LIBRARY / "include", "-I", LIBRARY / "src", *sources, "-lm", "-o", program)
    return program


def loaded(name_kernels: Path, networks: list[Network], flags: int) -> list[list[str]]:
    """Kernels of each network, in the order of multiplication."""
    path = name_kernels.with_suffix(".images")
    path.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in map(image.dumps, networks)))
    done = subprocess.run([name_kernels, path, str(flags)], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def exported(network: Network) -> list[str]:
    kernels = [weights.kernel for weights in lower_network(network, "net").weights]
    return [STREAMS.get(kernel, kernel) for kernel in kernels]


def test_kernels_of_perceptrons(name_kernels: Path) -> None:
    networks = [Network((Layer(operator, None, Identity()),)) for operator in operators()]
    assert loaded(name_kernels, networks, PORTABLE) == list(map(exported, networks))


@pytest.mark.parametrize("flags", [PORTABLE, PORTABLE + PACK])
def test_kernels_of_sparse_weights_by_source(name_kernels: Path, flags: int) -> None:
    """One for all blocks and dtypes; sums of more int8 products than fit 32 bits are floats."""
    cases = [
        (dtype, sparse(dtype, block, 16, n_in))
        for dtype, block, n_in in product(DTYPES, [(1, 1), (16, 1), (3, 2)], [15, (1 << 16) + 1])
    ]
    networks = [by_source(Network((Layer(operator, None, Identity()),))) for _, operator in cases]
    assert loaded(name_kernels, networks, flags) == [
        ["sen_source_int8_reference" if dtype == "int8" and operator.shape[1] == 15 else "sen_source_reference"]
        for dtype, operator in cases
    ]


def test_kernels_of_sparse_weights_that_meet_spikes(name_kernels: Path) -> None:
    """Dense ones are stored in panels by the loader, by column by the exporter."""
    networks = []
    for dtype, block, n_out in product(DTYPES, [(1, 1), (1, 4), (2, 3)], [4, 1 << 16, (1 << 16) + 1]):
        readout = Layer(sparse("float32", (1, 1), 1, n_out), None, LeakyIntegrator(0.5))
        hidden = Layer(sparse(dtype, block, n_out, 4), None, Lif(0.5))
        networks.append(Network((hidden, readout), timesteps=1, input_coding="spikes"))
    assert loaded(name_kernels, networks, PORTABLE + PACK) == list(map(exported, networks))
