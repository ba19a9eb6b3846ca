"""Write `model.pt` in the layout of foreign training code: one tensor per layer, positions as [d, n].

    python examples/foreign/per_layer/make_checkpoint.py
    sen-edge inspect model.pt --map examples/foreign/per_layer/map.toml

The numbers are those of examples/checkpoints/mnist-mlp-d3.pt, so the accuracy is that network's.
"""

from pathlib import Path

import torch

native = torch.load(Path(__file__).parents[2] / "checkpoints/mnist-mlp-d3.pt", weights_only=True)
config, tensors = native["config"], native["tensors"]

state = {}
for layer in range(len(config["layer_sizes"])):
    free = tensors[f"positions.{layer}"]
    axis = torch.full((len(free), 1), layer * config["layer_spacing"])
    state[f"net.{layer + 1}.positions"] = torch.cat([free, axis], dim=1).T.contiguous()
for layer in range(len(config["layer_sizes"]) - 1):
    state[f"net.{layer + 1}.inh"] = tensors[f"inhibition.{layer}"].unsqueeze(1)
    state[f"net.{layer + 1}.scale"] = tensors[f"gain.{layer}"].reshape(1)
    state[f"net.{layer + 2}.threshold_shift"] = tensors[f"bias.{layer}"]

torch.save({"epoch": 30, "model": {"state": state}}, "model.pt")
