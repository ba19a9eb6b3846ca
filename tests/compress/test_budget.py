"""A search under a budget: its options, what it remembers, what it picks, and how an interrupted one goes on."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.compress import budget
from sen_edge.compress.accuracy import accuracy
from sen_edge.compress.budget import Budgeted, BudgetError, BudgetRequest, search
from sen_edge.compress.budget_state import Memory, state_path
from sen_edge.compress.options import DENSITIES, NEAR, OPTIONS, RANKS, Option, build, options_for
from sen_edge.compress.quadratic import Quadratic
from sen_edge.data.datasets import Dataset
from sen_edge.errors import OutputError, UsageError
from sen_edge.training.loop import Recipe
from sen_runtime import format as image
from sen_runtime.bench.interleaved import Latencies
from sen_runtime.data import hold_out
from sen_runtime.ir.network import Identity, Layer, Network, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum, WeightOperator
from tests.support.networks import random_network

PATTERNS = ("unstructured", "16x1", "1x4")
EVERY_OPTION = [
    Option("dense"),
    *(Option("sparse", 0, density, pattern) for pattern in PATTERNS for density in DENSITIES),
    *(Option("low-rank", rank) for rank in RANKS),
    *(Option("both", rank, density, pattern) for pattern in PATTERNS for rank, density in NEAR),
]


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", EVERY_OPTION, ids=str)
def test_an_option_is_its_name(option: Option) -> None:
    assert Option.parse(str(option)) == option


def problem(n_out: int, n_in: int) -> Quadratic:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3 * n_in, n_in)), rng.standard_normal((3 * n_out, n_out))
    return Quadratic.of(rng.standard_normal((n_out, n_in)), x.T @ x / len(x), y.T @ y / len(y))


def macs(option: Option, n_out: int, n_in: int) -> float:
    return n_out * n_in if option.kind == "dense" else option.rank * (n_out + n_in) + option.density * n_out * n_in


@pytest.mark.parametrize("shape", [(64, 64), (100, 41), (41, 100), (17, 300)], ids=str)
def test_options_take_fewer_products_than_dense(shape: tuple[int, int]) -> None:
    found = options_for(problem(*shape), OPTIONS, PATTERNS)
    assert found[0] == Option("dense") and len(set(found)) == len(found)
    assert all(macs(option, *shape) < shape[0] * shape[1] for option in found[1:])
    pays = {option for option in EVERY_OPTION if macs(option, *shape) < shape[0] * shape[1]}
    assert {option for option in pays if option.kind != "both"} <= {*found}  # a near field has one pattern
    assert {option.pattern for option in found if option.kind == "both"} <= {"unstructured"}


@pytest.mark.parametrize("method", OPTIONS)
def test_options_are_of_the_methods_alone(method: str) -> None:
    found = options_for(problem(64, 64), (method,), PATTERNS)
    assert {option.kind for option in found} == {"dense", method}
    assert options_for(problem(64, 64), (method,), ())[0] == Option("dense")


def test_a_small_layer_stays_dense() -> None:
    assert options_for(problem(64, 63), OPTIONS, PATTERNS) == [Option("dense")]


def form(operator: WeightOperator | None) -> tuple[Any, ...]:
    if isinstance(operator, Sum):
        return ("sum", form(operator.a), form(operator.b))
    if isinstance(operator, Sparse):
        return ("sparse", operator.block)
    return (type(operator), operator.rank) if isinstance(operator, LowRank) else (type(operator),)


@pytest.mark.parametrize(
    "option",
    [
        Option("sparse", 0, 0.1),
        Option("sparse", 0, 0.3, "16x1"),
        Option("sparse", 0, 0.1, "1x4"),
        Option("low-rank", 4),
        Option("both", 8, 0.05),
    ],
    ids=str,
)
def test_weights_and_their_stand_in_agree(option: Option) -> None:
    here = problem(64, 80)
    made, stand_in = build(here, option), option.stand_in((64, 80), np.random.default_rng(1))
    assert made is not None and made.shape == stand_in.shape == (64, 80)
    assert form(made) == form(stand_in)
    assert made.macs == stand_in.macs == pytest.approx(macs(option, 64, 80), abs=16)
    assert made.nbytes == pytest.approx(stand_in.nbytes, rel=0.05)


@pytest.mark.parametrize(
    ("option", "most"),
    [
        (Option("sparse", 0, 0.1), 1.1),
        (Option("low-rank", 4), 1.001),
        (Option("both", 8, 0.05), 1.001),
    ],
    ids=str,
)
def test_the_error_of_an_option_is_that_of_its_weights(option: Option, most: float) -> None:
    """Screening takes fewer rounds than building, so that its error is a little greater."""
    here = problem(64, 80)
    made = build(here, option)
    assert made is not None
    true = here.energy(here.to_scaled(made.to_dense().astype(np.float64)) - here.weight)
    assert 0.999 * true <= option.error(here) <= most * true
    whole = here.energy(here.weight)
    assert 0 < true < whole


def test_dense_has_no_error_and_no_weights_of_its_own() -> None:
    here = problem(64, 80)
    assert Option("dense").error(here) == 0 and build(here, Option("dense")) is None
    assert isinstance(Option("dense").stand_in((64, 80), np.random.default_rng(0)), Dense)


def test_more_weights_leave_less_error() -> None:
    here = problem(64, 80)
    for kind in ("sparse", "low-rank"):
        errors = [option.error(here) for option in options_for(here, (kind,), ("unstructured",))[1:]]
        assert errors == sorted(errors, reverse=kind == "low-rank")  # densities fall, ranks rise


# --- the network that is searched ----------------------------------------------------------------


def clouds() -> Dataset:
    """Ten classes that overlap, so that a network that loses much gets worse."""
    rng = np.random.default_rng(0)
    centres, labels = rng.random((10, 64)), np.arange(900) % 10
    x = np.clip(centres[labels] + 0.6 * rng.normal(size=(900, 64)), 0, 1).astype(np.float32)
    return Dataset("clouds", x[:800], labels[:800], x[800:], labels[800:], (0.0, 1.0))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return clouds()


@pytest.fixture(scope="module")
def network(data: Dataset) -> Network:
    """Random features, and the readout that is best for them: trained in closed form."""
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((72, 64)) / 8).astype(np.float32)
    b = -w @ data.train_inputs.mean(axis=0)
    hidden = np.c_[np.maximum(data.train_inputs @ w.T + b, 0), np.ones(len(data.train_labels))].astype(np.float64)
    readout = np.linalg.solve(hidden.T @ hidden + np.eye(73), hidden.T @ np.eye(10)[data.train_labels])
    weight = np.ascontiguousarray(readout[:-1].T, np.float32)
    return Network(
        (Layer(Dense(w), b, Relu()), Layer(Dense(weight), readout[-1].astype(np.float32), Identity())),
        metadata={"input_range": "0 1"},
    )


def contents(found: Budgeted) -> tuple[dict[str, Any], bytes]:
    return found.to_dict(), image.dumps(found.network)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """Networks whose accuracy was measured, in order."""
    calls, real = [], budget._Search._accuracy

    def counted(self: budget._Search, network: Network) -> float:
        calls.append(network)
        return real(self, network)

    monkeypatch.setattr(budget._Search, "_accuracy", counted)
    return calls


@pytest.fixture
def screened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options whose error was found, in order."""
    calls, real = [], Option.error

    def counted(self: Option, problem: Quadratic) -> float:
        calls.append(str(self))
        return real(self, problem)

    monkeypatch.setattr(Option, "error", counted)
    return calls


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "max_drop"), [("macs", 0.5), ("macs", 20.0), ("size", 3.0), ("size", 20.0)])
def test_the_cheapest_that_keeps_the_budget_is_chosen(
    network: Network, data: Dataset, objective: str, max_drop: float
) -> None:
    found = search(network, data, BudgetRequest(max_drop, objective))
    _, held = hold_out(data.train_labels, Recipe().validation, 0)
    assert found.samples == len(held)
    kept = accuracy(found.network, data.train_inputs[held], data.train_labels[held])
    assert found.chosen.accuracy == kept
    assert found.original.accuracy == accuracy(network, data.train_inputs[held], data.train_labels[held])
    assert found.original.accuracy - kept == found.chosen.drop <= max_drop
    costs = [each.cost for each in found.candidates]
    assert costs == sorted(costs) and len(costs) <= budget.MOST_CANDIDATES
    fitting = [each for each in found.candidates if each.drop <= max_drop]
    assert found.chosen == fitting[0]
    assert found.chosen.cost < found.original.cost
    true = found.network.macs if objective == "macs" else budget.weight_bytes(found.network)
    assert true == pytest.approx(found.chosen.cost, rel=0.05)
    assert all(each.drop == found.original.accuracy - each.accuracy for each in found.candidates)
    assert json.loads(json.dumps(found.to_dict()))["held_out"] == len(held)


def test_few_candidates_are_all_that_matter(network: Network, data: Dataset) -> None:
    """As cheap as what measuring every candidate of the chain finds."""
    request = BudgetRequest(0.0, "size")
    every = budget._Search(network, data, request, None, lambda *_: None)
    original = every._original().accuracy
    links = list(every._chain())
    fitting = [each for link in links if (each := every._judged(*link[:2], 0, link[2], original)).fits(request)]
    assert len(links) <= budget.MOST_CANDIDATES
    assert search(network, data, request).chosen == fitting[0]


def test_a_greater_drop_costs_less(network: Network, data: Dataset) -> None:
    costs = [search(network, data, BudgetRequest(drop, "size")).chosen.cost for drop in (0.0, 3.0, 30.0)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]


def test_the_methods_that_are_named_are_tried_alone(network: Network, data: Dataset) -> None:
    for method, word in (("sparse", "rank"), ("low-rank", "unstructured")):
        request = BudgetRequest(20.0, "size", methods=(method,), dtypes=("float32",))
        found = search(network, data, request)
        names = [name for each in found.candidates for name in each.layers]
        assert any(name != "dense" for name in names) and not any(word in name for name in names)
        assert {each.dtype for each in found.candidates} == {"float32"}


def test_int8_weights_are_smaller(network: Network, data: Dataset) -> None:
    found = search(network, data, BudgetRequest(5.0, "size"))
    assert found.chosen.dtype == "int8-dynamic" and {each.dtype for each in found.candidates} == {*budget.DTYPES}
    only = search(network, data, BudgetRequest(5.0, "size", dtypes=("float32",)))
    assert only.chosen.dtype == "float32" and only.chosen.cost > found.chosen.cost


def test_the_seed_decides(network: Network, data: Dataset) -> None:
    request = BudgetRequest(3.0, "macs", seed=5)
    first, again = (search(network, data, request) for _ in range(2))
    assert contents(first) == contents(again)
    other = search(network, data, replace(request, seed=6))
    assert other.original != first.original or other.candidates != first.candidates  # other examples are held out


def test_the_test_data_decide_nothing(network: Network, data: Dataset) -> None:
    request = BudgetRequest(3.0, "macs")
    other = replace(data, test_inputs=data.test_inputs[::-1] * 0, test_labels=(data.test_labels + 1) % 10)
    assert contents(search(network, data, request)) == contents(search(network, other, request))


def test_progress_is_told_in_shares(network: Network, data: Dataset) -> None:
    told: list[tuple[str, float]] = []
    search(network, data, BudgetRequest(1.0, "size", epochs=1), progress=lambda *each: told.append(each))
    assert {what for what, _ in told} == {"layer 0", "layer 1", "candidates", "distilling"}
    assert all(0 <= share <= 1 for _, share in told) and told[-1] == ("candidates", 1.0)


@pytest.mark.filterwarnings("ignore::sen_edge.compress.moments.CompressionWarning")
def test_a_spiking_network_is_searched_too(data: Dataset) -> None:
    spiking = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(64, 72, 10))
    found = search(spiking, data, BudgetRequest(99.0, "macs"))
    assert found.network.is_spiking and found.network.timesteps == spiking.timesteps
    assert found.chosen == found.candidates[0] and found.chosen.cost < found.original.cost


def test_nothing_fits(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [91.0]
    monkeypatch.setattr(budget._Search, "_accuracy", lambda *_: told.append(told[-1] - 1) or told[-2])
    with pytest.raises(BudgetError) as caught:
        search(network, data, BudgetRequest(0.0, "macs"))
    error = caught.value
    assert error.exit_code == 3
    assert error.message.startswith("nothing within 0 points of 91.00 % was found; the best of ")
    n = len(told) - 2  # of candidates; the original was first, and the last was not asked for
    assert f"the best of {n} candidates loses 1.00: " in error.message and " in float32" in error.message
    assert error.hint is not None and "allow a greater drop" in error.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": -0.1}, "the accuracy drop is -0.1"),
        ({"max_drop": 100}, "the accuracy drop is 100"),
        ({"max_drop": float("nan")}, "the accuracy drop is nan"),
        ({"objective": "speed"}, "objective: speed; expected some of latency, size, macs"),
        ({"engine": "tpu"}, "engine: tpu"),
        ({"methods": ()}, "methods: none"),
        ({"methods": ("sparse", "magic")}, "methods: sparse, magic"),
        ({"dtypes": ("float64",)}, "dtypes: float64"),
        ({"epochs": -1}, "epochs are -1"),
    ],
)
def test_requests_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BudgetRequest(**{"max_drop": 1.0, **options})


# --- latency -------------------------------------------------------------------------------------


class Costs:
    """Stands for a cost model: bytes are microseconds."""

    def latency_us(self, network: Network) -> float:
        return budget.weight_bytes(network) / 1000

    def options(self, network: Network) -> None: ...

    def to_dict(self) -> dict[str, Any]:
        return {"engine": "fake"}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Names of the networks of each measurement; that whose prediction is third is the fastest."""
    calls: list[tuple[str, ...]] = []

    def measure(networks: dict[str, Network], engine: str, x: np.ndarray, *_: object) -> Latencies:
        assert engine == "native" and 0 < len(x) <= budget.COST_INPUTS
        calls.append(tuple(networks))
        return Latencies({name: np.array([{"original": 9.0, "2": 1.0}.get(name, 5.0)] * 3) for name in networks})

    monkeypatch.setattr(budget, "measure", measure)
    monkeypatch.setattr(budget, "calibrate", lambda *_, **__: Costs())
    return calls


def test_the_fastest_that_was_measured_is_chosen(network: Network, data: Dataset, timed: list[tuple[str, ...]]) -> None:
    found = search(network, data, BudgetRequest(20.0))
    assert timed == [("original", "0", "1", "2", "3")]
    assert found.original.measured_us == 9.0
    fitting = [each for each in found.candidates if each.drop <= 20]
    assert [each.measured_us for each in fitting[:4]] == [5.0, 5.0, 1.0, 5.0] and found.chosen == fitting[2]
    assert not any(each.measured_us for each in found.candidates if each not in fitting[:4])
    costs = [each.cost for each in found.candidates]
    assert costs == sorted(costs)
    assert Costs().latency_us(found.network) == pytest.approx(found.chosen.cost, rel=0.05)


def test_an_engine_is_measured_once(
    network: Network, data: Dataset, timed: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(network, data, BudgetRequest(20.0), state=tmp_path / "state")
    monkeypatch.setattr(budget, "calibrate", None)
    monkeypatch.setattr(budget.CostModel, "from_dict", lambda values: {"fake": Costs()}[values["engine"]])
    again = search(network, data, BudgetRequest(20.0), state=tmp_path / "state")
    assert contents(first) == contents(again) and len(timed) == 2


# --- distillation --------------------------------------------------------------------------------


def test_cheaper_candidates_are_distilled(network: Network, data: Dataset, judged: list[Network]) -> None:
    request = BudgetRequest(1.0, "size", methods=("low-rank",), dtypes=("float32",))
    plain = search(network, data, request)
    assert not any(each.epochs for each in plain.candidates)
    untrained = len(judged)
    found = search(network, data, replace(request, epochs=3))
    tried = [each for each in found.candidates if each.epochs]
    assert tried and all(each.epochs == 3 and each.cost < plain.chosen.cost for each in tried)
    assert len(judged) == 2 * untrained + len(tried)
    assert [each for each in found.candidates if not each.epochs] == list(plain.candidates)
    assert found.chosen.cost <= plain.chosen.cost
    before = {(each.layers, each.dtype): each.accuracy for each in plain.candidates}
    assert any(each.accuracy > before[each.layers, each.dtype] for each in tried)
    order = [(each.cost, each.epochs) for each in found.candidates]
    assert order == sorted(order)
    assert contents(search(network, data, replace(request, epochs=3))) == contents(found)


def test_what_was_distilled_can_be_chosen(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained weights are right, others are not: the cheapest of all is trained, and its weights are what comes out."""
    trained: list[Network] = []
    real = budget.distil

    def distil(*arguments: Any) -> Any:
        tuned = real(*arguments)
        trained.append(tuned.network)
        assert tuned.epochs == 1
        return tuned

    def judge(self: budget._Search, candidate: Network) -> float:
        return 90.0 if any(candidate is each for each in [self.original, *trained]) else 50.0

    monkeypatch.setattr(budget, "distil", distil)
    monkeypatch.setattr(budget._Search, "_accuracy", judge)
    found = search(network, data, BudgetRequest(1.0, "size", dtypes=("float32",), epochs=1))
    assert found.chosen.epochs == 1 and found.chosen.cost == min(each.cost for each in found.candidates)
    assert any(found.network is each for each in trained)


# --- interrupted searches ------------------------------------------------------------------------


def stop_at(what: str, share: float) -> Callable[[str, float], None]:
    def progress(now: str, done: float) -> None:
        if now == what and done >= share:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("stop", [("layer 0", 0.5), ("candidates", 0.0), ("candidates", 0.2), ("distilling", 0.0)])
def test_an_interrupted_search_goes_on(
    network: Network,
    data: Dataset,
    judged: list[Network],
    screened: list[str],
    tmp_path: Path,
    stop: tuple[str, float],
) -> None:
    request, state = BudgetRequest(1.0, "size", epochs=1), tmp_path / "state"
    whole = search(network, data, request)
    expected = (len(judged), len(screened))
    with pytest.raises(KeyboardInterrupt):
        search(network, data, request, state=state, progress=stop_at(*stop))
    kept = json.loads(state.read_text())["values"]
    halfway = (len(judged) - expected[0], len(screened) - expected[1])
    assert halfway[0] == sum(key.startswith("accuracy") for key in kept) < expected[0]
    assert halfway[1] == sum(key.startswith("error") for key in kept) > 0
    found = search(network, data, request, state=state)
    assert (len(judged), len(screened)) == (2 * expected[0], 2 * expected[1])
    assert contents(found) == contents(whole)


def test_figures_hold_for_another_drop(
    network: Network, data: Dataset, judged: list[Network], screened: list[str], tmp_path: Path
) -> None:
    search(network, data, BudgetRequest(1.0, "size"), state=tmp_path / "state")
    before = len(screened)
    found = search(network, data, BudgetRequest(30.0, "size"), state=tmp_path / "state")
    assert len(screened) == before and found.chosen.drop <= 30
    assert contents(found) == contents(search(network, data, BudgetRequest(30.0, "size")))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"objective": "size"}, "objective"),
        ({"methods": ("sparse",)}, "methods"),
        ({"dtypes": ("float32",)}, "dtypes"),
        ({"epochs": 2}, "epochs"),
        ({"seed": 1}, "seed"),
        ({"engine": "litert"}, "engine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_state_of_another_request_is_refused(
    network: Network, data: Dataset, tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    state, request = tmp_path / "state", BudgetRequest(1.0, "macs")
    with pytest.raises(KeyboardInterrupt):
        search(network, data, request, state=state, progress=stop_at("layer 0", 0.1))
    before = state.read_bytes()
    with pytest.raises(UsageError, match=f"belongs to a search with another {name}$") as caught:
        search(network, data, replace(request, **change), state=state)
    assert caught.value.hint == f"remove {state} to search anew" and state.read_bytes() == before


# --- memory --------------------------------------------------------------------------------------

SUBJECT = asdict(BudgetRequest(0.0, "macs"))


def memory(path: Path | None, network: Network, data: Dataset, **change: Any) -> Memory:
    return Memory.of(path, network, data, {**SUBJECT, **change})


def test_a_figure_is_found_once(network: Network, data: Dataset, tmp_path: Path) -> None:
    state, values = tmp_path / "state", iter([1.5, 2.5])
    here = memory(state, network, data)
    assert not state.exists()
    assert [here.recall("a", lambda: next(values)) for _ in range(3)] == [1.5] * 3
    there = memory(state, network, data)
    assert there.recall("a", lambda: next(values)) == 1.5 and there.recall("b", lambda: next(values)) == 2.5
    assert memory(state, network, data).values == {"a": 1.5, "b": 2.5}


def test_floats_are_kept_exactly(network: Network, data: Dataset, tmp_path: Path) -> None:
    for number, value in enumerate((1 / 3, np.float64(0.1) + 0.2, 1e-300, 12345678.9)):
        memory(tmp_path / "state", network, data).keep(str(number), value)
        assert memory(tmp_path / "state", network, data).values[str(number)] == value


def test_a_failed_figure_is_not_kept(network: Network, data: Dataset, tmp_path: Path) -> None:
    here = memory(tmp_path / "state", network, data)
    with pytest.raises(ZeroDivisionError):
        here.recall("a", lambda: 1 / 0)
    assert here.values == {} and not (tmp_path / "state").exists()


def test_without_a_path_nothing_is_written(
    network: Network, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = memory(None, network, data)
    assert here.recall("a", lambda: 1.0) == 1.0
    assert not list(tmp_path.iterdir())


def test_another_subject_is_refused(network: Network, data: Dataset, tmp_path: Path) -> None:
    state = tmp_path / "state"
    memory(state, network, data).keep("a", 1.0)
    assert memory(state, replace(network, metadata={"note": "x"}), data).values == {"a": 1.0}
    other = replace(network, layers=(replace(network.layers[0], bias=None), *network.layers[1:]))
    for arguments, name in (
        ((other, data), "network"),
        ((network, replace(data, train_labels=data.train_labels[::-1])), "data"),
    ):
        with pytest.raises(UsageError, match=f"another {name}$"):
            memory(state, *arguments)
    with pytest.raises(UsageError, match="another seed, "):
        memory(state, network, data, seed=3, zzz=1)
    assert memory(state, network, data).values == {"a": 1.0}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("sen-edge-search", "sen-edge-training"),
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"subject"', '"object"'),
        lambda text: text.replace('"values": {', '"values": 3, "others": {'),
        lambda text: "\x00\xff",
    ],
    ids=["cut off", "empty", "list", "null", "format", "version", "no subject", "no values", "no text"],
)
def test_a_damaged_state_is_refused(
    network: Network, data: Dataset, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    state = tmp_path / "state"
    memory(state, network, data).keep("a", 1.0)
    state.write_text(damage(state.read_text()), "latin-1")
    before = state.read_bytes()
    with pytest.raises(UsageError, match="is not the state of an interrupted search") as caught:
        memory(state, network, data)
    assert caught.value.hint == f"remove {state} to search anew" and state.read_bytes() == before


def test_a_state_that_cannot_be_written(network: Network, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        memory(tmp_path / "absent" / "state", network, data).keep("a", 1.0)


def test_the_state_lies_beside_the_output() -> None:
    assert state_path(Path("a/small.sen")) == Path("a/small.sen.search.json")
