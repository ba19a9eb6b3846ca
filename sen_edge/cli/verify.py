"""`sen-edge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console, mapping
from sen_edge.errors import VerificationError
from sen_runtime.errors import EngineError, ImageError
from sen_runtime.quiet import suppress_announcements
from sen_runtime.untrusted import open_regular

if TYPE_CHECKING:
    from sen_edge.exporting.verify.result import Verification
    from sen_edge.exporting.verify.verification import LabelledData
    from sen_runtime.ir.network import Network


def verify(
    artifact: Annotated[Path, typer.Argument(help="Exported file.", metavar="ARTIFACT")],
    *,
    against: Annotated[Path, typer.Option(help="The checkpoint or image it was made from.", metavar="MODEL")],
    map_path: mapping.MapFile = None,
    expect: mapping.ExpectFile = None,
    data: Annotated[
        str | None,
        typer.Option(help="Compare accuracies on this data: mnist, digits, a .npz or IDX images.", metavar="DATA"),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="Compare int8 on these inputs, which need no labels: as for export.", metavar="DATA"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets' files.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Run an exported file in every installed engine, and compare it with its model; exit 3 if they disagree."""
    from sen_edge.data.calibration import load_calibration
    from sen_edge.exporting.verify.expectation import check
    from sen_edge.exporting.verify.verification import verify as run_verify
    from sen_edge.model.model import load
    from sen_edge.model.notes import map_note
    from sen_exporters.base import exporter_for

    exporter = exporter_for(artifact.suffix)
    open_regular(artifact).close()
    model = load(against, map_path=map_path)
    agreement = None if expect is None else check(model, expect, against.name)
    labelled = None if data is None else load_data(data, data_dir, model.network)
    try:
        with suppress_announcements():
            examples = None if labelled is None else labelled.inputs
            if calibration is not None:
                examples = load_calibration(calibration, data_dir, model.network).held_out
            results = run_verify(model, artifact, exporter, examples=examples, data=labelled, seed=seed)
    except (EngineError, ImageError) as error:  # raised on bytes; here they have a name
        if str(artifact) in error.message:
            raise
        raise type(error)(f"{artifact}: {error.message}", error.hint) from error
    described = map_note(model.applied_map, agreement)
    if as_json:
        console.print_json([{**result.to_dict(), **described} for result in results])
    else:
        for result in results:
            title = f"{artifact.name} against {against.name}"
            console.console(stderr=False).print(console.table(title, ("figure", "measured", "expected"), _rows(result)))
        console.print_lines(mapping.lines(described))
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        console.note(f"warning: {warning}")
    missed = [sentence for result in results for sentence in result.failures]
    if missed:
        raise VerificationError("the artifact disagrees with its model:\n  - " + "\n  - ".join(missed))


def load_data(name: str, data_dir: Path | None, network: Network) -> LabelledData:
    """The test part of a data set, checked against the network; classes without examples are a warning."""
    from sen_edge.data.datasets import load_test
    from sen_edge.exporting.verify.verification import LabelledData

    examples = load_test(name, data_dir, network)
    for warning in examples.warnings(network.n_out):
        console.note(f"warning: {warning}")
    return LabelledData(examples.title, examples.inputs, examples.labelled)


def _rows(result: Verification) -> list[tuple[str, str, str]]:
    tolerance = result.tolerance
    rows = [
        ("engine", result.engine, ""),
        ("inputs", str(result.inputs), ""),
        ("max abs error", f"{result.max_abs_error:.3g}", ""),
        ("max error / std of outputs", f"{result.max_rel_error:.3g}", ""),
        (
            f"inputs within {result.allowed_error:.3g} std",
            f"{result.readout_agreement:.2%}",
            f">= {tolerance.readout:.2%}",
        ),
        ("argmax agreement", f"{result.argmax_agreement:.2%}", f">= {tolerance.argmax:.2%}"),
    ]
    if result.spike_agreement is not None:
        rows.append(("equal spike counts", f"{result.spike_agreement:.4%}", f">= {tolerance.spikes:.2%}"))
    rows += [(f"layer {index}: max error / std", f"{e:.3g}", "") for index, e in enumerate(result.layer_errors)]
    if result.data is not None:
        within = f"within {tolerance.accuracy + result.data.chance:.2g} points"
        rows.append((f"accuracy of the model, {result.data.name}", f"{result.data.model:.2f} %", ""))
        rows.append((f"accuracy of the artifact, {result.data.name}", f"{result.data.artifact:.2f} %", within))
    return rows
