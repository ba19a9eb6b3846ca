"""Options of foreign checkpoints, `--map` and `--expect`, and what the commands say about a map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sen_edge.cli import console
from sen_runtime.untrusted import listing

PAGE = "docs/how-to/foreign-checkpoints.md"

MapFile = Annotated[Path | None, typer.Option("--map", help="TOML map of a foreign state dict.", metavar="FILE")]
ExpectFile = Annotated[
    Path | None,
    typer.Option(
        help="Inputs x and outputs y (and layer0, layer1, ...) of your own model, a .npz; exit 3 if the loaded model "
        "computes something else.",
        metavar="FILE",
    ),
]


def lines(described: Mapping[str, Any]) -> list[str]:
    """What people read of a map: entries that it leaves out, constants that it assumes, and whether it was checked.

    Args:
        described: what `sen_edge.model.notes.map_note` gives.
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
    """`lines` on stderr."""
    for line in lines(described):
        console.note(line)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
