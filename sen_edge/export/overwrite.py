"""Where an export goes: what is in the way, and putting all files in place at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from sen_edge.errors import OutputError
from sen_runtime.files import Content, NotRestoredError, write_all

#: How files end that an export of the same name may have written and the next one does not, after the folder's name.
SOMETIMES = ("_weights.bin", "_weights.S")
ELSEWHERE = "move it, or choose another place with -o or --name"


def refuse_existing(out_dir: Path, names: Iterable[str], *, force: bool) -> None:
    """An output that exists is an error the user wants to hear early.

    Args:
        out_dir: where the outputs go.
        names: of files and, with a `/` at the end, of folders.
        force: whether an output may replace one of its kind.

    Raises:
        OutputError: `out_dir` is a file; or something is where an output goes, and may not be replaced.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f"{out_dir} is a file; expected a folder", hint="choose another with -o")
    for name in names:
        path = out_dir / name
        if path.exists() and not force:
            raise OutputError(f"{path} exists", hint="pass --force to replace it, or -o / --name for another place")
        _refuse_other_kind(path, is_folder=name.endswith("/"))


def put_in_place(out_dir: Path, files: Mapping[str, bytes], *, force: bool, updated: Iterable[str] = ()) -> None:
    """Write all files, or none; names are relative to `out_dir`, and a folder in them is written as a whole.

    Args:
        out_dir: where they go.
        files: name -> content.
        force: whether existing ones may be replaced.
        updated: names of those that may be replaced in any case.

    Raises:
        OutputError: one exists and `force` is False; a file is where a folder goes, or the reverse; a folder to be
            replaced is a link, or holds what no export wrote; the disk.
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
        raise OutputError(f"cannot write to {out_dir}: {error.strerror}", hint="move back what you need") from error
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
    """A folder replaces a folder, and a file a file; a link to a folder is the user's."""
    if is_folder and path.is_symlink():
        raise OutputError(f"{path} is a link to {path.readlink()}; expected a folder, or nothing", hint=ELSEWHERE)
    if path.exists() and path.is_dir() != is_folder:
        found, expected = ("file", "folder") if is_folder else ("folder", "file")
        raise OutputError(f"{path} is a {found}; expected a {expected}, or nothing", hint=ELSEWHERE)


def _refuse_foreign(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder is replaced with all that is in it, so it may hold nothing but what an export writes."""
    if not folder.exists():
        return
    known = {*files, *(f"{folder.name}{ending}" for ending in SOMETIMES)}
    for parent, folders, names in os.walk(folder, onerror=_cannot_read):
        for path in (Path(parent, name) for name in sorted([*folders, *names])):
            is_ours = path.is_dir() or (path.is_file() and path.relative_to(folder).as_posix() in known)
            if path.is_symlink() or not is_ours:
                raise OutputError(f"{path} was written by no export, and would go with the folder", hint=ELSEWHERE)


def _cannot_read(error: OSError) -> None:
    raise OutputError(f"cannot read {error.filename}, which would be replaced: {error.strerror}", hint=ELSEWHERE)
