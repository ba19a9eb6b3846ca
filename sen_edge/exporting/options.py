"""Options of exporters: `NAME` sets an option in each target that has it, `TARGET.NAME` in one target."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from sen_edge.errors import UsageError
from sen_edge.schema import SchemaError, fields_of, is_size, parse_bytes, split, validate
from sen_exporters.base import Exporter, ExportError, ExportOptions, usable_exporters
from sen_runtime.untrusted import quote

#: Fields of all exporters.
COMMON = frozenset(field.name for field in fields(ExportOptions))
BOOLEANS = {"true": True, "false": False}


def own_options(exporters: Iterable[Exporter]) -> dict[str, dict[str, type[ExportOptions]]]:
    """Collect the options of exporters without the common ones: name -> target -> class with this field."""
    found: dict[str, dict[str, type[ExportOptions]]] = {}
    for exporter in exporters:
        for field in fields(exporter.Options):
            if field.name not in COMMON:
                found.setdefault(field.name, {})[exporter.name] = exporter.Options
    return found


def build_options(
    exporters: Iterable[Exporter], common: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, ExportOptions]:
    """Validate the options of each exporter, by target; text is converted to the type of an option.

    Raises:
        UsageError: an option that no target of the request has, a batch size that none uses, or an invalid value.
    """
    chosen = {exporter.name: exporter for exporter in exporters}
    known = own_options(chosen.values())
    values: dict[str, dict[str, Any]] = {name: dict(common) for name in chosen}
    for key in sorted(given, key=lambda key: "." in key):  # TARGET.NAME overrides NAME
        target, _, name = key.replace("-", "_").rpartition(".")
        targets = [each for each in known.get(name, ()) if target in ("", each)]
        if not targets:
            raise _unknown(key, name, chosen)
        for each in targets:
            values[each][name] = given[key]
    built = {name: _build(exporter, values[name]) for name, exporter in chosen.items()}
    if common.get("batch_size") is not None and not _using_batch_size(chosen.values()):
        raise UsageError(
            f"--batch-size has no effect with --to {','.join(chosen)}",
            hint=f"omit it, or add one of the targets that use it: {', '.join(_using_batch_size(_usable()))}",
        )
    return built


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
    base, notes = split(kind)
    if not isinstance(value, str):
        return value
    if is_size(notes):
        try:
            return parse_bytes(value)
        except SchemaError as error:
            raise SchemaError(error.problem, key=name) from None
    try:
        return BOOLEANS[value.lower()] if base is bool else base(value) if base in (int, float) else value
    except (KeyError, ValueError):
        return value


def _usable() -> list[Exporter]:
    return [each for each in usable_exporters().values() if not isinstance(each, ExportError)]


def _using_batch_size(exporters: Iterable[Exporter]) -> list[str]:
    return [each.name for each in exporters if getattr(each, "uses_batch_size", True)]


def _unknown(key: str, name: str, chosen: Mapping[str, Exporter]) -> UsageError:
    """Return the error for an option that no requested exporter has; names exporters with the option."""
    known = own_options(_usable())
    if name in known:
        return UsageError(
            f"{quote(key)} is an option of {' and '.join(known[name])}; the targets are {', '.join(chosen)}",
            hint=f"add --to {next(iter(known[name]))}",
        )
    near = difflib.get_close_matches(name, known, n=1)
    expected = f"did you mean {near[0]}?" if near else "`sen-edge export --help` lists the options of each target"
    return UsageError(f"no target has an option {quote(key)}", hint=expected)
