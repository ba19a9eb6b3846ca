"""Files, and folders of files, are put in place whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Union

#: Of a file its bytes; of a folder those of the files in it, by their names relative to it.
Content = Union[bytes, Mapping[str, bytes]]


def write_atomic(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write one file; see `write_all`."""
    write_all({path: data}, replace=replace)


def write_all(files: Mapping[Path, Content], *, replace: bool = True) -> None:
    """Write files and folders so that none is ever seen half written.

    All bytes go to temporary siblings and to the disk first; only then are they renamed, in order. Whatever fails
    before that leaves every path as it was; without `replace`, so does whatever fails at all. A process killed on
    the way can leave a hidden `.NAME.PID.tmp`, never a partial NAME; the next write to the same path removes it.
    A folder that is replaced is gone for a moment, with all that was in it.

    Args:
        files: path -> content.
        replace: whether an existing file or folder may be replaced.

    Raises:
        FileExistsError: a path exists and `replace` is False.
        OSError: the disk is full, the folder cannot be written.
    """
    staged: dict[Path, Path] = {}
    created: list[Path] = []
    try:
        for path, content in files.items():
            _remove_stale(path)
            staged[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            _stage(staged[path], content)
        for path, temporary in staged.items():
            if replace:
                _rename_over(temporary, path)
            else:
                _rename_new(temporary, path)
                created.append(path)
    except BaseException:
        for path in created:
            _remove(path)
        raise
    finally:
        for temporary in staged.values():
            _remove(temporary)


def _stage(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        _write_synced(path, content)
        return
    for name, data in content.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(file, data)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename_over(temporary: Path, path: Path) -> None:
    """Rename; where a folder replaces a folder that is moved aside first, because it cannot be done in one step."""
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    aside = path.with_name(f".{path.name}.old.{os.getpid()}.tmp")
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    _remove(aside)


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename, unless `path` exists."""
    is_folder = temporary.is_dir()
    try:
        if not is_folder:
            os.link(temporary, path)  # fails if the path exists, whoever made it in the meantime
            return
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as FAT on a memory card
        pass
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary.rename(path)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove temporary siblings of processes that are no more."""
    if os.name != "posix":  # elsewhere a process cannot be asked whether it lives without harming it
        return
    suffix = ".tmp"
    for prefix in (f".{path.name}.", f".{path.name}.old."):
        for sibling in path.parent.iterdir():
            pid = sibling.name[len(prefix) : -len(suffix)]
            is_ours = sibling.name.startswith(prefix) and sibling.name.endswith(suffix) and pid.isdecimal()
            if is_ours and not _is_alive(int(pid)):
                _remove(sibling)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
