"""Read a file of `sen_bench`, the recorder for devices without Python: docs/how-to/benchmark-without-python.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import format as image
from sen_runtime.bench import device_texts
from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.device import libraries
from sen_runtime.bench.device_texts import UNAVAILABLE, Texts
from sen_runtime.bench.evaluate import Observations
from sen_runtime.bench.inputs import N_INPUTS, random_inputs
from sen_runtime.bench.memory import peak_bytes
from sen_runtime.bench.plan import ArtifactFile, RowPlan, unique_name
from sen_runtime.bench.record import TYPES
from sen_runtime.bench.rounds import Measured
from sen_runtime.bench.rows import Row
from sen_runtime.errors import SenError
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE, Network, stored_dtype
from sen_runtime.untrusted import listing, load_json, open_regular, quote

FloatArray = NDArray[np.float32]
Event = Mapping[str, Any]

FORMAT = "sen-edge/raw/1"
#: Of the file, and of a line: an image in base64.
MAX_BYTES, MAX_LINE_BYTES = 1 << 31, 1 << 29
#: Of calls, and of nanoseconds: 104 days.
MAX_NUMBER = 1 << 53
#: Latest time that a record can hold: the end of the year 9999.
MAX_TIME = 253402300799

#: Fields of each event, and their JSON types.
FIELDS: Mapping[str, Mapping[str, str]] = {
    "start": {
        "format": "string", "version": "string", "time": "integer", "seconds": "number", "seed": "integer",
        "cold_cache": "boolean", "cpu": "integer null", "compiler": "string", "command": "array",
    },
    "facts": {"texts": "object"},
    "row": {"file": "string", "kernels": "string", "arena_bytes": "integer", "image": "string"},
    "inputs": {"file": "string", "data": "string"},
    "outputs": {"data": "string"},
    "cold-start": {"status": "array", "load_ns": "integer", "first_ns": "integer"},
    "clock": {"resolution_ns": "integer", "timer_ns": "number"},
    "bandwidth": {"l2_bytes_per_ns": "number null", "memory_bytes_per_ns": "number null"},
    "state": {"texts": "object"},
    "calibration": {"overhead_ns": "array", "calls": "array"},
    "load": {},
    "round": {"ns": "array"},
    "end": {"status": "string"},
}  # fmt: skip


class RawError(SenError):
    """A file that `sen_bench` did not write, or one without a complete round."""


def read(path: Path, *, keep_samples: bool = False) -> Observations:
    """Read a file of `sen_bench`.

    A file without its last line, as an interrupted program or copy leaves it, is read up to its last complete line.

    Args:
        path: of the file.
        keep_samples: keep all samples in the record.

    Raises:
        RawError: names the line, what is there and what was expected.
    """
    events: dict[str, list[Event]] = {kind: [] for kind in FIELDS}
    measured = Measured({})
    for where, event in _events(path):
        kind = event["event"]
        if kind == "round":
            _add_round(where, event["ns"], measured)
        elif kind == "load":
            measured.loads.append(0)
        else:
            events[kind].append(event)
        if kind == "calibration":
            measured = _calibration(where, event, _names(events["row"]))
    if not measured.n_rounds:
        raise RawError(f"{path}: no complete round", "record again; sen_bench ends with `N rounds in FILE`")
    for kind in ("start", "facts", "clock", "bandwidth", "row", "outputs", "cold-start"):
        count = len(measured.calls) if kind in ("row", "outputs", "cold-start") else 1
        if len(events[kind]) != count:
            raise RawError(f"{path}: {len(events[kind])} events {kind!r}; expected {count}")
    measured.loads = [count for count in measured.loads if count]
    measured.is_complete = [event["status"] for event in events["end"]] == ["complete"]
    return _observations(str(path), events, measured, keep_samples)


def _events(path: Path) -> Iterator[tuple[str, Event]]:
    """Each complete line: its place, and the event."""
    size = 0
    with open_regular(path, error=RawError) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
            where, size = f"{path}: line {number}", size + len(line)
            if size > MAX_BYTES or (len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")):
                raise RawError(f"{where}: the file or the line is too large for a file of sen_bench")
            if line.endswith(b"\n"):
                yield where, _check(where, load_json(line, where, error=RawError), is_first=number == 1)


def _check(where: str, event: Any, *, is_first: bool) -> Event:
    kind = event.get("event") if isinstance(event, dict) else None
    if not isinstance(kind, str) or kind not in FIELDS or (is_first and event.get("format") != FORMAT):
        raise RawError(f"{where} is {quote(event)}; expected an event of {FORMAT!r}", "files are written by sen_bench")
    for name, types in FIELDS[kind].items():
        value = event.get(name)
        if not any(TYPES[each](value) for each in types.split()):
            raise RawError(f"{where}: {name} of {kind} is {quote(value)}; expected {types.replace(' ', ' or ')}")
        if isinstance(value, (int, float)) and value < 0:
            raise RawError(f"{where}: {name} of {kind} is {quote(value)}; expected 0 or more")
    found: Event = event
    return found


def _calibration(where: str, event: Event, names: Sequence[str]) -> Measured:
    for key, least in (("calls", 1), ("overhead_ns", 0)):
        values = event[key]
        if len(values) != len(names) or not all(_is_in(value, least) for value in values):
            raise RawError(f"{where}: {key} is {quote(values)}; expected {len(names)} integers from {least} on")
    return Measured(dict(zip(names, event["calls"])), dict(zip(names, event["overhead_ns"])))


def _add_round(where: str, rows: Sequence[Any], measured: Measured) -> None:
    if not measured.loads or len(rows) != len(measured.calls):
        raise RawError(f"{where}: a round of {len(rows)} rows; expected {len(measured.calls)}, after a load")
    for row in rows:
        if not isinstance(row, list) or not row or not all(_is_in(value, 1) for value in row):
            raise RawError(f"{where}: ns is {quote(row)}; expected integers from 1 to {MAX_NUMBER}")
    measured.add_round(dict(zip(measured.calls, rows)))


def _is_in(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= MAX_NUMBER


def _names(rows: Sequence[Event]) -> list[str]:
    names: list[str] = []
    for row in rows:
        names.append(unique_name(f"{_decode(row['file'])} native 1", names))
    return names


def _observations(path: str, events: Mapping[str, list[Event]], measured: Measured, keep_samples: bool) -> Observations:
    start, clock = events["start"][0], events["clock"][0]
    artifacts = [_artifact(path, row) for row in events["row"]]
    inputs = _inputs(path, artifacts, events["inputs"], start["seed"])
    states = [device_texts.state(_texts(path, event)) for event in events["state"]]
    facts = device_texts.facts(_texts(path, events["facts"][0]))
    if not states or start["time"] > MAX_TIME:
        raise RawError(f"{path}: no state of the machine, or a time beyond the year 9999")
    versions = {**dict.fromkeys(libraries(), UNAVAILABLE), "sen-edge-runtime": start["version"]}
    return Observations(
        tool=("sen_bench", start["version"]),
        command=[_decode(word) for word in start["command"] if isinstance(word, str)],
        created=datetime.fromtimestamp(start["time"], timezone.utc),
        seconds=start["seconds"],
        seed=start["seed"],
        cold_cache=start["cold_cache"],
        cpu=start["cpu"],
        cpus_verified=True,
        inputs=inputs,
        data=_decode(events["inputs"][0]["file"]) if events["inputs"] else None,
        rows=_rows(path, events, artifacts, list(measured.calls), len(inputs)),
        measured=measured,
        clock={"resolution_ns": clock["resolution_ns"], "timer_ns": clock["timer_ns"], "loop_ns": 0.0},
        bandwidth={key: events["bandwidth"][0][key] for key in FIELDS["bandwidth"]},
        device={**facts, "python": UNAVAILABLE, "libraries": versions, "compiler": start["compiler"]},
        states=states if len(states) > 1 else states * 2,
        cores=facts["cpus"] if isinstance(facts["cpus"], int) else 1,
        raw=keep_samples,
    )


def _artifact(path: str, row: Event) -> tuple[ArtifactFile, Network]:
    data = _decode_base64(path, row["image"])
    try:
        network = image.loads(data)
    except SenError as error:
        raise RawError(f"{path}: image {quote(row['file'])}: {error.message}", error.hint) from error
    file = Path(_decode(row["file"]))
    return ArtifactFile(file, hashlib.sha256(data).hexdigest(), len(data), network.metadata, network), network


def _rows(
    path: str, events: Mapping[str, list[Event]], artifacts: Sequence[tuple[ArtifactFile, Network]],
    names: Sequence[str], n_inputs: int,
) -> list[Row]:  # fmt: skip
    version = events["start"][0]["version"]
    rows = []
    for name, event, (artifact, network), cold, found in zip(
        names, events["row"], artifacts, events["cold-start"], events["outputs"]
    ):
        n_out = network.layer_sizes[-1]
        rows.append(
            Row(
                plan=RowPlan(name, artifact, "native", version, 1),
                n_in=network.layer_sizes[0],
                outputs=_floats(path, found["data"], (n_inputs, n_out)),
                properties=network.metadata,
                dtype=network.metadata.get("dtype", stored_dtype(network)),
                timesteps=network.timesteps,
                cold=_cold_start(cold),
                kernels=event["kernels"],
                arena_bytes=event["arena_bytes"],
            )
        )
    return rows


def _cold_start(event: Event) -> ColdStart:
    before, after = (peak_bytes(str(text)) for text in (event["status"] + ["", ""])[:2])
    growth = None if before is None or after is None else max(0, after - before)
    return ColdStart(event["load_ns"] / 1000, event["first_ns"] / 1000, growth)


def _inputs(
    path: str, artifacts: Sequence[tuple[ArtifactFile, Network]], events: Sequence[Event], seed: int
) -> FloatArray:
    """The inputs of all rows `[n, ...]`."""
    shapes = {network.input_shape for _, network in artifacts}
    if len(shapes) != 1:
        raise RawError(f"{path}: images of inputs {listing(map(list, shapes))}; expected one shape")
    shape = shapes.pop()
    ranges = [network.input_range for _, network in artifacts if "input_range" in network.metadata]
    if not events:
        low, high = (*ranges, DEFAULT_INPUT_RANGE)[0]
        return random_inputs(shape, N_INPUTS, seed, low, high)
    x = _floats(path, events[0]["data"], (-1, *shape))
    for low, high in ranges or [(-np.inf, np.inf)]:
        if not len(x) <= N_INPUTS or not np.all((x >= low) & (x <= high)):
            raise RawError(
                f"{path}: {len(x)} inputs, from {x.min():g} to {x.max():g}; expected at most {N_INPUTS}, "
                f"from {low:g} to {high:g}"
            )
    return x


def _floats(path: str, text: str, shape: tuple[int, ...]) -> FloatArray:
    data = _decode_base64(path, text)
    row = 4 * math.prod(shape[1:])
    n = len(data) // row if shape[0] < 0 else shape[0]
    if len(data) != n * row or not n:
        raise RawError(f"{path}: an array of {len(data)} bytes; expected {n} x {row}")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(n, *shape[1:])


def _texts(path: str, event: Event) -> Texts:
    """Contents of files, which are stored with one character for each byte."""
    try:
        return {name: text.encode("latin-1") for name, text in event["texts"].items()}
    except (AttributeError, UnicodeEncodeError):
        raise RawError(f"{path}: texts is {quote(event['texts'])}; expected strings of Latin-1") from None


def _decode(text: str) -> str:
    """A name, which is stored with one character for each byte."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _decode_base64(path: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RawError(f"{path}: {quote(text)} is not base64") from None
