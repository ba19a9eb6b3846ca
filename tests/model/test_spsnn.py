"""Files of SpSNN, compared with its published simulation, transcribed to numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sen_edge.errors import CheckpointError
from sen_edge.model.model import load
from sen_runtime import reference
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from tests.conftest import Outcome

Run = Callable[..., Outcome]
Arrays = dict[str, np.ndarray]


def random_file(path: Path, rng: np.random.Generator, form: str = "3", n: int = 30, n_in: int = 40) -> Arrays:
    """Arrays of a random network, which are written to `path` and its `_read` file."""

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    arrays = {"iw": np.abs(normal(n, n_in)) * 3 / n_in**0.5, "rw": normal(n, n) / n**0.5}
    if form == "free":
        arrays |= {"idelay": 8 + 9 * normal(n * n_in), "rdelay": 8 + 9 * normal(n * n)}  # some are negative
    elif form != "none":
        arrays |= {"ipos": 12 * normal(n_in, int(form)), "rpos": 12 * normal(n, int(form))}
    np.savez_compressed(path, **arrays)
    np.savez_compressed(path.with_name(f"{path.stem}_read.npz"), w=normal(20, n))
    return {**arrays, "w": np.load(path.with_name(f"{path.stem}_read.npz"))["w"]}


def simulate(arrays: Arrays, x: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Spikes `[T, n]` and outputs for a spike train `[T, n_in]`: arXiv 2512.10011 and its code, in float32."""
    single = np.float32
    iw, rw = arrays["iw"], arrays["rw"] * (1 - np.eye(len(arrays["rw"]), dtype=single))
    delays = {"i": np.zeros_like(iw), "r": np.zeros_like(rw)}
    for kind in delays:
        if f"{kind}pos" in arrays:
            difference = arrays[f"{kind}pos"][np.newaxis] - arrays["rpos"][:, np.newaxis]
            delays[kind] = np.sqrt(single(1e-2) + np.sum(difference**2, axis=2))
        elif f"{kind}delay" in arrays:
            delays[kind] = arrays[f"{kind}delay"].reshape(delays[kind].shape)
    steps = {kind: np.round(delay / single(dt)).astype(int) for kind, delay in delays.items()}
    slots, n = int(1 + 20.0 / dt) + 1, len(iw)
    ring, v, isyn = np.zeros((slots, n), single), np.zeros(n, single), np.zeros(n, single)
    spikes = np.zeros((len(x), n), bool)
    for t, now in enumerate(x):
        spikes[t] = v >= 1
        for i in np.flatnonzero(now):
            ring[(t + steps["i"][:, i]) % slots, np.arange(n)] += iw[:, i]
        for i in np.flatnonzero(spikes[t]):
            ring[(t + steps["r"][:, i]) % slots, np.arange(n)] += rw[:, i]
        jump = ring[t % slots].copy()
        ring[t % slots] = 0
        v = np.where(spikes[t], single(0), single(np.exp(-dt / 10.0)) * v + isyn * single(dt))
        isyn = isyn * single(np.exp(-dt / 2.0)) + jump
    return spikes, spikes.sum(axis=0) @ arrays["w"].T.astype(float)


def trained_spikes(path: Path, map_path: Path | str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of the imported network, one step later as in the simulation, and its outputs."""
    network = reference.expand(load(path, map_path=map_path).network)
    states, spikes = reference.initial_state(network, 1, np.float32), [np.zeros(network.layer_sizes[1])]
    for now in x:
        states, fired = reference.step(network, states, now[np.newaxis])
        spikes.append(fired[0][0])
    return np.array(spikes[:-1]) > 0, states[-1].membrane[0]


@pytest.mark.parametrize("form", ["1", "2", "3", "8", "free", "none"])
@pytest.mark.parametrize("dt", [0.5, 0.3])
def test_the_simulation_and_the_imported_network_spike_together(tmp_path: Path, form: str, dt: float) -> None:
    rng = np.random.default_rng(0)
    arrays = random_file(tmp_path / "net.npz", rng, form)
    (tmp_path / "map.toml").write_text(f"dt = {dt}\ntimesteps = 60\n")
    x = (rng.random((60, 40)) < 0.1).astype(np.float32)
    expected, output = simulate(arrays, x, dt)
    spikes, found = trained_spikes(tmp_path / "net.npz", tmp_path / "map.toml", x)
    assert 0.01 < expected.mean() < 0.6
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(found, output, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["2", "3"])
def test_networks_of_the_published_size_give_the_same_spikes(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(1)
    arrays = random_file(tmp_path / "net.npz", rng, form, n=300, n_in=700)
    for _ in range(100):
        x = (rng.random((50, 700)) < 0.02).astype(np.float32)
        expected, _ = simulate(arrays, x, 0.5)
        spikes, _ = trained_spikes(tmp_path / "net.npz", "spsnn", x)
        np.testing.assert_array_equal(spikes, expected)


def test_delays_are_stored_as_positions_where_these_give_them(tmp_path: Path) -> None:
    kinds = {"3": SpatialDelay, "free": StoredDelay, "none": ConstantDelay}
    for form, kind in kinds.items():
        random_file(tmp_path / "net.npz", np.random.default_rng(0), form)
        hidden, _ = load(tmp_path / "net.npz", map_path="spsnn").network.layers
        assert hidden.recurrent is not None
        assert (type(hidden.delay), type(hidden.recurrent.delay)) == (kind, kind)


def test_export_states_the_constants(sen_edge: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "net.npz", np.random.default_rng(0))
    (tmp_path / "map.toml").write_text("dt = 0.5\ntimesteps = 20\n")
    model, out = tmp_path / "net.npz", tmp_path / "out"
    outcome = sen_edge("export", model, "--map", tmp_path / "map.toml", "--to", "sen", "-o", out)
    assert outcome.code == 0, outcome.err
    assert "tau_mem 10" in outcome.err and "not checked" in outcome.err
    assert sen_edge("verify", out / "net.sen", "--against", model, "--map", tmp_path / "map.toml").code == 0
    assert sen_edge("inspect", out / "net.sen").code == 0
    outcome = sen_edge("export", out / "net.sen", "--to", "onnx,tflite", "-o", out / "graphs")
    assert outcome.code == 0, outcome.err
    for file in ("net.onnx", "net.tflite"):
        assert sen_edge("verify", out / "graphs" / file, "--against", model, "--map", tmp_path / "map.toml").code == 0
    refused = sen_edge("export", out / "net.sen", "--to", "nir", "-o", out / "nir")
    assert refused.code == 2 and "delays" in refused.err, refused.err
    refused = sen_edge("compress", out / "net.sen", "--rank", "2", "-o", out / "c.sen")
    assert refused.code == 2 and "delays" in refused.err, refused.err
    outcome = sen_edge("export", out / "net.sen", "--dtype", "int8-dynamic", "--to", "sen,onnx,tflite", "-o", out / "b")
    assert outcome.code == 0, outcome.err


def _without(*names: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {name: value for name, value in arrays.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("iw"), "expected iw"),
        (_without("rpos"), "expected iw"),
        (lambda arrays: {**arrays, "eps": np.ones(1)}, "eps"),
        (lambda arrays: {**arrays, "iw": arrays["iw"][:-1]}, "iw has the shape"),
        (lambda arrays: {**arrays, "rw": arrays["rw"][:, :-1]}, "rw has the shape"),
        (lambda arrays: {**arrays, "ipos": arrays["ipos"][:-1]}, "source"),
        (lambda arrays: {**arrays, "rpos": arrays["rpos"][:, :2]}, "coordinates"),
        (lambda arrays: {**arrays, "rw": arrays["rw"] * np.nan}, "nan"),
        (lambda arrays: {**arrays, "iw": np.array("text")}, "numbers"),
    ],
)
def test_wrong_files(tmp_path: Path, change: Callable[[Arrays], Arrays], message: str) -> None:
    path = tmp_path / "net.npz"
    arrays = random_file(path, np.random.default_rng(0))
    arrays.pop("w")
    np.savez(path, **change(arrays))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path, map_path="spsnn")
    assert "net.npz" in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["dt = 0", "dt = -1", "tau_mem = 0", "timesteps = 0", "tau = 1", "dt = "])
def test_wrong_maps(tmp_path: Path, text: str) -> None:
    random_file(tmp_path / "net.npz", np.random.default_rng(0))
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"map\.toml"):
        load(tmp_path / "net.npz", map_path=tmp_path / "map.toml")


def test_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    with pytest.raises(CheckpointError, match=r"net\.npz"):
        load(path, map_path="spsnn")
    random_file(path, np.random.default_rng(0))
    with pytest.raises(CheckpointError, match="time step"):
        load(path)
    path.with_name("net_read.npz").unlink()
    with pytest.raises(CheckpointError, match=r"net_read\.npz"):
        load(path, map_path="spsnn")
