"""Sweeps: many trainings, and compressions, with settings from a grid or a sampler, on a Dask cluster."""
