"""Output of the commands: results on stdout; progress, tables next to a result and errors on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from sen_edge.progress import Progress
from sen_runtime import streams
from sen_runtime.errors import EXIT_INTERRUPTED
from sen_runtime.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Width of tables in files and pipes.
PLAIN_WIDTH = 120


def console(*, stderr: bool) -> Console:
    """Return a rich console, with plain text of fixed width if the stream is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Build a table with the first column left-aligned and the others right-aligned."""
    from rich import box
    from rich.table import Table

    result = Table(title=printable(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for index, heading in enumerate(headings):
        result.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        result.add_row(*map(printable, row))
    return result


def print_json(value: Any) -> None:
    """Print a result for programs to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def print_lines(lines: Iterable[object]) -> None:
    """Print lines of a result to stdout."""
    sys.stdout.writelines(f"{printable(str(line), None)}\n" for line in lines)


def note(message: str) -> None:
    """Print a note, progress or an error to stderr, with bounded length and no control characters."""
    sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


class _Notes(logging.Handler):
    """Prints log records of the library as notes, warnings with a prefix."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        note(f"{prefix}{record.getMessage()}")


@contextmanager
def show_log() -> Iterator[None]:
    """Print log records of `sen_edge` from level INFO to stderr while commands run."""
    log, notes = logging.getLogger("sen_edge"), _Notes()
    log.setLevel(logging.INFO)
    log.addHandler(notes)
    try:
        yield
    finally:
        log.removeHandler(notes)
        log.setLevel(logging.NOTSET)


@contextmanager
def interruptible(remarks: Callable[[], Sequence[str]] | None = None) -> Iterator[None]:
    """Exit with the code of an interrupt on Ctrl-C, SIGTERM and SIGHUP.

    Args:
        remarks: lines for the user; by default, that nothing was written.
    """
    try:
        yield
    except KeyboardInterrupt:
        for line in ("interrupted; nothing was written",) if remarks is None else remarks():
            note(line)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else one line per stage.

    Enter it before `suppress_announcements`, which redirects stderr: it keeps the original stream.
    """
    from rich import progress as bars
    from rich.console import Console

    stream = streams.duplicate_stderr()
    terminal = Console(file=stream)
    stages: set[str] = set()
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=terminal, auto_refresh=False) as bar:
        tasks: list[bars.TaskID] = []

        def show(stage: str, fraction: float) -> None:
            if terminal.is_terminal:
                tasks.extend([] if tasks else [bar.add_task(stage, total=1.0)])
                bar.update(tasks[0], completed=fraction, description=stage, refresh=True)
            elif stage not in stages:
                stages.add(stage)
                stream.write(f"{stage}\n")
                stream.flush()

        yield show
    if stream is not sys.stderr:
        stream.close()
