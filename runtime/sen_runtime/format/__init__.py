"""The `.sen` image: the one owner of the file format. Specification: docs/reference/sen-image.md.

Nothing in a file is trusted: every size is checked against the bytes that are there before it is used, and every
way to be wrong has its own error. Arrays of a loaded network are read-only views on the file's bytes.
"""

from sen_runtime.format.reader import loads, read
from sen_runtime.format.writer import dumps, write

__all__ = ["dumps", "loads", "read", "write"]
