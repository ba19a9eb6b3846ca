"""Exported C: delays, recurrent synapses and synaptic currents, next to the reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.c.budget import BudgetError, footprint
from sen_exporters.c.program import lower_network
from sen_exporters.c.wiring import FORMS, has_forms
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import c as engine
from sen_runtime.engines import native
from sen_runtime.errors import EXIT_VERIFICATION
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Coordinates, Dense, Sparse
from tests.engines.test_native_delays import quarters
from tests.exporters.test_c_scaling import passes
from tests.support.c_exports import SHARED, export
from tests.support.networks import exact_wired_network, stream


def spatial(rng: np.random.Generator, n: int, n_in: int, d: int = 3, *, is_int8: bool = False) -> Network:
    """A recurrent layer whose delays follow from positions, with numbers that float32 sums exactly, and a readout."""
    inputs, own = (rng.normal(size=(count, d)).astype(np.float32) * 2 for count in (n_in, n))
    scale = np.full(n, 0.125, np.float32)

    def weights(rows: int, columns: int) -> Dense:
        steps = rng.integers(-8, 9, (rows, columns))
        return Dense(steps.astype(np.int8), scale) if is_int8 else Dense((steps / 8).astype(np.float32))

    hidden = Layer(
        weights(n, n_in),
        None,
        RefractoryLif(0.5, 0.5),
        delay=SpatialDelay(inputs, own, 1.5, 0.01, 9, "wrap"),
        recurrent=Recurrence(weights(n, n), SpatialDelay(own, own, 1.5, 0.01, 5, "clamp", 1)),
        synapse=0.5,
    )
    readout = Layer(Dense(rng.integers(-4, 5, (3, n)).astype(np.float32) / 4), None, LeakyIntegrator(0.5))
    return Network((hidden, readout), 8, "spikes", "last_membrane")


@pytest.mark.parametrize("seed", range(12))
def test_outputs_are_those_of_the_reference_to_the_bit(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(100 + seed)
    network = exact_wired_network(rng)
    x, artifact = quarters(rng, network), export(network, kernels="shared" if seed % 4 == 3 else "private")
    expected = reference.run(network, x, np.float32)
    with engine.load(artifact.write(tmp_path), flags=SHARED) as session:
        np.testing.assert_array_equal(session.run(x), expected)
        if network.readout_decay == 1:
            np.testing.assert_array_equal(stream(session, network, x[0]), expected[0])
    assert passes(artifact, tmp_path)


def sizes(network: Network) -> dict[str, int]:
    """Flash by form of the delays."""
    return {form: footprint(lower_network(network, "net", delays=form)).flash_bytes for form in FORMS}


@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_the_budget_chooses_the_form_and_both_give_the_same_outputs(is_int8: bool, d: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(d)
    network = spatial(rng, 60, 80, d, is_int8=is_int8)
    found, x = sizes(network), quarters(rng, network)
    assert found["coordinates"] + 5000 < found["table"]
    expected = reference.run(network, x, np.float32)
    for form in FORMS:
        artifact = export(network, max_flash=found[form])
        assert artifact.footprint["flash"] == found[form]
        with engine.load(artifact.write(tmp_path / form), flags=SHARED) as session:
            np.testing.assert_array_equal(session.run(x), expected)


def test_a_budget_below_both_forms_is_an_error_with_both() -> None:
    network = spatial(np.random.default_rng(0), 60, 80)
    with pytest.raises(BudgetError) as caught:
        export(network, max_flash=sizes(network)["coordinates"] - 1)
    assert caught.value.exit_code == EXIT_VERIFICATION
    assert all(form in caught.value.message for form in FORMS)
    with pytest.raises(BudgetError, match="RAM"):
        export(network, max_ram=1000)


@pytest.mark.parametrize(("n_out", "longest", "dtype"), [(60, 9, np.uint16), (300, 250, np.uint32)])
def test_pruned_synapses_are_lists_of_places_in_a_ring_for_the_longest(
    n_out: int, longest: int, dtype: type, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    kept = rng.random((n_out, 80)) < 0.1
    dense = rng.integers(1, 5, (n_out, 80)).astype(np.float32) / 4 * kept
    steps = np.where(kept, rng.integers(0, 9, (n_out, 80)), 2000).astype(np.uint16)
    steps[tuple(np.argwhere(kept)[7])] = longest
    pruned = Layer(Sparse.from_dense(dense, (1, 1)), None, LeakyIntegrator(0.5), delay=StoredDelay(steps))
    network = Network((pruned,), 30, "spikes", "last_membrane")
    program = lower_network(network, "net")
    assert program.wirings[0].members["slots"] == longest + 1 and not has_forms(network)
    assert [each.array.dtype for each in program.constants if "places" in each.comment] == [dtype]
    full = replace(pruned, weight=Dense(dense))
    flash, all_pairs = (
        footprint(lower_network(replace(network, layers=(each,)), "net")).flash_bytes for each in (pruned, full)
    )
    assert flash < all_pairs / 4
    x = quarters(rng, network)
    expected = reference.run(network, x, np.float32)
    with engine.load(export(network).write(tmp_path), flags=SHARED) as session:
        np.testing.assert_array_equal(session.run(x), expected)
    np.testing.assert_array_equal(native.load(image.dumps(network)).run(x), expected)


def test_equal_positions_are_stored_once() -> None:
    program = lower_network(spatial(np.random.default_rng(0), 60, 80), "net", delays="coordinates")
    positions = [each for each in program.constants if "positions" in each.comment]
    assert sum(each.nbytes for each in positions) == 4 * 3 * (60 + 80)


@pytest.mark.parametrize(("n_in", "dtype"), [(200, 2), (2500, 4)])
def test_sums_of_integers_have_16_bits_where_these_suffice(n_in: int, dtype: int) -> None:
    weight = Dense(np.full((2, n_in), 100, np.int8), np.ones(1, np.float32))
    layer = Layer(weight, None, LeakyIntegrator(0.5), delay=ConstantDelay(1))
    program = lower_network(Network((layer,), 4, "spikes"), "net")
    assert program.wirings[0].members["sum_bytes"] == dtype


def test_weights_and_delays_of_the_same_positions_store_no_matrix(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inputs, own = (rng.normal(size=(count, 3)).astype(np.float32) for count in (14, 5))
    weight = Coordinates(inputs, own, rng.uniform(-1, 1, 14).astype(np.float32), 0.5, 1.5)
    layer = Layer(weight, None, LeakyIntegrator(0.5), delay=SpatialDelay(inputs, own, 2.0))
    network = Network((layer,), 8, "spikes")
    x, artifact = quarters(rng, network), export(network)
    with engine.load(artifact.write(tmp_path), flags=SHARED) as session:
        np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=1e-4, atol=1e-5)
    program = lower_network(network, "net")
    assert max(each.array.size for each in program.constants) < weight.macs
    assert passes(artifact, tmp_path)
