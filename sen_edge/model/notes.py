"""Notes about a model in manifests, in the metadata of files and in JSON output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sen_edge.model.parameters import AppliedMap


def map_note(applied: AppliedMap | None, agreement: Any = None) -> dict[str, Any]:
    """Return the entries `map` and `expect`; null if absent.

    Args:
        applied: map of a foreign checkpoint.
        agreement: `sen_edge.exporting.verify.expectation.Agreement` of the model with expected outputs.
    """
    return {
        "map": None if applied is None else asdict(applied),
        "expect": None if agreement is None else asdict(agreement),
    }


def compression_note(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry `compression` of file metadata; equal entries mean that files compute the same."""
    note = {name: figures[name] for name in ("request", "accuracy", "previous") if name in figures}
    return {"compression": json.dumps(note or dict(figures), sort_keys=True)}
