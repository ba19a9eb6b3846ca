"""Compression of trained networks: passes Network -> Network, training of their results, and the pipeline."""
