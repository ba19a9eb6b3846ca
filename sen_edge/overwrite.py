"""Overwrite policy of outputs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from sen_edge.errors import OutputError, UsageError
from sen_runtime.files import Content, NotRestoredError, write_all

#: Suffixes, after the folder's name, of files that only some exports write.
OPTIONAL_SUFFIXES = ("_weights.bin", "_weights.S")
ELSEWHERE = "move it, or choose another output with -o or --name"


def refuse_existing(out_dir: Path, names: Iterable[str], *, force: bool) -> None:
    """Refuse existing outputs early; a name with a trailing `/` is a folder.

    Existing outputs of the same kind are replaced with `force`.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f"{out_dir} is a file; expected a folder", hint="choose another with -o")
    for name in names:
        path = out_dir / name
        if path.exists() and not force:
            raise OutputError(f"{path} exists", hint="pass --force to replace it, or change -o or --name")
        _refuse_other_kind(path, is_folder=name.endswith("/"))


def refuse_file(out: Path, suffixes: Collection[str], *, force: bool) -> None:
    """Refuse a file of another suffix, in no folder, or that exists without `force`."""
    if out.suffix not in suffixes:
        raise UsageError(f"{out}: suffix is {out.suffix!r}; expected one of {', '.join(suffixes)}")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
    if out.is_dir() or (out.exists() and not force):
        raise OutputError(f"{out} exists", hint="change --output, or pass --force to replace it")


def write_outputs(out_dir: Path, files: Mapping[str, bytes], *, force: bool, updated: Iterable[str] = ()) -> None:
    """Write files by name, all or none; a folder in the names is replaced as a whole.

    Without `force` only the files `updated` may exist.

    Raises:
        OutputError: an output exists, or is of another kind; a folder to replace is a link, or holds files of no
            export; the disk is full or not writable.
    """
    contents = _by_path(out_dir, files)
    for path, content in contents.items():
        _refuse_other_kind(path, is_folder=not isinstance(content, bytes))
        if not isinstance(content, bytes):
            _refuse_foreign(path, content)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_all(contents, replace=force, updated={out_dir / name for name in updated})
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists", hint="pass --force to replace it") from None
    except NotRestoredError as error:
        raise OutputError(f"cannot write to {out_dir}: {error.strerror}", hint="restore the named file") from error
    except OSError as error:
        raise OutputError(
            f"cannot write to {out_dir}: {error.strerror}", hint="nothing was written; choose another folder with -o"
        ) from error


def _by_path(out_dir: Path, files: Mapping[str, bytes]) -> dict[Path, Content]:
    folders: dict[str, dict[str, bytes]] = {}
    contents: dict[Path, Content] = {}
    for name, data in files.items():
        folder, _, inner = name.partition("/")
        if inner:
            folders.setdefault(folder, {})[inner] = data
            contents[out_dir / folder] = folders[folder]
        else:
            contents[out_dir / name] = data
    return contents


def _refuse_other_kind(path: Path, *, is_folder: bool) -> None:
    """Refuse to replace a folder by a file, a file by a folder, and a link to a folder."""
    if is_folder and path.is_symlink():
        raise OutputError(f"{path} is a link to {path.readlink()}; expected a folder, or nothing", hint=ELSEWHERE)
    if path.exists() and path.is_dir() != is_folder:
        found, expected = ("file", "folder") if is_folder else ("folder", "file")
        raise OutputError(f"{path} is a {found}; expected a {expected}, or nothing", hint=ELSEWHERE)


def _refuse_foreign(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuse to replace a folder that holds files of no export."""
    if not folder.exists():
        return
    known = {*files, *(f"{folder.name}{ending}" for ending in OPTIONAL_SUFFIXES)}
    for parent, folders, names in os.walk(folder, onerror=_cannot_read):
        for path in (Path(parent, name) for name in sorted([*folders, *names])):
            is_ours = path.is_dir() or (path.is_file() and path.relative_to(folder).as_posix() in known)
            if path.is_symlink() or not is_ours:
                raise OutputError(f"{path} is not part of an export and would be removed", hint=ELSEWHERE)


def _cannot_read(error: OSError) -> None:
    raise OutputError(f"cannot read {error.filename}, part of an output to replace: {error.strerror}", hint=ELSEWHERE)
