"""Storage of sparse int8 weights in exported C: exact round trip and exact results."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.c import streams
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Sparse

WIDE = 2000


def matrix(block: tuple[int, int], shape: tuple[int, int], part: float, seed: int = 0) -> Sparse:
    """Blocks of int8 in a `part` of the places; the second row has none, the last column a weight."""
    rng = np.random.default_rng(seed)
    kept = rng.random((shape[0], -(-shape[1] // block[1]))) < part
    kept[1], kept[0, -1] = False, True
    w = rng.integers(-127, 128, shape) * np.repeat(kept, block[1], axis=1)[:, : shape[1]]
    found = Sparse.from_dense(w.astype(np.float32), block)
    scale = rng.uniform(0.01, 0.02, shape[0]).astype(np.float32)
    return Sparse(found.values.astype(np.int8), found.columns, found.row_starts, shape, block, scale)


def rows_of(words: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Bytes of the groups `[n, 12]` of every row."""
    return [words.reshape(-1)[a:b].view(np.uint8).reshape(-1, 12) for a, b in pairwise(starts)]


def single_weights(groups: np.ndarray, columns: int) -> np.ndarray:
    row, place = np.zeros(columns, np.int64), 0
    for group in groups:
        for gap, weight in zip(group[:4], group[4:].view("<i2"), strict=True):
            place += int(gap)
            row[place] += weight
    return row


def block_weights(groups: np.ndarray, columns: int) -> np.ndarray:
    row = np.zeros(columns, np.int64)
    for group in groups:
        for index, place in enumerate(group[:4].view("<u2")):
            for half, stored in enumerate(group[4 + 4 * index : 8 + 4 * index].view("<i2")):
                low = int(np.int8(np.uint8(stored & 0xFF)))
                at = int(place) // 2 + 2 * half
                row[at] += low
                row[at + 1] += (int(stored) - low) // 256
    return row


@pytest.mark.parametrize("part", [0.5, 0.004])
def test_single_weights(part: float) -> None:
    operator = matrix((1, 1), (5, WIDE), part)
    words, starts = streams.single(operator)
    assert words.dtype == starts.dtype == np.int32
    found = [single_weights(groups, WIDE) for groups in rows_of(words, starts)]
    np.testing.assert_array_equal(found, operator.stored_matrix())
    if part < 0.01:  # gaps that a byte does not say
        assert np.diff(operator.columns).max() > 2 * streams.WIDEST_GAP


def test_blocks() -> None:
    operator = matrix((1, 4), (5, WIDE), 0.2)
    assert streams.takes_blocks(operator)
    words, starts = streams.blocks(operator)
    found = [block_weights(groups, WIDE) for groups in rows_of(words, starts)]
    np.testing.assert_array_equal(found, operator.stored_matrix())


def test_what_blocks_cannot_be() -> None:
    values = np.full((131, 4), 127, np.int8)
    columns, starts = np.arange(131, dtype=np.int32), np.array([0, 131], np.int32)
    scale = np.ones(1, np.float32)
    heavy = Sparse(values, columns, starts, (1, WIDE), (1, 4), scale)
    assert not streams.takes_blocks(heavy)
    assert streams.takes_blocks(Sparse(values - 1, columns, starts, (1, WIDE), (1, 4), scale))
    assert not streams.takes_blocks(Sparse(-values - 1, columns, starts, (1, WIDE), (1, 4), scale))
    assert streams.takes_blocks(Sparse(values - 1, columns, starts, (1, 4 * 8192), (1, 4), scale))
    assert not streams.takes_blocks(Sparse(values - 1, columns, starts, (1, 4 * 8193), (1, 4), scale))
    assert not streams.takes_blocks(matrix((1, 4), (5, WIDE + 1), 0.2))


@pytest.mark.parametrize(
    ("block", "columns", "multiply"),
    [
        ((1, 1), WIDE, "sen_stream_int8"),
        ((1, 4), WIDE, "sen_stream4_int8"),
        ((1, 4), WIDE + 1, "sen_sparse_int8_reference"),
    ],
)
def test_exported_products_are_exact(block: tuple[int, int], columns: int, multiply: str, tmp_path: Path) -> None:
    network = Network((Layer(matrix(block, (37, columns), 0.01), None, Identity()),))
    main = CExporter().export(network, COptions(name="net")).write(tmp_path)
    assert f".multiply = {multiply}," in main.read_text()
    x = np.random.default_rng(1).normal(size=(3, columns)).astype(np.float32)
    np.testing.assert_array_equal(engine.load(main).run(x), reference.trace_int8(network, x)[-1])
