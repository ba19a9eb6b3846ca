"""Folders of Space as Time, compared with its published simulation, transcribed to numpy."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model.model import load
from sen_runtime import reference
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from tests.conftest import Outcome

Run = Callable[..., Outcome]
Arrays = dict[str, np.ndarray]
N_IN, N, N_OUT = 30, 20, 5
KEY = "299-"
MAX_DELAY = 60


def random_folder(folder: Path, rng: np.random.Generator, form: str = "2", key: str = KEY) -> Arrays:
    """Arrays of a random network, flat as in their files, which are written to `folder`."""
    arrays = {
        "Conn_Pop0_Pop1-g": rng.normal(2.0, 1.0, N_IN * N),
        "Conn_Pop1_Pop1-g": rng.normal(0.0, 1.5, N * N),
        "Conn_Pop1_Pop2-g": rng.normal(0.0, 1.0, N * N_OUT),
    }
    if form == "free":
        arrays["Conn_Pop1_Pop1-d"] = rng.uniform(-3, 80, N * N)  # clamped on both sides
    elif form != "none":
        positions = rng.normal(0.0, 20.0, (int(form), N)).astype(np.float32)
        arrays |= {f"Pos{axis}": values for axis, values in enumerate(positions)}
        if form == "3":  # with the delays that follow
            between = positions[:, :, np.newaxis] - positions[:, np.newaxis]
            arrays["Conn_Pop1_Pop1-d"] = np.sqrt((between**2).sum(axis=0)).ravel()
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    folder.mkdir(exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{key}{name}.npy", values)
    return arrays


def simulate(
    arrays: Arrays, x: np.ndarray, dt: float = 1.0, tau_mem: float = 20.0, tau_syn: float = 5.0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Spikes `[T, n]`, readout, and min distance of a membrane to the threshold, for a spike train `[T, n_in]`.

    arXiv 2511.01632 and its code: GeNN delivers the spikes of the step before, from a ring of slots whose front moves
    one slot a step; then neurons take their currents, which decay afterwards.
    """
    g_in, g = arrays["Conn_Pop0_Pop1-g"].reshape(N_IN, N), arrays["Conn_Pop1_Pop1-g"].reshape(N, N)
    g_out, d = arrays["Conn_Pop1_Pop2-g"].reshape(N, N_OUT), np.zeros((N, N))
    axes = [arrays[f"Pos{axis}"] for axis in range(8) if f"Pos{axis}" in arrays]
    if axes:
        d = np.sqrt(sum((axis[:, np.newaxis] - axis) ** 2 for axis in axes))
    if "Conn_Pop1_Pop1-d" in arrays:
        d = arrays["Conn_Pop1_Pop1-d"].reshape(N, N)
    delay = np.maximum(0, np.minimum(MAX_DELAY, np.floor(d + 0.5))).astype(int)
    alpha, decay = np.exp(-dt / tau_mem), np.exp(-dt / tau_syn)
    i_scale, slots, front = tau_syn / dt * (1 - decay), MAX_DELAY + 1, 0
    ring, in_syn, recurrent_syn, out_syn = np.zeros((slots, N)), np.zeros(N), np.zeros(N), np.zeros(N_OUT)
    v, v_out, average, spikes, nearest = np.zeros(N), np.zeros(N_OUT), np.zeros(N_OUT), np.zeros((len(x), N)), np.inf
    for t in range(len(x)):
        front = (front + 1) % slots
        if t > 0:
            in_syn += g_in[x[t - 1] > 0].sum(axis=0)
            out_syn += g_out[spikes[t - 1] > 0].sum(axis=0)
            for i in np.flatnonzero(spikes[t - 1]):
                np.add.at(ring, ((front + delay[i]) % slots, np.arange(N)), g[i])
        recurrent_syn += ring[front]
        ring[front] = 0
        v = alpha * v + (1 - alpha) * (in_syn * i_scale + recurrent_syn * i_scale)
        v_out = alpha * v_out + (1 - alpha) * (out_syn * i_scale)
        in_syn, recurrent_syn, out_syn = in_syn * decay, recurrent_syn * decay, out_syn * decay
        average += np.exp(-(t * dt) / (dt * len(x))) / len(x) * v_out
        nearest = min(nearest, np.abs(v - 1).min())
        spikes[t] = v >= 1
        v = np.where(spikes[t] > 0, 0.0, v)
    return spikes, average, float(nearest)


def imported_spikes(folder: Path, map_path: Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes `[T, n]` and readout of the imported network."""
    network = reference.expand(load(folder, map_path=map_path).network)
    states, spikes = reference.initial_state(network, 1), []
    for now in x.astype(float):
        states, fired = reference.step(network, states, now[np.newaxis])
        spikes.append(fired[0][0])
    return np.array(spikes), reference.run(network, x[np.newaxis].astype(float))[0]


def write_map(path: Path, **values: object) -> Path:
    lines = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in values.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("form", ["1", "2", "3", "8", "free", "none"])
@pytest.mark.parametrize("times", [{}, {"dt": 0.5, "tau_mem": 8.0, "tau_syn": 3.0}], ids=["published", "other"])
def test_the_simulation_and_the_imported_network_spike_together(tmp_path: Path, form: str, times: dict) -> None:
    steps, checked = 60, 0
    map_path = write_map(tmp_path / "map.toml", timesteps=steps, max_delay=MAX_DELAY, **times)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        arrays = random_folder(tmp_path / "net", rng, form)
        x = (rng.random((steps, N_IN)) < 0.05).astype(np.float32)
        expected, readout, nearest = simulate(arrays, x, **times)
        spikes, found = imported_spikes(tmp_path / "net", map_path, x)
        assert 0.005 < expected.mean() < 0.8
        assert nearest > 2e-7  # beyond the rounding of weights to float32, so that all spikes are determined
        np.testing.assert_array_equal(spikes, expected)
        np.testing.assert_allclose(found, readout, rtol=1e-4, atol=1e-6)
        checked += int(expected.sum())
    assert checked > 100


@pytest.mark.parametrize(
    ("form", "kind"), [("2", SpatialDelay), ("3", SpatialDelay), ("free", StoredDelay), ("none", ConstantDelay)]
)
def test_delays_are_stored_as_positions_where_these_give_them(tmp_path: Path, form: str, kind: type) -> None:
    random_folder(tmp_path / "net", np.random.default_rng(0), form)
    hidden, _ = load(tmp_path / "net", map_path="space-as-time").network.layers
    assert hidden.recurrent is not None and type(hidden.recurrent.delay) is kind
    assert hidden.recurrent.delay.bounds[0] >= 1


def test_stored_delays_replace_positions_that_disagree(tmp_path: Path) -> None:
    arrays = random_folder(tmp_path / "net", np.random.default_rng(0), "3")
    moved = arrays["Conn_Pop1_Pop1-d"] + 1
    np.save(tmp_path / "net" / f"{KEY}Conn_Pop1_Pop1-d.npy", moved)
    hidden, _ = load(tmp_path / "net", map_path="space-as-time").network.layers
    assert hidden.recurrent is not None and isinstance(hidden.recurrent.delay, StoredDelay)
    np.testing.assert_array_equal(hidden.recurrent.delay.values, 1 + np.rint(moved.reshape(N, N).T))


def test_halves_are_rounded_away_from_zero(tmp_path: Path) -> None:
    arrays = random_folder(tmp_path / "net", np.random.default_rng(0), "none")
    np.save(tmp_path / "net" / f"{KEY}Conn_Pop1_Pop1-d.npy", np.full(N * N, 2.5, np.float32))
    hidden, _ = load(tmp_path / "net", map_path="space-as-time").network.layers
    assert hidden.recurrent is not None and hidden.recurrent.delay.bounds == (4, 4)
    assert len(arrays) == 3


def test_matrices_may_have_two_axes_and_files_no_key(tmp_path: Path) -> None:
    flat = random_folder(tmp_path / "flat", np.random.default_rng(0))
    (tmp_path / "square").mkdir()
    shapes = {"Conn_Pop0_Pop1-g": (N_IN, N), "Conn_Pop1_Pop1-g": (N, N), "Conn_Pop1_Pop2-g": (N, N_OUT)}
    for name, values in flat.items():
        np.save(tmp_path / "square" / f"{name}.npy", values.reshape(shapes.get(name, values.shape)).astype(float))
    first, second = (load(tmp_path / name, map_path="space-as-time").network for name in ("flat", "square"))
    for one, other in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(one.weight.to_dense(), other.weight.to_dense())


def test_one_of_several_checkpoints_is_stated(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    for key, form in (("2-", "2"), ("29-", "free"), ("best-29-", "none")):
        random_folder(folder, np.random.default_rng(len(key)), form, key)
    with pytest.raises(CheckpointError, match="3 checkpoints") as caught:
        load(folder, map_path="space-as-time")
    assert "checkpoint =" in caught.value.hint
    kinds = {"2": SpatialDelay, "29": StoredDelay, "best-29": ConstantDelay}
    for key, kind in kinds.items():
        model = load(folder, map_path=write_map(tmp_path / "map.toml", checkpoint=key))
        recurrent = model.network.layers[0].recurrent
        assert recurrent is not None and type(recurrent.delay) is kind
        assert model.applied_map is not None and model.applied_map.unused == ()
    for key in ("3", "../net/2", "*"):
        with pytest.raises(CheckpointError, match="expected"):
            load(folder, map_path=write_map(tmp_path / "map.toml", checkpoint=key))


def test_export_states_the_constants(sen_edge: Run, tmp_path: Path) -> None:
    model, out = tmp_path / "run_0.05", tmp_path / "out"
    random_folder(model, np.random.default_rng(0))
    np.save(model / f"{KEY}accuracy.npy", np.ones(3))
    map_path = write_map(tmp_path / "map.toml", timesteps=30)
    outcome = sen_edge("export", model, "--map", map_path, "--to", "sen,onnx", "-o", out)
    assert outcome.code == 0, outcome.err
    assert (
        "tau_mem 20" in outcome.err
        and "checkpoint 299" in outcome.err
        and "accuracy" in outcome.err
        and "not checked" in outcome.err
    )
    exported = out / "run_0.05.sen"
    assert sen_edge("verify", exported, "--against", model, "--map", map_path).code == 0
    inspected = sen_edge("inspect", model, "--map", map_path)
    assert inspected.code == 0 and "folder" in sen_edge("inspect", model, "--map", map_path, "--json").out
    assert load(exported).network.readout_decay == np.float32(np.exp(-1 / 30))


def _save(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name, value in changes.items():
            np.save(folder / f"{KEY}{name.replace('__', '-')}.npy", np.asarray(value))

    return change


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{KEY}{name}.npy").write_bytes(content) and None


def _header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{KEY}{name}.npy").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove("Conn_Pop0_Pop1-g"), "Conn_Pop0_Pop1-g"),
        (_remove("Conn_Pop1_Pop1-g"), "299-Conn_Pop1_Pop1-g"),
        (_remove("Conn_Pop1_Pop2-g"), "299-Conn_Pop1_Pop2-g"),
        (_remove("Pos0"), "Pos1"),
        (_save(Pos0=np.zeros(N - 1)), r"Pos0.*\[19\].*\[20\]"),
        (_save(Pos0=np.full(N, np.nan)), "Pos0.*nan"),
        (_save(Conn_Pop0_Pop1__g=np.zeros(N_IN * N + 1)), "Conn_Pop0_Pop1-g"),
        (_save(Conn_Pop1_Pop1__g=np.zeros(N * N - 1)), "Conn_Pop1_Pop1-g"),
        (_save(Conn_Pop1_Pop1__g=np.zeros((N - 1) ** 2)), "Conn_Pop0_Pop1-g"),
        (_save(Conn_Pop1_Pop1__g=np.zeros((2 * N, N // 2))), "Conn_Pop1_Pop1-g"),
        (_save(Conn_Pop1_Pop1__g=np.full(N * N, np.inf)), "Conn_Pop1_Pop1-g.*inf"),
        (_save(Conn_Pop1_Pop1__g=1e300 * np.ones(N * N)), "Conn_Pop1_Pop1-g.*inf"),
        (_save(Conn_Pop1_Pop1__d=np.zeros(N)), "Conn_Pop1_Pop1-d"),
        (_save(Conn_Pop1_Pop2__g=np.zeros(N * N_OUT - 1)), "Conn_Pop1_Pop2-g"),
        (_save(Conn_Pop1_Pop2__g=np.array("text")), "numbers"),
        (_save(Conn_Pop1_Pop2__g=np.zeros((0, N))), "empty"),
        (_save(Conn_Pop2_Pop3__g=np.zeros(N)), "Conn_Pop2_Pop3-g"),
        (_save(Pop2__Bias=np.zeros(N_OUT)), "Pop2-Bias"),
        (_write("Conn_Pop1_Pop2-g", pickle.dumps([1.0])), "header"),
        (_write("Conn_Pop1_Pop2-g", _header("(1,)", "|O") + pickle.dumps([1.0])), "numbers"),
        (_write("Conn_Pop1_Pop2-g", _header("(1000000000000, 1000000000)")), "holds"),
        (_write("Conn_Pop1_Pop2-g", _header("(-1,)")), "empty"),
        (_write("Conn_Pop1_Pop2-g", b""), "header"),
    ],
)
def test_wrong_folders(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    random_folder(tmp_path / "net", np.random.default_rng(0))
    change(tmp_path / "net")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path / "net", map_path="space-as-time")
    assert str(tmp_path / "net") in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *("dt = 0", "dt = -1", "dt = 1e-30", "tau_mem = 0", "tau_syn = 0", "tau_syn = 1e30", "timesteps = 0"),
        *("max_delay = -1", "max_delay = 65535", "max_delay = 1.5", "tau = 1", "checkpoint = 3", "dt = "),
    ],
)
def test_wrong_maps(tmp_path: Path, text: str) -> None:
    random_folder(tmp_path / "net", np.random.default_rng(0))
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"map\.toml"):
        load(tmp_path / "net", map_path=tmp_path / "map.toml")


def test_folders_of_other_kinds(tmp_path: Path) -> None:
    random_folder(tmp_path / "net", np.random.default_rng(0))
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        load(tmp_path / "net")
    assert "space-as-time" in caught.value.hint
    (tmp_path / "net" / "config.json").write_text("{}")
    with pytest.raises(UsageError):
        load(tmp_path / "net", map_path="space-as-time")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="Conn_Pop0_Pop1-g"):
        load(tmp_path / "empty", map_path="space-as-time")
