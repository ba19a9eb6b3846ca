"""Pictures of networks that are large, coincident or wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.parameters import Checkpoint
from sen_edge.report.network.scene import is_axis_fixed, load_positions, operators
from sen_runtime import format as image
from sen_runtime import reference
from tests.conftest import MLP, SNN, Outcome, make_checkpoint
from tests.support.checkpoints import coincident, write_coincident_pattern, write_nan
from tests.support.pages import array_of, data_of, model_of, save

Run = Callable[..., Outcome]


def test_large_network_is_sampled_with_a_note(sen_edge: Run, tmp_path: Path) -> None:
    config = SpatialConfig((50_000, 49_990, 10))
    rng = np.random.default_rng(0)
    shapes = config.tensor_shapes().items()
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes}
    checkpoints.save(Checkpoint(config, tensors), tmp_path / "net.pt")
    outcome = sen_edge("plot", tmp_path / "net.pt", "-o", tmp_path / "net.html")
    said = "4,995 of 50,000, 4,994 of 49,990, 10 of 10"
    assert outcome.code == 0 and said in outcome.err
    page = (tmp_path / "net.html").read_text()
    assert said in page and len(page) < 2_000_000
    data = data_of(page)
    numbers = array_of(data, "numbers")
    assert data["neurons"] == [0, 4995, 9989, 9999] and (numbers[0], numbers[4994]) == (0, 49_999)


def test_coincident_neurons_are_drawn_and_named(sen_edge: Run, tmp_path: Path) -> None:
    for name, write in {"a.pt": lambda path: torch.save(coincident(), path), "b.pt": write_coincident_pattern}.items():
        write(tmp_path / name)
        for ending in ("html", "svg"):
            outcome = sen_edge("plot", tmp_path / name, "-o", tmp_path / f"{name}.{ending}")
            assert outcome.code == 0, outcome.err
            assert "Layer 1 to 2: 1 " in outcome.err
    page = (tmp_path / "a.pt.html").read_text()
    assert "1 pair of neurons at the same point" in page
    assert "1 pair of neurons" in " ".join((tmp_path / "a.pt.svg").read_text().split())  # the footnote is in lines
    assert np.isfinite(array_of(data_of(page), "weights")).all()


def test_a_spiking_network_that_cannot_run_is_drawn_without_spikes(sen_edge: Run, tmp_path: Path) -> None:
    config = replace(SNN, layer_axis="free")
    checkpoint = make_checkpoint(config)
    checkpoint.tensors["positions.1"][2] = checkpoint.tensors["positions.0"][7]
    checkpoints.save(checkpoint, tmp_path / "net.pt")
    outcome = sen_edge("plot", tmp_path / "net.pt", "-o", tmp_path / "net.html")
    assert outcome.code == 0 and "Spikes" in outcome.err
    assert "source neuron 7 and target neuron 2" in (tmp_path / "net.html").read_text()


def test_a_neuron_with_two_positions_is_not_drawn(sen_edge: Run, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(replace(MLP, separate_positions=True))
    checkpoints.save(checkpoint, tmp_path / "net.pt")
    (tmp_path / "net.sen").write_bytes(image.dumps(checkpoints.to_network(checkpoint)))
    for path in (tmp_path / "net.pt", tmp_path / "net.sen"):
        outcome = sen_edge("plot", path, "-o", tmp_path / "net.html")
        assert outcome.code == 2 and "layer 1" in outcome.err and not (tmp_path / "net.html").exists()


def test_learned_spacings_are_drawn(sen_edge: Run, tmp_path: Path) -> None:
    checkpoints.save(make_checkpoint(replace(MLP, layer_axis="learned")), tmp_path / "net.pt")
    assert is_axis_fixed(load_positions(tmp_path / "net.pt"))
    assert sen_edge("plot", tmp_path / "net.pt", "-o", tmp_path / "net.html").code == 0


def test_an_image_is_drawn_if_it_stores_coordinates(sen_edge: Run, tmp_path: Path) -> None:
    network = model_of(MLP).network
    (tmp_path / "net.sen").write_bytes(image.dumps(network))
    drawn = load_positions(tmp_path / "net.sen")
    assert is_axis_fixed(drawn)
    assert np.array_equal(operators(drawn.network)[1].target, operators(network)[1].target)
    assert sen_edge("plot", tmp_path / "net.sen", "-o", tmp_path / "net.html").code == 0
    (tmp_path / "dense.sen").write_bytes(image.dumps(reference.expand(network)))
    outcome = sen_edge("plot", tmp_path / "dense.sen", "-o", tmp_path / "dense.html")
    assert outcome.code == 2 and "layer 0" in outcome.err
    assert not (tmp_path / "dense.html").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "net.gif"), 2, "'.gif'"),
        (("-o", "net"), 2, "''"),
        (("-o", "taken.html"), 1, "taken.html"),
        (("-o", "net.html", "--synapses", "5", "--max-distance", "1"), 2, "--synapses"),
        (("-o", "net.html", "--max-distance", "nan"), 2, "--max-distance"),
        (("-o", "net.html", "--what", "weights"), 2, "--what"),
        (("-o", "net.svg", "--what", "nothing"), 2, "'nothing'"),
        (("-o", "net.svg", "--what", "weights=3"), 2, "'weights=3'"),
        (("-o", "net.svg", "--what", "before-after"), 2, "'before-after'"),
        (("-o", "net.svg", "--what", "before-after=absent.pt"), 1, "absent.pt"),
        (("-o", "net.svg", "--what", "before-after=other.pt"), 2, "64-32-10"),
        (("-o", "net.html", "--data", "digits"), 2, "--data"),
        (("-o", "net.html", "--map", "map.toml"), 1, "map.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_options(
    options: tuple[str, ...],
    code: int,
    message: str,
    sen_edge: Run,
    mlp_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.html").write_text("mine")
    save(tmp_path / "other.pt", SpatialConfig((64, 10)))
    before = sorted(tmp_path.iterdir())
    outcome = sen_edge("plot", mlp_path, *options)
    assert outcome.code == code and message in outcome.err
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "taken.html").read_text() == "mine"


def test_wrong_files(sen_edge: Run, snn_path: Path, tmp_path: Path) -> None:
    write_nan(tmp_path / "nan.pt")
    outcome = sen_edge("plot", tmp_path / "nan.pt", "-o", tmp_path / "net.html")
    assert outcome.code == 1 and "inhibition.1" in outcome.err
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 64), np.float32))
    outcome = sen_edge("plot", snn_path, "-o", tmp_path / "net.html", "--data", tmp_path / "x.npz", "--example", 5)
    assert outcome.code == 2 and "0 to 4" in outcome.err
    outcome = sen_edge("plot", snn_path, "-o", tmp_path / "net.html", "--data", "digit")
    assert outcome.code == 1 and "'digit'" in outcome.err
    odd = save(tmp_path / "odd.pt", SpatialConfig((63, 10)))
    outcome = sen_edge("plot", odd, "-o", tmp_path / "net.svg", "--what", "input-grid")
    assert outcome.code == 2 and "63" in outcome.err
    assert not [*tmp_path.glob("net.*")]
