"""Errors of sweeps, and what they need beside the toolkit."""

from __future__ import annotations

from importlib.util import find_spec

from sen_runtime.errors import MissingExtraError, SenError

PIP_LINE = "pip install 'sen-edge[sweep]'"
#: Module -> what it does.
NEEDED = {
    "distributed": "dask.distributed, which runs the trials,",
    "optuna": "optuna, which samples settings,",
    "pyarrow": "pyarrow, which writes Parquet,",
}


class SweepError(SenError):
    """A sweep file that cannot be read, a cluster that cannot be used, or a folder that cannot be gone on with."""


def check_extra() -> None:
    """Whether a sweep could run here: asked before hours of training.

    Raises:
        MissingExtraError: a package is not installed.
    """
    for module, purpose in NEEDED.items():
        if find_spec(module) is None:
            raise MissingExtraError(purpose, PIP_LINE)
