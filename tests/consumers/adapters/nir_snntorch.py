"""snnTorch's side of `.nir` files; runs in the environment `nir`.

python nir_snntorch.py write FILE.nir RECORD.npz: write a network, its inputs `x [n, n_in]` and its `spikes`
python nir_snntorch.py run FILE.nir RECORD.npz:   run a file on `x`, and record its `spikes [T, n, n_out]`
"""

import sys

import nir
import numpy as np
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir

TIMESTEPS = 20


def neurons(beta: list[float], threshold: float) -> snn.Leaky:
    """snnTorch exports a neuron with numbers for all as a node without size, which its own type check refuses."""
    return snn.Leaky(
        beta=torch.tensor(beta),
        threshold=torch.full((len(beta),), threshold),
        reset_mechanism="zero",
        reset_delay=False,
        init_hidden=True,
    )


def synapses(size: int, alpha: float, beta: float, threshold: float) -> snn.Synaptic:
    """Neurons with a synaptic current."""
    return snn.Synaptic(
        alpha=torch.full((size,), alpha),
        beta=torch.full((size,), beta),
        threshold=torch.full((size,), threshold),
        reset_mechanism="zero",
        reset_delay=False,
        init_hidden=True,
    )


def spikes(module: torch.nn.Module, x: torch.Tensor, timesteps: int) -> np.ndarray:
    with torch.no_grad():
        outputs = [module(x) for _ in range(timesteps)]
    return np.stack([(y[0] if isinstance(y, tuple) else y).numpy() for y in outputs])


def write(path: str, record: str) -> None:
    torch.manual_seed(0)
    hidden, last = neurons([0.9, 0.85, 0.8, 0.75, 0.95, 0.9, 0.6, 0.9], 0.3), neurons([0.8] * 3, 0.4)
    between = torch.nn.Linear(8, 8, bias=False)
    network = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(6, 8),
        hidden,
        between,
        synapses(8, 0.5, 0.8, 0.9),
        torch.nn.Linear(8, 3),
        last,
    )
    nir.write(path, export_to_nir(network, torch.rand(1, 6), ignore_dims=[0]))
    x = torch.rand(16, 6)
    np.savez(record, x=x.numpy(), timesteps=TIMESTEPS, spikes=spikes(network, x, TIMESTEPS))


def run(path: str, record: str) -> None:
    given = np.load(record)
    found = spikes(import_from_nir(nir.read(path)), torch.from_numpy(given["x"]), int(given["timesteps"]))
    np.savez(record, x=given["x"], timesteps=given["timesteps"], spikes=found)


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](*sys.argv[2:])
