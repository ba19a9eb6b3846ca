"""Output of the commands: results on stdout; progress, tables next to a result and errors on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from sen_edge.progress import Progress, silent
from sen_runtime import streams
from sen_runtime.errors import EXIT_INTERRUPTED
from sen_runtime.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Width of tables in files and pipes.
PLAIN_WIDTH = 120
#: Logger of the library; its level decides what is printed to stderr.
LOG = logging.getLogger("sen_edge")


def console(*, stderr: bool) -> Console:
    """Return a rich console, with plain text of fixed width if the stream is not a terminal.

    It prints nothing to stderr after `silence`.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    is_quiet = stderr and is_silenced()
    return Console(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False, quiet=is_quiet
    )


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
    """Print a note to stderr, unless silenced."""
    if not is_silenced():
        fail(message)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    fail(f"warning: {message}")


def fail(message: str) -> None:
    """Print an error, or a note on a failure, to stderr, with bounded length and no control characters."""
    sys.stderr.write(f"{printable(message, keep_lines=True)}\n")


class _Notes(logging.Handler):
    """Prints log records of the library as notes and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else note)(record.getMessage())


@contextmanager
def show_log() -> Iterator[None]:
    """Print log records of `sen_edge` from level INFO to stderr while commands run."""
    notes = _Notes()
    LOG.setLevel(logging.INFO)
    LOG.addHandler(notes)
    try:
        yield
    finally:
        LOG.removeHandler(notes)
        LOG.setLevel(logging.NOTSET)


def silence() -> None:
    """Print no notes, progress and tables to stderr within the present `show_log`; warnings and errors remain."""
    LOG.setLevel(logging.WARNING)


def is_silenced() -> bool:
    """Return whether `silence` was called."""
    return LOG.level >= logging.WARNING


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
            fail(line)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal with a cursor, else one line per stage; nothing if silenced.

    Enter it before `suppress_announcements`, which redirects stderr: it keeps the original stream.
    """
    from rich import progress as bars
    from rich.console import Console

    if is_silenced():
        yield silent
        return
    stream = streams.duplicate_stderr()
    has_bar, stages = streams.is_animated(stream), set[str]()
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(file=stream), auto_refresh=False, disable=not has_bar) as bar:
        tasks: list[bars.TaskID] = []

        def show(stage: str, fraction: float) -> None:
            if has_bar:
                tasks.extend([] if tasks else [bar.add_task(stage, total=1.0)])
                bar.update(tasks[0], completed=fraction, description=stage, refresh=True)
            elif stage not in stages:
                stages.add(stage)
                stream.write(f"{stage}\n")
                stream.flush()

        yield show
    if stream is not sys.stderr:
        stream.close()
