"""Compression of trained networks: passes Network -> Network, and training under what they leave."""
