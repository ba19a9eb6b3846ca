"""Arguments shared by commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelPath = Annotated[Path, typer.Argument(help="Checkpoint (.pt, .safetensors) or image (.sen).", metavar="MODEL")]
MapPath = Annotated[Path | None, typer.Option("--map", help="TOML map of a foreign state dict.", metavar="FILE")]
ExpectPath = Annotated[
    Path | None,
    typer.Option(
        "--expect",
        help="Inputs x and outputs y (and layer0, layer1, ...) of your own model (.npz); exit code 3 on a difference.",
        metavar="FILE",
    ),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the data sets.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
