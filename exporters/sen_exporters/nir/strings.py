"""Strings of HDF5 files, read from the bytes of the file.

HDF5 2.0 trusts the lengths of variable-length strings: a damaged one makes it allocate gigabytes or never return.
Format: "HDF5 File Format Specification 3.0", III.E (global heap) and IV.A.2.d (variable-length types in datasets).
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any

from sen_runtime.errors import EngineError

#: Max objects in all heaps that are read; a string is one.
MAX_OBJECTS = 1 << 16


class NirError(EngineError):
    """A `.nir` file that cannot be read as a network."""


class Strings:
    """Reads datasets of variable-length strings from the content of their file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._n_left = MAX_OBJECTS

    def read(self, dataset: Any, where: str, limit: int) -> list[str]:
        """Strings of at most `limit` bytes of a dataset, in the order of its rows; a `NirError` calls it `where`."""
        start = dataset.id.get_offset()
        if start is None:
            raise NirError(f"{where} is stored in chunks, or not at all; expected contiguous strings")
        return [self._string(start + 16 * index, where, limit) for index in range(prod(dataset.shape))]

    def _string(self, at: int, where: str, limit: int) -> str:
        try:
            length, heap, index = struct.unpack_from("<IQI", self._data, at)
            found = self._objects(heap).get(index, b"") if length else b""
            if length != len(found):
                raise NirError(f"{where} is damaged: its string has {len(found):,} bytes; expected {length:,}")
            if length > limit:
                raise NirError(f"{where} has {length:,} bytes; expected at most {limit:,}")
            return found.decode()
        except (struct.error, UnicodeDecodeError, OverflowError):
            raise NirError(f"{where} is damaged: no string") from None

    def _objects(self, heap: int) -> dict[int, bytes]:
        """Objects of the heap at this address, by index."""
        if heap not in self._heaps:
            self._heaps[heap] = self._read_heap(heap)
        return self._heaps[heap]

    def _read_heap(self, heap: int) -> dict[int, bytes]:
        signature, size = struct.unpack_from("<8sQ", self._data, heap)
        start, end, found = heap + 16, heap + size, dict[int, bytes]()
        if signature[:5] != b"GCOL\1" or end > len(self._data):
            raise NirError(f"is damaged: no global heap at byte {heap:,}")
        while start + 16 <= end:
            index, n_bytes = struct.unpack_from("<H6xQ", self._data, start)
            start += 16
            self._n_left -= 1
            if index == 0:  # the free space at the end
                break
            if n_bytes > end - start or self._n_left < 0:
                raise NirError(f"is damaged: the global heap at byte {heap:,} is not valid")
            found[index] = self._data[start : start + n_bytes]
            start += (n_bytes + 7) // 8 * 8
        return found
