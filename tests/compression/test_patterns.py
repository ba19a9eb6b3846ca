"""Sparsity patterns, and their storage."""

import tracemalloc

import numpy as np
import pytest

from sen_edge.compression.patterns import Pattern, select_largest
from sen_edge.compression.prune import weights_per_layer
from sen_edge.compression.request import CompressRequest
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import to_sparse_layout
from sen_runtime.ir.operators import Dense, Sparse

RNG = np.random.default_rng
ENERGY = RNG(0).random((18, 22))


@pytest.mark.parametrize("text", ["unstructured", "16x1", "1x4", "8x1", "2:4", "1:3", "neurons"])
def test_a_pattern_is_its_name(text: str) -> None:
    assert str(Pattern.parse(text)) == text


@pytest.mark.parametrize("text", ["", "4", "4x", "0x1", "4:2", "2:2", "1x4x2", "blocks", "99999x1"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        Pattern.parse(text)


def test_selection_has_the_requested_size() -> None:
    values = np.array([[1.0, 2.0, 2.0], [2.0, 0.0, 3.0]])
    assert select_largest(values, 3).tolist() == [[False, True, True], [False, False, True]]
    assert [int(select_largest(values, n).sum()) for n in (-1, 0, 6, 9)] == [0, 0, 6, 6]


def test_unstructured_pattern_has_the_max_energy() -> None:
    mask = Pattern().select(ENERGY, 100)
    assert mask.sum() == 100 and ENERGY[mask].min() > ENERGY[~mask].max()


@pytest.mark.parametrize(("name", "rows", "columns"), [("16x1", 16, 1), ("1x4", 1, 4), ("4x4", 4, 4)])
def test_blocks_are_kept_whole_up_to_the_edge(name: str, rows: int, columns: int) -> None:
    mask = Pattern.parse(name).select(ENERGY, 40 * rows * columns // 4)
    for top in range(0, 18, rows):
        for left in range(0, 22, columns):
            block = mask[top : top + rows, left : left + columns]
            assert block.all() or not block.any()
    assert mask.any() and not mask.all()


def test_n_of_every_m_inputs_stay() -> None:
    mask = Pattern.parse("2:4").select(ENERGY, 0)
    assert mask.shape == ENERGY.shape
    assert {int(n) for n in mask[:, :20].reshape(18, 5, 4).sum(axis=2).ravel()} == {2}
    first = np.argsort(ENERGY[0, :4])[2:]
    assert mask[0, first].all()


def test_a_threshold_judges_the_mean_of_a_block() -> None:
    assert np.array_equal(Pattern().select_above(ENERGY, 0.5), ENERGY >= 0.5)
    assert Pattern.parse("2x2").select_above(np.ones((2, 2)), 1.0).all()
    assert Pattern.parse("4x4").select_above(np.ones((3, 5)), 1.0).all()  # what lies beyond the edge does not count


def test_blocks_at_the_edge_count_as_what_they_hold() -> None:
    energy = RNG(0).random((10, 64))  # a layer of 10 outputs, whose 16x1 blocks hold 10 synapses
    pattern = Pattern.parse("16x1")
    assert pattern.select(energy, 320).sum() == 320
    assert pattern.block_sizes((18, 3)).tolist() == [[16] * 3, [2] * 3]
    whole, part = RNG(1).random((32, 64)), RNG(2).random((10, 64))
    request = CompressRequest(0.75, pattern="16x1", scope="global")
    kept = [*weights_per_layer({0: whole, 1: part}, request).values()]
    assert sum(kept) == pytest.approx(0.25 * (whole.size + part.size), abs=8)
    assert [pattern.select(energy, n).sum() for energy, n in zip((whole, part), kept, strict=True)] == kept


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (8, 1), (16, 1), (1, 4)])
def test_mask_is_stored_in_its_blocks(block: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(size=(32, 40)).astype(np.float32)
    mask = Pattern(block=block).select(rng.random(w.shape), w.size // 8)
    operator = to_sparse_layout(w, mask)
    assert isinstance(operator, Sparse) and operator.block == block
    assert np.array_equal(operator.to_dense(), np.where(mask, w, 0))


def test_zeros_that_save_nothing_are_stored_dense() -> None:
    w = np.ones((32, 40), np.float32)
    assert isinstance(to_sparse_layout(w, np.ones(w.shape, bool)), Dense)
    mask = np.random.default_rng(2).random(w.shape) < 0.8
    operator = to_sparse_layout(w, mask)
    assert isinstance(operator, Dense) and np.array_equal(operator.w, mask)
    assert to_sparse_layout(w, np.zeros(w.shape, bool)).macs == 0


def test_weights_without_zeros_need_no_patterns() -> None:
    w = np.ones((256, 256), np.float32)
    tracemalloc.start()
    to_sparse_layout(w, np.ones(w.shape, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * w.nbytes
