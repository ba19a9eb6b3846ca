"""How fast this processor loads from its second-level cache and from memory: the roof over every product."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("bandwidth.c")
#: A multiple of 512 bytes that is far from fitting any cache of a core.
MEMORY_BYTES = 1 << 30
SECOND_LEVEL = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def second_level_bytes() -> int:
    """Size of a core's second-level cache; 1 MiB where the kernel does not tell."""
    try:
        return int(SECOND_LEVEL.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 1 << 20


def load_bandwidths(rounds: int = 20) -> dict[str, float]:
    """Bytes per nanosecond of sequential loads, the best of some rounds: `second-level cache` and `memory`."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "bandwidth.so"
        flags = ["-std=c99", "-O3", "-march=native", "-mprefer-vector-width=512", "-Wno-psabi", "-shared", "-fPIC"]
        if subprocess.run(["cc", *flags, SOURCE, "-o", library], capture_output=True, check=False).returncode != 0:
            flags.remove("-mprefer-vector-width=512")  # an option of x86 alone
            subprocess.run(["cc", *flags, SOURCE, "-o", library], check=True)
        load = ctypes.CDLL(str(library)).load
    load.restype, load.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p]
    result = ctypes.c_int64()

    def fastest(size: int, repeats: int) -> float:
        data = np.ones(size + 64, np.uint8)  # zeros would all be one page of the kernel
        start = data.ctypes.data + -data.ctypes.data % 64
        return max(size / load(start, size, repeats, ctypes.byref(result)) for _ in range(rounds))

    half = second_level_bytes() // 2 // 512 * 512  # half of it, so that nothing else evicts it
    return {"second-level cache": fastest(half, 200), "memory": fastest(MEMORY_BYTES, 1)}
