"""Costs of networks on boards: instructions by the table, latencies in records, and the search with either."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.compression import boards
from sen_edge.compression.boards import Board, ProductCost, active_shares, features, instructions
from sen_edge.compression.budget import Search, search
from sen_edge.compression.evaluator import finalists_path, state_path
from sen_edge.compression.request import CompressRequest
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.passes.quantize import to_int8_weights
from sen_edge.schema import SchemaError
from sen_runtime import engines
from sen_runtime.bench import measure, memory
from sen_runtime.bench.record import RecordError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse
from tests.compression.test_budget import Fake, budget, find
from tests.support.bench import Machine

RNG = np.random.default_rng(0)


def weight(n_out: int, n_in: int) -> np.ndarray:
    return RNG.standard_normal((n_out, n_in)).astype(np.float32)


def cost(form: str, dtype: Any, factors: tuple[float, ...], **fields: Any) -> ProductCost:
    limits = {"meets_spikes": False, "max_weights": 0, "min_density": 0.0, "group": 1, "max_error": 0.0}
    return ProductCost(form, dtype, factors=factors, **{**limits, **fields})


def board(*products: ProductCost) -> Board:
    return Board("a-core", products)


#: Each weight times each active input costs 1.
DENSE_COST = board(cost("dense", "float32", (0, 0, 0, 0, 0, 0, 0, 1)))


def once(count: float) -> tuple[float, ...]:
    """Factors of a product that takes so many instructions."""
    return count, *[0.0] * 7


def test_zeros_are_skipped_in_groups() -> None:
    x = np.array([[1, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0]], np.float32)
    expected = {1: [1, 0, 0, 0, 0, 1], 2: [1, 1, 0, 0, 1, 1], 4: [1, 1, 1, 1, 1, 1]}
    for group, shares in expected.items():
        assert active_shares(x, group).tolist() == [share / 2 for share in shares]


def test_features_of_a_sparse_matrix() -> None:
    w = np.zeros((32, 6), np.float32)
    w[:16, 2] = w[0, 5] = 1
    active = np.array([0, 0, 0.5, 0, 0, 0.25])
    assert features(Sparse.from_dense(w, (16, 1)), active) == (1, 32, 6, 192, 32, 0.75, 24, 12)
    assert features(Sparse.from_dense(w, (1, 2)), active)[-1] == 32 * 0 + 16 * 0.5 + 0.25
    assert features(Dense(w), active) == (1, 32, 6, 192, 192, 0.75, 24, 24)


def test_inner_vectors_of_low_rank_are_active() -> None:
    network = Network((Layer(LowRank(weight(8, 2), weight(2, 10)), None, Identity()),))
    x = np.zeros((1, 10), np.float32)
    x[0, :5] = 1
    assert instructions(DENSE_COST, network, x) == 2 * 10 * 0.5 + 8 * 2


def test_the_activations_of_hidden_layers_count() -> None:
    hidden = np.vstack([np.ones((3, 4)), -np.ones((1, 4))]).astype(np.float32)
    network = Network((Layer(Dense(hidden), None, Relu()), Layer(Dense(weight(5, 4)), None, Identity())))
    assert instructions(DENSE_COST, network, np.ones((2, 4), np.float32)) == 4 * 4 + 5 * 4 * 3 / 4


def test_spiking_layers_run_in_each_step() -> None:
    always = Lif(beta=0.5, threshold=1e-3)
    layers = [Layer(Dense(np.ones((6, n_in), np.float32)), None, always) for n_in in (3, 6)]
    network = Network((*layers, Layer(Dense(weight(2, 6)), None, LeakyIntegrator(0.9))), timesteps=7)
    x = np.ones((1, 3), np.float32)
    found = board(cost("dense", "float32", once(1)), cost("dense", "float32", once(100), meets_spikes=True))
    assert instructions(found, network, x) == 1 + 7 * 100 + 1  # a constant input once, the readout with the total


def test_the_first_cost_that_fits_is_used() -> None:
    found = board(
        cost("unstructured", "float32", once(1), max_weights=100, min_density=0.5),
        cost("unstructured", "float32", once(2)),
    )
    for n_in, share, count in ((10, 1, 1), (11, 1, 2), (10, 0.5, 1), (10, 0.4, 2)):
        w = weight(10, n_in)
        w[:, round(share * n_in) :] = 0
        network = Network((Layer(Sparse.from_dense(w), None, Identity()),))
        assert instructions(found, network, np.ones((1, n_in), np.float32)) == count


def test_a_form_without_cost_is_named() -> None:
    network = to_int8_weights(Network((Layer(Dense(weight(4, 4)), None, Identity()),)))
    with pytest.raises(UsageError, match=r"dense int8.*dense float32"):
        instructions(DENSE_COST, network, np.ones((1, 4), np.float32))


@pytest.mark.parametrize("name", ["pi3", "pi4", "pi5"])
def test_boards_have_costs_of_all_candidates(name: str) -> None:
    found = boards.boards()[name]
    patterns = {"dense", *engines.engine("native").fast_patterns}
    assert {(each.form, each.dtype, each.meets_spikes) for each in found.products} == {
        (form, dtype, spikes) for form in patterns for dtype in ("float32", "int8") for spikes in (False, True)
    }
    assert all(len(each.factors) == 8 and each.max_error < 0.4 for each in found.products)
    w, x = weight(512, 784), np.ones((1, 784), np.float32)
    kept = np.repeat(RNG.random((32, 784)) < 0.1, 16, axis=0)
    forms = [Dense(w), Sparse.from_dense(w * kept, (16, 1)), LowRank(weight(512, 16), weight(16, 784))]
    dense, blocks, low_rank = (instructions(found, Network((Layer(form, None, Identity()),)), x) for form in forms)
    assert dense > blocks > 0 and dense > low_rank > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "pi9"}, "pi3, pi4, pi5"),
        ({"device": "pi4", "objective": "size"}, "device has no effect without objective latency"),
        ({"device": "pi4", "engine": "litert"}, "native"),
    ],
)
def test_devices_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        CompressRequest(max_drop=1.0, **fields)
    assert caught.value.key == "device"
    with pytest.raises(SchemaError, match="device"):
        CompressRequest(rank=4, device="pi4")


class OnBoard(Fake):
    """An evaluator of a board where sparse weights are slow."""

    def latencies_us(self, plans: Any) -> list[float]:
        pytest.fail("nothing is measured on this machine")

    def instructions(self, plans: Any) -> list[float]:
        is_sparse = [any(form.density for form in plan.layers) for plan in plans]
        is_low_rank = [any(form.rank for form in plan.layers) for plan in plans]
        return [1e6 if sparse else 1e5 if low else 2e5 for sparse, low in zip(is_sparse, is_low_rank, strict=True)]


def test_the_instructions_of_a_board_decide() -> None:
    found = Search(OnBoard(), budget(1.0, device="pi4")).run()
    assert all(form.density == 0 for form in found.chosen.plan.layers)
    assert any(form.rank for form in found.chosen.plan.layers)
    assert (found.chosen.instructions, found.chosen.latency_us, found.original.instructions) == (1e5, None, 2e5)
    here = find(Fake(), budget(1.0))
    assert here.chosen.instructions is None and here.chosen.latency_us is not None


# --- records -------------------------------------------------------------------------------------


def small_search(path: Path) -> tuple[Network, Dataset, CompressRequest, Path]:
    rng = np.random.default_rng(0)
    x, labels = rng.random((600, 64)).astype(np.float32), np.arange(600) % 10
    data = Dataset("noise", x[:500], labels[:500], x[500:], labels[500:], (0.0, 1.0))
    layers = (Layer(Dense(weight(72, 64)), None, Relu()), Layer(Dense(weight(10, 72)), None, Identity()))
    request = CompressRequest(max_drop=99.0, methods=("low-rank",), device=str(path))
    return Network(layers, metadata={"input_range": "0 1"}), data, request, state_path(path.with_name("out.sen"))


def bench(files: list[Path], data: Path, path: Path) -> dict[str, Any]:
    request = measure.BenchRequest(tuple(files), ("native",), seconds=0.05, data=data)
    found = measure.run(request, device=Machine()).record
    path.write_text(json.dumps(found))
    return found


@pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")
def test_finalists_are_measured_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)
    path = tmp_path / "board.json"
    network, data, request, state = small_search(path)
    with pytest.raises(UsageError, match=r"board\.json") as caught:
        search(network, data, request, state=state)
    folder = finalists_path(state)
    files = sorted(folder.glob("*.sen"))
    assert len(files) >= 2 and all(str(each) in caught.value.hint for each in [*files, folder / "inputs.npz"])
    bench(files[:-1], folder / "inputs.npz", path)
    with pytest.raises(UsageError, match=r"1 of"):
        search(network, data, request, state=state)
    rows = bench(files, folder / "inputs.npz", path)["rows"]
    found = search(network, data, request, state=state)
    medians = [row["latency_us"]["median"] for row in rows]
    assert found.original.latency_us == medians[0] and found.chosen.latency_us == min(medians[1:])
    boards.remove_finalists(folder)
    assert not folder.exists()


def test_records_that_do_not_fit_are_refused_before_the_search(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    network, data, request, state = small_search(path)
    path.write_text('{"schema": "sen-edge/bench/0"}')
    with pytest.raises(RecordError, match="sen-edge/bench/1"):
        search(network, data, request, state=state)
    assert not state.exists()
    with pytest.raises(UsageError, match="record"):
        search(network, data, request)


def test_a_record_that_is_not_valid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"valid": False, "status": "complete", "invalid_because": ["the clock"], "rows": []}
    monkeypatch.setattr(boards.record, "read", lambda path: found)
    with pytest.raises(UsageError, match="the clock"):
        boards.read_record(tmp_path / "board.json")
