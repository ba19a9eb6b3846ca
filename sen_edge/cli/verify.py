"""`sen-edge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console, options, tables
from sen_edge.errors import VerificationError
from sen_edge.exporting.request import VerifyRequest
from sen_runtime.streams import suppress_announcements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sen_edge.exporting.verify.result import Verification


@options.command
def verify(
    artifact: Annotated[Path, typer.Argument(help="Exported file.", metavar="ARTIFACT")],
    request: VerifyRequest,
    *,
    against: Annotated[Path, typer.Option(help="Checkpoint, image or NIR graph that was exported.", metavar="MODEL")],
    as_json: options.AsJson = False,
) -> None:
    """Run an exported file in all installed engines and compare it with its model; exit code 3 on disagreement."""
    from sen_edge.exporting.verify.expectation import check
    from sen_edge.exporting.verify.verification import verify_file
    from sen_edge.model.model import load
    from sen_edge.model.parameters import map_note

    model = load(against, map_path=request.map_path)
    agreement = None if request.expect is None else check(model, request.expect, against.name)
    described = map_note(model.applied_map, agreement)
    title = f"{artifact.name} against {against.name}"
    try:
        with console.progress() as progress, suppress_announcements():
            results = verify_file(artifact, model, request, progress=progress)
    except VerificationError as error:
        if error.results:
            _print(title, error.results, described, as_json=as_json)
        raise
    _print(title, results, described, as_json=as_json)


def _print(title: str, results: Sequence[Verification], described: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json([{**result.to_dict(), **described} for result in results])
    else:
        for result in results:
            console.console(stderr=False).print(console.table(title, ("figure", "measured", "expected"), _rows(result)))
        console.print_lines(tables.map_lines(described))
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        console.warn(warning)


def _rows(result: Verification) -> list[tuple[str, str, str]]:
    tolerance = result.tolerance
    share = f"inputs within {result.allowed_error:.3g} std"
    rows = [
        ("engine", result.engine, ""),
        ("inputs", str(result.inputs), ""),
        ("max abs error", f"{result.max_abs_error:.3g}", ""),
        ("max error / std of outputs", f"{result.max_rel_error:.3g}", ""),
        (share, f"{result.readout_agreement:.2%}", f">= {tolerance.readout:.2%}"),
    ]
    if result.decision_agreement is not None:
        rows.append(("equal decisions", f"{result.decision_agreement:.2%}", f">= {tolerance.decisions:.2%}"))
    if result.spike_agreement is not None:
        rows.append(("equal spike counts", f"{result.spike_agreement:.4%}", f">= {tolerance.spikes:.2%}"))
    rows += [(f"layer {index}: max error / std", f"{e:.3g}", "") for index, e in enumerate(result.layer_errors)]
    if (data := result.data) is not None:
        for score in data.scores:
            within = "" if score.allowed is None else f"within {score.allowed:.2g}{' points' if score.unit else ''}"
            rows.append((f"{score.metric} of the model, {data.name}", score.text(score.model), ""))
            rows.append((f"{score.metric} of the artifact, {data.name}", score.text(score.artifact), within))
        if data.agreement is not None:
            what = f"equal decisions at an anomaly score of {data.threshold:.3g}"
            rows.append((what, f"{data.agreement:.2%}", f">= {tolerance.decisions:.2%}"))
    return rows
