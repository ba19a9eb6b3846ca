"""What a `.tflite` file says about itself: the properties that sen-edge stored in it, and whether it is whole.

tflite-runtime 2.14 trusts every offset in a file, and dies where one leads outside. Files of sen-edge carry a
checksum, so a copy that was cut off is an error here instead. Source of the layout: the FlatBuffers binary
format, and TFLite's schema.fbs for the numbers of the fields.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from sen_runtime.errors import EngineError

IDENTIFIER = b"TFL3"
#: Name of the metadata entry that holds the properties as JSON.
PROPERTIES = b"sen_edge"
#: The first property: checksum of the file with these eight digits set to 0.
CHECKSUM = b'{"crc32": "'
CHECKSUM_DIGITS = 8

_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 0, 1, 0


def read_properties(data: bytes) -> dict[str, str]:
    """The properties in a file; empty for one of another origin.

    Raises:
        EngineError: it is no TFLite file, or damaged.
    """
    place = _locate(data)
    if place is None:
        return {}
    stored, checksum = _checksum(data, place)
    if stored != checksum:
        raise EngineError(
            f"this TFLite file is damaged: its checksum is {checksum.decode()}, it says {stored.decode()}",
            "was it cut off on the way? Copy or export it again",
        )
    properties: dict[str, str] = json.loads(data[place])
    del properties["crc32"]
    return properties


def encode_properties(properties: Mapping[str, str]) -> bytes:
    """JSON with room for the checksum, which `seal` fills in."""
    rest = json.dumps(dict(properties), sort_keys=True)[1:]
    return CHECKSUM + b"0" * CHECKSUM_DIGITS + (b'"}' if rest == "}" else b'", ' + rest.encode())


def seal(data: bytes) -> bytes:
    """The file with its checksum filled in."""
    place = _locate(data)
    if place is None:
        raise EngineError("the file has no properties to hold a checksum")
    start = place.start + len(CHECKSUM)
    return data[:start] + _checksum(data, place)[1] + data[start + CHECKSUM_DIGITS :]


def _checksum(data: bytes, place: slice) -> tuple[bytes, bytes]:
    """What the file says its checksum is, and what it is."""
    start = place.start + len(CHECKSUM)
    end = start + CHECKSUM_DIGITS
    if data[place.start : start] != CHECKSUM or end > place.stop:
        raise EngineError("this TFLite file is damaged: its properties do not start with a checksum")
    crc = zlib.crc32(data[end:], zlib.crc32(b"0" * CHECKSUM_DIGITS, zlib.crc32(data[:start])))
    return data[start:end], b"%08x" % crc


def _locate(data: bytes) -> slice | None:
    """Where the properties are."""
    if data[4:8] != IDENTIFIER:
        raise EngineError("this is no TFLite file: its identifier is not TFL3", "export the model again")
    try:
        model = _follow(data, 0)
        for entry in _tables(data, model, _MODEL_METADATA):
            name = _field(data, entry, _METADATA_NAME)
            if name is not None and data[_vector(data, name)] == PROPERTIES:
                position = _field(data, entry, _METADATA_BUFFER)
                number = 0 if position is None else _read(data, "<I", position)
                buffer = list(_tables(data, model, _MODEL_BUFFERS))[number]
                content = _field(data, buffer, _BUFFER_DATA)
                return None if content is None else _vector(data, content)
    except (struct.error, IndexError) as error:
        raise EngineError(
            f"this TFLite file is damaged: {error}", "was it cut off on the way? Copy or export it again"
        ) from error
    return None


def _read(data: bytes, code: str, position: int) -> int:
    if position < 0:
        raise IndexError(f"an offset leads to {position}")
    value: int = struct.unpack_from(code, data, position)[0]
    return value


def _follow(data: bytes, position: int) -> int:
    return position + _read(data, "<I", position)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Position of a table's field, or None where it is left out."""
    vtable = table - _read(data, "<i", table)
    if 4 + 2 * number >= _read(data, "<H", vtable):
        return None
    offset = _read(data, "<H", vtable + 4 + 2 * number)
    return table + offset if offset else None


def _vector(data: bytes, position: int) -> slice:
    """Where the bytes of a vector (or string) are that the field at `position` names."""
    start = _follow(data, position)
    length = _read(data, "<I", start)
    if start + 4 + length > len(data):
        raise IndexError(f"{length} bytes from {start + 4}; the file ends at {len(data)}")
    return slice(start + 4, start + 4 + length)


def _tables(data: bytes, table: int, number: int) -> Iterator[int]:
    """Positions of the tables in a vector of tables."""
    position: Any = _field(data, table, number)
    if position is None:
        return
    start = _follow(data, position)
    length = _read(data, "<I", start)
    if start + 4 + 4 * length > len(data):
        raise IndexError(f"{length} entries from {start + 4}; the file ends at {len(data)}")
    for index in range(length):
        yield _follow(data, start + 4 + 4 * index)
