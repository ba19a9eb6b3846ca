"""Options of commands: from the fields of a request (see `sen_edge.schema`), shared ones, and those of exporters."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from sen_edge.cli import console
from sen_edge.errors import UsageError
from sen_edge.schema import Option, Schema, SchemaError, fields_of, is_size, split
from sen_runtime.untrusted import quote

ModelPath = Annotated[
    Path,
    typer.Argument(
        help="Checkpoint (.pt, .safetensors), image (.sen), NIR graph (.nir), SpSNN (.npz), folder of Space as Time, "
        "or folder to share.",
        metavar="MODEL",
    ),
]
MapPath = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help="TOML map of a foreign state dict, NIR graph, SpSNN or Space as Time; or spsnn, space-as-time.",
        metavar="FILE",
    ),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the data sets.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only to stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

SCALARS = (bool, int, float, str, Path)
#: Characters of choices in place of a value; help of 80 columns breaks longer ones within words.
MAX_METAVAR = 20
EXPORTER_PANEL = "Options of targets"


# --- requests ------------------------------------------------------------------------------------


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each `Schema` parameter by one parameter per option, build the schema from their values, add --quiet.

    Other parameters are unchanged; those of `**values` have to be added to the signature.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    requests: dict[str, type[Schema]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and issubclass(kind, Schema):
            requests[parameter.name] = kind
            fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # subclasses are
            parameters += [
                _parameter(fields[name], fields_of(kind)[name], each) for name, each in options_of(kind).items()
            ]
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    parameters.append(inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet))

    @functools.wraps(function)
    def run(*, quiet: bool = False, **values: Any) -> None:
        if quiet:
            console.silence()
        for name, cls in requests.items():
            values[name] = _request(cls, {key: values.pop(key) for key in options_of(cls)})
        function(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def options_of(cls: type[Schema]) -> Mapping[str, Option]:
    """Return options by field name."""
    notes = {name: split(kind)[1] for name, kind in fields_of(cls).items()}
    return {name: note for name, each in notes.items() for note in each if isinstance(note, Option)}


def _request(cls: type[Schema], values: Mapping[str, Any]) -> Any:
    """Build the request from the values of options; None marks a missing option.

    Raises:
        UsageError: invalid value; the message names the option.
    """
    kinds, options = fields_of(cls), options_of(cls)
    try:
        return cls(**{name: _value(name, value, kinds[name]) for name, value in values.items() if value is not None})
    except SchemaError as error:
        name, _, inner = error.key.partition("[")[0].partition(".")
        if name not in options:
            raise
        option = options[name]
        shown = (
            (option.metavar or name.upper()) if option.is_argument else (option.flag or flag(name)).partition("/")[0]
        )
        raise UsageError(" ".join(filter(None, (shown, inner, error.problem))), error.hint) from None


def flag(name: str) -> str:
    """Option of a field or parameter."""
    return f"--{name.replace('_', '-')}"


def _parameter(field: dataclasses.Field[Any], kind: Any, option: Option) -> inspect.Parameter:
    base, notes = split(kind)
    if is_size(notes):
        base = str
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    is_required = default is dataclasses.MISSING
    text, metavar = (
        (option.help, option.metavar) if option.metavar else _describe_choices(field.name, base, option.help)
    )
    shown: dict[str, Any] = {"help": text, "metavar": metavar, "rich_help_panel": option.group}
    item = split(get_args(base)[0])[0] if get_args(base) else str
    accepted = base if base in SCALARS else list[item] if option.is_repeated else str  # type: ignore[valid-type]
    if isinstance(default, tuple):
        default = (list(default) if option.is_repeated else ",".join(map(str, default))) or None
    if option.is_argument:
        info: Any = typer.Argument(**shown)
    else:
        shown["autocompletion"] = _completion(base, option)
        names = option.flag or flag(field.name)
        if base is bool and default is not False and "/" not in names:
            names += f"/--no-{names.removeprefix('--')}"
        info = typer.Option(*(each for each in (names, option.short) if each), **shown)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if is_required else default,
        annotation=Annotated[accepted if is_required or default is not None else accepted | None, info],
    )


def _completion(kind: Any, option: Option) -> Callable[[str], list[str]] | None:
    """Return a function that completes a value, or the last one of a list; None without choices."""
    item = split(get_args(kind)[0])[0] if get_origin(kind) is tuple else kind
    values = option.choices or (functools.partial(get_args, item) if get_origin(item) is Literal else None)
    if values is None:
        return None

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",") if item is not kind else ("", "", "")
        return [f"{before}{comma}{value}" for value in values()]

    return complete


def _describe_choices(name: str, kind: Any, text: str) -> tuple[str, str | None]:
    """Return help and placeholder of a field: its choices are one of them, depending on their length."""
    if get_origin(kind) is not Literal:
        return text, None
    choices = "|".join(map(str, get_args(kind)))
    if len(choices) <= MAX_METAVAR:
        return text, choices
    return f"{text} One of {choices.replace('|', ', ')}.", name.rpartition("_")[2].upper()


def _value(name: str, value: Any, kind: Any) -> Any:
    """Convert the value of a field; text with commas, once or repeated, becomes a tuple. Paths may contain commas.

    NAME=VALUE, repeated, become the fields of a schema.
    """
    base, _ = split(kind)
    if isinstance(base, type) and issubclass(base, Schema):
        return dict(_assignment(name, text) for text in value)
    item = split(get_args(base)[0])[0] if get_origin(base) is tuple else Path
    if item is Path:
        return value
    parts = [part.strip() for part in (value if isinstance(value, str) else ",".join(value)).split(",") if part.strip()]
    try:
        return tuple(item(part) for part in parts) if item in (int, float) else tuple(parts)
    except ValueError:
        example = "numbers separated by commas, such as 1,2"
        raise SchemaError(f"is {value!r}; expected {example}", key=name) from None


def _assignment(name: str, text: str) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise SchemaError(f"is {quote(text)}; expected NAME=VALUE", key=name)
    try:
        return key.replace("-", "_"), float(value)
    except ValueError:
        return key, value


# --- exporters -----------------------------------------------------------------------------------


class ExportCommand(TyperCommand):
    """Command that also accepts the options of exporters and stores them in `ctx.obj` by name.

    Exporters are loaded when the command parses arguments or prints its help.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the command and those of exporters with other flags."""
        own = super().get_params(ctx)
        taken = {flag for param in own for flag in (*param.opts, *param.secondary_opts)}
        return [*own, *(param for param in _exporter_parameters() if not taken.intersection(param.opts))]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, and move the options of exporters to `ctx.obj`."""
        rest = super().parse_args(ctx, args)
        values = {param.name: ctx.params.pop(param.name, None) for param in _exporter_parameters()}
        ctx.obj = {name: value for name, value in values.items() if value not in (None, False)}
        return rest


def _exporter_parameters() -> list[Any]:
    """Return the documented options of all installed exporters as typer options; values stay text.

    An option without `annotated_types.doc` can only be set by -O.
    """
    from sen_edge.exporting.options import own_options
    from sen_exporters.base import ExportError, usable_exporters

    def accept(**_: object) -> None:
        """Carry a signature that typer reads."""

    parameters: dict[str, inspect.Parameter] = {}
    usable = [each for each in usable_exporters().values() if not isinstance(each, ExportError)]
    for name, classes in own_options(usable).items():
        first = next(iter(classes.values()))  # defines the type
        base, notes = split(fields_of(first)[name])
        text = next((note.documentation for note in notes if hasattr(note, "documentation")), "")
        if not text:
            continue
        default = getattr(first, name)
        shown = "" if default in (None, False) else f" Default: {default}."
        text, metavar = _describe_choices(name, base, f"{', '.join(classes)}: {text}{shown}")
        info = typer.Option(
            flag(name),
            help=text,
            metavar="SIZE" if is_size(notes) else "NUMBER" if base in (int, float) else metavar,
            rich_help_panel=EXPORTER_PANEL,
            autocompletion=_completion(base, Option("")),
        )
        parameters[name] = inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if base is bool else None,
            annotation=Annotated[bool if base is bool else str | None, info],
        )
    accept.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(accept)
    return [param for param in typer.main.get_command(app).params if param.name in parameters]
