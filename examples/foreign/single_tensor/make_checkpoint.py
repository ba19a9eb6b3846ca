"""Write `model.pt` in the layout of foreign training code: one [n_total, d] tensor for all neurons.

    python examples/foreign/single_tensor/make_checkpoint.py
    sen-edge inspect model.pt --map examples/foreign/single_tensor/map.toml

The numbers are those of examples/checkpoints/mnist-mlp-d3.pt, so the accuracy is that network's.
"""

from pathlib import Path

import torch

native = torch.load(Path(__file__).parents[2] / "checkpoints/mnist-mlp-d3.pt", weights_only=True)
tensors, n_layers = native["tensors"], len(native["config"]["layer_sizes"])
n_output = native["config"]["layer_sizes"][-1]

torch.save(
    {
        # The layer axis is not stored: it is layer index * spacing.
        "coords": torch.cat([tensors[f"positions.{i}"] for i in range(n_layers)]),
        # One inhibition value per neuron, values of the output layer are unused.
        "inhibition": torch.cat([*(tensors[f"inhibition.{i}"] for i in range(n_layers - 1)), torch.zeros(n_output)]),
        "layer_gain": torch.stack([tensors[f"gain.{i}"] for i in range(n_layers - 1)]),
        "bias": torch.cat([tensors[f"bias.{i}"] for i in range(n_layers - 1)]),
        "optimizer_steps": torch.tensor(7050),
    },
    "model.pt",
)
