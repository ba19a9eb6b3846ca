"""`compress` without calibration inputs: ranks from coordinates, and requests that need inputs."""

from dataclasses import replace

import numpy as np
import pytest

from sen_edge.compression import pipeline
from sen_edge.compression.pipeline import compress
from sen_edge.compression.request import CompressRequest
from sen_edge.errors import UsageError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.model import Model
from sen_edge.passes.materialize import materialize
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, LowRank
from tests.conftest import make_checkpoint, make_model
from tests.support.clouds import float64_weights, mixed, planes, relative


def far() -> Model:
    """Two planes far apart, whose weights have a low rank, and a small readout."""
    config = SpatialConfig((90, 70, 10), dimensions=3, layer_spacing=4.0)
    return make_model(make_checkpoint(config))


@pytest.mark.parametrize("tolerance", [0.2, 0.02])
def test_a_rank_by_error_without_inputs(tolerance: float) -> None:
    model = far()
    found = compress(model, CompressRequest(error=tolerance))
    assert found.figures["calibration"] is None and found.figures["score"] is None
    before, after = model.network.layers[0].weight, found.network.layers[0].weight
    assert isinstance(before, Coordinates) and isinstance(after, LowRank)
    assert relative(after.to_dense(), float64_weights(before)) <= tolerance
    assert found.figures["after"]["macs"] == found.network.macs < found.figures["before"]["macs"]
    assert found.figures["layers"][0]["form"] == f"rank {after.rank}"


def test_a_rank_without_inputs_is_as_good_as_the_best() -> None:
    model = far()
    found = compress(model, CompressRequest(rank=5, seed=3)).network
    for before, after in zip(model.network.layers, found.layers, strict=True):
        assert isinstance(before.weight, Coordinates) and isinstance(after.weight, LowRank)
        assert after.weight.rank == 5 and after.neuron == before.neuron
        w = float64_weights(before.weight)
        values = np.linalg.svd(w, compute_uv=False)
        best = np.sqrt((values[5:] ** 2).sum() / (values**2).sum())
        assert best <= relative(after.weight.to_dense(), w) + 1e-5 <= 1.5 * best + 1e-4
    again = compress(model, CompressRequest(rank=5, seed=3)).network
    for one, other in zip(found.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.weight.to_dense(), other.weight.to_dense())


def test_a_rank_without_inputs_does_not_make_a_layer_larger() -> None:
    model = far()
    found = compress(model, CompressRequest(rank=9)).network
    assert isinstance(found.layers[0].weight, LowRank)
    assert found.layers[1] == model.network.layers[1]  # 70 x 10: rank 9 takes 720 products


def test_only_layers_that_are_named_are_factorized() -> None:
    model = far()
    found = compress(model, CompressRequest(rank=3, layers=(1,))).network
    assert found.layers[0] == model.network.layers[0] and isinstance(found.layers[1].weight, LowRank)
    with pytest.raises(UsageError, match="layer 7"):
        compress(model, CompressRequest(rank=3, layers=(7,)))


def test_a_layer_that_cannot_be_factorized_stays() -> None:
    """Near neurons act too strongly for a low rank: the other layer is factorized all the same."""
    near, wide = mixed(0, 80), planes(0, 80, 80, width=0.2)
    model = Model(Network((Layer(near, None, Relu()), Layer(wide, None, Identity()))), "ab" * 32)
    found = compress(model, CompressRequest(error=0.01)).network
    assert found.layers[0] is model.network.layers[0] and isinstance(found.layers[1].weight, LowRank)
    alone = Model(replace(model.network, layers=(model.network.layers[0],)), "ab" * 32)
    with pytest.raises(UsageError, match=r"layer 0.*rank") as caught:
        compress(alone, CompressRequest(error=0.01))
    assert "hierarchical" in caught.value.hint


@pytest.mark.parametrize("request_", [CompressRequest(macs=0.5), CompressRequest(rank=3, near=0.1)])
def test_some_ranks_need_inputs(request_: CompressRequest) -> None:
    with pytest.raises(UsageError, match="calibration"):
        compress(far(), request_)


def test_weights_without_coordinates_need_inputs(image: Model) -> None:
    with pytest.raises(UsageError, match="layer") as caught:
        compress(image, CompressRequest(rank=3))
    assert "calibration" in caught.value.hint


def test_criteria_without_inputs(mlp: Model) -> None:
    for criterion in ("magnitude", "distance"):
        found = compress(mlp, CompressRequest(0.9, criterion=criterion))
        assert found.figures["calibration"] is None
        assert materialize(found.network).macs == pytest.approx(0.1 * mlp.network.macs, rel=0.05)


def test_a_layer_too_large_to_be_written_out_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = far()
    monkeypatch.setattr(pipeline, "MAX_WRITTEN_OUT", 100)
    monkeypatch.setattr(pipeline, "materialize", None)
    found = compress(model, CompressRequest(rank=3))
    assert found.figures["before"]["weight_bytes"] == model.network.nbytes
