"""A record as Markdown and as CSV."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sen_runtime.bench.record import is_wrong
from sen_runtime.bench.text import cells, heading, remarks
from sen_runtime.untrusted import printable

#: Characters with a meaning in Markdown.
MARKS = "\\`*_[]<>|&"
#: Columns of the CSV, in this order in every version of the schema; new ones are added at the end.
CSV_FIELDS = (
    "created", "model", "cpu", "architecture", "status", "valid", "name", "file", "sha256", "bytes", "engine",
    "engine_version", "kernels", "threads", "n_in", "n_out", "timesteps", "load_us", "first_us", "calls_per_sample",
    "n_samples", "min_us", "median_us", "mean_us", "mad_us", "p90_us", "p95_us", "p99_us", "p99_9_us", "step_us",
    "call_us", "throughput_per_s", "ratio_to", "ratio_median", "ratio_low", "ratio_high", "ratio_confidence",
    "agreement_to", "agreement_inputs", "max_error", "max_error_over_std", "argmax_percent", "matches",
    "accuracy_percent", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
    "share_of_l2", "share_of_memory", "energy_uj", "warnings", "source",
)  # fmt: skip


def markdown(record: Mapping[str, Any]) -> str:
    """Device, rows and warnings, for a pull request or a wiki."""
    columns = list(cells(record["rows"]).values())
    lines = [_escaped(heading(record)), ""]
    lines += [_line(["row", *(texts[0].strip() for texts in columns)]), _line(["---", *["---:"] * len(columns)])]
    for index, row in enumerate(record["rows"]):
        name = _escaped(printable(row["name"])) + (" **wrong outputs**" if is_wrong(row) else "")
        lines.append(_line([name, *(_escaped(texts[index + 1].strip()) for texts in columns)]))
    notes = [f"- {_escaped(remark)}" for remark in remarks(record)]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def csv(records: Mapping[str, Mapping[str, Any]]) -> str:
    """All figures with full precision, a line for each row below the line of `CSV_FIELDS`; empty where not known."""
    buffer = io.StringIO()
    writer = csv_format.DictWriter(buffer, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for source, record in records.items():
        device = record["device"]
        common = {key: record[key] for key in ("created", "status", "valid")}
        common.update({key: device[key] for key in ("model", "cpu", "architecture")}, source=source)
        for row in record["rows"]:
            figures = {key: value for key, value in row.items() if key in CSV_FIELDS}
            figures.update({f"{key}_us": value for key, value in row["latency_us"].items()})
            figures.update({f"ratio_{key}": value for key, value in (row["ratio"] or {}).items()})
            agreement = dict(row["agreement"] or {})
            figures.update({f"agreement_{key}": agreement.pop(key, None) for key in ("to", "inputs")}, **agreement)
            figures["warnings"] = "; ".join(warning["message"] for warning in row["warnings"])
            writer.writerow({**common, **figures})
    return buffer.getvalue()


def _escaped(text: str) -> str:
    """As Markdown, without what would be taken for marks or HTML."""
    return text.translate({ord(mark): f"&#{ord(mark)};" if mark in "<>|&" else f"\\{mark}" for mark in MARKS})


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
