"""Plan the rows of a benchmark: artifacts x engines x threads x batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, product
from pathlib import Path

import numpy as np

from sen_runtime import format as image
from sen_runtime.bench.cores import Cpus, words
from sen_runtime.engines import MAX_THREADS, engine, missing, names, names_for, usable
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.errors import EngineError, MissingExtraError, SenError, UsageError
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, leaves
from sen_runtime.untrusted import read_regular

#: Kinds of `LeftOut`.
MISSING, CRASHED = "missing", "crashed"
#: Queries per second: one each microsecond, about the duration of a call without a model.
MAX_RATE = 1e6


class BenchError(SenError):
    """A file that cannot be measured."""


@dataclass(frozen=True)
class BenchRequest:
    """Files to measure, and settings.

    Attributes:
        artifacts: files that engines load; the first is the baseline.
        engines: names; empty for all installed engines that run a file, except those on demand.
        threads: numbers of threads, each a separate row.
        batches: numbers of inputs in a call, each a separate row.
        seconds: duration, without loading and warm-up.
        sustained: record latency, clock and temperature each second.
        data: inputs and labels; None for random inputs.
        cold_cache: empty the caches before each inference.
        cpus: the only cores to run on: numbers, or `cores.BIG`; None for any.
        seed: of the order and of random inputs.
        raw: keep all samples in the record.
        rate: queries per second of a load test of each row after the latencies; None for no load test.
        energy: file of an external meter, read after the run.
        profile: afterwards, measure the time of each layer, and count hardware events.
        strict: refuse to measure where an engine is missing or crashes on a file, instead of leaving the row out.
        command: words of the command line, for the record.
    """

    artifacts: tuple[Path, ...]
    engines: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    seconds: float = 10.0
    batches: tuple[int, ...] = (1,)
    sustained: bool = False
    data: Path | None = None
    cold_cache: bool = False
    cpus: Cpus = None
    seed: int = 0
    raw: bool = False
    rate: float | None = None
    energy: Path | None = None
    profile: bool = False
    strict: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ArtifactFile:
    """A file to measure; `properties` are its metadata where they can be read without an engine."""

    path: Path
    sha256: str
    size: int  # bytes
    properties: Mapping[str, str]
    network: Network | None  # of a `.sen` image


@dataclass(frozen=True, eq=False)
class RowPlan:
    """A row to measure; its name is unique, `version` is that of the engine's library."""

    name: str
    artifact: ArtifactFile
    engine: str
    version: str
    threads: int
    batch: int = 1  # inputs of a call


@dataclass(frozen=True)
class LeftOut:
    """A row that cannot be measured here, because its engine is `MISSING` or `CRASHED`."""

    kind: str
    file: str
    engine: str
    reason: str
    hint: str  # pip line of a missing engine


def check_request(request: BenchRequest) -> None:
    """Refuse a request that contradicts itself."""
    if not request.artifacts:
        raise UsageError("no files to measure", "name at least one file: .onnx, .tflite or .sen")
    if not (np.isfinite(request.seconds) and request.seconds > 0):
        raise UsageError(f"--seconds is {request.seconds:g}; expected a number > 0")
    if request.seed < 0:
        raise UsageError(f"--seed is {request.seed}; expected a number >= 0")
    _check_numbers(request)
    for path in request.artifacts:
        _names_for(path)
    for name in request.engines:
        if name not in names():
            raise UsageError(f"no engine called {name!r}; expected one of {', '.join(names())}")
        suffixes = engine(name).suffixes
        if not {path.suffix for path in request.artifacts}.intersection(suffixes):
            raise UsageError(f"the engine {name} runs {', '.join(suffixes)} files; none was given")
        if request.profile and engine(name).profile is None:
            others = ", ".join(other for other, each in usable().items() if each.profile is not None)
            raise UsageError(f"--profile: the engine {name} has no profiler; engines with one: {others}")


def _check_numbers(request: BenchRequest) -> None:
    """Refuse numbers of threads, inputs and cores, and a rate."""
    for threads in request.threads:
        if not 1 <= threads <= MAX_THREADS:
            expected = f"1 to {MAX_THREADS}; this machine has {os.cpu_count()} cores"
            raise UsageError(f"--threads is {threads}; expected {expected}")
    for batch in request.batches:
        if batch < 1:
            raise UsageError(f"--batch is {batch}; expected a number >= 1")
    if isinstance(request.cpus, tuple) and max(request.threads) > len(set(request.cpus)):
        found = f"--cpu {words(request.cpus)} leaves fewer cores than --threads {max(request.threads)}"
        raise UsageError(found, "change one of them")
    if request.rate is not None:
        if not 0 < request.rate <= MAX_RATE:  # NaN neither
            raise UsageError(f"--rate is {request.rate:,.9g}/s; expected a number > 0 of at most {MAX_RATE:,.0f}/s")
        if request.cold_cache or request.energy is not None:
            raise UsageError(f"--rate has no effect with {'--cold-cache' if request.cold_cache else '--energy'}")


def plan(request: BenchRequest) -> tuple[list[RowPlan], list[LeftOut]]:
    """Plan the rows, in the order of files, engines, threads and batches; those whose engine is missing are left out.

    Raises:
        UsageError: see `check_request`; none of the requested engines runs a file.
        BenchError: a file cannot be read.
        ImageError, EngineError: a file is damaged.
        MissingExtraError: no row can be measured, or, where the request is strict, one of them cannot.
    """
    check_request(request)
    rows, left_out = list[RowPlan](), list[LeftOut]()
    for artifact in map(read_artifact, request.artifacts):
        wanted, file = _engines_for(artifact, request.engines), artifact.path.name
        absent = missing(wanted)
        left_out += [LeftOut(MISSING, file, name, each.message, each.hint) for name, each in absent.items()]
        for name in [name for name in wanted if name not in absent]:
            version = engine(name).version()
            numbers = request.threads if engine(name).is_threaded else (1,)
            for threads, batch in product(dict.fromkeys(numbers), dict.fromkeys(request.batches)):
                row = RowPlan("", artifact, name, version, threads, batch)
                rows.append(replace(row, name=unique_name(row_name(row), [other.name for other in rows])))
    if left_out and (request.strict or not rows):
        raise not_measured(left_out)
    return rows, left_out


def not_measured(left_out: Sequence[LeftOut]) -> MissingExtraError:
    """The error of rows that a strict request does not leave out; each reason is given once."""
    error = MissingExtraError("an engine", "; ".join(dict.fromkeys(each.hint for each in left_out if each.hint)))
    files = ", ".join(dict.fromkeys(each.file for each in left_out))
    error.message = f"{files}: " + "; ".join(dict.fromkeys(each.reason for each in left_out))
    error.args = (error.message,)
    return error


def notes(request: BenchRequest) -> list[str]:
    """Sentences about engines with one thread, where more are requested."""
    if max(request.threads) == 1:
        return []
    usual = list(dict.fromkeys(name for path in request.artifacts for name in _usual(path)))
    return [f"{name} has one thread" for name in request.engines or usual if not engine(name).is_threaded]


def read_artifact(path: Path) -> ArtifactFile:
    """Read checksum and metadata of a file."""
    data = read_regular(path, error=BenchError)
    network = image.read(path) if path.suffix == ".sen" else None
    try:
        stated = read_properties(data) if path.suffix == ".tflite" else {}
    except SenError as error:
        raise BenchError(f"{path}: {error.message}", error.hint) from error
    if network is not None:
        stated = {**network.metadata, **({"input_coding": network.input_coding} if network.coding.has_steps else {})}
    return ArtifactFile(path, hashlib.sha256(data).hexdigest(), len(data), stated, network)


def _engines_for(artifact: ArtifactFile, asked: Sequence[str]) -> list[str]:
    """Engines for a file, installed or not."""
    suffix = artifact.path.suffix
    if asked:
        found = [name for name in dict.fromkeys(asked) if suffix in engine(name).suffixes]
        if not found:
            raise UsageError(f"{artifact.path}: none of the engines {', '.join(asked)} runs it", "leave out --engine")
        return found
    target = artifact.properties.get("tflite_target", "any")
    if suffix == ".tflite" and target in names():  # correct in one interpreter only
        return [target]
    found = _usual(artifact.path)
    if not found:
        on_request = f"add --engine {_names_for(artifact.path)[0]}"
        raise UsageError(f"{artifact.path}: {suffix} files are measured on request only", on_request)
    return found


def _usual(path: Path) -> list[str]:
    """Engines that are measured by default."""
    return [name for name in _names_for(path) if not engine(name).is_on_demand]


def _names_for(path: Path) -> list[str]:
    try:
        return names_for(path.suffix)
    except EngineError as error:
        raise UsageError(f"{path}: {error.message}") from None


def row_name(row: RowPlan) -> str:
    """File, engine, number of threads, and the batch where it is not 1."""
    batch = f" batch {row.batch}" if row.batch > 1 else ""
    return f"{row.artifact.path.name} {row.engine} {row.threads}{batch}"


def unique_name(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where it is taken."""
    others = (f"{name} #{number}" for number in count(2))
    return next(found for found in chain([name], others) if found not in taken)


def reads_all_weights(network: Network) -> bool:
    """Whether an inference reads each stored byte about once: weights neither event-driven nor computed at load."""
    has_coordinates = any(isinstance(leaf, Coordinates) for layer in network.layers for leaf in leaves(layer.weight))
    return not network.is_spiking and not has_coordinates
