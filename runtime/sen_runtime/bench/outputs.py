"""Where results of a benchmark go: what would fail after a long run is found before it, and files are written whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sen_runtime.errors import OutputError, UsageError
from sen_runtime.files import Content, write_all

STDOUT = "-"
#: Options that name a text, which may go to stdout, and those that name other files.
TEXTS = ("json", "csv", "markdown", "html")
FILES = ("plot", "history", "trend")


def check(options: Mapping[str, Any], inputs: Sequence[Path]) -> None:
    """Find out before a measurement what would go wrong after it.

    Args:
        options: by the names of `TEXTS` and `FILES` where the results go, None for nowhere; `force`, whether files may
            be replaced.
        inputs: that are measured, and may not be written to.

    Raises:
        UsageError: two results go to one place, or one to what is measured.
        OutputError: a file exists, or cannot be made.
        HistoryError: the file of the history is none.
        PlotError, MissingExtraError: a plot cannot be drawn.
    """
    targets = {name: options[name] for name in (*TEXTS, *FILES) if options.get(name)}
    if sum(str(target) == STDOUT for name, target in targets.items() if name in TEXTS) > 1:
        raise UsageError("only one output can go to stdout", f"name files instead of {STDOUT}")
    seen = {path.resolve(): f"{path} is measured" for path in inputs}
    for name, path in _paths(targets).items():
        if path.resolve() in seen:
            raise UsageError(f"--{name} {path}: {seen[path.resolve()]}", "name another file")
        seen[path.resolve()] = f"--{name} goes there"
        if path.is_dir():
            raise OutputError(f"--{name}: {path} is a folder; expected a file, or nothing", "name a file")
        if path.exists() and name != "history" and not options["force"]:
            raise OutputError(f"--{name}: {path} exists", "pass --force to replace it, or name another file")
        _check_folder(name, path)
    if "trend" in targets and "history" not in targets:
        raise UsageError("--trend shows what is in a history", "name it with --history")
    if "plot" in targets:
        from sen_runtime.bench import plots

        plots.check(targets["plot"])
    if "history" in targets and targets["history"].exists():
        from sen_runtime.bench import history

        history.read(targets["history"])


def write(
    options: Mapping[str, Any],
    texts: Mapping[str, Callable[[], str]],
    records: Sequence[Mapping[str, Any]],
    note: Callable[[str], None],
) -> None:
    """Write the files, all texts or none of them, then plot, history and trend.

    Args:
        options: see `check`.
        texts: what makes each of `TEXTS`.
        records: of the run; the first is drawn, all go into the history.
        note: told what was written, and what is wrong with the history.

    Raises:
        OutputError, PlotError, HistoryError: something cannot be written; what was written before was noted.
    """
    paths = _paths({name: options[name] for name in TEXTS if options.get(name)})
    _put(paths, texts, replace=options["force"])
    for path in paths.values():
        note(f"wrote {path}")
    if options.get("plot"):
        from sen_runtime.bench import plots

        plots.save(records[0], options["plot"])
        note(f"wrote {options['plot']}")
    if options.get("history"):
        from sen_runtime.bench import history

        for record in records:
            entries = history.append(options["history"], record)
        for line in entries.notes:
            note(line)
        if options.get("trend"):
            from sen_runtime.bench import trend

            _put({"trend": options["trend"]}, {"trend": lambda: trend.page(entries)}, replace=options["force"])
            note(f"wrote {options['trend']}")


def _paths(targets: Mapping[str, Any]) -> dict[str, Path]:
    """Those that are files."""
    return {name: Path(target) for name, target in targets.items() if str(target) != STDOUT or name not in TEXTS}


def _put(paths: Mapping[str, Path], texts: Mapping[str, Callable[[], str]], *, replace: bool) -> None:
    contents: dict[Path, Content] = {
        path: texts[name]().encode(errors="replace")  # names of files may be no text
        for name, path in paths.items()
    }
    try:
        write_all(contents, replace=replace)
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists", "pass --force to replace it") from None
    except OSError as error:
        raise OutputError(
            f"cannot write {', '.join(map(str, contents))}: {error.strerror}", "nothing was written"
        ) from error


def _check_folder(name: str, path: Path) -> None:
    """Whether a file can be made beside `path`: permissions do not tell that of a file system that is read-only."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"--{name}: cannot write to {path.parent}: {error.strerror}", "name another folder"
        ) from error
