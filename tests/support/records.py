"""Artificial benchmark records."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np

from sen_runtime.task import ACCURACY

ENGINES = {".onnx": ("onnxruntime", "1.32.0"), ".tflite": ("litert", "2.3.0"), ".sen": ("native", "0.1.0")}
PERCENTILES = {"p90": 90, "p95": 95, "p99": 99, "p99_9": 99.9}
NAMES = ("digits.onnx onnxruntime 1", "digits.tflite litert 1", "digits.sen native 1")


def device(model: str = "Raspberry Pi 4 Model B Rev 1.4", cpu: str = "Cortex-A72", **others: Any) -> dict[str, Any]:
    state = {
        "governor": ["ondemand"] * 4, "mhz": [1800.0] * 4, "min_mhz": [600.0] * 4, "max_mhz": [1800.0] * 4,
        "arm_clock_mhz": 1800.404, "celsius": 48.3, "throttled": "0x0", "load": 0.31, "swap_used_bytes": 0,
    }  # fmt: skip
    return {
        "model": model, "revision": "c03114", "cpu": cpu, "architecture": "aarch64", "userland_bits": 64,
        "kernel": "6.6.31+rpt-rpi-v8", "os": "Debian GNU/Linux 12 (bookworm)", "cpus": 4, "ram_bytes": 3977551872,
        "python": "3.11.2", "caches": {"l1d": 32768, "l2": 1048576, "l3": None},
        "libraries": {"numpy": "1.26.4", "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0",
                      "tflite-runtime": "unavailable", "sen-edge-runtime": "0.1.0"},
        "compiler": "GCC (Debian 12.2.0-14) 12.2.0",
        "before": state, "after": {**state, "celsius": 61.8}, "throttled_during": [], **others,
    }  # fmt: skip


def row(name: str, turns_us: np.ndarray, first: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    """A row whose samples are its turns."""
    file, _, threads = name.rsplit(" ", 2) if name.count(" ") >= 2 else (name, "", "1")
    engine, engine_version = ENGINES.get(file[file.rfind(".") :], ("native", "0.1.0"))
    turns = np.asarray(turns_us, float)
    median = float(np.median(turns))
    counts, edges = np.histogram(turns, bins=40)
    return {
        "name": name, "file": file, "sha256": sha256(file.encode()).hexdigest(), "bytes": 2143272,
        "engine": engine, "engine_version": engine_version, "kernels": "neon" if engine == "native" else None,
        "threads": int(threads) if threads.isdecimal() else 1, "n_in": 64, "n_out": 10, "timesteps": 0, "batch": 1,
        "load_us": 40 * median + 300, "first_us": 5 * median, "calls_per_sample": max(1, round(1000 / median)),
        "n_samples": len(turns),
        "latency_us": {"min": float(turns.min()), "median": median, "mean": float(turns.mean()),
                       "mad": float(np.median(np.abs(turns - median))),
                       **{key: float(np.percentile(turns, share)) for key, share in PERCENTILES.items()}},
        "step_us": None, "call_us": 0.3 if engine == "native" else None, "throughput_per_s": 1e6 / median,
        "ratio": _ratio(turns, first),
        "agreement": None if first is None else {"to": first["name"], "inputs": 64, "max_error": 1.2e-6,
                                                 "max_error_over_std": 8e-7, "argmax_percent": 100.0, "matches": True},
        "accuracy_percent": 97.12, "score": {**asdict(ACCURACY), "value": 97.12},
        "macs": 535040, "nnz": 535818, "weight_bytes": 2143272,
        "rss_growth_bytes": 5 << 20, "arena_bytes": 4096 if engine == "native" else None,
        "bytes_per_ns": 4.01, "share_of_l2": 0.8, "share_of_memory": 0.393, "energy_uj": None, "warnings": [],
        "histogram": {"edges_us": edges.tolist(), "counts": counts.tolist()}, "turns_us": turns.tolist(), **others,
    }  # fmt: skip


def _ratio(turns: np.ndarray, first: dict[str, Any] | None) -> dict[str, Any] | None:
    if first is None:
        return None
    median = float(np.median(turns / np.asarray(first["turns_us"])))
    return {"to": first["name"], "median": median, "low": 0.985 * median, "high": 1.012 * median, "confidence": 0.95}


def record(
    medians_us: Sequence[float] = (42.0, 58.0, 11.5), names: Sequence[str] = NAMES, seed: int = 0,
    rounds: int = 400, spread: float = 0.03, **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """A complete record: latencies that are skewed to the right and drift a little together."""
    rng = np.random.default_rng(seed)
    drift = 1 + 0.01 * np.sin(np.arange(rounds) / rounds * 6)
    rows: list[dict[str, Any]] = []
    for name, median in zip(names, medians_us, strict=True):
        turns = median * drift * (1 + spread * rng.gamma(1.5, 0.6, rounds))
        rows.append(row(name, turns, rows[0] if rows else None))
    return {
        "schema": "sen-edge/bench/1", "created": "2026-11-25T08:00:00Z",
        "tool": {"name": "sen-runtime", "version": "0.1.0"},
        "command": ["sen-runtime", "bench", *(row["file"] for row in rows), "--seconds", "10"],
        "status": "complete", "valid": True, "invalid_because": [],
        "settings": {"seconds": 10.0, "seed": 0, "inputs": "random", "n_inputs": 64, "cpus": [2],
                     "cpus_verified": True, "turn_ns": 1000000},
        "clock": {"resolution_ns": 1, "timer_ns": 42.1, "loop_ns": 35.0}, "device": device(),
        "bandwidth": {"l2_bytes_per_ns": 50.1, "memory_bytes_per_ns": 10.2}, "rows": rows,
        "sustained": None, "energy": None, **others,
    }  # fmt: skip


def sustained(minutes: int = 10, seed: int = 0) -> dict[str, Any]:
    """A record of sustained mode in which the board gets hot and its clock falls."""
    rng, made = np.random.default_rng(seed), record()
    samples = []
    for second in range(0, 60 * minutes, 2):
        hot = 82 - 34 * np.exp(-second / 120)
        mhz = 1800.0 if hot < 80 else 1500.0
        latency = {row["name"]: row["latency_us"]["median"] * 1800 / mhz * rng.normal(1, 0.004) for row in made["rows"]}
        samples.append({"t_s": float(second), "latency_us": latency, "mhz": mhz, "celsius": round(float(hot), 2)})
    reasons = ["the clock of the cores fell from 1800 to 1500 MHz in 120 of 300 samples taken while they were busy"]
    return {**made, "sustained": samples, "valid": False, "invalid_because": reasons}
