"""`sen_bench` for tests: its sources, short runs, files and records."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sen_runtime.bench import raw
from sen_runtime.bench.evaluate import evaluate
from tests.support import bench_record
from tests.support.clibrary import LIBRARY

TOOLS = LIBRARY / "tools"
POSIX = ("-D_POSIX_C_SOURCE=200809L", "-D_FILE_OFFSET_BITS=64", "-I", LIBRARY / "include")
SHORT = ("--seconds", "0.1")

Bench = Callable[..., subprocess.CompletedProcess[bytes]]
Blocks = list[tuple[str, bytes]]


def blocks_of(content: bytes) -> Blocks:
    """Kind and bytes of each block of a file."""
    found, at = [], content.index(b"\n") + 1
    while at < len(content):
        start = content.index(b"\n", at) + 1
        size, kind = content[at : start - 1].decode().split(" ", 1)
        at = start + int(size) + 1
        found.append((kind, content[start : at - 1]))
    return found


def file_of(blocks: Blocks) -> bytes:
    return raw.FORMAT + b"".join(b"%d %s\n%s\n" % (len(data), kind.encode(), data) for kind, data in blocks)


def record_of(path: Path) -> dict[str, Any]:
    """The record of a file, whose names and types are right."""
    found = evaluate(raw.read(path))
    bench_record.check(found)
    return found


def recorded(bench: Bench, folder: Path, *arguments: object, before: tuple[str, ...] = ()) -> dict[str, Any]:
    done = bench(*arguments, *SHORT, before=before)
    assert done.returncode == 0, done.stderr.decode()
    return record_of(folder / "bench.raw")
