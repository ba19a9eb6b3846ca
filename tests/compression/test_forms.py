"""Forms of a layer: their names, costs, errors and weights."""

from itertools import chain
from typing import Any, get_args

import numpy as np
import pytest

from sen_edge.compression.evaluator import BOTH, DENSE, DENSITIES, RANKS, Form, forms_of
from sen_edge.compression.patterns import Pattern
from sen_edge.compression.quadratic import Quadratic
from sen_edge.compression.request import Method
from sen_runtime.ir.operators import LowRank, Sparse, Sum, WeightOperator

UNSTRUCTURED, TALL, WIDE = (Pattern.parse(name) for name in ("unstructured", "16x1", "1x4"))
METHODS: tuple[Method, ...] = get_args(Method)
PATTERNS = (UNSTRUCTURED, TALL, WIDE)
SPARSE = [Form(0, density, pattern) for pattern in PATTERNS for density in DENSITIES]
LOW_RANK = [Form(rank) for rank in RANKS]
SOME = [Form(0, 0.1), Form(0, 0.3, TALL), Form(0, 0.1, WIDE), Form(4), Form(8, 0.05)]


def problem(n_out: int, n_in: int) -> Quadratic:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3 * n_in, n_in)), rng.standard_normal((3 * n_out, n_out))
    return Quadratic.of(rng.standard_normal((n_out, n_in)), x.T @ x / len(x), y.T @ y / len(y))


def test_names_and_families_are_distinct() -> None:
    forms = [DENSE, *SPARSE, *LOW_RANK, *(Form(rank, density) for rank, density in BOTH)]
    assert len({str(form) for form in forms}) == len(forms)
    assert {form.family for form in forms} == {
        "dense", "unstructured", "16x1", "1x4", "low-rank", "low-rank + unstructured",
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(64, 64), (100, 41), (41, 100), (17, 300)], ids=str)
def test_forms_take_fewer_multiply_accumulates_than_dense(shape: tuple[int, int]) -> None:
    found = forms_of(shape, METHODS, PATTERNS)
    assert found[0] == DENSE and len(set(found)) == len(found)
    assert all(form.macs(shape) < DENSE.macs(shape) == shape[0] * shape[1] for form in found[1:])
    smaller = {form for form in chain(SPARSE, LOW_RANK) if form.macs(shape) < shape[0] * shape[1]}
    assert {form for form in smaller if form.rank <= min(shape)} == {
        form for form in found[1:] if not (form.rank and form.density)
    }


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_its_forms(method: Method) -> None:
    found = forms_of((64, 64), (method,), PATTERNS)[1:]
    expected = {"sparse": (False, True), "low-rank": (True, False), "both": (True, True)}
    assert {(form.rank > 0, form.density > 0) for form in found} == {expected[method]}
    assert forms_of((64, 64), ("sparse",), ()) == [DENSE]


def test_a_small_layer_stays_dense() -> None:
    assert forms_of((64, 63), METHODS, PATTERNS) == [DENSE]


def kind(operator: WeightOperator | None) -> tuple[Any, ...]:
    if isinstance(operator, Sum):
        return ("sum", kind(operator.a), kind(operator.b))
    if isinstance(operator, Sparse):
        return ("sparse", operator.block)
    assert isinstance(operator, LowRank)
    return ("low rank", operator.rank)


@pytest.mark.parametrize("form", SOME, ids=str)
def test_costs_are_those_of_the_operator(form: Form) -> None:
    operator = form.build(problem(64, 80))
    assert operator is not None and operator.shape == (64, 80)
    sparse = ("sparse", form.pattern.block)
    low_rank = ("low rank", form.rank)
    assert kind(operator) == (sparse if not form.rank else ("sum", low_rank, sparse) if form.density else low_rank)
    assert operator.macs == pytest.approx(form.macs((64, 80)), abs=8)
    columns = sum(leaf.columns.size for leaf in [operator, getattr(operator, "b", None)] if isinstance(leaf, Sparse))
    assert operator.nbytes - 2 * columns == pytest.approx(form.nbytes((64, 80), 4), abs=64)  # images: 16-bit columns
    assert DENSE.nbytes((64, 80), 1) == 64 * 80


@pytest.mark.parametrize("form", SOME, ids=str)
def test_an_error_from_few_iterations_is_close(form: Form) -> None:
    here = problem(64, 80)
    operator = form.build(here)
    assert operator is not None
    true = here.energy(here.to_scaled(operator.to_dense().astype(np.float64)) - here.weight)
    assert 0 < true < here.energy(here.weight)
    assert 0.999 * true <= form.error(here) <= 1.2 * true


def test_dense_has_no_error() -> None:
    assert DENSE.error(problem(64, 80)) == 0


@pytest.mark.parametrize("method", ["sparse", "low-rank"])
def test_more_weights_leave_less_error(method: Method) -> None:
    here = problem(64, 80)
    forms = sorted(forms_of((64, 80), (method,), [UNSTRUCTURED]), key=lambda form: form.macs((64, 80)))
    errors = [form.error(here) for form in forms]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
