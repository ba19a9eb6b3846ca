"""Quantization of a model, with figures for the manifest."""

from __future__ import annotations

from typing import Literal, get_args

from sen_edge.data.calibration import Calibration
from sen_edge.errors import UsageError
from sen_edge.model.model import Model, Quantization
from sen_edge.passes.equalize import equalize
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import quantization_errors, to_float16, to_int8, to_int8_weights
from sen_runtime.ir.network import stored_dtype

Dtype = Literal["float16", "int8-dynamic", "int8", "int4-dynamic", "int4"]


def quantize(
    model: Model,
    dtype: Dtype,
    calibration: Calibration | None = None,
    *,
    granularity: str = "channel",
    activation_range: str = "percentile",
) -> Model:
    """Quantize a model.

    Args:
        model: model with floating-point weights; coordinates are kept in float16 and materialized for int8.
        dtype: "float16", "int8-dynamic" or "int4-dynamic" (weights); "int8" or "int4" (weights, and activations in
            int8).
        calibration: calibration inputs. Required for "int8" and "int4"; the others fit scales and rounding to them.
        granularity: one scale of int8 weights per "channel" (row) or "tensor"; "int8" is equalized first.
        activation_range: range of int8 activations: "percentile", "minmax" or "mse"; see
            `sen_edge.passes.quantize.to_int8`.

    Raises:
        UsageError: an unknown choice, weights that are integers already, no calibration for "int8" or "int4", or no
            layer with an int4 form.
        DataError: a layer gives 0 for every calibration input.
    """
    if dtype not in get_args(Dtype):
        raise UsageError(f"--dtype is {dtype!r}; expected one of {', '.join(get_args(Dtype))}")
    stored, is_full = stored_dtype(model.network), dtype in ("int8", "int4")
    if stored.startswith("int"):
        raise UsageError(
            f"the weights of {model.where} are {stored.removesuffix('-dynamic')} already, and are exported as stored",
            hint=f"omit --dtype {dtype}, or quantize the source of the image",
        )
    for name, is_given, applies in (
        ("granularity", granularity != "channel", dtype.startswith("int8")),
        ("activation_range", activation_range != "percentile", is_full),
    ):
        if is_given and not applies:
            raise UsageError(f"{name} has no effect with dtype {dtype}")
    if dtype == "float16":
        if calibration is not None:
            raise UsageError(
                "--calibration has no effect with --dtype float16", hint="use --dtype int8-dynamic or int8"
            )
        return model.derive(to_float16(model.network), quantization=Quantization(dtype, granularity, model))
    network = materialize(model.network)
    if granularity == "tensor" and dtype == "int8":
        network = equalize(network)
    inputs, bits = None if calibration is None else calibration.inputs, 4 if dtype.startswith("int4") else 8
    if not is_full:
        after = to_int8_weights(network, granularity, inputs, bits=bits)
    elif inputs is None:
        raise UsageError(
            f"--dtype {dtype} requires calibration data",
            hint=f"add --calibration with representative inputs, or use --dtype {dtype}-dynamic",
        )
    else:
        after = to_int8(network, inputs, granularity, activation_range, bits=bits)
    errors = quantization_errors(network, after, None if calibration is None else calibration.held_out)
    return model.derive(
        after, quantization=Quantization(dtype, granularity, model, calibration, tuple(errors), activation_range)
    )
