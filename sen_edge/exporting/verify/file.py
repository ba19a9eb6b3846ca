"""Verification of an exported file."""

from __future__ import annotations

from pathlib import Path

from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load_test
from sen_edge.errors import VerificationError
from sen_edge.exporting.request import VerifyRequest
from sen_edge.exporting.verify.result import Verification
from sen_edge.exporting.verify.verification import verify
from sen_edge.model.model import Model
from sen_exporters.base import exporter_for
from sen_runtime.errors import EngineError, ImageError
from sen_runtime.untrusted import open_regular


def verify_file(artifact: Path, model: Model, request: VerifyRequest) -> tuple[Verification, ...]:
    """Run an exported file in every installed engine, and compare it with its model.

    Args:
        artifact: main file of the export.
        model: model that was exported.
        request: options; `map_path` and `expect` have no effect on a loaded model.

    Returns:
        Figures of each engine; no tolerance is violated.

    Raises:
        VerificationError: the artifact disagrees with its model; `results` has the figures.
        ExportError, EngineError, ImageError, DataError, UsageError: see `verification.verify`.
    """
    exporter = exporter_for(artifact.suffix)
    open_regular(artifact).close()
    data = None if request.data is None else load_test(request.data, request.data_dir, model.network)
    examples = None if data is None else data.inputs
    if request.calibration is not None:
        examples = load_calibration(request.calibration, request.data_dir, model.network).held_out
    try:
        results = verify(model, artifact, exporter, examples=examples, data=data, seed=request.seed)
    except (EngineError, ImageError) as error:  # add the file name
        if str(artifact) in error.message:
            raise
        raise type(error)(f"{artifact}: {error.message}", error.hint) from error
    missed = [sentence for result in results for sentence in result.failures]
    if missed:
        raise VerificationError("the artifact disagrees with its model:\n  - " + "\n  - ".join(missed), results=results)
    return results
