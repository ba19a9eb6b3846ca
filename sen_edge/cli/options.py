"""Options of a command from the fields of its request; see `sen_edge.schema`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from sen_edge.errors import UsageError
from sen_edge.schema import Option, Schema, SchemaError, fields_of, split

SCALARS = (bool, int, float, str, Path)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each `Schema` parameter by one parameter per option, and build the schema from their values.

    Other parameters are unchanged.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    requests: dict[str, type[Schema]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and issubclass(kind, Schema):
            requests[parameter.name] = kind
            parameters += cli_parameters(kind)
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def run(**values: Any) -> None:
        for name, cls in requests.items():
            values[name] = request_of(cls, {key: values.pop(key) for key in options_of(cls)})
        function(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def options_of(cls: type[Schema]) -> Mapping[str, Option]:
    """Return options by field name."""
    notes = {name: split(kind)[1] for name, kind in fields_of(cls).items()}
    return {name: note for name, each in notes.items() for note in each if isinstance(note, Option)}


def cli_parameters(cls: type[Schema]) -> list[inspect.Parameter]:
    """Return one typer parameter per option."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # subclasses are
    return [_parameter(fields[name], fields_of(cls)[name], option) for name, option in options_of(cls).items()]


def request_of(cls: type[Schema], values: Mapping[str, Any]) -> Any:
    """Build the request from the values of options; None marks a missing option.

    Raises:
        UsageError: invalid value; the message names the option.
    """
    kinds, options = fields_of(cls), options_of(cls)
    try:
        return cls(**{name: _value(name, value, kinds[name]) for name, value in values.items() if value is not None})
    except SchemaError as error:
        name = error.key.partition("[")[0].partition(".")[0]
        if name not in options:
            raise
        raise UsageError(f"{_spelling(name, options[name])} {error.problem}", error.hint) from None


def _spelling(name: str, option: Option) -> str:
    return (option.metavar or name.upper()) if option.is_argument else _flag(name, option)


def _flag(name: str, option: Option) -> str:
    return option.flag or f"--{name.replace('_', '-')}"


def _parameter(field: dataclasses.Field[Any], kind: Any, option: Option) -> inspect.Parameter:
    base, _ = split(kind)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    is_required = default is dataclasses.MISSING
    shown: dict[str, Any] = {"help": option.help, "metavar": option.metavar}
    if get_origin(base) is Literal and option.metavar is None:
        shown["metavar"] = "|".join(map(str, get_args(base)))
    if option.group is not None:
        shown["rich_help_panel"] = option.group
    accepted = base if base in SCALARS else list[split(get_args(base)[0])[0]] if option.is_repeated else str  # type: ignore[misc]
    if isinstance(default, tuple):
        default = (list(default) if option.is_repeated else ",".join(map(str, default))) or None
    if option.is_argument:
        info: Any = typer.Argument(**shown)
    else:
        flag = _flag(field.name, option)
        if base is bool and default is not False:
            flag += f"/--no-{flag.removeprefix('--')}"
        info = typer.Option(*(each for each in (flag, option.short) if each), **shown)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if is_required else default,
        annotation=Annotated[accepted if is_required or default is not None else accepted | None, info],
    )


def _value(name: str, value: Any, kind: Any) -> Any:
    """Convert the value of a field; text with commas, once or repeated, becomes a tuple. Paths may contain commas."""
    base, _ = split(kind)
    item = split(get_args(base)[0])[0] if get_origin(base) is tuple else Path
    if item is Path:
        return value
    parts = [part.strip() for part in (value if isinstance(value, str) else ",".join(value)).split(",") if part.strip()]
    try:
        return tuple(item(part) for part in parts) if item in (int, float) else tuple(parts)
    except ValueError:
        example = "numbers separated by commas, such as 1,2"
        raise SchemaError(f"is {value!r}; expected {example}", key=name) from None
