"""Command-line options of the installed exporters, from their `Options`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal, get_origin

import typer
from annotated_types import Unit
from typer.core import TyperCommand

from sen_edge.cli.options import cli_parameters
from sen_edge.errors import UsageError
from sen_runtime.untrusted import quote

PANEL = "Options of targets"


class ExportCommand(TyperCommand):
    """Command that also accepts the options of exporters and stores them in `ctx.obj` by name.

    Exporters are loaded when the command parses arguments or prints its help.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the command and those of exporters with other flags."""
        own = super().get_params(ctx)
        taken = {flag for param in own for flag in (*param.opts, *param.secondary_opts)}
        return [*own, *(param for param in _parameters() if not taken.intersection(param.opts))]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, and move the options of exporters to `ctx.obj`."""
        rest = super().parse_args(ctx, args)
        values = {param.name: ctx.params.pop(param.name, None) for param in _parameters()}
        ctx.obj = {name: value for name, value in values.items() if value not in (None, False)}
        return rest


def parse_assignments(assignments: list[str] | None) -> dict[str, str]:
    """Parse `-O TARGET.NAME=VALUE`; return values by `TARGET.NAME`.

    Raises:
        UsageError: invalid format.
    """
    found = {}
    for text in assignments or ():
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise UsageError(f"-O is {quote(text)}; expected TARGET.OPTION=VALUE, such as onnx.opset=17")
        found[key] = value
    return found


def _parameters() -> list[Any]:
    """Return the documented options of all installed exporters as typer options; values stay text.

    An option without `annotated_types.doc` can only be set by -O.
    """
    from sen_edge.exporting.options import own_options
    from sen_edge.schema import Option, fields_of, split
    from sen_exporters.base import ExportError, usable_exporters

    def accept(**_: object) -> None:
        """Carry a signature that typer reads."""

    fields: list[Any] = []
    usable = [each for each in usable_exporters().values() if not isinstance(each, ExportError)]
    for name, classes in own_options(usable).items():
        first = next(iter(classes.values()))  # defines the type
        base, notes = split(fields_of(first)[name])
        text = next((note.documentation for note in notes if hasattr(note, "documentation")), "")
        if not text:
            continue
        default = getattr(first, name)
        shown = "" if default in (None, False) else f" Default: {default}."
        metavar = "NUMBER" if base in (int, float) else None
        if any(isinstance(note, Unit) for note in notes):
            metavar = "SIZE"
        note = Option(f"{', '.join(classes)}: {text}{shown}", metavar=metavar, group=PANEL)
        kind: Any = base if base is bool or get_origin(base) is Literal else str
        fields.append((name, Annotated[kind | None, note], False if base is bool else None))
    parameters = cli_parameters(dataclasses.make_dataclass("TargetOptions", fields))
    accept.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    accept.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(accept)
    return [param for param in typer.main.get_command(app).params if param.name in accept.__annotations__]
