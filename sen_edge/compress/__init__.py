"""Compression of trained networks: passes Network -> Network, and training under what they leave.

`prune(network, sparsity=0.9, calibration=x)`, `factorize(network, macs=0.1, calibration=x)` and `search(network,
dataset, BudgetRequest(max_drop=0.5))` are what the command does; `sen_edge.compress.pipeline` does it for a model.
"""

from sen_edge.compress.budget import BudgetRequest
from sen_edge.compress.evaluator import search
from sen_edge.compress.far_field import factorize_coordinates
from sen_edge.compress.finetune import Tuning, distil, finetune
from sen_edge.compress.hierarchical import hierarchical
from sen_edge.compress.lowrank import factorize, fold_linear
from sen_edge.compress.moments import CompressionWarning
from sen_edge.compress.prune import PruneRequest, prune

__all__ = [
    "BudgetRequest",
    "CompressionWarning",
    "PruneRequest",
    "Tuning",
    "distil",
    "factorize",
    "factorize_coordinates",
    "finetune",
    "fold_linear",
    "hierarchical",
    "prune",
    "search",
]
