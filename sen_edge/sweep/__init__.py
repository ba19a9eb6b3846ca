"""Sweeps: many trainings, and compressions, with settings from a grid or a sampler, on a Dask cluster."""

from __future__ import annotations

from importlib.util import find_spec

from sen_runtime.errors import MissingExtraError, SenError

PACKAGES = {"distributed": "dask.distributed", "optuna": "optuna", "pyarrow": "pyarrow"}


class SweepError(SenError):
    """A sweep file or a journal that cannot be read, or a cluster that cannot be used."""


def check_extra() -> None:
    """Check that a sweep can run, before hours of training.

    Raises:
        MissingExtraError: a package is not installed.
    """
    for module, package in PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "pip install 'sen-edge[sweep]'")
