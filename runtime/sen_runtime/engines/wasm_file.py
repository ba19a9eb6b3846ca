"""Properties and limits of WebAssembly modules (WebAssembly Core Specification 2.0, section 5: binary format).

A file is a header and sections: an id, a size as LEB128, and that many bytes. Properties are a custom section, the last
one, with JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sen_runtime.errors import EngineError
from sen_runtime.untrusted import load_json

HEADER = b"\0asm\x01\0\0\0"
#: Ids of sections.
CUSTOM, IMPORTS, MEMORIES = 0, 2, 5
#: Name of the custom section with the properties.
SECTION = b"sen_edge"
PAGE_BYTES = 65536
_AGAIN = "it may be truncated: copy or export it again"


@dataclass(frozen=True)
class WasmFile:
    """Header data of a module.

    Attributes:
        properties: metadata.
        memory_bytes: the max size of its memory.
    """

    properties: Mapping[str, str]
    memory_bytes: int


def read(data: bytes) -> WasmFile:
    """Read a module of sen-edge, which imports nothing and has one memory of a max size.

    Raises:
        EngineError: another file, or a damaged one.
    """
    properties, memory = None, None
    for kind, body in _sections(data):
        if kind == IMPORTS and body != b"\0":
            raise EngineError("the WebAssembly module imports functions; a network of sen-edge imports nothing")
        if kind == MEMORIES:
            memory = _max_memory(body)
        if kind == CUSTOM and body.startswith(_NAME):
            properties = _properties(body[len(_NAME) :])
    if properties is None or memory is None:
        raise EngineError("the WebAssembly module was not exported by sen-edge", "export the model with --to wasm")
    return WasmFile(properties, memory)


def with_properties(data: bytes, properties: Mapping[str, str]) -> bytes:
    """Replace the properties of a module."""
    kept = [(kind, body) for kind, body in _sections(data) if kind != CUSTOM or not body.startswith(_NAME)]
    text = json.dumps(dict(properties), sort_keys=True, separators=(",", ":"))
    return HEADER + b"".join(
        bytes([kind]) + encode_size(len(body)) + body for kind, body in [*kept, (CUSTOM, _NAME + text.encode())]
    )


def encode_size(value: int) -> bytes:
    """Encode an unsigned integer as LEB128."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


_NAME = encode_size(len(SECTION)) + SECTION


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    if data[:4] != HEADER[:4]:
        raise EngineError("not a WebAssembly file: it does not begin with \\0asm", "export the model again")
    if data[4:8] != HEADER[4:]:
        raise EngineError(f"the WebAssembly file has version {data[4:8].hex()}; expected 01000000", _AGAIN)
    at = len(HEADER)
    while at < len(data):
        size, start = _size(data, at + 1)
        if start + size > len(data):
            raise EngineError(f"the WebAssembly file ends in a section of {size:,} bytes", _AGAIN)
        yield data[at], data[start : start + size]
        at = start + size


def _size(data: bytes, at: int) -> tuple[int, int]:
    """Decode LEB128 of 32 bits at `at`; returns the value and the next position."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise EngineError("the WebAssembly file is damaged: a size does not end", _AGAIN)


def _max_memory(body: bytes) -> int:
    """Max bytes of the one memory of a module."""
    count, at = _size(body, 0)
    if count != 1 or body[at : at + 1] != b"\x01":
        raise EngineError("the WebAssembly module has no memory of a max size", "export the model with --to wasm")
    _, at = _size(body, at + 1)
    return _size(body, at)[0] * PAGE_BYTES


def _properties(text: bytes) -> dict[str, str]:
    found = load_json(text, "the properties of this WebAssembly file", error=EngineError)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise EngineError("this WebAssembly file is damaged: its properties are not a JSON object of strings", _AGAIN)
    return found
