"""Atomic writes of files and folders."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Union

#: Bytes of a file; for a folder the bytes of its files by relative name.
Content = Union[bytes, Mapping[str, bytes]]

#: Suffixes of temporary siblings `.NAME.PID...`: new content, previous content.
STAGED, OLD = ".tmp", ".old.tmp"


def write_atomic(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write one file; see `write_all`."""
    write_all({path: data}, replace=replace)


class NotRestoredError(OSError):
    """A write failed half-way, and the previous content of a path could not be restored."""

    def __init__(self, path: Path, kept: Path | None, cause: OSError) -> None:
        where = "" if kept is None else f", the previous content is {kept}"
        super().__init__(cause.errno, f"{cause.strerror}; {path} was replaced{where}")


def write_all(files: Mapping[Path, Content], *, replace: bool = True, updated: Container[Path] = ()) -> None:
    """Write files and folders without visible partial content.

    All bytes are written to temporary siblings and synced, then renamed in order. After a failure the previous content
    of each path is restored. A killed process can leave a hidden `.NAME.*.tmp`, and some paths new and others old, but
    never a partial NAME. A folder is absent for a moment while it is replaced; after a kill in that moment the next
    write to the path restores the old one, and removes leftovers.

    Args:
        files: path -> content.
        replace: whether existing files and folders may be replaced, each by one of its kind.
        updated: paths that may always be replaced.

    Raises:
        FileExistsError: a path exists and may not be replaced, even if another process wrote it meanwhile; `filename`
            is the path.
        NotRestoredError: a path could not be restored after another failure.
        OSError: disk full, folder not writable.
    """
    for path in files:
        _restore_interrupted(path)
        _remove_all(_leftovers(path, STAGED))
    staged = {path: _sibling(path, STAGED) for path in files}
    kept: dict[Path, Path | None] = {}
    try:
        for path, content in files.items():
            _stage(staged[path], content)
        for path, temporary in staged.items():
            if replace or path in updated:
                kept[path] = _backup(path, is_folder=temporary.is_dir())
                temporary.replace(path)
            else:
                _rename_new(temporary, path)
                kept[path] = None
    except BaseException:
        _undo(kept, staged)
        raise
    finally:
        _remove_all(staged.values())
    for path, old in kept.items():
        _remove_all([*([] if old is None else [old]), *_leftovers(path, OLD)])


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{ending}")


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


def _backup(path: Path, *, is_folder: bool) -> Path | None:
    """Save the content at `path` under a second name, by a link or, for a folder, a rename; None if absent."""
    if not os.path.lexists(path):
        return None
    old = _sibling(path, OLD)
    if path.is_symlink():
        old.symlink_to(path.readlink())
    elif path.is_dir():
        if not is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.rename(old)  # a folder cannot replace another in one step
    else:
        try:
            os.link(path, old)
        except OSError:  # a file system without hard links, such as FAT on a memory card
            _copy(path, old)
    return old


def _copy(path: Path, copy: Path) -> None:
    try:
        shutil.copy2(path, copy)
    except BaseException:
        _remove(copy)
        raise


def _undo(kept: Mapping[Path, Path | None], staged: Mapping[Path, Path]) -> None:
    """Restore the backups; remove new paths."""
    failure = None
    for path, old in kept.items():
        try:
            if old is None:
                _remove(path)
                continue
            if _is_folder(old) and path.exists():
                path.rename(staged[path])
            old.replace(path)
            _remove(old)  # no effect if both names are of one file
        except OSError as error:
            failure = failure or NotRestoredError(path, old, error)
    if failure is not None:
        raise failure


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename unless `path` exists."""
    if not temporary.is_dir():
        with suppress(OSError):  # a file system without hard links, such as FAT on a memory card
            os.link(temporary, path)  # fails if the path exists, also if another process created it
            return
    if os.path.lexists(path):
        raise _exists(path)
    try:
        temporary.rename(path)
    except OSError as error:  # a folder created meanwhile
        if path.exists():
            raise _exists(path) from error
        raise


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Remove a file or folder if it exists."""
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_all(paths: Iterable[Path]) -> None:
    """Remove paths; ignore failures."""
    for path in paths:
        with suppress(OSError):
            _remove(path)


def _restore_interrupted(path: Path) -> None:
    """Restore the old folder at `path` after a process was killed while it replaced it."""
    if os.path.lexists(path):
        return
    folders = [old for old in _leftovers(path, OLD) if _is_folder(old)]
    if folders:
        max(folders, key=lambda old: old.stat().st_ctime_ns).rename(path)  # renamed last


def _leftovers(path: Path, ending: str) -> list[Path]:
    """Return temporary siblings of `path` that no live process uses."""
    if os.name != "posix":  # elsewhere the liveness of a process cannot be tested safely
        return []
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9]+){re.escape(ending)}")
    found = [(sibling, pattern.fullmatch(sibling.name)) for sibling in path.parent.iterdir()]
    return [sibling for sibling, match in found if match and not _is_in_use(int(match.group(1)))]


def _is_in_use(pid: int) -> bool:
    """Whether another process of this number lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid != os.getpid()
