"""Numbers and structures of the format, as in docs/reference/sen-image.md."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

MAGIC = b"\x89SEN\r\n\x1a\n"
VERSION = 1
ALIGNMENT = 64
NONE = 0xFFFFFFFF

HEADER = struct.Struct("<8sHHIQII32x")  # magic, version, header bytes, sections, file bytes, crc32, flags
CRC_OFFSET = 24
SECTION = struct.Struct("<IIQQI3IQ")  # kind, dtype, offset, nbytes, rank, shape[3], reserved
PROGRAM = struct.Struct("<8I")  # layers, operators, timesteps, input coding, readout, n_in, n_out, reserved
LAYER = struct.Struct("<IIIffIII")  # operator, bias, neuron, beta, threshold, reset, reserved[2]
OPERATOR = struct.Struct("<3I4I2I2I4fI")  # kind, n_out, n_in, tensors, operands, block, scalars, reserved

KIND_PROGRAM, KIND_METADATA, KIND_TENSOR = 1, 2, 3
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f2"),
    3: np.dtype("i1"),
    4: np.dtype("<i4"),
    5: np.dtype("<u2"),
}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
#: Levels of sums within sums: deep enough for any compression, shallow enough for any stack.
MAX_DEPTH = 32
