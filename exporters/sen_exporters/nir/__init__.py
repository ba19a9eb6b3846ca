"""Neuromorphic Intermediate Representation: `.nir` files, written by an exporter and read as networks."""
