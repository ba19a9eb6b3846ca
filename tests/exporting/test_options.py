"""Options of exporters: assignment to targets, and invalid options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from annotated_types import Ge, doc

from sen_edge.errors import UsageError
from sen_edge.exporting.options import build_options, own_options
from sen_exporters.base import ExportOptions, exporter
from sen_exporters.onnx.graph import MAX_OPSET, MIN_OPSET
from sen_exporters.sen.exporter import SenOptions

ALL = tuple(map(exporter, ("c", "onnx", "sen", "tflite")))


@dataclass(frozen=True)
class GridOptions(ExportOptions):
    opset: Annotated[float, Ge(0), doc("Level.")] = 0.5


class GridExporter:
    """A third party's, whose `opset` is of another type than that of ONNX."""

    name = "grid"
    Options = GridOptions


def build(given: Mapping[str, Any], *targets: str, **common: Any) -> dict[str, Any]:
    return build_options([exporter(target) for target in targets], common, given)


def test_an_option_goes_to_each_target_that_has_it() -> None:
    found = build({"sparse_format": "dense", "opset": "13"}, "onnx", "tflite", "sen", name="net", batch_size=2)
    assert (found["onnx"].sparse_format, found["onnx"].opset, found["tflite"].sparse_format) == ("dense", 13, "dense")
    assert found["sen"] == SenOptions("net", 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_option_of_one_target_has_precedence(reverse: bool) -> None:
    given = {"sparse_format": "dense", "tflite.sparse-format": "densify"}
    found = build(dict(sorted(given.items(), reverse=reverse)), "onnx", "tflite")
    assert (found["onnx"].sparse_format, found["tflite"].sparse_format) == ("dense", "densify")


@pytest.mark.parametrize("targets", [("sen",), ("c", "sen")])
def test_batch_size_of_targets_without_one_is_an_error(targets: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as raised:
        build({}, *targets, batch_size=2)
    assert "--batch-size" in raised.value.message and ",".join(targets) in raised.value.message
    assert "onnx, tflite" in raised.value.hint
    assert build({}, *targets, batch_size=None).keys() == {*targets}


def test_each_target_converts_text_by_its_own_type() -> None:
    found = build_options([*ALL, GridExporter()], {}, {"opset": "14"})  # type: ignore[list-item]
    assert (found["onnx"].opset, found["grid"].opset) == (14, 14.0)
    assert [*own_options([*ALL, GridExporter()])["opset"]] == ["onnx", "grid"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "expected"), [("64KiB", 65536), ("0.1kB", 100), ("1 B", 1), ("7", 7), ("1 mib", 1 << 20)]
)
def test_sizes_have_units(text: str, expected: int) -> None:
    assert build({"max_ram": text, "max_flash": expected}, "c")["c"].max_ram == expected
    assert build({"int8_io": "true"}, "tflite")["tflite"].int8_io is True


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        ("onnx", "opset", MIN_OPSET - 1),
        ("onnx", "opset", str(MAX_OPSET + 1)),
        ("onnx", "opset", "x"),
        ("onnx", "opset", "9" * 5000),
        ("onnx", "opset", 17.5),
        ("onnx", "sparse_format", "csr"),
        ("tflite", "sparse_format", "csr"),
        ("tflite", "tflite_target", "edgetpu"),
        ("tflite", "int8_io", "perhaps"),
        ("c", "weights", "flash"),
        ("c", "max_flash", "64 parsecs"),
        ("c", "max_flash", "-1"),
        ("c", "max_ram", -1),
    ],
)
def test_a_value_of_another_kind_is_refused(target: str, name: str, value: object) -> None:
    for key in (name, f"{target}.{name}"):
        with pytest.raises(UsageError) as raised:
            build({key: value}, target)
        assert raised.value.exit_code == 2 and name in raised.value.message and len(raised.value.message) < 500


@pytest.mark.parametrize("common", [{"batch_size": 0}, {"batch_size": 1 << 31}, {"snn": "rolled"}, {"name": ""}])
def test_common_values_are_checked_for_every_target(common: Mapping[str, Any]) -> None:
    for each in ALL:
        with pytest.raises(UsageError, match=next(iter(common))):
            build_options([each], common, {})


@pytest.mark.parametrize(
    ("given", "targets", "message", "hint"),
    [
        ({"opset": 17}, ("c", "sen"), "'opset'", "add --to onnx"),
        ({"onnx.opset": 17}, ("c",), "'onnx.opset'", "add --to onnx"),
        ({"c.opset": 17}, ("c", "onnx"), "'c.opset'", "add --to onnx"),
        ({"sparse_format": "dense"}, ("sen",), "'sparse_format'", "add --to onnx"),
        ({"opsett": 17}, ("onnx",), "'opsett'", "opset"),
        ({"onnx.name": "x"}, ("onnx",), "'onnx.name'", "--help"),
        ({"x" * 5000: 1}, ("onnx",), "'xxx", "--help"),
    ],
)
def test_an_option_that_no_target_has_is_refused(
    given: Mapping[str, Any], targets: tuple[str, ...], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as raised:
        build(given, *targets)
    assert message in raised.value.message and hint in raised.value.hint and len(raised.value.message) < 500
