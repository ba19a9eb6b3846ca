"""The command `sen-runtime`: benchmarks on the device itself.

Exit codes: 0 ok, 1 failed, 2 usage, 3 wrong outputs, throttled, or slower than allowed, 4 a needed package is missing,
130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sen_runtime
from sen_runtime.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_VERIFICATION,
    OutputError,
    SenError,
    UsageError,
)

DEBUG_VARIABLE = "SEN_EDGE_DEBUG"
STDOUT = "-"
#: Outputs that are text: the option, and the module of `sen_runtime.bench` and the function that make it.
TEXTS = {
    "json": ("record", "dumps"),
    "csv": ("text", "csv"),
    "markdown": ("text", "markdown"),
    "html": ("html", "report"),
}
SECONDS_IN = {"s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process; the exit code.

    Raises:
        SystemExit: 2 for options that are unknown or malformed, 0 after --help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        code: int = options.command(options, words)
    except BrokenPipeError:  # the reader of our output has gone; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        _note("interrupted before anything was measured")
        return EXIT_INTERRUPTED
    except Exception as error:
        if options.debug or os.environ.get(DEBUG_VARIABLE):
            raise
        return _report(error)
    return code


def _report(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, SenError):
        _note(f"error: {error.message}")
        if error.hint:
            _note(f"  -> {error.hint}")
        return error.exit_code
    if isinstance(error, MemoryError):
        _note("error: there is not enough memory for this")
        return EXIT_FAILED
    _note(f"error: sen-runtime failed unexpectedly: {type(error).__name__}: {error}")
    _note("  -> run again as `sen-runtime --debug ...` and report the traceback")
    return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sen-runtime",
        description="Benchmarks of exported networks, on the device itself.",
        epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 wrong outputs, throttled, or slower than allowed, "
        "4 a needed package is missing, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"sen-runtime {sen_runtime.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_bench(commands)
    compare = commands.add_parser("compare", help="how two records differ", description=_compare.__doc__)
    compare.add_argument("a", type=Path, metavar="A.json", help="what was")
    compare.add_argument("b", type=Path, metavar="B.json", help="what is")
    compare.add_argument(
        "--max-regression", type=_share, metavar="5%", help="exit with 3 if a row is slower by more than this"
    )
    compare.add_argument("--allow-different", action="store_true", help="compare other devices and models too")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(command=_compare)
    device = commands.add_parser("device", help="what machine this is", description=_device.__doc__)
    device.add_argument("--json", action="store_true", help="print JSON")
    device.set_defaults(command=_device)
    schema = commands.add_parser("schema", help="the JSON Schema of a record", description=_schema.__doc__)
    schema.set_defaults(command=_schema)
    return parser


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser("bench", help="measure files side by side", description=_bench.__doc__)
    bench.set_defaults(command=_bench)
    add = bench.add_argument
    add("artifacts", type=Path, nargs="+", metavar="ARTIFACT", help=".onnx, .tflite, .sen; the first is the baseline")
    add("--engine", action="append", default=[], metavar="NAME", help="an engine to measure; may be repeated")
    add("--threads", type=_numbers, default=(1,), metavar="1,2", help="numbers of threads (default: 1)")
    add("--seconds", type=float, default=10.0, metavar="S", help="how long to measure (default: 10)")
    add("--duration", type=_duration, metavar="10m", help="measure so long, and note clock and temperature each second")
    add("--data", type=Path, metavar="FILE.npz", help="inputs x [n, n_in] and, for accuracy, labels [n]")
    add("--cold-cache", action="store_true", help="empty the caches before each inference")
    add("--cpu", type=int, metavar="N", help="run on this core only")
    add("--seed", type=int, default=0, metavar="N", help="of the order and of random inputs (default: 0)")
    add("--json", metavar="FILE", help="write the record; - for stdout, instead of the table")
    add("--csv", metavar="FILE", help="write the rows; - for stdout")
    add("--markdown", metavar="FILE", help="write the table; - for stdout")
    add("--html", metavar="FILE", help="write a report that needs no network")
    add(
        "--plot", type=Path, metavar="FILE", help="draw histograms and latency over time (.png, .svg; needs matplotlib)"
    )
    add("--raw", action="store_true", help="keep all samples in the record")
    add("--history", type=Path, metavar="FILE", help="append the record's figures to this file")
    add("--trend", type=Path, metavar="FILE.html", help="write a page with the trend of --history")
    add("--energy", type=Path, metavar="FILE.csv", help="what a meter writes meanwhile: timestamp, watts")
    add("--allow-throttled", action="store_true", help="exit with 0 even if the clock changed meanwhile")
    add("--force", action="store_true", help="replace files that exist")


def _bench(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure files, engines and numbers of threads side by side in one run, and compare their outputs."""
    from sen_runtime.bench import measure
    from sen_runtime.bench.plan import BenchRequest, check_request, notes

    request = BenchRequest(
        tuple(options.artifacts),
        tuple(options.engine),
        options.threads,
        options.seconds if options.duration is None else options.duration,
        sustained=options.duration is not None,
        data=options.data,
        cold_cache=options.cold_cache,
        cpu=options.cpu,
        seed=options.seed,
        raw=options.raw,
        energy=options.energy,
        command=("sen-runtime", *words),
    )
    check_request(request)
    _check_outputs(options)
    for line in notes(request):
        _note(line)
    progress = _Progress()
    try:
        run = measure.run(request, progress=progress)
    finally:
        progress.end()
    record = run.record
    failed = None
    if options.energy is not None:
        try:
            energy = _part("energy")
            spans = [energy.Span(*span) for span in run.spans]
            record = energy.with_energy(record, energy.read_meter(options.energy), spans)
        except SenError as error:  # the latencies are none the worse for it
            failed = error
    _write(options, record)
    if failed is not None:
        raise failed
    return _exit_code(record, allow_throttled=options.allow_throttled)


def _exit_code(record: Mapping[str, Any], *, allow_throttled: bool) -> int:
    if record["status"] == "interrupted":
        _note("interrupted: the figures are of what was measured until then")
        return EXIT_INTERRUPTED
    from sen_runtime.bench.measure import is_wrong

    if any(map(is_wrong, record["rows"])) or (record["device"]["throttled_during"] and not allow_throttled):
        for reason in record["invalid_because"]:
            _note(f"not valid: {reason}")
        return EXIT_VERIFICATION
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Everything that would fail after a long run, before it."""
    targets = {name: getattr(options, name) for name in (*TEXTS, "plot", "history", "trend") if getattr(options, name)}
    if sum(target == STDOUT for target in targets.values()) > 1:
        raise UsageError("only one output can go to stdout", f"name files instead of {STDOUT}")
    paths = {name: Path(target) for name, target in targets.items() if target != STDOUT}
    seen = {path.resolve(): f"{path} is measured" for path in options.artifacts}
    for name, path in paths.items():
        if path.resolve() in seen:
            raise UsageError(f"--{name} {path}: {seen[path.resolve()]}", "name another file")
        seen[path.resolve()] = f"--{name} goes there"
        if path.is_dir():
            raise OutputError(f"--{name}: {path} is a folder; expected a file, or nothing", "name a file")
        if path.exists() and name != "history" and not options.force:
            raise OutputError(f"--{name}: {path} exists", "pass --force to replace it, or name another file")
        _check_folder(name, path)
    if options.trend and not options.history:
        raise UsageError("--trend shows what is in a history", "name it with --history")
    if options.plot:
        _part("plots").check(options.plot)
    if options.history and options.history.exists():
        _part("history").read(options.history)


def _check_folder(name: str, path: Path) -> None:
    """Whether a file can be made beside `path`: permissions do not tell that of a file system that is read-only."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"--{name}: cannot write to {path.parent}: {error.strerror}", "name another folder"
        ) from error


def _write(options: argparse.Namespace, record: Mapping[str, Any]) -> None:
    from sen_runtime.files import Content, write_all

    files: dict[Path, Content] = {}
    printed: bytes | None = None
    for name, (part, function) in TEXTS.items():
        target = getattr(options, name)
        if target is None:
            continue
        made = getattr(_part(part), function)(record)
        content = made if isinstance(made, bytes) else made.encode(errors="replace")  # names may be no text
        if target == STDOUT:
            printed = content
        else:
            files[Path(target)] = content
    if options.history:
        history = _part("history").append(options.history, record)
        for line in history.notes:
            _note(line)
        if options.trend:
            files[options.trend] = _part("trend").page(history).encode()
    try:
        write_all(files, replace=options.force)
    except OSError as error:
        raise OutputError(
            f"cannot write {', '.join(map(str, files))}: {error.strerror}", "nothing was written"
        ) from error
    if options.plot:
        _part("plots").save(record, options.plot)
    sys.stdout.write(_part("text").table(record) if printed is None else printed.decode())
    for path in (*files, *([options.plot] if options.plot else [])):
        _note(f"wrote {path}")
    if options.json not in (None, STDOUT):
        _note(f"next: sen-runtime compare {options.json} LATER.json --max-regression 5%")


def _compare(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Compare two records row by row: ratio B / A with its interval, effect size; a gate with --max-regression."""
    del words
    from sen_runtime.bench import record

    part = _part("compare")
    found = part.compare(record.read(options.a), record.read(options.b), allow_different=options.allow_different)
    if options.json:
        _print_json(found.to_dict())
    else:
        sys.stdout.write(part.text(found, options.max_regression))
    slower = [] if options.max_regression is None else found.regressions(options.max_regression)
    for row in slower:
        _note(f"regression: {row.name} takes {row.ratio:.3g} times as long")
    return EXIT_VERIFICATION if slower else 0


def _device(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Show what machine this is and what state it is in, as a record has it."""
    del words
    device = importlib.import_module("sen_runtime.device")
    found = {**device.describe(), **device.state()}
    if options.json:
        _print_json(found)
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        shown = json.dumps(value) if isinstance(value, (dict, list)) else value
        sys.stdout.write(f"{name:<{width}}  {shown}\n")
    return 0


def _schema(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the JSON Schema of a record."""
    del options, words
    from sen_runtime.bench import record

    sys.stdout.write(record.schema_text())
    return 0


class _Progress:
    """Shows what is being done, on stderr: on a terminal in one line, else a line for each stage."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, stage: str) -> None:
        is_repeated = stage.startswith("measuring")
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{stage}" if is_repeated else f"\r\x1b[K{stage}\n")
            sys.stderr.flush()
        elif not is_repeated:
            _note(stage)

    def end(self) -> None:
        """Leave an empty line for what follows."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")


def _part(name: str) -> Any:
    """A module of `sen_runtime.bench`, imported when it is asked for, so that the rest starts fast."""
    return importlib.import_module(f"sen_runtime.bench.{name}")


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", text):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers separated by commas, such as 1,2")
    return tuple(map(int, text.split(",")))


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a time such as 90s, 10m or 1h")
    return float(match.group(1)) * SECONDS_IN[match.group(2) or "s"]


def _share(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}; expected percent, such as 5%")
    return float(match.group(1)) / 100


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _note(message: str) -> None:
    sys.stderr.write(f"{message}\n")
