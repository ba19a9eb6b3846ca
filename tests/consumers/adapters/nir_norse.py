"""Norse's side of `.nir` files; runs in the environment `nir`. Commands are those of `nir_snntorch`.

Norse writes time constants `dt / tau_mem_inv`: in seconds for `dt=1`. It reads no LI nodes, and leaves them out.
"""

import sys

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.module.leaky_integrator_box import LIBoxCell, LIBoxParameters
from norse.torch.module.lif_box import LIFBoxCell, LIFBoxParameters

TIMESTEPS, DT = 20, 0.001


def spiking(size: int, rate: float, threshold: float) -> LIFBoxCell:
    """Neurons whose membranes decay by `DT * rate` per step."""
    zeros = torch.zeros(size)
    parameters = LIFBoxParameters(torch.full((size,), rate), zeros, torch.full((size,), threshold), zeros)
    return LIFBoxCell(parameters, dt=DT)


def outputs(module: torch.nn.Module, x: torch.Tensor, timesteps: int) -> np.ndarray:
    state, found = None, []
    with torch.no_grad():
        for _ in range(timesteps):
            y, state = module(x, state)
            found.append(y.numpy())
    return np.stack(found)


def write(path: str, record: str) -> None:
    torch.manual_seed(0)
    readout = LIBoxCell(LIBoxParameters(torch.full((3,), 200.0), torch.zeros(3)), dt=DT)
    hidden = spiking(8, 100.0, 0.02)
    network = norse.SequentialState(torch.nn.Linear(6, 8), hidden, torch.nn.Linear(8, 3), readout)
    nir.write(path, norse.to_nir(network, torch.rand(6), dt=1))
    x = torch.rand(16, 6)
    np.savez(record, x=x.numpy(), timesteps=TIMESTEPS, spikes=outputs(network, x, TIMESTEPS))


def run(path: str, record: str) -> None:
    given, graph = np.load(record), nir.read(path)
    found = outputs(norse.from_nir(graph, dt=DT), torch.from_numpy(given["x"]), int(given["timesteps"]))
    np.savez(record, x=given["x"], timesteps=given["timesteps"], spikes=found)


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](*sys.argv[2:])
