"""Read a file of `sen_bench`, the recorder for devices without Python: docs/how-to/benchmark-without-python.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import format as image
from sen_runtime.bench import device, memory
from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.device import UNAVAILABLE, Read, libraries, recorded
from sen_runtime.bench.interleaved import clock_figures
from sen_runtime.bench.loops import N_INPUTS
from sen_runtime.bench.plan import ArtifactFile, BenchRequest, RowPlan, unique_name
from sen_runtime.bench.rounds import Measured
from sen_runtime.bench.rows import FloatArray, Observations, Row, input_ranges
from sen_runtime.errors import SenError
from sen_runtime.untrusted import quote, read_regular

#: First line of a file; first line of a block.
FORMAT, BLOCK = b"sen-edge/raw/2\n", re.compile(rb"([0-9]{1,10}) ([ -~]{1,180})\n")
#: Blocks that begin an event; the others belong to the event before them.
EVENTS = ("start", "facts", "row", "inputs", "bandwidth", "state", "clock", "calibration", "load", "round", "end")
MAX_BYTES = 1 << 31
#: Of nanoseconds (104 days), bytes and calls; of a seed; of seconds since 1970 (the year 9999).
MAX_INTEGER, MAX_INT64, MAX_CREATED_S = 1 << 53, (1 << 63) - 1, 253402300799
#: `SWEEP_BYTES` and `MAX_TURN_SAMPLES` of c/tools/recorder.h.
SWEPT_BYTES, CLOCK_READINGS = 16 << 20, 512


class RawError(SenError):
    """A file that `sen_bench` did not write, or one without a complete round."""


@dataclass(frozen=True)
class Event:
    """Blocks by kind: that of the event, and those that belong to it."""

    where: str
    kind: str
    blocks: dict[str, bytes]

    def data(self, kind: str) -> bytes:
        """Bytes of a block."""
        if kind not in self.blocks:
            raise RawError(f"{self.where}: {self.kind} has no {kind}")
        return self.blocks[kind]

    def text(self, kind: str) -> str:
        """Text of a block; names of files may be undecodable."""
        return self.data(kind).decode("utf-8", "replace")

    def integers(self, n: int, kind: str = "", *, low: int = 0, high: int = MAX_INTEGER) -> NDArray[np.int64]:
        """`n` integers from `low` to `high`, by default those of the event."""
        data = self.data(kind or self.kind)
        values = np.frombuffer(data[: len(data) // 8 * 8], "<i8").astype(np.int64)
        if len(data) != 8 * n or np.any((values < low) | (values > high)):
            found = f"{len(data)} bytes, {quote(values[:5].tolist())}"
            raise RawError(f"{self.where}: {kind or self.kind} is {found}; expected {n} integers from {low} to {high}")
        return values

    def floats(self, kind: str, shape: tuple[int, ...]) -> FloatArray:
        """Array `[n, *shape]` of a block."""
        data, row = self.data(kind), 4 * prod(shape)
        if not data or len(data) % row:
            raise RawError(f"{self.where}: {kind} has {len(data)} bytes; expected a multiple of {row}")
        return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, *shape)

    def texts(self) -> Read:
        """Contents of the files and commands of the event."""
        return recorded({kind.removeprefix("/"): data for kind, data in self.blocks.items()})


Events = Mapping[str, Sequence[Event]]


def read(path: Path) -> Observations:
    """Read a file of `sen_bench`; one without its end, as an interruption leaves it, up to its last complete event.

    Raises:
        RawError: names the place, found and expected values.
    """
    events: dict[str, list[Event]] = {kind: [] for kind in EVENTS}
    measured, ends = Measured({}), np.array([-1])  # no round is valid before a load
    for event in _events(path):
        if event.kind == "round":
            ns = event.integers(ends[-1], low=1)
            measured.add_round(dict(zip(measured.calls, (part.tolist() for part in np.split(ns, ends[:-1])))))
            continue
        events[event.kind].append(event)
        if event.kind == "load":
            if len(events["load"]) == 1:
                measured, ends = _calibration(path, events)
            measured.loads.append(0)
    absent = [kind for kind in ("start", "facts", "inputs", "state", "clock") if not events[kind]]
    if absent or not measured.n_rounds:
        found = absent[0] if absent else "complete round"
        raise RawError(f"{path}: no {found}", "record again; sen_bench ends with `N rounds`")
    measured.loads = [count for count in measured.loads if count]
    measured.is_complete = [event.data("end") for event in events["end"]] == [b"complete"]
    return _observations(path, events, measured)


def _events(path: Path) -> Iterator[Event]:
    """Complete events: where the next one begins, for a file may be cut off anywhere."""
    event = Event(str(path), "start", {})
    for where, kind, data in _blocks(path):
        if kind in EVENTS and event.blocks:
            yield event
        if kind in EVENTS:
            event = Event(where, kind, {})
        event.blocks[kind] = data
    if event.kind == "end":
        yield event


def _blocks(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Place, kind and bytes of each complete block."""
    content = read_regular(path, MAX_BYTES, error=RawError)
    at = len(FORMAT)
    if content[:at] != FORMAT:
        raise RawError(f"{path} starts with {quote(content[:at])}; expected {quote(FORMAT)}", "record again")
    while match := BLOCK.match(content, at):
        where, at = f"{path}: byte {at}", match.end() + int(match[1]) + 1
        if at > len(content):
            return
        if content[at - 1] != ord("\n"):
            raise RawError(f"{where}: the block does not have {int(match[1])} bytes")
        yield where, match[2].decode("ascii"), content[match.end() : at - 1]
    if b"\n" in content[at:]:
        raise RawError(f"{path}: byte {at} is {quote(content[at : at + 40])}; expected size and kind of a block")


def _calibration(path: Path, events: Events) -> tuple[Measured, NDArray[np.int64]]:
    """Rows without a round, and the end of the samples of each in a round `[rows]`."""
    names: list[str] = []
    for row in events["row"]:
        names.append(unique_name(f"{_file(row)} native 1", names))
    numbers = [event.integers(2, low=1).tolist() for event in events["calibration"]]
    if not names or len(names) != len(numbers):
        raise RawError(f"{path}: {len(names)} images, {len(numbers)} calibrations; expected as many, at least one")
    return Measured({name: calls for name, (calls, _) in zip(names, numbers)}), np.cumsum([n for _, n in numbers])


def _file(row: Event) -> str:
    return row.text("row").rpartition("/")[2]


def _observations(path: Path, events: Events, measured: Measured) -> Observations:
    start, facts_event, given, readings = (events[kind][0] for kind in ("start", "facts", "inputs", "clock"))
    clock = clock_figures(readings.integers(CLOCK_READINGS, high=MAX_INT64).tolist())
    measured.overhead_ns = dict.fromkeys(measured.calls, clock["timer_ns"])  # the loop is in C
    version, is_random = start.text("version"), "data" not in given.blocks
    created_s, duration_ns, seed, is_cold = start.integers(4, high=MAX_INT64).tolist()
    if created_s > MAX_CREATED_S:
        raise RawError(f"{start.where}: the time is {created_s}; expected at most {MAX_CREATED_S} s")
    rows = [_row(event, name, version) for event, name in zip(events["row"], measured.calls)]
    inputs = given.floats("inputs", rows[0].input_shape)
    _check_inputs(path, inputs, rows, is_random=is_random)
    states = [device.parse_state(event.texts()) for event in events["state"]]
    facts = device.parse_facts(facts_event.texts())
    core = re.search(r"^Cpus_allowed_list:\s*([0-9]{1,6})$", events["row"][0].text("after"), re.MULTILINE)
    request = BenchRequest(
        tuple(row.plan.artifact.path for row in rows),
        seconds=duration_ns / 1e9,
        cold_cache=is_cold > 0,
        cpus=(int(core.group(1)),) if core else None,
        seed=seed,
        command=("sen_bench", *start.text("command").split("\0")[1:-1]),
    )
    versions = {**dict.fromkeys(libraries(), UNAVAILABLE), "sen-edge-runtime": version}
    return Observations(
        tool=("sen_bench", version),
        request=request,
        created=datetime.fromtimestamp(created_s, timezone.utc),
        inputs=inputs,
        data=None if is_random else given.text("data").rpartition("/")[2],
        rows=rows,
        measured=measured,
        clock={**clock, "loop_ns": 0.0},
        bandwidth=_bandwidth([event.integers(2, low=1).tolist() for event in events["bandwidth"]], facts),
        device={**facts, "python": UNAVAILABLE, "libraries": versions, "compiler": start.text("compiler")},
        states=states if len(states) > 1 else states * 2,
        cores=facts["cpus"] if isinstance(facts["cpus"], int) else 1,
        swept_bytes=SWEPT_BYTES,
    )


def _row(event: Event, name: str, version: str) -> Row:
    data = event.data("image")
    try:
        network = image.loads(data)
    except SenError as error:
        raise RawError(f"{event.where}: image {quote(_file(event))}: {error.message}", error.hint) from error
    artifact = ArtifactFile(Path(_file(event)), hashlib.sha256(data).hexdigest(), len(data), network.metadata, network)
    load_ns, first_ns, arena_bytes = event.integers(3, "figures").tolist()
    growth = memory.growth(*(memory.peak_bytes(event.text(kind)) for kind in ("before", "after")))
    return Row(
        RowPlan(name, artifact, "native", version, 1),
        network.input_shape,
        network.layer_sizes[-1],
        network.metadata,
        network.timesteps,
        ColdStart(load_ns / 1000, first_ns / 1000, growth),
        kernels=event.text("kernels"),
        arena_bytes=arena_bytes,
        outputs=event.floats("outputs", (network.layer_sizes[-1],)),
    )


def _check_inputs(path: Path, x: FloatArray, rows: Sequence[Row], *, is_random: bool) -> None:
    """Refuse images of different inputs, too many inputs, and those of a file that are outside an input range."""
    for row in rows:
        if row.input_shape != x.shape[1:] or len(row.outputs) != len(x) or len(x) > N_INPUTS:
            raise RawError(f"{path}: {len(x)} inputs {list(x.shape[1:])} for an image of {list(row.input_shape)}")
    for low, high in () if is_random else input_ranges(rows):
        if not np.all((x >= low) & (x <= high)):
            raise RawError(f"{path}: inputs from {x.min():g} to {x.max():g}; expected from {low:g} to {high:g}")


def _bandwidth(pairs: Sequence[Sequence[int]], device: Mapping[str, Any]) -> dict[str, float | None]:
    """The bandwidths of those buffers whose sizes are next to those of `memory.buffers`."""
    speeds = {size: per_second / 1e9 for size, per_second in pairs}
    l2, beyond = memory.buffers(device)
    within = max((size for size in speeds if l2 is not None and size <= l2), default=0)
    above = min((size for size in speeds if beyond is not None and size >= beyond), default=0)
    return {"l2_bytes_per_ns": speeds.get(within), "memory_bytes_per_ns": speeds.get(above)}
