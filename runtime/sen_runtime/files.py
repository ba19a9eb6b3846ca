"""Files are put in place whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write one file; see `write_all`."""
    write_all({path: data}, replace=replace)


def write_all(files: Mapping[Path, bytes], *, replace: bool = True) -> None:
    """Write files so that none is ever seen half written.

    All bytes go to temporary siblings and to the disk first; only then are they renamed, in order. Whatever fails
    before that leaves every path as it was; without `replace`, so does whatever fails at all. A process killed on
    the way can leave a hidden `.NAME.PID.tmp`, never a partial NAME; the next write to the same path removes it.

    Args:
        files: path -> content.
        replace: whether an existing file may be replaced.

    Raises:
        FileExistsError: a path exists and `replace` is False.
        OSError: the disk is full, the folder cannot be written.
    """
    staged: dict[Path, Path] = {}
    created: list[Path] = []
    try:
        for path, data in files.items():
            _remove_stale(path)
            staged[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            _write_synced(staged[path], data)
        for path, temporary in staged.items():
            if replace:
                temporary.replace(path)
            else:
                _rename_new(temporary, path)
                created.append(path)
    except BaseException:
        for path in created:
            path.unlink(missing_ok=True)
        raise
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename, unless `path` exists."""
    try:
        os.link(temporary, path)  # fails if the path exists, whoever made it in the meantime
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as FAT on a memory card
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)


def _remove_stale(path: Path) -> None:
    """Remove temporary siblings of processes that are no more."""
    if os.name != "posix":  # elsewhere a process cannot be asked whether it lives without harming it
        return
    prefix, suffix = f".{path.name}.", ".tmp"
    for sibling in path.parent.iterdir():
        pid = sibling.name[len(prefix) : -len(suffix)]
        is_ours = sibling.name.startswith(prefix) and sibling.name.endswith(suffix) and pid.isdecimal()
        if is_ours and not _is_alive(int(pid)):
            sibling.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
