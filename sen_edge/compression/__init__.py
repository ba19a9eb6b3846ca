"""Compression of trained networks: passes Network -> Network, and training of their results.

`sen_edge.compression.pipeline` compresses a model; `prune`, `lowrank`, `hierarchical` and `evaluator` hold the passes.
"""
