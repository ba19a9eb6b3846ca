"""Options of exporters: `NAME` sets an option in each target that has it, `TARGET.NAME` in one target."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from annotated_types import Unit

from sen_edge.errors import UsageError
from sen_edge.schema import SchemaError, fields_of, split, validate
from sen_exporters.base import Exporter, ExportError, ExportOptions, usable_exporters
from sen_runtime.untrusted import quote

#: Fields of all exporters.
COMMON = frozenset(field.name for field in fields(ExportOptions))
BYTE_UNITS = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2}


@dataclass(frozen=True)
class ExporterOption:
    """Option of exporters, without the common ones.

    Attributes:
        name: name of the field.
        kind: annotated type.
        default: default value.
        targets: exporters with this option.
    """

    name: str
    kind: Any
    default: Any
    targets: tuple[str, ...]

    @property
    def help(self) -> str:
        """Documentation from `annotated_types.doc`, or empty."""
        return next((note.documentation for note in split(self.kind)[1] if hasattr(note, "documentation")), "")


def own_options(exporters: Iterable[Exporter]) -> dict[str, ExporterOption]:
    """Collect the options of exporters without the common ones, by name; the first exporter defines the type."""
    found: dict[str, ExporterOption] = {}
    for exporter in exporters:
        kinds = fields_of(exporter.Options)
        for field in fields(exporter.Options):
            if field.name not in COMMON:
                earlier = found.get(field.name, ExporterOption(field.name, kinds[field.name], field.default, ()))
                targets = (*earlier.targets, exporter.name)
                found[field.name] = ExporterOption(field.name, earlier.kind, earlier.default, targets)
    return found


def build_options(
    exporters: Iterable[Exporter], common: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, ExportOptions]:
    """Validate the options of each exporter, by target.

    Args:
        exporters: exporters of the request.
        common: values of the fields of `ExportOptions`.
        given: values by `NAME` or `TARGET.NAME`; strings are converted to the type of the option.

    Raises:
        UsageError: an option that no target of the request has, or an invalid value.
    """
    chosen = {exporter.name: exporter for exporter in exporters}
    values: dict[str, dict[str, Any]] = {name: dict(common) for name in chosen}
    for key in sorted(given, key=lambda key: "." in key):  # TARGET.NAME overrides NAME
        target, _, name = key.replace("-", "_").rpartition(".")
        option = own_options(chosen.values()).get(name)
        targets = () if option is None else [each for each in option.targets if target in ("", each)]
        if not targets:
            raise _unknown(key, name, chosen)
        for each in targets:
            values[each][name] = given[key]
    return {name: _build(exporter, values[name]) for name, exporter in chosen.items()}


def _build(exporter: Exporter, values: Mapping[str, Any]) -> ExportOptions:
    kinds = fields_of(exporter.Options)
    try:
        found = {name: _from_text(name, kinds[name], value) for name, value in values.items()}
        return exporter.Options(**{name: validate(exporter.Options, name, value) for name, value in found.items()})
    except SchemaError as error:
        where = "" if error.key in COMMON else f"{exporter.name}: "
        raise UsageError(f"{where}{error.message}", error.hint) from None


def _from_text(name: str, kind: Any, value: Any) -> Any:
    """Convert text to the type of an option; validation rejects other text."""
    if not isinstance(value, str):
        return value
    base, notes = split(kind)
    if any(isinstance(note, Unit) and note.unit == "B" for note in notes):
        return _parse_bytes(name, value)
    if base is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    if base in (int, float):
        try:
            return base(value)
        except ValueError:
            return value
    return value


def _parse_bytes(name: str, text: str) -> int:
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    unit = BYTE_UNITS.get(found.group(2).lower()) if found else None
    if found is None or unit is None:
        raise SchemaError(f"is {quote(text)}; expected a number and B, KB, KiB, MB or MiB, such as 64KiB", key=name)
    return int(float(found.group(1)) * unit)


def _unknown(key: str, name: str, chosen: Mapping[str, Exporter]) -> UsageError:
    """Return the error for an option that no requested exporter has; names exporters with the option."""
    known = own_options(each for each in usable_exporters().values() if not isinstance(each, ExportError))
    if name in known:
        owners = known[name].targets
        return UsageError(
            f"{quote(key)} is an option of {' and '.join(owners)}; the targets are {', '.join(chosen)}",
            hint=f"add --to {owners[0]}",
        )
    near = difflib.get_close_matches(name, known, n=1)
    expected = f"did you mean {near[0]}?" if near else "`sen-edge export --help` lists the options of each target"
    return UsageError(f"no target has an option {quote(key)}", hint=expected)
