"""Requests of export and verification, for Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from sen_edge.compression.request import Fraction, OldDrop, Share
from sen_edge.schema import (
    Check,
    Count,
    NonNegative,
    Option,
    Positive,
    Schema,
    SchemaError,
    Text,
    Whole,
    fields_of,
)

COMPRESSION, QUANTIZATION = "Compression (others: sen-edge compress)", "Quantization"
MapPath = Annotated[
    Path | None,
    Option("TOML map of a foreign state dict, NIR graph, SpSNN or Space as Time.", flag="--map", metavar="FILE"),
]
ExpectPath = Annotated[
    Path | None,
    Option("Inputs and outputs of your own model (.npz) to compare with; exit code 3 on a difference.", metavar="FILE"),
]
DataName = Annotated[
    str | None, Option("Data to compare scores on: mnist, digits, a file or a folder.", metavar="DATA")
]
DataDir = Annotated[Path | None, Option("Folder of the data sets.", metavar="DIR")]


#: Bytes of a stem: file systems take 255 for a name, and suffixes are added.
MAX_STEM_BYTES = 200


def _is_stem(text: str) -> bool:
    is_name = text == Path(text).name and not text.startswith(".") and text.isprintable()
    return is_name and len(text.encode()) <= MAX_STEM_BYTES


def _targets() -> tuple[str, ...]:
    from sen_exporters.base import exporter_names

    return exporter_names()


Stem = Annotated[Text, Check(_is_stem, "a short file name without folders, in printable characters")]


@dataclass(frozen=True)
class Limits(Schema):
    """Tolerances of a verification, instead of those in `sen_edge.exporting.verify.result.TOLERANCES`.

    Attributes:
        output: max error of an output, in its unit.
        readout: min share of inputs whose outputs are all within `output`.
        decisions: min share of equal decisions.
        spikes: min share of equal spike counts.
        score: max difference of scores on data, in points or in percent of the variance.
        rounding: max error of int8 against the exported network.
        rounding_share: min share of inputs whose outputs are all within `rounding`.
    """

    output: Positive | None = None
    readout: Fraction | None = None
    decisions: Fraction | None = None
    spikes: Fraction | None = None
    score: NonNegative | None = None
    rounding: Positive | None = None
    rounding_share: Fraction | None = None

    @property
    def given(self) -> dict[str, float]:
        """Given values by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


LimitsOption = Annotated[
    Limits | None,
    Option(
        f"Tolerance of the verification, may be repeated: {', '.join(fields_of(Limits))}.",
        metavar="NAME=VALUE",
        is_repeated=True,
    ),
]


@dataclass(frozen=True)
class ExportRequest(Schema):
    """Options of an export.

    Attributes:
        to: names of exporters; None for those of `DEFAULT_TARGETS` that support the request.
        name: stem of the files; None for the stem of the model.
        weights: "dense" (materialize coordinates) or "coordinates" (the engine computes weights at load).
        snn: graph of a spiking network: "unrolled", "scan" (ONNX) or "step" (membranes as inputs and outputs).
        batch_size: fixed batch, or None for a dynamic one; an error if no target uses it.
        preprocess: standardization of the inputs: "fold" (into weights and biases), "node" (operators of its own) or
            "none" (the caller standardizes, with `input_mean` and `input_std` of the metadata); None for "fold" where
            that is exact, else "node".
        probabilities: add the output activation of the task.
        options: options of exporters by `NAME` or `TARGET.NAME`; see `sen_edge.exporting.options`.
        dtype: "float32" (weights as stored in the model); see `sen_edge.exporting.quantization.quantize` for others.
        calibration: calibration inputs for int8, int4 and compression: name of a data set, or path. The verification of
            an image with int8 activations takes its inputs from them, or from `data`.
        sparsity: share of weights to prune before the export.
        rank: rank to factorize layers to before the export.
        max_drop: search first for the best network whose metric on `data` drops by at most this much.
        max_accuracy_drop: old name of `max_drop`.
        data: labelled data to compare scores on.
        data_dir: folder of the data sets.
        tolerance: of the verification, instead of the default ones.
        map_path: TOML map of a foreign state dict, NIR graph, SpSNN or Space as Time.
        expect: `.npz` with outputs of the user's model, compared with the source before the export.
        force: replace existing files.
    """

    to: Annotated[
        tuple[Text, ...] | None,
        MinLen(1),
        Option(
            "Targets: c, nir, onnx, sen, tflite, wasm; separated by commas or repeated. Default: onnx, tflite.",
            metavar="TARGETS",
            is_repeated=True,
            choices=_targets,
        ),
    ] = None
    name: Annotated[Stem | None, Option("Stem of the files. Default: stem of the model.", metavar="STEM")] = None
    weights: Annotated[
        Literal["dense", "coordinates"],
        Option("Materialize weights, or compute them from coordinates at load."),
    ] = "dense"
    snn: Annotated[
        Literal["unrolled", "scan", "step"],
        Option("Graph of a spiking network; step: one time step, membranes are inputs and outputs; scan: ONNX only."),
    ] = "unrolled"
    batch_size: Annotated[
        Count | None, Option("Fixed batch size in ONNX and TFLite. Default: dynamic.", metavar="N")
    ] = None
    preprocess: Annotated[
        Literal["fold", "node", "none"] | None,
        Option(
            "Standardization of the inputs: folded into weights, operators of its own, or left to the caller. "
            "Default: fold where exact, else node."
        ),
    ] = None
    probabilities: Annotated[
        bool, Option("Outputs are probabilities: softmax of classes, sigmoid of labels. Default: logits.")
    ] = False
    options: Mapping[str, Any] = field(default_factory=dict)

    dtype: Annotated[
        Literal["float32", "float16", "int8-dynamic", "int8", "int4-dynamic", "int4"],
        Option(
            "Type of weights; int8: weights and activations of TFLite, .sen and C; int4: int8 activations.",
            group=QUANTIZATION,
        ),
    ] = "float32"
    calibration: Annotated[
        str | None,
        Option(
            "Calibration inputs for int8 and int4: mnist, digits, a file or a folder.",
            group=QUANTIZATION,
            metavar="DATA",
        ),
    ] = None

    sparsity: Annotated[
        Share | None, Option("Prune this share of weights before the export.", group=COMPRESSION, metavar="SHARE")
    ] = None
    rank: Annotated[
        Count | None, Option("Factorize to this rank before the export.", group=COMPRESSION, metavar="N")
    ] = None
    max_drop: Annotated[
        NonNegative | None,
        Option("Search first; max drop of the task's metric on --data.", group=COMPRESSION, metavar="DROP"),
    ] = None
    max_accuracy_drop: OldDrop = None

    data: DataName = None
    data_dir: DataDir = None
    map_path: MapPath = None
    expect: ExpectPath = None
    tolerance: LimitsOption = None
    force: Annotated[bool, Option("Replace existing files.")] = False

    @property
    def is_compressed(self) -> bool:
        """Whether the model is compressed before the export."""
        return (self.sparsity, self.rank, self.max_drop) != (None, None, None)

    def check(self) -> None:
        """Reject contradictory options."""
        self.rename("max_accuracy_drop", "max_drop")
        is_integer = self.dtype.startswith("int")
        if self.dtype in ("int8", "int4") and self.calibration is None:
            raise SchemaError(
                f"{self.dtype} requires calibration data",
                f"add --calibration with representative inputs, or use --dtype {self.dtype}-dynamic",
                key="dtype",
            )
        if is_integer and self.weights == "coordinates":
            raise SchemaError(
                "is coordinates, which have no integer form", "use --weights dense, or --dtype float16", key="weights"
            )
        if self.is_compressed and self.weights == "coordinates":
            raise SchemaError("is coordinates, which compression replaces", "use --weights dense", key="weights")


@dataclass(frozen=True)
class VerifyRequest(Schema):
    """Options of a verification.

    Attributes:
        map_path: TOML map of a foreign state dict, NIR graph, SpSNN or Space as Time.
        expect: `.npz` with outputs of the user's model, compared with the source before the export.
        data: labelled data to compare scores on: name of a data set, or path.
        calibration: unlabelled inputs, required for int8 activations without `data`.
        data_dir: folder of the data sets.
        seed: seed of the inputs.
        tolerance: instead of the default ones.
    """

    map_path: MapPath = None
    expect: ExpectPath = None
    data: DataName = None
    calibration: Annotated[
        str | None, Option("Unlabelled inputs to compare int8 on, as for export.", metavar="DATA")
    ] = None
    data_dir: DataDir = None
    seed: Annotated[Whole, Option("Seed of the inputs.")] = 0
    tolerance: LimitsOption = None
