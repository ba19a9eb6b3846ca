"""Files, and folders of files, are put in place whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Union

#: Of a file its bytes; of a folder those of the files in it, by their names relative to it.
Content = Union[bytes, Mapping[str, bytes]]

#: How temporary siblings `.NAME.PID...` end: of what is to come, and of what was there before.
STAGED, OLD = ".tmp", ".old.tmp"


def write_atomic(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write one file; see `write_all`."""
    write_all({path: data}, replace=replace)


class NotRestoredError(OSError):
    """Files failed to be put in place half-way, and what was at a path before could not be put back."""

    def __init__(self, path: Path, kept: Path | None, cause: OSError) -> None:
        where = "" if kept is None else f", what was there before is {kept}"
        super().__init__(cause.errno, f"{cause.strerror}; {path} was replaced{where}")


def write_all(files: Mapping[Path, Content], *, replace: bool = True, updated: Container[Path] = ()) -> None:
    """Write files and folders so that none is ever seen half written.

    All bytes go to temporary siblings and to the disk first; only then are they renamed, in order. Where anything
    fails, what was at each path before is put back. A process killed on the way can leave a hidden `.NAME.*.tmp`, and
    of several paths some new and some old, but never a partial NAME. A folder that is replaced is gone for a moment:
    after a kill in that moment the next write to the same path first brings the old one back. It also removes what
    else was left.

    Args:
        files: path -> content.
        replace: whether an existing file or folder may be replaced, each by one of its kind.
        updated: paths that may be replaced in any case.

    Raises:
        FileExistsError: a path exists and may not be replaced, also one that another process has written meanwhile;
            `filename` is that path.
        NotRestoredError: a path could not be put back after another failure.
        OSError: the disk is full, the folder cannot be written.
    """
    for path in files:
        _bring_back(path)
        _remove_all(_left(path, STAGED))
    staged = {path: _sibling(path, STAGED) for path in files}
    kept: dict[Path, Path | None] = {}
    try:
        for path, content in files.items():
            _stage(staged[path], content)
        for path, temporary in staged.items():
            if replace or path in updated:
                kept[path] = _keep(path, is_folder=temporary.is_dir())
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
        _remove_all([*([] if old is None else [old]), *_left(path, OLD)])


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


def _keep(path: Path, *, is_folder: bool) -> Path | None:
    """Give what is at `path` a second name, a folder a new one; None where nothing is."""
    if not os.path.lexists(path):
        return None
    old = _sibling(path, OLD)
    if path.is_symlink():
        old.symlink_to(path.readlink())
    elif path.is_dir():
        if not is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.rename(old)  # one folder cannot replace another in one step
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
    """Put back what was kept; where nothing was, remove what is."""
    failure = None
    for path, old in kept.items():
        try:
            if old is None:
                _remove(path)
                continue
            if _is_folder(old) and path.exists():
                path.rename(staged[path])
            old.replace(path)
            _remove(old)  # that changes nothing where both names are of the same file
        except OSError as error:
            failure = failure or NotRestoredError(path, old, error)
    if failure is not None:
        raise failure


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename, unless `path` exists."""
    is_folder = temporary.is_dir()
    try:
        if not is_folder:
            os.link(temporary, path)  # fails if the path exists, whoever made it in the meantime
            return
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without hard links, such as FAT on a memory card
        pass
    if path.exists():
        raise _exists(path)
    try:
        temporary.rename(path)
    except OSError as error:  # a folder that was made in the meantime
        if path.exists():
            raise _exists(path) from error
        raise


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_all(paths: Iterable[Path]) -> None:
    """Remove what is no longer needed; what cannot be removed stays."""
    for path in paths:
        with suppress(OSError):
            _remove(path)


def _bring_back(path: Path) -> None:
    """Where a process was killed while it replaced the folder `path`: give the old one its name again."""
    if os.path.lexists(path):
        return
    folders = [old for old in _left(path, OLD) if _is_folder(old)]
    if folders:
        max(folders, key=lambda old: old.stat().st_ctime_ns).rename(path)  # the one that was renamed last


def _left(path: Path, ending: str) -> list[Path]:
    """Temporary siblings of `path` that no other process uses."""
    if os.name != "posix":  # elsewhere a process cannot be asked whether it lives without harming it
        return []
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9]+){re.escape(ending)}")
    found = [(sibling, pattern.fullmatch(sibling.name)) for sibling in path.parent.iterdir()]
    return [sibling for sibling, match in found if match and not _is_used(int(match.group(1)))]


def _is_used(pid: int) -> bool:
    return pid != os.getpid() and _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
