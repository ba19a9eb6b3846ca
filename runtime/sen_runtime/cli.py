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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sen_runtime
from sen_runtime import signals, streams
from sen_runtime.bench.cores import BIG
from sen_runtime.errors import EXIT_INTERRUPTED, EXIT_VERIFICATION, SenError, UsageError
from sen_runtime.memory_limits import allocation_failure
from sen_runtime.untrusted import printable

if TYPE_CHECKING:
    from sen_runtime.bench.plan import BenchRequest

DEBUG_VARIABLE = "SEN_EDGE_DEBUG"
SECONDS_IN = {"s": 1, "m": 60, "h": 3600}
CLEAR_LINE = "\r\x1b[K"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process; return the exit code, or leave with that of argparse."""
    streams.protect()
    with signals.interrupt_on_signals():
        code = run(arguments)
    return streams.finish(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line without handling streams and signals; see `main`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words, argparse.Namespace(words=words))
    try:
        code: int = options.command(options)
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
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument("--version", action="version", version=f"sen-runtime {sen_runtime.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, help_: str, run_command: Callable[..., int]) -> Callable[..., object]:
        command = commands.add_parser(name, help=help_, description=run_command.__doc__)
        command.set_defaults(command=run_command)
        return command.add_argument

    add = add_command("bench", "measure latencies", _bench)
    help_ = ".onnx, .tflite, .sen; the first is the baseline"
    add("artifacts", type=Path, nargs="+", metavar="ARTIFACT", help=help_)
    add("-q", "--quiet", action="store_true", help="print warnings and errors only to stderr")
    add_bench_options(add)
    add = add_command("compare", "compare two records", _compare)
    add("a", type=Path, metavar="A.json", help="baseline record")
    add("b", type=Path, metavar="B.json", help="new record")
    help_ = "exit code 3 if a row is slower by more than this or missing in B"
    add("--max-regression", type=_share, metavar="5%", help=help_)
    add("--strict", action="store_true", help="with --max-regression: exit code 3 also for undecided rows")
    add("--allow-different", action="store_true", help="allow different devices and models")
    add("--json", action="store_true", help="print JSON")
    add = add_command("record", "evaluate a recording of sen_bench", _record)
    add("file", type=Path, metavar="FILE.raw", help="recording of sen_bench")
    _add_record_options(add)
    add = add_command("device", "describe this machine", _device)
    add("--json", action="store_true", help="print JSON")
    add_command("schema", "print the JSON Schema of a record", _schema)
    return parser


def add_bench_options(add: Callable[..., object]) -> None:
    """Call `add`, which has the parameters of `ArgumentParser.add_argument`, for each option of `bench`."""
    add("--engine", action="append", default=[], metavar="NAME", help="engine to measure; repeatable")
    add("--threads", type=_numbers, default=(1,), metavar="1,2", help="numbers of threads (default: 1)")
    add("--batch", type=_numbers, default=(1,), metavar="1,8,64", help="numbers of inputs in a call (default: 1)")
    add("--seconds", type=float, default=10.0, metavar="S", help="duration in seconds (default: 10)")
    add("--duration", type=_duration, metavar="10m", help="duration; also record clock and temperature each second")
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help="inputs and, for scores, targets: CSV, Parquet, .npz (x, y), IDX images or a folder",
    )
    add("--cold-cache", action="store_true", help="empty the caches before each inference")
    help_ = "pin the process to these cores; big: those of the highest capacity"
    add("--cpu", type=_cores, metavar="2,3", help=help_)
    add("--seed", type=int, default=0, metavar="N", help="seed of order and random inputs (default: 0)")
    add("--history", type=Path, metavar="FILE", help="append the figures to this history file")
    add("--energy", type=Path, metavar="FILE.csv", help="log of a power meter: timestamp, watts")
    add("--profile", action="store_true", help="then measure the time of each layer, and count hardware events")
    add(
        "--rate", type=_rate, metavar="200/s", help="then test each row with queries that arrive at random at this rate"
    )
    add("--strict", action="store_true", help="exit code 4 before measuring if an engine is missing or crashes")
    _add_record_options(add)


def _add_record_options(add: Callable[..., object]) -> None:
    add("--json", metavar="FILE", help="write the record; - prints it instead of the table")
    add("--allow-throttled", action="store_true", help="exit code 0 even if the machine throttled")
    add("--force", action="store_true", help="replace existing files")


def bench_request(words: Sequence[str]) -> BenchRequest:
    """Parse and check a command line of `bench`, that word included."""
    from sen_runtime.bench.plan import BenchRequest, check_request

    options = _parser().parse_args(words)
    request = BenchRequest(
        tuple(options.artifacts),
        tuple(options.engine),
        options.threads,
        options.seconds if options.duration is None else options.duration,
        sustained=options.duration is not None,
        data=options.data,
        cold_cache=options.cold_cache,
        batches=options.batch,
        cpus=options.cpu,
        seed=options.seed,
        rate=options.rate,
        energy=options.energy,
        profile=options.profile,
        strict=options.strict,
        command=("sen-runtime", *words),
    )
    check_request(request)
    return request


def _bench(options: argparse.Namespace) -> int:
    """Measure files, engines and numbers of threads in one interleaved run, and compare their outputs."""
    from sen_runtime.bench import energy, measure, outputs, text
    from sen_runtime.bench.plan import notes

    request = bench_request(options.words)
    wanted = outputs.Outputs(options.json, options.history, options.force)
    outputs.check(wanted, request.artifacts)
    note = _ignore if options.quiet else _note
    for line in notes(request):
        note(line)
    with _progress(is_quiet=options.quiet) as progress:
        run = measure.run(request, progress=progress)
    record = run.record
    failed = None
    if request.energy is not None:
        try:
            record = energy.with_energy(record, energy.read_meter(request.energy), run.spans)
        except SenError as error:  # latencies are still valid
            failed = error
    outputs.publish(wanted, [record], partial(text.table, record), note, as_list=False)
    if options.json not in (None, outputs.STDOUT):
        note(f"next: sen-runtime compare {options.json} LATER.json --max-regression 5%")
    if failed is not None:
        raise failed
    return _exit_code(record, allow_throttled=options.allow_throttled)


def _record(options: argparse.Namespace) -> int:
    """Evaluate a recording of sen_bench: print the table, or write the record, of `bench`."""
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


def _compare(options: argparse.Namespace) -> int:
    """Compare two records by row: ratio B / A with interval and effect size; with --max-regression as a gate."""
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


def _device(options: argparse.Namespace) -> int:
    """Describe the machine and its state as in a record, and the cores that --cpu takes, the fastest first."""
    from sen_runtime.bench import cores, device

    found, usable = {**device.describe(), **device.state()}, cores.describe()
    if options.json:
        _print_json({**found, "cores": [core._asdict() for core in usable]})
        return 0
    found["cores"] = cores.listing(usable)
    width = max(map(len, found))
    for name, value in found.items():
        shown = json.dumps(value) if isinstance(value, (dict, list)) else value
        sys.stdout.write(f"{name:<{width}}  {shown}\n")
    return 0


def _schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of a record."""
    del options
    from sen_runtime.bench import record

    sys.stdout.write(record.schema_text())
    return 0


@contextmanager
def _progress(*, is_quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress on stderr: one line on a terminal, which is cleared at the end, else one line per stage."""
    if is_quiet:
        yield _ignore
        return
    is_terminal = streams.is_animated(sys.stderr)

    def show(stage: str) -> None:
        is_repeated = stage.startswith("measuring")
        if is_terminal:
            sys.stderr.write(f"{CLEAR_LINE}{stage}" if is_repeated else f"{CLEAR_LINE}{stage}\n")
            sys.stderr.flush()
        elif not is_repeated:
            _note(stage)

    try:
        yield show
    finally:
        if is_terminal:
            sys.stderr.write(CLEAR_LINE)


def _match(pattern: str, text: str, expected: str) -> re.Match[str]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}")
    return match


def _numbers(text: str, expected: str = "numbers separated by commas, such as 1,2") -> tuple[int, ...]:
    _match(r"[0-9]{1,12}(,[0-9]{1,12})*", text, expected)
    return tuple(map(int, text.split(",")))


def _cores(text: str) -> tuple[int, ...] | str:
    return text if text == BIG else _numbers(text, f"numbers separated by commas, such as 1,2, or {BIG}")


def _duration(text: str) -> float:
    match = _match(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text, "a time such as 90s, 10m or 1h")
    return float(match.group(1)) * SECONDS_IN[match.group(2) or "s"]


def _rate(text: str) -> float:
    return float(_match(r"([0-9]+(?:\.[0-9]+)?)(?:/s)?", text, "queries per second, such as 200/s").group(1))


def _share(text: str) -> float:
    return float(_match(r"([0-9]+(?:\.[0-9]+)?)%", text, "percent, such as 5%").group(1)) / 100


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _ignore(message: str) -> None:
    del message


def _note(message: str) -> None:
    sys.stderr.write(f"{printable(message, keep_lines=True)}\n")
