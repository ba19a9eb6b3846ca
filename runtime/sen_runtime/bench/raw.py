"""Read a file of `sen_bench`, the recorder for devices without Python: docs/how-to/benchmark-without-python.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime import format as image
from sen_runtime.bench import device_texts, memory
from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.device import libraries
from sen_runtime.bench.device_texts import UNAVAILABLE, Texts
from sen_runtime.bench.inputs import N_INPUTS
from sen_runtime.bench.interleaved import clock_figures
from sen_runtime.bench.models import input_ranges
from sen_runtime.bench.plan import ArtifactFile, BenchRequest, RowPlan, unique_name
from sen_runtime.bench.record import load_schema, validate
from sen_runtime.bench.rounds import Measured
from sen_runtime.bench.rows import FloatArray, Observations, Row
from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network
from sen_runtime.untrusted import load_json, open_regular, quote

Event = Mapping[str, Any]

#: Of the file, and of a line: an image in base64.
MAX_BYTES, MAX_LINE_BYTES = 1 << 31, 1 << 29
#: Of nanoseconds: 104 days.
MAX_NS = 1 << 53
#: `SWEEP_BYTES` of c/tools/recorder.h.
SWEPT_BYTES = 16 << 20
SCHEMAS: Mapping[str, Any] = load_schema("raw")["$defs"]


class RawError(SenError):
    """A file that `sen_bench` did not write, or one without a complete round."""


def read(path: Path, *, keep_samples: bool = False) -> Observations:
    """Read a file of `sen_bench`.

    A file without its last line, as an interrupted program or copy leaves it, is read up to its last complete line.

    Args:
        path: of the file.
        keep_samples: keep all samples in the record.

    Raises:
        RawError: names the line, found and expected values.
    """
    events: dict[str, list[Event]] = {kind: [] for kind in SCHEMAS}
    measured = Measured({})
    for where, kind, event in _events(path):
        events[kind].append(event)
        if kind == "calibration":
            measured = _calibration(where, event, _names(events["row"]))
        elif kind == "load":
            measured.loads.append(0)
        elif kind == "round":
            _add_round(where, events[kind].pop()["ns"], measured)
    if not measured.n_rounds:
        raise RawError(f"{path}: no complete round", "record again; sen_bench ends with `N rounds`")
    for kind in ("start", "facts", "inputs", "clock", "bandwidth", "row"):
        count = len(measured.calls) if kind == "row" else 1
        if len(events[kind]) != count:
            raise RawError(f"{path}: {len(events[kind])} events {kind!r}; expected {count}")
    measured.loads = [count for count in measured.loads if count]
    measured.is_complete = [event["status"] for event in events["end"]] == ["complete"]
    return _observations(str(path), events, measured, keep_samples)


def _events(path: Path) -> Iterator[tuple[str, str, Event]]:
    """Each complete line: its place, the kind and the event."""
    size = 0
    with open_regular(path, error=RawError) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
            where, size = f"{path}: line {number}", size + len(line)
            if size > MAX_BYTES or (len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")):
                raise RawError(f"{where}: the file or the line is too large for a file of sen_bench")
            if not line.endswith(b"\n"):
                return
            event = load_json(line, where, error=RawError)
            kind = event.get("event") if isinstance(event, dict) else None
            if not isinstance(kind, str) or kind not in SCHEMAS or (number == 1 and kind != "start"):
                raise RawError(f"{where} is {quote(event)}; expected an event", "files are written by sen_bench")
            validate(event, SCHEMAS[kind], f"{where}: {kind}", error=RawError)
            yield where, kind, event


def _calibration(where: str, event: Event, names: Sequence[str]) -> Measured:
    for key in ("calls", "overhead_ns"):
        if len(event[key]) != len(names):
            raise RawError(f"{where}: {key} is {quote(event[key])}; expected {len(names)} integers")
    return Measured(dict(zip(names, event["calls"])), dict(zip(names, event["overhead_ns"])))


def _add_round(where: str, rows: Sequence[Any], measured: Measured) -> None:
    if not measured.loads or len(rows) != len(measured.calls):
        raise RawError(f"{where}: a round of {len(rows)} rows; expected {len(measured.calls)}, after a load")
    for row in rows:
        if not isinstance(row, list) or not row or not all(type(ns) is int and 0 < ns <= MAX_NS for ns in row):
            raise RawError(f"{where}: ns is {quote(row)}; expected integers from 1 to {MAX_NS}")
    measured.add_round(dict(zip(measured.calls, rows)))


def _names(rows: Sequence[Event]) -> list[str]:
    names: list[str] = []
    for row in rows:
        names.append(unique_name(f"{_decode(row['file'])} native 1", names))
    return names


def _observations(path: str, events: Mapping[str, list[Event]], measured: Measured, keep_samples: bool) -> Observations:
    start, given = events["start"][0], events["inputs"][0]
    artifacts = [_artifact(path, row) for row in events["row"]]
    inputs = _floats(path, given["data"], (-1, *artifacts[0][1].input_shape))
    rows = [
        _row(path, row, RowPlan(name, artifact, "native", start["version"], 1), network, len(inputs))
        for name, row, (artifact, network) in zip(measured.calls, events["row"], artifacts)
    ]
    _check_inputs(path, inputs, rows, is_random=given["file"] is None)
    states = [device_texts.state(_texts(path, event)) for event in events["state"]]
    if not states:
        raise RawError(f"{path}: no state of the machine")
    facts = device_texts.facts(_texts(path, events["facts"][0]))
    versions = {**dict.fromkeys(libraries(), UNAVAILABLE), "sen-edge-runtime": start["version"]}
    core = re.search(r"^Cpus_allowed_list:\s*([0-9]{1,6})$", events["row"][0]["status"][1], re.MULTILINE)
    request = BenchRequest(
        tuple(row.plan.artifact.path for row in rows),
        seconds=start["seconds"],
        cold_cache=start["cold_cache"],
        cpu=int(core.group(1)) if core else None,
        seed=start["seed"],
        raw=keep_samples,
        command=tuple(map(_decode, start["command"])),
    )
    return Observations(
        tool=("sen_bench", start["version"]),
        request=request,
        created=datetime.fromtimestamp(start["time"], timezone.utc),
        cpus_verified=True,
        inputs=inputs,
        data=None if given["file"] is None else _decode(given["file"]),
        rows=rows,
        measured=measured,
        clock={**clock_figures(events["clock"][0]["ns"]), "loop_ns": 0.0},
        bandwidth=_bandwidth(events["bandwidth"][0]["bytes_per_ns"], facts),
        device={**facts, "python": UNAVAILABLE, "libraries": versions, "compiler": start["compiler"]},
        states=states if len(states) > 1 else states * 2,
        cores=facts["cpus"] if isinstance(facts["cpus"], int) else 1,
        swept_bytes=SWEPT_BYTES,
    )


def _artifact(path: str, row: Event) -> tuple[ArtifactFile, Network]:
    data = _decode_base64(path, row["image"])
    try:
        network = image.loads(data)
    except SenError as error:
        raise RawError(f"{path}: image {quote(row['file'])}: {error.message}", error.hint) from error
    file = Path(_decode(row["file"]))
    return ArtifactFile(file, hashlib.sha256(data).hexdigest(), len(data), network.metadata, network), network


def _row(path: str, event: Event, plan: RowPlan, network: Network, n_inputs: int) -> Row:
    n_out, growth = network.layer_sizes[-1], memory.growth(*map(memory.peak_bytes, event["status"]))
    return Row(
        plan,
        network.input_shape,
        n_out,
        network.metadata,
        network.timesteps,
        ColdStart(event["load_ns"] / 1000, event["first_ns"] / 1000, growth),
        kernels=event["kernels"],
        arena_bytes=event["arena_bytes"],
        outputs=_floats(path, event["outputs"], (n_inputs, n_out)),
    )


def _check_inputs(path: str, x: FloatArray, rows: Sequence[Row], *, is_random: bool) -> None:
    """Refuse images of different inputs, too many inputs, and those of a file that are outside an input range."""
    for row in rows:
        if row.input_shape != x.shape[1:] or len(x) > N_INPUTS:
            raise RawError(f"{path}: inputs of shape {list(x.shape)} for an image of {list(row.input_shape)}")
    for low, high in () if is_random else input_ranges(rows):
        if not np.all((x >= low) & (x <= high)):
            raise RawError(f"{path}: inputs from {x.min():g} to {x.max():g}; expected from {low:g} to {high:g}")


def _bandwidth(pairs: Sequence[tuple[float, float]], device: Mapping[str, Any]) -> dict[str, float | None]:
    """The bandwidths of those buffers whose sizes are next to those of `memory.buffers`."""
    speeds, (l2, beyond) = dict(pairs), memory.buffers(device)
    within = max((size for size in speeds if l2 is not None and size <= l2), default=None)
    above = min((size for size in speeds if beyond is not None and size >= beyond), default=None)
    return {
        "l2_bytes_per_ns": None if within is None else speeds[within],
        "memory_bytes_per_ns": None if above is None else speeds[above],
    }


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
    except UnicodeEncodeError:
        raise RawError(f"{path}: texts is {quote(event['texts'])}; expected strings of Latin-1") from None


def _decode(text: str) -> str:
    """A name, which is stored with one character for each byte."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _decode_base64(path: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RawError(f"{path}: {quote(text)} is not base64") from None
