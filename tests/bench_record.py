"""What a record of a benchmark holds, by name and type."""

import math
import re
from typing import Any

NUMBER, TEXT = (int, float), str
#: Of the whole record, of a row and of the parts of them: name -> the types that its value may have; None is null.
RECORD: dict[str, Any] = {
    "schema": TEXT, "created": TEXT, "tool": dict, "command": list, "status": TEXT, "valid": bool,
    "invalid_because": list, "settings": dict, "clock": dict, "device": dict, "bandwidth": dict, "rows": list,
    "sustained": (list, None), "energy": (dict, None),
}  # fmt: skip
ROW: dict[str, Any] = {
    "name": TEXT, "file": TEXT, "sha256": TEXT, "bytes": int, "engine": TEXT, "engine_version": TEXT,
    "kernels": (TEXT, None), "threads": int, "n_in": int, "n_out": int, "timesteps": int, "load_us": NUMBER,
    "first_us": NUMBER, "calls_per_sample": int, "n_samples": int, "latency_us": dict, "step_us": (*NUMBER, None),
    "call_us": (*NUMBER, None), "throughput_per_s": NUMBER, "ratio": (dict, None), "agreement": (dict, None),
    "accuracy_percent": (*NUMBER, None), "macs": (int, None), "nnz": (int, None), "weight_bytes": (int, None),
    "rss_growth_bytes": (int, None), "arena_bytes": (int, None), "bytes_per_ns": (*NUMBER, None),
    "share_of_l2": (*NUMBER, None), "share_of_memory": (*NUMBER, None), "energy_uj": (*NUMBER, None),
    "warnings": list, "histogram": dict, "turns_us": list,
}  # fmt: skip
PARTS: dict[str, dict[str, Any]] = {
    "tool": {"name": TEXT, "version": TEXT},
    "settings": {
        "seconds": NUMBER, "seed": int, "inputs": TEXT, "n_inputs": int, "cpus": (list, None), "cpus_verified": bool,
        "turn_ns": int,
    },
    "clock": {"resolution_ns": NUMBER, "timer_ns": NUMBER, "loop_ns": NUMBER},
    "bandwidth": {"l2_bytes_per_ns": (*NUMBER, None), "memory_bytes_per_ns": (*NUMBER, None)},
    "latency_us": dict.fromkeys(("min", "median", "mean", "mad", "p90", "p95", "p99", "p99_9"), NUMBER),
    "ratio": {"to": TEXT, "median": NUMBER, "low": NUMBER, "high": NUMBER, "confidence": NUMBER},
    "agreement": {
        "to": TEXT, "inputs": int, "max_error": (*NUMBER, None), "max_error_over_std": (*NUMBER, None),
        "argmax_percent": NUMBER, "matches": bool,
    },
    "histogram": {"edges_us": list, "counts": list},
    "warning": {"kind": TEXT, "message": TEXT},
}  # fmt: skip
#: Each may be "unavailable" as well.
STATE: dict[str, Any] = {
    "governor": list, "mhz": list, "min_mhz": list, "max_mhz": list, "arm_clock_mhz": NUMBER, "celsius": NUMBER,
    "throttled": TEXT, "load": NUMBER, "swap_used_bytes": int,
}  # fmt: skip
DEVICE: dict[str, Any] = {
    "model": TEXT, "revision": TEXT, "cpu": TEXT, "architecture": TEXT, "userland_bits": int, "kernel": TEXT,
    "os": TEXT, "cpus": int, "ram_bytes": int, "python": TEXT, "caches": dict, "libraries": dict, "compiler": TEXT,
    "before": dict, "after": dict, "throttled_during": list,
}  # fmt: skip


def check(record: dict[str, Any]) -> None:
    """Assert that it is a record as every producer writes it."""
    _check(record, RECORD)
    assert record["schema"] == "sen-edge/bench/1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created"])
    assert record["status"] in ("complete", "interrupted")
    assert record["settings"]["inputs"] in ("random", "data", "cold-cache")
    assert record["valid"] == (record["invalid_because"] == [])
    for part in ("tool", "settings", "clock", "bandwidth"):
        _check(record[part], PARTS[part])
    check_device(record["device"])
    assert record["rows"] and len({row["name"] for row in record["rows"]}) == len(record["rows"])
    assert len({len(row["turns_us"]) for row in record["rows"]}) == 1
    for row in record["rows"]:
        _check_row(row)


def check_device(device: dict[str, Any]) -> None:
    """Assert that it is the record's description of a machine."""
    _check(device, DEVICE, "unavailable")
    for state in (device["before"], device["after"]):
        _check(state, STATE, "unavailable")
    assert device["caches"] == "unavailable" or set(device["caches"]) == {"l1d", "l2", "l3"}
    assert {"numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "sen-edge-runtime"} == set(device["libraries"])


def _check_row(row: dict[str, Any]) -> None:
    samples = row.pop("samples_us", None)
    assert samples is None or len(samples) == row["n_samples"]
    _check(row, ROW)
    assert re.fullmatch("[0-9a-f]{64}", row["sha256"])
    for part in ("latency_us", "histogram", "ratio", "agreement"):
        if row[part] is not None:
            _check(row[part], PARTS[part])
    for warning in row["warnings"]:
        _check(warning, PARTS["warning"])
    edges, counts = row["histogram"]["edges_us"], row["histogram"]["counts"]
    assert len(edges) == len(counts) + 1 <= 61 and edges == sorted(edges) and min(counts) >= 0
    assert 1 <= len(row["turns_us"]) <= 2000
    latency = row["latency_us"]
    order = [latency[name] for name in ("min", "median", "p90", "p95", "p99", "p99_9")]
    assert order == sorted(order) and latency["min"] > 0
    if samples is not None:
        row["samples_us"] = samples


def _check(value: dict[str, Any], expected: dict[str, Any], other: str | None = None) -> None:
    assert set(value) == set(expected)
    for name, types in expected.items():
        allowed = types if isinstance(types, tuple) else (types,)
        found = value[name]
        if found is None:
            assert None in allowed, name
        elif found != other or other is None:
            assert isinstance(found, tuple(each for each in allowed if each)), (name, found)
            assert isinstance(found, bool) == (bool in allowed), name
        assert not isinstance(found, float) or math.isfinite(found), name
