"""Records and histories as CSV, with full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sen_runtime.bench.history import History

#: Columns of records, in this order in every version of the schema; new ones are added at the end.
RECORD_FIELDS = (
    "created", "model", "cpu", "architecture", "status", "valid", "name", "file", "sha256", "bytes", "engine",
    "engine_version", "kernels", "threads", "n_in", "n_out", "timesteps", "load_us", "first_us", "calls_per_sample",
    "n_samples", "min_us", "median_us", "mean_us", "mad_us", "p90_us", "p95_us", "p99_us", "p99_9_us", "step_us",
    "call_us", "throughput_per_s", "ratio_to", "ratio_median", "ratio_low", "ratio_high", "ratio_confidence",
    "agreement_to", "agreement_inputs", "max_error", "max_error_over_std", "argmax_percent", "matches",
    "accuracy_percent", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
    "share_of_l2", "share_of_memory", "energy_uj", "warnings", "source",
)  # fmt: skip
HISTORY_FIELDS = (
    "created", "model", "cpu", "architecture", "kernel", "os", "status", "valid", "name", "median_us", "low_us",
    "high_us", "source",
)  # fmt: skip


def from_records(records: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each row of records by their sources; unknown values are empty."""

    def lines() -> Iterator[dict[str, Any]]:
        for source, record in records.items():
            for row in record["rows"]:
                agreement = dict(row["agreement"] or {})
                yield {
                    **record, **record["device"], **row, "source": source,
                    **{f"{key}_us": value for key, value in row["latency_us"].items()},
                    **{f"ratio_{key}": value for key, value in (row["ratio"] or {}).items()},
                    **{f"agreement_{key}": agreement.pop(key, None) for key in ("to", "inputs")}, **agreement,
                    "warnings": "; ".join(warning["message"] for warning in row["warnings"]),
                }  # fmt: skip

    return _write(RECORD_FIELDS, lines())


def from_histories(histories: Mapping[str, History]) -> str:
    """A line for each row of each entry of histories by their sources."""
    return _write(HISTORY_FIELDS, (
        {**entry, **entry["device"], **row, "source": source}
        for source, history in histories.items() for entry in history.entries for row in entry["rows"]
    ))  # fmt: skip


def _write(fields: Sequence[str], lines: Iterator[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()
