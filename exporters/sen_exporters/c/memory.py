"""Memory of a network: constant arrays in flash, as C text or a binary file; vectors in the arena, which change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

#: Columns of generated text.
WIDTH = 110
#: Of arrays in a binary file, in bytes.
ALIGNMENT = 16
#: Kernels load weights as words.
_ALIGNED = "#ifdef __GNUC__\n__attribute__((aligned(4)))\n#endif\n"


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash.

    Attributes:
        symbol: C identifier.
        array: values in their stored type.
        comment: meaning and shape.
    """

    symbol: str
    array: Array
    comment: str

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return int(self.array.nbytes)

    @property
    def type(self) -> str:
        """C type of the values."""
        name = self.array.dtype.name
        return {"float32": "float", "float16": "uint16_t"}.get(name, f"{name}_t")


def dtype(array: Array) -> str:
    """Constant of network.h for the type of an array."""
    return f"SEN_{array.dtype.name.upper()}"


@dataclass
class Arena:
    """Allocates vectors one behind the other, at even floats.

    Attributes:
        vectors: comment and bytes of each.
        size: floats up to the end of the last one, in pairs.
    """

    vectors: list[tuple[str, int]] = field(default_factory=list)
    size: int = 0

    def take(self, comment: str, size: int) -> int:
        """Allocate `size` floats; returns the first one's number."""
        start = self.size
        self.vectors.append((comment, 4 * size))
        self.size += size + size % 2
        return start


def definition(constant: Constant) -> str:
    """C text that defines an array."""
    values = constant.array.ravel()
    name = values.dtype.name
    kind = "float16 bits: " if name == "float16" else ""
    head = f"/* {kind}{constant.comment} */\n{_ALIGNED if values.itemsize == 1 else ''}"
    declaration = f"static const SEN_FLASH {constant.type} {constant.symbol}[{values.size}] SEN_SECTION"
    return f"{head}{declaration} = {{\n{rows(literals(values))}}};\n"


def number(value: float) -> str:
    """C literal that reads back as the same float32 bits."""
    return f"{np.float32(value)!s}f"


def literals(values: Array) -> Iterable[str]:
    """Each value as a C literal."""
    if values.dtype == np.float32:
        return map(number, values)
    if values.dtype == np.float16:
        return (f"0x{bits:04x}" for bits in values.view(np.uint16).tolist())
    if values.dtype == np.uint32:
        return (f"0x{word:08x}u" for word in values.tolist())
    return map(str, values.tolist())


def rows(items: Iterable[str]) -> str:
    """Items separated by commas, in lines of `WIDTH` columns."""
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += f"{' ' if line else '    '}{item},"
    return "".join(f"{each}\n" for each in [*lines, line])


def placed(constants: Iterable[Constant]) -> Iterator[tuple[Constant, int]]:
    """Arrays and their places in NAME_weights.bin, at multiples of `ALIGNMENT`."""
    offset = 0
    for each in constants:
        yield each, offset
        offset += each.nbytes + -each.nbytes % ALIGNMENT


def binary(constants: Iterable[Constant]) -> bytes:
    """NAME_weights.bin: all arrays, little endian."""
    data = bytearray()
    for each, offset in placed(constants):
        data += bytes(offset - len(data))
        data += each.array.astype(each.array.dtype.newbyteorder("<")).tobytes()
    return bytes(data)
