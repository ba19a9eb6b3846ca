"""Properties and checksum of `.tflite` files.

tflite-runtime 2.14 trusts every offset in a file, and crashes at one outside of it. Files of sen-edge therefore have a
seal, sixteen bytes between the FlatBuffers header and the rest, which readers skip: eight fixed bytes, the length of
the file, and its CRC-32 with these last four bytes 0. A truncated or changed copy is an error before it is loaded.
Files of other origin have no seal.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Mapping

from sen_runtime.errors import EngineError
from sen_runtime.untrusted import check_document, listing

#: Name of the metadata entry that holds the properties.
PROPERTIES = b"sen_edge_properties"
#: Start of the JSON of the properties.
BEGINNING = b'{"sen_edge_properties":"1"'

_IDENTIFIER = b"TFL3"
_SEAL = b"SEN\x00SEAL"
_HEADER = struct.Struct("<I4s")  # offset of the root table, identifier
_SEALED = struct.Struct("<I4s8sII")  # the same, then the seal: length, checksum
_AGAIN = "it may be truncated: copy or export it again"


def check_signature(inputs: Collection[str], outputs: Collection[str]) -> None:
    """Refuse a file whose signature does not name an input and an output as those of sen-edge."""
    if "input" not in inputs or "output" not in outputs:
        raise EngineError(
            f"the TFLite file takes {listing(inputs)} and gives {listing(outputs)}; expected input and output"
        )


def read_properties(data: bytes) -> dict[str, str]:
    """Properties of a file; empty for one of another origin.

    Raises:
        EngineError: not a TFLite file, or one of sen-edge that has changed.
    """
    if len(data) < _SEALED.size or data[4:8] != _IDENTIFIER:
        raise EngineError("not a TFLite file: its identifier is not TFL3", "export the model again")
    _, _, seal, length, checksum = _SEALED.unpack_from(data)
    start = data.find(BEGINNING)
    if seal != _SEAL and start < 0 and PROPERTIES not in data:
        return {}
    if seal != _SEAL or length != len(data) or checksum != _checksum(data) or start < 0:
        raise EngineError("this TFLite file is damaged: it has changed since it was written", _AGAIN)
    try:
        properties, _ = json.JSONDecoder().raw_decode(data[start:].decode("ascii", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise EngineError(f"this TFLite file is damaged: its properties are not JSON ({error})", _AGAIN) from error
    check_document(properties, "the properties of this TFLite file", error=EngineError)
    if not all(isinstance(value, str) for value in properties.values()):
        raise EngineError("this TFLite file is damaged: a property is not text", _AGAIN)
    return {name: value for name, value in properties.items() if name != PROPERTIES.decode()}


def encode_properties(properties: Mapping[str, str]) -> bytes:
    """Encode properties for `read_properties`."""
    if PROPERTIES.decode() in properties:
        raise EngineError(f"a property is called {PROPERTIES.decode()}; the name is reserved")
    rest = json.dumps(dict(properties), sort_keys=True, separators=(",", ":"))[1:]
    return BEGINNING + (b"}" if rest == "}" else b"," + rest.encode())


def seal(data: bytes) -> bytes:
    """Add the seal to a file; offsets are relative, so only that of the root changes."""
    root, identifier = _HEADER.unpack_from(data)
    size = _SEALED.size - _HEADER.size
    header = _SEALED.pack(root + size, identifier, _SEAL, len(data) + size, 0)
    checksum = zlib.crc32(data[_HEADER.size :], zlib.crc32(header))
    return header[:-4] + struct.pack("<I", checksum) + data[_HEADER.size :]


def _checksum(data: bytes) -> int:
    return zlib.crc32(data[_SEALED.size :], zlib.crc32(bytes(4), zlib.crc32(data[: _SEALED.size - 4])))
