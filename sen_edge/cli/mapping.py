"""Text about the map of a foreign checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sen_edge.cli import console
from sen_runtime.untrusted import listing

PAGE = "docs/how-to/foreign-checkpoints.md"


def lines(described: Mapping[str, Any]) -> list[str]:
    """Return the lines about a map: unused entries, assumed constants, and whether outputs were compared.

    Args:
        described: result of `sen_edge.model.parameters.map_note`.
    """
    applied, agreement = described["map"], described["expect"]
    found = []
    if applied is not None:
        assumed = ", ".join(f"{name} {_text(value)}" for name, value in applied["assumed"].items())
        found.append(f"unused entries  {listing(applied['unused'])}")
        found.append(f"assumed         {assumed or 'nothing'} (constants that {applied['file']} does not state)")
    if agreement is not None:
        errors = [f"layer {each['layer']} {each['max_rel_error']:.2g}" for each in agreement["layers"][:-1]]
        errors.append(f"output {agreement['layers'][-1]['max_rel_error']:.2g}")
        found.append(
            f"checked         agrees with {agreement['file']} on {agreement['inputs']} inputs; "
            f"max error / std: {', '.join(errors)}"
        )
    elif applied is not None:
        found.append(
            f"not checked     this is the model as {applied['file']} maps it; whether it is yours, only its outputs "
            f"tell: --expect FILE.npz ({PAGE})"
        )
    return found


def note(described: Mapping[str, Any]) -> None:
    """Write `lines` to stderr."""
    for line in lines(described):
        console.note(line)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
