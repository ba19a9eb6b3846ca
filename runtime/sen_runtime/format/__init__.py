"""The `.sen` image. Specification: docs/reference/sen-image.md.

Files are untrusted: the reader checks every size against the bytes of the file before it uses it. Arrays of a loaded
network are read-only views of these bytes.
"""

from sen_runtime.format.reader import loads, read
from sen_runtime.format.writer import dumps, write

__all__ = ["dumps", "loads", "read", "write"]
