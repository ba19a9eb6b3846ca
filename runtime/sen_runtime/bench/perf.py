"""Hardware counters of the processor, by perf_event_open(2): of this thread, in user space."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from sen_runtime.errors import SenError

#: Generalized hardware events (linux/perf_event.h).
EVENTS: Mapping[str, int] = {"instructions": 1, "cycles": 0, "cache_misses": 3, "branch_misses": 5}
#: Number of the system call by machine and bits of this program.
SYSCALLS: Mapping[tuple[str, int], int] = {
    ("x86_64", 64): 298,
    ("x86_64", 32): 336,
    ("i686", 32): 336,
    ("aarch64", 64): 241,
    ("aarch64", 32): 364,
    ("armv7l", 32): 364,
    ("armv6l", 32): 364,
    ("riscv64", 64): 241,
}
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
#: struct perf_event_attr of the first version: type, size, config, period, sample type, read format, flags, three more.
ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")
#: Read the time in which an event was enabled, and counted; disabled at first, and without kernel and hypervisor.
READ_FORMAT, FLAGS = 1 | 2, 1 | 1 << 5 | 1 << 6
CLOSE_ON_EXEC = 8
ENABLE, DISABLE = 0x2400, 0x2401
COUNTS = struct.Struct("=QQQ")


class CountersError(SenError):
    """The machine has no counters, or does not let this program read them."""


def count(call: Callable[[], object]) -> dict[str, float | None]:
    """Events of a call by name; None for one that this processor does not have.

    Raises:
        CountersError: it has none of them, or the system does not allow it.
    """
    refusals: list[OSError] = []
    with ExitStack() as stack:
        files = dict[str, int]()
        for name, event in EVENTS.items():
            try:
                files[name] = _open(event)
            except OSError as error:
                refusals.append(error)
            else:
                stack.callback(os.close, files[name])
        if not files:
            raise CountersError(_reason(refusals[0]))
        for file in files.values():
            _control(file, ENABLE)
        call()
        for file in files.values():
            _control(file, DISABLE)
        return {name: _read(files[name]) if name in files else None for name in EVENTS}


def _open(event: int) -> int:
    """File descriptor of a counter."""
    number = SYSCALLS.get((platform.machine(), 8 * struct.calcsize("P")))
    if not sys.platform.startswith("linux") or number is None:
        raise OSError(errno.ENOSYS, "not supported")
    attributes = ATTRIBUTES.pack(0, ATTRIBUTES.size, event, 0, 0, READ_FORMAT, FLAGS, 0, 0, 0)
    file = _system_call(number, attributes, 0, -1, -1, CLOSE_ON_EXEC)
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def _system_call(number: int, attributes: bytes, *arguments: int) -> int:
    """perf_event_open of a process, a core, a group and flags."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return int(function(ctypes.c_long(number), attributes, *map(ctypes.c_long, arguments)))


def _control(file: int, request: int) -> None:
    import fcntl

    fcntl.ioctl(file, request, 0)


def _read(file: int) -> float | None:
    """Count of an event, scaled to the time of the measurement where counters took turns."""
    value, enabled, running = COUNTS.unpack(os.read(file, COUNTS.size))
    return value * enabled / running if running else None


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        try:
            level = f"kernel.perf_event_paranoid is {PARANOID.read_text().strip()}; expected 2 or less"
        except OSError:
            level = "kernel.perf_event_paranoid is unknown"
        return f"the system does not allow it: {level}, and a container must not forbid it"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
        return "no hardware counters, as in most virtual machines"
    if error.errno == errno.ENOSYS:
        return "this system has no perf_event_open"
    return str(error.strerror)
