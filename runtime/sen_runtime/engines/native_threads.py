"""What runs the inputs of a native session: a model, or a team of threads for one."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

from sen_runtime.errors import EngineError


@dataclass(frozen=True)
class Runner:
    """A model or a team, and the functions of the C library that run it.

    Attributes:
        handle: address of the model or the team.
        run: function of (handle, x, y, number of rows).
        run_rows: function of (handle, work, x, y, number of rows), several rows at a time.
        threads: how many blocks `work` has.
    """

    handle: int | None
    run: Any
    run_rows: Any
    threads: int = 1


def runner(library: Any, model: int | None, threads: int) -> Runner:
    """A runner of a model; its threads end with it.

    Raises:
        EngineError: the system has no more threads.
    """
    if threads == 1 or not hasattr(library, "sen_team_open"):  # of Windows
        return Runner(model, library.sen_run_batch, library.sen_run_rows)
    library.sen_team_open.restype, library.sen_team_open.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint32]
    library.sen_team_close.restype, library.sen_team_close.argtypes = None, [ctypes.c_void_p]
    team = library.sen_team_open(model, threads)
    if team is None:
        raise EngineError(f"the system does not start {threads} threads", "use fewer: threads=1")
    library.sen_team_run.argtypes = library.sen_run_batch.argtypes
    library.sen_team_run_rows.argtypes = library.sen_run_rows.argtypes
    opened = Runner(team, library.sen_team_run, library.sen_team_run_rows, threads)
    weakref.finalize(opened, library.sen_team_close, team).atexit = False  # others may still run the model then
    return opened
