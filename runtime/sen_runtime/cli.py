"""Command `sen-runtime`: benchmarks on the device.

Exit codes: 0 ok, 1 error, 2 usage, 3 wrong outputs, throttling, crashed engine or regression, 4 required package
missing, 130 interrupted (Ctrl-C, SIGTERM, SIGHUP).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sen_runtime
from sen_runtime import signals, streams
from sen_runtime.errors import EXIT_INTERRUPTED, EXIT_VERIFICATION, SenError, UsageError
from sen_runtime.memory_limits import allocation_failure
from sen_runtime.untrusted import printable

if TYPE_CHECKING:
    from sen_runtime.bench.plan import BenchRequest

DEBUG_VARIABLE = "SEN_EDGE_DEBUG"
SECONDS_IN = {"s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit code.

    Raises:
        SystemExit: 2 for unknown or malformed options, 0 after --help.
    """
    streams.protect()
    with signals.interrupt_on_signals():
        code = run(arguments)
    return streams.finish(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line without handling streams and signals; return the exit code.

    Raises:
        SystemExit: see `main`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        code: int = options.command(options, words)
    except KeyboardInterrupt:
        _note("interrupted before anything was written")
        return EXIT_INTERRUPTED
    except Exception as error:
        if options.debug or os.environ.get(DEBUG_VARIABLE):
            raise
        return report(error, "sen-runtime", _note)
    return code


def report(error: Exception, program: str, note: Callable[[str], None]) -> int:
    """Print message and hint of an error; return its exit code."""
    known = error if isinstance(error, SenError) else allocation_failure(error)
    if known is None:
        known = SenError(
            f"{program} failed unexpectedly: {type(error).__name__}: {error}",
            f"run again as `{program} --debug ...` and report the traceback",
        )
    note(f"error: {known.message}")
    for line in known.hint.splitlines():
        note(f"  -> {line}")
    return known.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sen-runtime",
        description="Benchmark exported networks on the device.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 wrong outputs, throttling, crashed engine or regression, "
        "4 required package missing, 130 interrupted (Ctrl-C, SIGTERM, SIGHUP).",
    )
    parser.add_argument("--version", action="version", version=f"sen-runtime {sen_runtime.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_bench(commands)
    compare = commands.add_parser("compare", help="compare two records", description=_compare.__doc__)
    compare.add_argument("a", type=Path, metavar="A.json", help="baseline record")
    compare.add_argument("b", type=Path, metavar="B.json", help="new record")
    compare.add_argument(
        "--max-regression",
        type=_share,
        metavar="5%",
        help="exit code 3 if a row is slower by more than this or missing in B",
    )
    compare.add_argument(
        "--strict", action="store_true", help="with --max-regression: exit code 3 also for undecided rows"
    )
    compare.add_argument("--allow-different", action="store_true", help="allow different devices and models")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(command=_compare)
    _add_record(commands)
    device = commands.add_parser("device", help="describe this machine", description=_device.__doc__)
    device.add_argument("--json", action="store_true", help="print JSON")
    device.set_defaults(command=_device)
    schema = commands.add_parser("schema", help="print the JSON Schema of a record", description=_schema.__doc__)
    schema.set_defaults(command=_schema)
    return parser


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser("bench", help="measure latencies", description=_bench.__doc__)
    bench.set_defaults(command=_bench)
    help_ = ".onnx, .tflite, .sen; the first is the baseline"
    bench.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT", help=help_)
    add_bench_options(bench.add_argument)


def add_bench_options(add: Callable[..., object]) -> None:
    """Call `add`, which has the parameters of `ArgumentParser.add_argument`, for each option of `bench`."""
    add("--engine", action="append", default=[], metavar="NAME", help="engine to measure; repeatable")
    add("--threads", type=_numbers, default=(1,), metavar="1,2", help="numbers of threads (default: 1)")
    add("--seconds", type=float, default=10.0, metavar="S", help="duration in seconds (default: 10)")
    add("--duration", type=_duration, metavar="10m", help="duration; also record clock and temperature each second")
    add("--data", type=Path, metavar="FILE", help="inputs and, for accuracy, labels: .npz (x, y) or IDX images")
    add("--cold-cache", action="store_true", help="empty the caches before each inference")
    add("--cpu", type=int, metavar="N", help="pin the process to this core")
    add("--seed", type=int, default=0, metavar="N", help="seed of order and random inputs (default: 0)")
    add("--history", type=Path, metavar="FILE", help="append the figures to this history file")
    add("--energy", type=Path, metavar="FILE.csv", help="log of a power meter: timestamp, watts")
    add("--strict", action="store_true", help="exit code 4 before measuring if an engine is missing or crashes")
    _add_record_options(add)


def _add_record_options(add: Callable[..., object]) -> None:
    add("--json", metavar="FILE", help="write the record; - prints it instead of the table")
    add("--allow-throttled", action="store_true", help="exit code 0 even if the machine throttled")
    add("--force", action="store_true", help="replace existing files")


def _add_record(commands: Any) -> None:
    record = commands.add_parser("record", help="evaluate a recording of sen_bench", description=_record.__doc__)
    record.set_defaults(command=_record)
    record.add_argument("file", type=Path, metavar="FILE.raw", help="recording of sen_bench")
    _add_record_options(record.add_argument)


def bench_request(words: Sequence[str]) -> BenchRequest:
    """Parse and check a command line of `bench`, that word included.

    Raises:
        SystemExit: the words are none; argparse has said why.
        UsageError: they contradict each other.
    """
    from sen_runtime.bench.plan import check_request

    request = _request(_parser().parse_args(words), words)
    check_request(request)
    return request


def _request(options: argparse.Namespace, words: Sequence[str]) -> BenchRequest:
    from sen_runtime.bench.plan import BenchRequest

    return BenchRequest(
        tuple(options.artifacts),
        tuple(options.engine),
        options.threads,
        options.seconds if options.duration is None else options.duration,
        sustained=options.duration is not None,
        data=options.data,
        cold_cache=options.cold_cache,
        cpu=options.cpu,
        seed=options.seed,
        energy=options.energy,
        strict=options.strict,
        command=("sen-runtime", *words),
    )


def _bench(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure files, engines and numbers of threads in one interleaved run, and compare their outputs."""
    from sen_runtime.bench import energy, measure, outputs, text
    from sen_runtime.bench.plan import check_request, notes

    request, wanted = _request(options, words), outputs.Outputs(options.json, options.history, options.force)
    check_request(request)
    outputs.check(wanted, request.artifacts)
    for line in notes(request):
        _note(line)
    with _Progress() as progress:
        run = measure.run(request, progress=progress)
    record = run.record
    failed = None
    if request.energy is not None:
        try:
            record = energy.with_energy(record, energy.read_meter(request.energy), run.spans)
        except SenError as error:  # latencies are still valid
            failed = error
    outputs.publish(wanted, [record], partial(text.table, record), _note, as_list=False)
    if options.json not in (None, outputs.STDOUT):
        _note(f"next: sen-runtime compare {options.json} LATER.json --max-regression 5%")
    if failed is not None:
        raise failed
    return _exit_code(record, allow_throttled=options.allow_throttled)


def _record(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Evaluate a recording of sen_bench: print the table, or write the record, of `bench`."""
    del words
    from sen_runtime.bench import outputs, raw, text
    from sen_runtime.bench.evaluate import evaluate

    wanted = outputs.Outputs(options.json, force=options.force)
    outputs.check(wanted, (options.file,))
    record = evaluate(raw.read(options.file))
    outputs.publish(wanted, [record], partial(text.table, record), _note, as_list=False)
    return _exit_code(record, allow_throttled=options.allow_throttled)


def _exit_code(record: Mapping[str, Any], *, allow_throttled: bool) -> int:
    from sen_runtime.bench.plan import CRASHED
    from sen_runtime.bench.record import is_wrong

    if record["status"] == "interrupted":
        _note("interrupted: the record contains the samples so far")
        return EXIT_INTERRUPTED
    if any(map(is_wrong, record["rows"])) or (record["device"]["throttled_during"] and not allow_throttled):
        for reason in record["invalid_because"]:
            _note(f"invalid: {reason}")
        return EXIT_VERIFICATION
    has_crash = any(each["kind"] == CRASHED for each in record["left_out"])
    return EXIT_VERIFICATION if has_crash else 0


def _compare(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Compare two records by row: ratio B / A with interval and effect size; with --max-regression as a gate."""
    del words
    from sen_runtime.bench import compare, record

    limit, strict = options.max_regression, options.strict
    if limit is None and strict:
        raise UsageError("--strict has no effect without --max-regression", "add --max-regression 5%, for example")
    found = compare.compare(record.read(options.a), record.read(options.b), allow_different=options.allow_different)
    if options.json:
        _print_json(found.to_dict(limit, strict=strict))
    else:
        sys.stdout.write(compare.table(found, limit))
    failures = [] if limit is None else found.failures(limit, strict=strict)
    for sentence in failures:
        _note(sentence)
    return EXIT_VERIFICATION if failures else 0


def _device(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Describe the machine and its state as in a record."""
    del words
    from sen_runtime.bench import device

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
    """Progress on stderr: one line on a terminal, else one line per stage."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, stage: str) -> None:
        is_repeated = stage.startswith("measuring")
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{stage}" if is_repeated else f"\r\x1b[K{stage}\n")
            sys.stderr.flush()
        elif not is_repeated:
            _note(stage)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:  # clear the line
            sys.stderr.write("\r\x1b[K")


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
    sys.stderr.write(f"{printable(message, keep_lines=True)}\n")
