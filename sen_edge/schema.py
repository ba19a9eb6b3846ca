"""Schemas of requests and file formats: one frozen dataclass validates Python arguments, TOML, JSON and options.

    @dataclass(frozen=True)
    class Prune(Schema):
        sparsity: Annotated[float | None, Ge(0), Lt(1), Option("Share of the weights set to zero.")] = None

        def check(self) -> None:                       # rules over several fields
            ...

    Prune(sparsity=2)                                  # SchemaError: sparsity is 2; expected a number less than 1
    read_toml(Prune, Path("prune.toml"))               # the same of a file, with its path in front
    @command
    def prune(request: Prune) -> None: ...             # the same of --sparsity; see `sen_edge.cli.options`

Lists are accepted for tuples, text for paths and integers for floats; nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Lt, MinLen, Predicate, Unit

from sen_edge.errors import UsageError
from sen_runtime.errors import SenError
from sen_runtime.untrusted import (
    MAX_DEPTH,
    FileError,
    check_document,
    decode,
    finite_float,
    printable,
    quote,
    read_regular,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Check", "Option", "Schema", "SchemaError", "fields_of", "parse", "read_toml"]

T = TypeVar("T", bound="Schema")
#: Max items of validated values, nested ones included.
MAX_ITEMS = 1 << 16
#: Steps in the paths of pydantic's errors that stand for a value and for a list; no key of a document has a NUL.
BRANCHES = ("\0one", "\0each")
Count = Annotated[int, Ge(1), Lt(2**63)]
Whole = Annotated[int, Ge(0), Lt(2**63)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
OpenShare = Annotated[float, Gt(0), Lt(1)]
Text = Annotated[str, MinLen(1)]
#: Bytes of a file.
MAX_BYTES = 64 << 10
BYTE_UNITS = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2}
#: A dotted key of more than `MAX_DEPTH` parts; the parsers take time quadratic in their number.
DEEP_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MAX_DEPTH}}}""")


@dataclasses.dataclass(frozen=True)
class Option:
    """Presentation of a field on the command line; a field without one is not an option.

    Attributes:
        help: one sentence.
        short: a letter, such as "-o".
        flag: instead of the field's name with hyphens, such as "--json".
        metavar: placeholder of the value.
        is_argument: whether it is a positional argument.
        is_repeated: whether a tuple may be given as commas or as one option per item.
        group: heading of the help that it is listed under.
        choices: returns values for shell completion, where the type has none.
    """

    help: str
    short: str = ""
    flag: str = ""
    metavar: str | None = None
    is_argument: bool = False
    is_repeated: bool = False
    group: str | None = None
    choices: Callable[[], Iterable[str]] | None = None


class Check(Predicate):
    """A test of a value, and the text of its message for "expected"."""

    def __init__(self, test: Callable[[Any], bool], expected: str) -> None:
        def run(value: Any) -> bool:
            if not test(value):
                raise SchemaError(f"is {quote(value)}; expected {expected}")
            return True

        super().__init__(run)


class FromText:
    """Annotation of a type whose values may be text, which `convert` turns into other values."""

    def __init__(self, convert: Callable[[str], Any]) -> None:
        self.convert = convert

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: self.convert(value) if isinstance(value, str) else value, handler(source)
        )


class OneOrEach:
    """Annotation of `X | tuple[X, ...]`: one value of the type `kind`, or a list with one for each layer."""

    #: Types that select the other branch.
    others: ClassVar[tuple[type, ...]] = (list, tuple)

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        one = handler.generate_schema(self.kind)
        choices = dict(zip(BRANCHES, (one, self.other(one, handler)), strict=True))
        return core_schema.tagged_union_schema(choices, lambda value: BRANCHES[isinstance(value, self.others)])

    def other(self, one: Any, handler: Any) -> Any:
        """Return the schema of the other branch."""
        from pydantic_core import core_schema

        return core_schema.tuple_variable_schema(one, min_length=1)


class TextOrNumber(OneOrEach):
    """Annotation of `Text | X`: text, or a number of the type `kind`; other values count as text in messages."""

    others = (str, bool, list, dict)

    def other(self, one: Any, handler: Any) -> Any:
        """Return the schema of the other branch."""
        return handler.generate_schema(Text)


class SchemaError(UsageError, ValueError):
    """A value that its schema rejects.

    Attributes:
        key: path of the field, such as "layer_sizes[1]" or "hosts.pi4.cpu"; empty for a rule over several.
        problem: description of the error.
    """

    def __init__(self, problem: str, hint: str = "", *, key: str = "") -> None:
        super().__init__(f"{key} {problem}" if key else problem, hint)
        self.key = key
        self.problem = problem


def parse_bytes(text: str) -> int:
    """Parse a number of bytes, such as 64KiB; units are B, kB, KiB, MB and MiB.

    Raises:
        SchemaError: other text.
    """
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    unit = BYTE_UNITS.get(found.group(2).lower()) if found else None
    if found is None or unit is None:
        raise SchemaError(f"is {quote(text)}; expected a number and B, KB, KiB, MB or MiB, such as 64KiB")
    return int(float(found.group(1)) * unit)


#: A number of bytes, or text for `parse_bytes`.
Size = Annotated[int, Ge(1), Lt(2**63), Unit("B"), FromText(parse_bytes)]


def is_size(notes: Iterable[Any]) -> bool:
    """Whether the metadata of an annotation state that a value is a number of bytes."""
    return any(isinstance(note, Unit) and note.unit == "B" for note in notes)


class Schema:
    """Base of dataclasses that are validated when they are made."""

    __pydantic_config__: ClassVar[Any] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        """Validate each field, then the rules over several."""
        kinds = fields_of(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # of subclasses
            value = getattr(self, field.name)
            if value is not field.default and not isinstance(value, Schema):
                object.__setattr__(self, field.name, _validate(kinds[field.name], value, (field.name,)))
        self.check()

    def check(self) -> None:
        """Refuse combinations of fields with a `SchemaError`; for subclasses."""

    def require(self, condition: bool, needs: str, *names: str) -> None:
        """Refuse fields that differ from their defaults unless their condition, which `needs` names, is met."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # of subclasses
            if not condition and field.name in names and getattr(self, field.name) != field.default:
                raise SchemaError(f"has no effect without {needs}", key=field.name)

    def rename(self, old: str, new: str) -> None:
        """Move the value of a field under its old name to the new one; refuse both."""
        value = getattr(self, old)
        if value is None:
            return
        if getattr(self, new) is not None:
            raise SchemaError(f"is the old name of {new}; got both", key=old)
        object.__setattr__(self, new, value)
        object.__setattr__(self, old, None)


def validate(cls: type, name: str, value: Any) -> Any:
    """Return the value of one field, converted to its type, or raise a `SchemaError`."""
    return _validate(fields_of(cls)[name], value, (name,))


def parse(cls: type[T], values: Any, where: str, *, key: str = "", error: type[SenError] = UsageError) -> T:
    """Build `cls` from plain values, as TOML and JSON have them, or raise an `error`.

    Messages start with `where`, such as the path of the file; `key` is the path of the mapping in it, such as "config".
    """
    try:
        found: T = _validate(cls, values, (key,) if key else ())
    except SchemaError as problem:
        raise error(f"{where}: {problem.message}" if where else problem.message, problem.hint) from None
    return found


def read_toml(cls: type[T], path: Path, *, error: type[SenError] = FileError) -> T:
    """Read a TOML file of at most `MAX_BYTES`, or raise an `error`; a byte order mark is accepted."""
    return read_map(cls, path, error=error)[0]


def read_map(cls: type[T], path: Path, *, error: type[SenError]) -> tuple[T, dict[str, Any], str]:
    """Read a TOML file as `read_toml`; return also the values that it states, and the hash of the file."""
    data = read_regular(path, MAX_BYTES, error=error)
    document = load_toml(data, str(path), error=error)
    return parse(cls, document, str(path), error=error), document, hashlib.sha256(data).hexdigest()


def load_toml(content: bytes, where: str, *, error: type[SenError] = FileError) -> dict[str, Any]:
    """Parse TOML, or raise an `error` that starts with `where`.

    Numbers are finite; see `sen_runtime.untrusted.check_document` for the other bounds.
    """
    text = decode(content, where, error=error)
    too_deep = f"{where}: nested too deep; expected at most {MAX_DEPTH} levels"
    if DEEP_KEY.search(text):
        raise error(too_deep)
    try:
        document = tomllib.loads(text, parse_float=finite_float)
    except RecursionError:
        raise error(too_deep) from None
    except ValueError as problem:  # of the parser, or of int() for a literal of thousands of digits
        raise error(f"{where} is not TOML: {problem}") from None
    check_document(document, where, error=error)
    return document


# --- types ---------------------------------------------------------------------------------------


def fields_of(cls: Any) -> Mapping[str, Any]:
    """Return the fields of a schema by name, with their annotated types."""
    return _fields(cls)


@cache
def _fields(cls: Any) -> Mapping[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def split(kind: Any) -> tuple[Any, list[Any]]:
    """Split an annotation into its type without None and its metadata."""
    notes: list[Any] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            notes += more
            continue
        variants = [each for each in get_args(kind) if each is not type(None)]
        if get_origin(kind) not in (Union, types.UnionType) or len(variants) != 1:
            return kind, notes
        kind = variants[0]


# --- validation ----------------------------------------------------------------------------------


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    is_schema = isinstance(kind, type) and issubclass(kind, Schema)
    return TypeAdapter(kind, config=None if is_schema else Schema.__pydantic_config__)


def _validate(kind: Any, value: Any, path: tuple[str | int, ...]) -> Any:
    """Validate in the JSON mode of pydantic: strict about scalars, while lists become tuples and text paths."""
    from pydantic import ValidationError

    try:
        _check_size(value)
        return _adapter(kind).validate_json(json.dumps(value, default=_to_plain), strict=True)
    except ValidationError as errors:
        raise _schema_error(kind, errors.errors(include_url=False)[0], path) from None
    except (TypeError, ValueError, RecursionError):
        raise SchemaError(
            f"is {quote(value)}; expected numbers, text, or lists and tables of at most {MAX_ITEMS} items",
            key=_key(path),
        ) from None


def _check_size(value: Any) -> None:
    """Refuse more than `MAX_ITEMS` items: shared lists of an unpickled file expand exponentially as JSON."""
    stack = [value]
    for _ in range(MAX_ITEMS):
        if not stack:
            return
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, Mapping):
            stack.extend(item.values())
    raise ValueError


def _to_plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Schema):
        return {name: getattr(value, name) for name in fields_of(type(value))}
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of numpy
        return value.item()
    raise TypeError(value)


def _schema_error(kind: Any, error: Mapping[str, Any], path: tuple[str | int, ...]) -> SchemaError:
    """Translate an error of pydantic."""
    where = tuple(step for step in error["loc"] if step not in BRANCHES)
    key, rule = _key((*path, *where)), error.get("ctx", {}).get("error")
    if isinstance(rule, SchemaError):
        return SchemaError(rule.problem, rule.hint, key=".".join(part for part in (key, rule.key) if part))
    if error["type"] == "missing":
        return SchemaError("is missing", key=key)
    if error["type"] == "unexpected_keyword_argument":
        known = list(fields_of(_part(kind, where[:-1])))
        near = difflib.get_close_matches(str(where[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        return SchemaError(f"is unknown; expected one of {', '.join(known)}", hint, key=key)
    expected = re.sub(r"^\w+ should (be|have) | after validation.*", "", error["msg"]).replace("an object", "a table")
    expected = re.sub(r"^(?=greater|less)", "a number ", expected)
    return SchemaError(f"is {quote(error['input'])}; expected {expected}", key=key)


def _part(kind: Any, where: Iterable[str | int]) -> Any:
    """Return the type at a path of field names, keys and indices."""
    for step in where:
        kind, _ = split(kind)
        items = [part for part in get_args(kind) if part is not Ellipsis]
        kind = items[-1] if items else fields_of(kind)[str(step)]
    return split(kind)[0]


def _key(path: Iterable[str | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{printable(step, 60)}" if text else printable(step, 60)
    return text
