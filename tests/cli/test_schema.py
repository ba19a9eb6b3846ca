"""Schemas: one dataclass validates Python arguments, TOML, JSON and options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import typer
from annotated_types import Ge, Gt, Le, MinLen
from typer.testing import CliRunner

from sen_edge.cli.options import command
from sen_edge.errors import CheckpointError, UsageError
from sen_edge.schema import Check, Option, Schema, SchemaError, parse, read_toml


@dataclass(frozen=True)
class Part(Schema):
    name: Annotated[str, Check(str.isidentifier, "an identifier")]
    cpu: Annotated[int | None, Ge(0)] = None

    def check(self) -> None:
        if self.name == "none" and self.cpu is not None:
            raise SchemaError("has no effect with name none", key="cpu")


@dataclass(frozen=True)
class Request(Schema):
    model: Annotated[Path, Option("Model.", is_argument=True, metavar="MODEL")]
    share: Annotated[float | None, Gt(0), Le(1), Option("Share.", short="-s")] = None
    kind: Annotated[Literal["magnitude", "distance"], Option("Kind.")] = "magnitude"
    layers: Annotated[tuple[int, ...] | None, MinLen(1), Option("Layers.")] = None
    engines: Annotated[tuple[str, ...], Option("Engines.", flag="--engine", is_repeated=True)] = ()
    bias: Annotated[bool, Option("Bias.")] = True
    force: Annotated[bool, Option("Replace.")] = False
    private: bool = False
    parts: Mapping[str, Part] = field(default_factory=dict)

    def check(self) -> None:
        if self.share is not None and self.kind == "distance":
            raise SchemaError("has no effect with kind distance", "leave it out", key="share")


def test_values_are_converted_where_nothing_is_lost() -> None:
    request = Request("a.sen", share=1, layers=[0, np.int64(2)], parts={"a": {"name": "x"}})
    assert request == Request(Path("a.sen"), 1.0, layers=(0, 2), parts={"a": Part("x")})
    assert isinstance(request.share, float)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "model"),
        ({"model": 1}, "model"),
        ({"model": "m", "share": 0}, "share"),
        ({"model": "m", "share": 1.5}, "share"),
        ({"model": "m", "share": float("nan")}, "share"),
        ({"model": "m", "share": "0.5"}, "share"),
        ({"model": "m", "share": True}, "share"),
        ({"model": "m", "share": 0.5, "kind": "distance"}, "share"),
        ({"model": "m", "kind": "size"}, "kind"),
        ({"model": "m", "layers": []}, "layers"),
        ({"model": "m", "layers": [0, 1.0]}, "layers[1]"),
        ({"model": "m", "bias": 1}, "bias"),
        ({"model": "m", "parts": {"a": {}}}, "parts.a.name"),
        ({"model": "m", "parts": {"a": {"name": "x", "cpu": -1}}}, "parts.a.cpu"),
        ({"model": "m", "parts": {"a": {"name": "none", "cpu": 1}}}, "parts.a.cpu"),
        ({"model": "m", "parts": {"a": {"name": "1x"}}}, "parts.a.name"),
        ({"model": "m", "parts": 3}, "parts"),
        ({"model": "m", "sharee": 1}, "sharee"),
        ({"model": "m", "a\nb\x1b": 1}, "a b\\x1b"),
    ],
)
def test_errors_name_the_path_of_the_field(values: dict[str, object], key: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse(Request, values, "m.toml", error=CheckpointError)
    assert caught.value.message.startswith(f"m.toml: {key} ")
    assert "\n" not in caught.value.message


def test_python_arguments_raise_with_key() -> None:
    with pytest.raises(SchemaError) as caught:
        Request("m", share=2)
    assert (caught.value.key, caught.value.exit_code) == ("share", UsageError.exit_code)
    assert caught.value.message == "share is 2; expected a number less than or equal to 1"
    with pytest.raises(SchemaError) as caught:
        Request("m", layers=object())
    assert caught.value.key == "layers"


def test_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse(Request, {"model": "m", "sharee": 1}, "m.toml")
    assert "share" in caught.value.hint


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("model = 'm'\n[parts.a]\nname = 'x'\ncpu = 3\n")
    assert read_toml(Request, path) == Request(Path("m"), parts={"a": Part("x", 3)})
    for text in ("model = ", "model = 3"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=path.name):
            read_toml(Request, path, error=CheckpointError)


def invoke(*arguments: str) -> tuple[int, list[Request], BaseException | None]:
    found: list[Request] = []

    @command
    def run(request: Request, *, extra: Annotated[int, typer.Option(help="Extra.")] = 0) -> None:
        """Run."""
        found.append(request)
        assert extra in {0, 3}

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(run)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, found, result.exception


def test_options_come_from_fields() -> None:
    code, found, error = invoke(
        "m.sen", "-s", "0.5", "--layers", "0, 1", "--engine=a", "--engine=b", "--no-bias", "--force", "--extra=3"
    )
    assert code == 0, error
    assert found == [Request(Path("m.sen"), 0.5, "magnitude", (0, 1), ("a", "b"), bias=False, force=True)]
    assert invoke("m.sen")[1] == [Request(Path("m.sen"))]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [(("--share", "2"), "--share"), (("--kind", "size"), "--kind"), (("--layers", "a"), "--layers")],
)
def test_option_errors_name_the_option(arguments: tuple[str, ...], flag: str) -> None:
    error = invoke("m.sen", *arguments)[2]
    assert isinstance(error, UsageError)
    assert error.message.startswith(f"{flag} is ")


def test_fields_without_option_are_not_shown() -> None:
    assert invoke("m.sen", "--private")[0] == 2
    assert invoke("m.sen", "--no-force")[0] == 2


def test_pydantic_is_imported_for_validation_only() -> None:
    program = "import sys; import sen_edge.cli.main; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
