"""Command `sen-edge`: registers subcommands and converts errors to a message and an exit code.

Exit codes: 0 ok, 1 failed, 2 usage, 3 verification failed or over budget, 4 a needed extra is missing, 130 interrupted
(Ctrl-C, SIGTERM, SIGHUP). They depend on stdout only where output is lost, and never on stderr: see
`sen_runtime.streams`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import sen_edge
from sen_edge.cli import console
from sen_edge.cli.bench import bench
from sen_edge.cli.compress import compress
from sen_edge.cli.demo import demo
from sen_edge.cli.doctor import doctor
from sen_edge.cli.export import export
from sen_edge.cli.inspect import inspect
from sen_edge.cli.options import ExportCommand
from sen_edge.cli.plot import plot
from sen_edge.cli.report import report
from sen_edge.cli.sweep import sweep
from sen_edge.cli.train import train
from sen_edge.cli.verify import verify
from sen_runtime import cli, signals, streams

DEBUG_VARIABLE = "SEN_EDGE_DEBUG"

app = typer.Typer(
    name="sen-edge",
    help="Deploy spatially embedded networks: checkpoint in, verified edge artifacts out.",
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 verification failed or budget exceeded, 4 required extra missing, "
    "130 interrupted (Ctrl-C, SIGTERM, SIGHUP).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, sweep, inspect, plot, compress, export, verify, bench, report, demo, doctor):
    app.command(cls=ExportCommand if command is export else None)(command)


def _print_version(asked: bool) -> None:
    if asked:
        console.print_lines([f"sen-edge {sen_edge.__version__}"])
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    del version
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Run the command line."""
    streams.protect()
    with console.show_log(), signals.interrupt_on_signals():
        code = _run()
    sys.exit(streams.finish(code))


def _run() -> int:
    """Run the command and return the exit code."""
    try:
        app(prog_name="sen-edge")
    except SystemExit as ended:  # typer exits with a number
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):  # not reported by a command
            console.fail("interrupted")
        return int(ended.code or 0)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return cli.report(error, "sen-edge", console.fail)
    return 0
