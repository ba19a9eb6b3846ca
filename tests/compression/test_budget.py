"""Search under a budget, with an evaluator whose accuracies and latencies are functions."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from sen_edge.compression.budget import Budgeted, BudgetError, Search, trade_off
from sen_edge.compression.evaluator import DENSE, Figures, Form, Plan
from sen_edge.compression.request import CompressRequest
from sen_edge.progress import Progress, silent
from sen_edge.schema import SchemaError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from sen_runtime.task import ACCURACY, RMSE, Metric

ORIGINAL = Plan((DENSE, DENSE))
#: Flash without weights.
CODE_BYTES = 3000
NETWORK = Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),))
#: Microseconds of a multiply-accumulate by family.
MAC_US = {"dense": 1e-5, "unstructured": 1e-3, "16x1": 1e-4, "1x4": 1e-4, "low-rank": 2e-5}


#: Points of accuracy that a dtype costs.
ROUNDING = {"float32": 0, "int8-dynamic": 0.05, "int4-dynamic": 0.4, "int8": 0.06, "int4": 0.5}


def loss(plan: Plan) -> float:
    """Points of accuracy that a plan costs: fewer with more weights, more with int8, a third after distillation."""
    total = 0.0
    for form in plan.layers:
        total += 0.1 / form.density if form.density and not form.rank else 0.0
        total += 8 / (form.rank * (1 + 5 * form.density)) if form.rank else 0.0
    return (total + ROUNDING[plan.dtype]) / (3 if plan.epochs else 1)


def latency(plan: Plan, shapes: Sequence[tuple[int, int]]) -> float:
    rates = [MAC_US.get(form.family, 1e-3) for form in plan.layers]
    macs = [form.macs(shape) for form, shape in zip(plan.layers, shapes, strict=True)]
    return sum(rate * count for rate, count in zip(rates, macs, strict=True)) * (0.9 if "int8" in plan.dtype else 1)


@dataclass
class Fake:
    """An evaluator of two layers, and the plans that it was asked for."""

    accuracy: Callable[[Plan], float] = lambda plan: 98 - loss(plan)
    latency: Callable[[Plan], float] | None = None
    shapes: Sequence[tuple[int, int]] = ((512, 784), (10, 512))
    samples: int = 500
    metric: Metric = ACCURACY
    plans: list[Plan] = field(default_factory=list)
    timed: list[tuple[Plan, ...]] = field(default_factory=list)

    def error(self, layer: int, form: Form) -> float:
        return (10.0, 1.0)[layer] * loss(Plan((form,)))

    def figures(self, plan: Plan) -> Figures:
        self.plans.append(plan)
        pairs = list(zip(plan.layers, self.shapes, strict=True))
        itemsize = {"float32": 8, "int8-dynamic": 2, "int4-dynamic": 1, "int8": 2, "int4": 1}[plan.dtype]
        macs, nbytes = (
            (form.macs(shape) for form, shape in pairs),
            (form.nbytes(shape, itemsize) for form, shape in pairs),
        )
        size = sum(nbytes)
        return Figures(self.accuracy(plan), sum(macs), size, CODE_BYTES + size)

    def latencies_us(self, plans: Sequence[Plan]) -> list[float]:
        self.timed.append(tuple(plans))
        return [latency(plan, self.shapes) if self.latency is None else self.latency(plan) for plan in plans]

    def network(self, plan: Plan) -> Network:
        return replace(NETWORK, metadata={"plan": str(plan)})


def budget(drop: float, objective: str = "latency", **fields: Any) -> CompressRequest:
    return CompressRequest(max_drop=drop, objective=objective, **fields)


def find(fake: Fake, request: CompressRequest, progress: Progress = silent) -> Budgeted:
    return Search(fake, request, progress).run()


def chains(request: CompressRequest) -> list[list[Plan]]:
    return Search(Fake(), request).chains()


# --- size and multiply-accumulates ---------------------------------------------------------------


@pytest.mark.parametrize("objective", ["macs", "size"])
@pytest.mark.parametrize("max_drop", [0.3, 0.5, 1.0, 5.0, 60.0])
def test_the_smallest_that_keeps_the_budget_is_chosen(objective: str, max_drop: float) -> None:
    """As small as what evaluating every candidate finds, from few of them."""
    request, fake = budget(max_drop, objective), Fake()
    found = find(fake, request)
    every = [plan for chain in chains(request) for plan in chain]
    cost = {"macs": lambda figures: figures.macs, "size": lambda figures: figures.nbytes}[objective]
    fitting = [Fake().figures(plan) for plan in every if loss(plan) <= max_drop]
    assert cost(found.chosen.figures) == min(map(cost, fitting)) < cost(found.original.figures)
    assert found.chosen.drop == pytest.approx(loss(found.chosen.plan)) and found.chosen.drop <= max_drop
    assert found.network.metadata["plan"] == str(found.chosen.plan)
    assert found.samples == 500 and fake.timed == []
    asked = sum(1 + math.ceil(math.log2(len(chain) + 1)) for chain in chains(request))
    assert len(fake.plans) == len(set(fake.plans)) == 1 + len(found.candidates) <= 1 + asked < len(every) / 2
    costs = [cost(each.figures) for each in found.candidates]
    assert costs == sorted(costs)


def test_a_larger_drop_costs_less() -> None:
    costs = [find(Fake(), budget(drop, "size")).chosen.figures.nbytes for drop in (0.2, 1.0, 5.0, 60.0)]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 4


def test_chains_rise_in_size_and_fall_in_error() -> None:
    request = budget(1.0, "macs")
    for chain in chains(request):
        sizes = [Fake().figures(plan).macs for plan in chain]
        errors = [sum(Fake().error(layer, form) for layer, form in enumerate(plan.layers)) for plan in chain]
        assert sizes == sorted(set(sizes)) and errors == sorted(errors, reverse=True)
        assert ORIGINAL not in chain


def test_a_trade_off_has_both_ends() -> None:
    small, large = Form(4), Form(64)
    sizes: list[Mapping[Form, float]] = [{DENSE: 100, small: 10, large: 50}] * 2
    errors = [{DENSE: 0.0, small: 9.0, large: 2.0}, {DENSE: 0.0, small: 0.9, large: 0.2}]
    found = trade_off(sizes, errors)
    assert found[0] == (small, small) and found[-1] == (DENSE, DENSE)
    assert found.index((large, small)) < found.index((DENSE, large))  # the sensitive layer gets its weights first


@pytest.mark.parametrize("method", ["sparse", "low-rank", "both"])
def test_only_the_requested_methods_are_tried(method: Any) -> None:
    found = find(Fake(), budget(20.0, "size", methods=(method,), dtypes=("float32",)))
    forms = {form for each in found.candidates for form in each.plan.layers} - {DENSE}
    expected = {"sparse": (False, True), "low-rank": (True, False), "both": (True, True)}[method]
    assert forms and {(form.rank > 0, form.density > 0) for form in forms} == {expected}
    assert {each.plan.dtype for each in found.candidates} == {"float32"}


def test_int8_weights_are_smaller() -> None:
    found = find(Fake(), budget(5.0, "size"))
    assert found.chosen.plan.dtype.startswith("int")
    assert {each.plan.dtype for each in found.candidates} == {"float32", "int8-dynamic", "int4-dynamic"}


@pytest.mark.parametrize(("drop", "dtype"), [(0.5, "int4-dynamic"), (0.3, "int8-dynamic")])
def test_int4_is_chosen_where_the_score_holds(drop: float, dtype: str) -> None:
    """Of a network whose first layer has to stay dense."""
    fake = Fake(lambda plan: 98 - ROUNDING[plan.dtype] - 10 * (plan.layers[0] != DENSE))
    found = find(fake, budget(drop, "size", methods=("low-rank",)))
    assert found.chosen.plan.dtype == dtype


def test_int4_is_tried_for_size_only() -> None:
    found = find(Fake(), budget(5.0))
    assert {each.plan.dtype for each in found.candidates} == {"float32", "int8-dynamic"}
    with pytest.raises(SchemaError, match="size"):
        budget(5.0, dtypes=("int4-dynamic",))


def test_int4_without_dense_weights_before_the_last_layer_is_not_tried() -> None:
    found = find(Fake(), budget(20.0, "size"))
    plans = [each.plan for each in found.candidates if each.plan.dtype == "int4-dynamic"]
    assert all(plan.layers[0] == DENSE for plan in plans)


# --- flash ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_flash", [20_000, 64 << 10, 300_000, 1_000_000])
def test_the_best_that_fits_the_flash_is_chosen(max_flash: int) -> None:
    """As good as what evaluating every candidate finds, from few of them."""
    request, fake = CompressRequest(max_flash=max_flash), Fake()
    found = find(fake, request)
    every = [plan for chain in chains(request) for plan in chain]
    fitting = [plan for plan in every if (fake.figures(plan).flash or 0) <= max_flash]
    assert found.chosen.drop == pytest.approx(min(map(loss, fitting))) and found.chosen.plan in fitting
    assert {each.plan.dtype for each in found.candidates} <= {"int8", "int4"} and fake.timed == []
    assert len(found.candidates) < len(every) / 2


def test_a_flash_size_may_be_text() -> None:
    assert CompressRequest(max_flash="64KiB") == CompressRequest(max_flash=65536)  # type: ignore[arg-type]


def test_both_limits_hold() -> None:
    for objective in ("size", "latency"):
        chosen = find(Fake(), budget(1.0, objective, max_flash=150_000)).chosen
        assert chosen.drop <= 1 and (chosen.figures.flash or 0) <= 150_000
    with pytest.raises(BudgetError, match=r"1 points and 20,000 B") as caught:
        find(Fake(), budget(1.0, "size", max_flash=20_000))
    assert caught.value.exit_code == 3


def test_no_candidate_fits_the_flash() -> None:
    fake = Fake()
    with pytest.raises(BudgetError, match=r"2,000 B") as caught:
        find(fake, CompressRequest(max_flash=2000))
    assert caught.value.best.figures.flash == min(fake.figures(plan).flash or 0 for plan in fake.plans[1:])


def test_the_original_network_is_the_best_where_it_fits() -> None:
    found = find(Fake(), CompressRequest(max_flash=1 << 30, dtypes=("float32", "int8")))
    assert found.chosen.plan == ORIGINAL


def test_a_network_that_fits_the_flash_is_distilled() -> None:
    found = find(Fake(), CompressRequest(max_flash=64 << 10, epochs=3))
    assert found.chosen.plan.epochs == 3
    plain = find(Fake(), CompressRequest(max_flash=64 << 10))
    assert loss(replace(found.chosen.plan, epochs=0)) == pytest.approx(plain.chosen.drop)


# --- latency -------------------------------------------------------------------------------------

FAMILIES = {
    "native": {"dense", "unstructured", "16x1", "low-rank", "low-rank + unstructured"},
    "litert": {"dense", "1x4", "low-rank", "low-rank + 1x4"},
    "onnxruntime": {"dense", "low-rank"},
}


def family(plan: Plan) -> str:
    (name,) = {form.family for form in plan.layers} - {"dense"} or {"dense"}
    return name


@pytest.mark.parametrize("engine", FAMILIES)
def test_each_kernel_and_dtype_has_a_finalist(engine: Any) -> None:
    """The smallest that fits of each, so that no form is missed for its multiply-accumulates."""
    fake, request = Fake(), budget(2.0, engine=engine)
    found = find(fake, request)
    ((original, *finalists),) = fake.timed
    assert original == ORIGINAL
    kinds = [(family(plan), plan.dtype) for plan in finalists]
    assert set(kinds) == {(name, dtype) for name in FAMILIES[engine] for dtype in ("float32", "int8-dynamic")} - {
        ("dense", "float32")
    }
    assert len(finalists) == len(set(finalists)) == len(set(kinds)) == len(kinds)
    for chain in chains(request):
        fitting = [plan for plan in chain if loss(plan) <= 2.0]
        assert not fitting or fitting[0] in finalists
    assert {each.plan for each in found.candidates if each.latency_us is not None} == set(finalists)
    assert found.original.latency_us == latency(ORIGINAL, fake.shapes)


@pytest.mark.parametrize("fastest", ["unstructured", "16x1", "low-rank", "low-rank + unstructured"])
@pytest.mark.parametrize("dtype", ["float32", "int8-dynamic"])
def test_the_fastest_that_is_measured_is_chosen(fastest: str, dtype: str) -> None:
    fake = Fake(latency=lambda plan: 1.0 if (family(plan), plan.dtype) == (fastest, dtype) else 2.0)
    chosen = find(fake, budget(2.0)).chosen
    assert (family(chosen.plan), chosen.plan.dtype, chosen.latency_us) == (fastest, dtype, 1.0)


def test_nothing_is_faster_than_the_original() -> None:
    with pytest.raises(BudgetError) as caught:
        find(Fake(latency=lambda plan: 1.0 if plan == ORIGINAL else 2.0), budget(2.0))
    assert caught.value.exit_code == 3 and caught.value.best.latency_us == 2.0


# --- distillation --------------------------------------------------------------------------------


def test_smaller_candidates_are_distilled() -> None:
    request = budget(1.0, "size")
    plain, found = find(Fake(), request), find(Fake(), replace(request, epochs=3))
    trained = [each for each in found.candidates if each.plan.epochs]
    assert trained and {each.plan.epochs for each in trained} == {3}
    assert [each for each in found.candidates if not each.plan.epochs] == list(plain.candidates)
    assert found.chosen.plan.epochs == 3 and found.chosen.figures.nbytes < plain.chosen.figures.nbytes
    of_dtype = {each.plan.dtype: each.figures.nbytes for each in reversed(plain.candidates) if each.drop <= 1}
    assert all(each.figures.nbytes < of_dtype[each.plan.dtype] for each in trained)


def test_distillation_that_helps_nothing_changes_nothing() -> None:
    request, fake = budget(1.0, "macs", epochs=2), Fake(lambda plan: 98 - loss(replace(plan, epochs=0)))
    assert find(fake, request).chosen == find(Fake(), replace(request, epochs=0)).chosen


# --- failure, progress, values -------------------------------------------------------------------


def test_nothing_fits() -> None:
    fake = Fake(lambda plan: 98 if plan == ORIGINAL else 90 - loss(plan))
    with pytest.raises(BudgetError) as caught:
        find(fake, budget(1.0, "macs"))
    assert caught.value.exit_code == 3 and caught.value.hint
    assert caught.value.best.drop == min(fake.accuracy(ORIGINAL) - fake.accuracy(plan) for plan in fake.plans[1:])


def test_no_layer_has_another_form() -> None:
    with pytest.raises(BudgetError):
        find(
            Fake(shapes=((10, 64), (10, 10))),
            budget(1.0, "macs", dtypes=("float32",)),
        )


def test_rounding_of_accuracies_does_not_decide() -> None:
    fake = Fake(lambda plan: 97.9004199160168 if plan == ORIGINAL else 97.9004199160168 - 0.5)
    assert find(fake, budget(0.5, "macs")).chosen.figures.macs < 60_000


@pytest.mark.parametrize("objective", ["size", "latency"])
def test_progress_is_reported_in_shares(objective: Any) -> None:
    told: list[tuple[str, float]] = []
    find(Fake(), budget(2.0, objective, epochs=1), lambda *each: told.append(each))
    stages = ["layer 0", "layer 1", "candidates"] + ["measuring finalists"] * (objective == "latency")
    assert list(dict.fromkeys(stage for stage, _ in told)) == stages
    assert all(0 <= share <= 1 for _, share in told) and ("candidates", 1.0) in told


def test_the_old_name_of_the_budget_is_the_same_request() -> None:
    assert CompressRequest(max_accuracy_drop=2.0) == CompressRequest(max_drop=2.0)


def test_a_metric_that_falls_is_better() -> None:
    """An error instead of an accuracy: the same drops give the same networks."""
    accuracy, error = Fake(), Fake(lambda plan: 2 + loss(plan), metric=RMSE)
    chosen, other = (find(fake, budget(2.0)).chosen for fake in (accuracy, error))
    assert chosen.plan == other.plan and chosen.drop == pytest.approx(other.drop)


def test_results_are_json() -> None:
    found = find(Fake(), budget(2.0))
    values = json.loads(json.dumps(found.to_dict()))
    assert values["held_out"] == 500 and values["chosen"] in values["candidates"]
    assert values["original"]["layers"] == ["dense", "dense"]
    assert set(values["chosen"]) == {
        "layers", "dtype", "epochs", "macs", "bytes", "flash", "score", "drop", "latency_us", "instructions",
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"max_drop": -0.1},
        {"max_drop": float("nan")},
        {"max_accuracy_drop": 100},
        {"max_accuracy_drop": 2},
        {"objective": "speed"},
        {"engine": "tpu"},
        {"methods": ()},
        {"methods": ("sparse", "magic")},
        {"dtypes": ("float64",)},
        {"dtypes": ("int8", "int4")},
        {"dtypes": ("int4-dynamic",), "max_flash": 1000},
        {"device": "pi4", "dtypes": ("int8",)},
        {"max_flash": 0},
        {"max_flash": "64 parsecs"},
        {"epochs": -1},
        {"seconds": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_requests_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError) as caught:
        CompressRequest(**{"max_drop": 1.0, **options})
    assert caught.value.key.partition("[")[0] == next(iter(options))
