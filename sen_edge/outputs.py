"""Where an export goes: what is in the way, and putting all files in place at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sen_edge.errors import OutputError
from sen_runtime.files import Content, write_all


def refuse_existing(out_dir: Path, names: Iterable[str], *, force: bool) -> None:
    """An output that exists is an error the user wants to hear early.

    Raises:
        OutputError: `out_dir` is a file; or one of the files or folders `names` is in it, and `force` is False.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f"{out_dir} is a file; expected a folder", hint="choose another with -o")
    for path in (out_dir / name for name in names):
        if path.exists() and not force:
            raise OutputError(f"{path} exists", hint="pass --force to replace it, or -o / --name for another place")


def put_in_place(out_dir: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write all files, or none; names are relative to `out_dir`, and a folder in them is written as a whole.

    Raises:
        OutputError: one exists and `force` is False; a folder to be replaced holds what no export wrote; the disk.
    """
    contents = _by_path(out_dir, files)
    for path, content in contents.items():
        if not isinstance(content, bytes):
            _refuse_foreign(path, content)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_all(contents, replace=force)
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists", hint="pass --force to replace it") from None
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


def _refuse_foreign(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder is replaced with all that is in it, so it may hold nothing but what an export writes."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and not name.startswith(f"{folder.name}_"):
            raise OutputError(
                f"{path} was written by no export, and would go with the folder",
                hint="move it, or choose another place with -o or --name",
            )
