"""The sweep file, TOML.

data = "digits"                     # mnist, digits or a .npz; a path is relative to this file
seeds = [0, 1, 2]                   # each point of the search is trained once for each

[training]                          # as options of `sen-edge train`
hidden = [64]
epochs = 20

[compression]                       # as options of `sen-edge compress`; leave the table out for none
criterion = "magnitude"

[grid]                              # all combinations of these values; or [sampled]
training.exponent = [1.0, 2.0]
compression.sparsity = [0.5, 0.9]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.schema import MAX_BYTES, load_toml
from sen_edge.sweep.errors import SweepError
from sen_edge.sweep.keys import KEYS, TABLES, Kind
from sen_runtime.untrusted import printable, quote, read_regular

TOP = ("data", "data_dir", "seeds", "training", "compression", "grid", "sampled")
SAMPLED = ("trials", "seed", "sampler", "in_flight")
RANGE = ("low", "high", "step", "log")
SAMPLERS = ("tpe", "random")
#: Points of a grid that are taken for a mistake.
MAX_POINTS = 100_000


@dataclass(frozen=True)
class Axis:
    """A setting that is searched.

    Attributes:
        table: "training" or "compression".
        key: of that table.
        values: to choose from; empty for a range.
        low, high: ends of a range, both included; integers for a key that takes them.
        step: between its values; None for any (integers: 1).
        log: whether equal ratios are equally likely, instead of equal differences.
    """

    table: str
    key: str
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def name(self) -> str:
        """As in the file and in results."""
        return f"{self.table}.{self.key}"

    @property
    def is_integer(self) -> bool:
        """Whether a range is one of integers."""
        return KEYS[self.table][self.key].number is int


@dataclass(frozen=True)
class Sampling:
    """How points are sampled.

    Attributes:
        trials: points, >= 1.
        seed: of the sampler.
        sampler: "tpe" (tree-structured Parzen estimator) or "random".
        in_flight: points that are asked for before the first result is told, >= 1. The points depend on it, so that
            they do not depend on the number of workers.
    """

    trials: int
    seed: int = 0
    sampler: str = "tpe"
    in_flight: int = 4


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        path: of the file.
        data: as `sen_edge.data.datasets.load` takes it.
        data_dir: folder of the MNIST files, or None.
        seeds: of training and compression.
        training: fixed values of [training].
        compression: fixed values of [compression].
        axes: what is searched.
        sampling: how; None for a grid.
    """

    path: Path
    data: str
    data_dir: Path | None
    seeds: tuple[int, ...]
    training: Mapping[str, Any]
    compression: Mapping[str, Any]
    axes: tuple[Axis, ...]
    sampling: Sampling | None


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; whether values are in range is seen when settings are made of them.

    Raises:
        SweepError: it cannot be read, or has something that is unknown or of the wrong type.
    """
    document = load_toml(read_regular(path, MAX_BYTES, error=SweepError), str(path), error=SweepError)
    _known(f"{path}", document, TOP)
    if "data" not in document:
        raise SweepError(f'{path}: data is missing; expected "mnist", "digits" or the path of a .npz file')
    for key in ("data", "data_dir"):
        _check(str(path), key, document.get(key, "."), "a string", isinstance(document.get(key, "."), str))
    if ("grid" in document) == ("sampled" in document):
        found = "both" if "grid" in document else "none"
        raise SweepError(f"{path}: a sweep has either a table [grid] or a table [sampled]; found {found}")
    search = "grid" if "grid" in document else "sampled"
    axes = _axes(path, search, document[search])
    fixed = {table: _fixed(path, table, document.get(table, {}), axes) for table in TABLES}
    data_dir = document.get("data_dir")
    return Sweep(
        path=path,
        data=_data(path, document["data"]),
        data_dir=None if data_dir is None else (path.parent / data_dir).absolute(),
        seeds=_seeds(path, document.get("seeds", [0])),
        training=fixed["training"],
        compression=fixed["compression"],
        axes=axes,
        sampling=_sampling(path, document[search]) if search == "sampled" else None,
    )


def _data(path: Path, name: str) -> str:
    return str((path.parent / name).absolute()) if name.endswith(".npz") else name


def _seeds(path: Path, seeds: Any) -> tuple[int, ...]:
    fits = isinstance(seeds, list) and bool(seeds) and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    _check(str(path), "seeds", seeds, "a list of whole numbers from 0 such as [0, 1, 2]", fits)
    _check(str(path), "seeds", seeds, f"at most {MAX_POINTS:,} numbers", fits and len(seeds) <= MAX_POINTS)
    _check(str(path), "seeds", seeds, "numbers that are all different", len(set(seeds)) == len(seeds))
    return tuple(seeds)


def _fixed(path: Path, table: str, values: Any, axes: Iterable[Axis]) -> dict[str, Any]:
    where = f"{path}: [{table}]"
    _check(str(path), table, values, "a table", isinstance(values, dict))
    _known(where, values, KEYS[table])
    for axis in axes:
        if axis.table == table and axis.key in values:
            raise SweepError(f"{where}: {axis.key} is searched too", hint="leave it out in one of both tables")
    return {key: _value(where, key, value, KEYS[table][key]) for key, value in values.items()}


def _axes(path: Path, search: str, tables: Any) -> tuple[Axis, ...]:
    _check(str(path), search, tables, "a table", isinstance(tables, dict))
    _known(f"{path}: [{search}]", tables, (*TABLES, *(SAMPLED if search == "sampled" else ())))
    axes = []
    for table in TABLES:
        values = tables.get(table, {})
        where = f"{path}: [{search}.{table}]"
        _check(f"{path}: [{search}]", table, values, "a table", isinstance(values, dict))
        _known(where, values, KEYS[table])
        axes += [_axis(where, table, key, value, may_range=search == "sampled") for key, value in values.items()]
    if not axes:
        raise SweepError(f"{path}: [{search}] searches nothing; expected keys such as training.exponent = [1.0, 2.0]")
    if search == "grid" and math.prod(len(axis.values) for axis in axes) > MAX_POINTS:
        raise SweepError(f"{path}: [grid] has more than {MAX_POINTS:,} points", hint="sample with [sampled] instead")
    return tuple(axes)


def _axis(where: str, table: str, key: str, value: Any, *, may_range: bool) -> Axis:
    kind = KEYS[table][key]
    if may_range and isinstance(value, dict):
        return _range(where, table, key, value)
    expected = f"a list of values, each {kind.expected}" + ", or a range { low = ..., high = ... }" * may_range
    _check(where, key, value, expected, isinstance(value, list) and bool(value))
    values = tuple(_value(where, key, each, kind) for each in value)
    if any(each in values[:index] for index, each in enumerate(values)):
        raise SweepError(f"{where}: {key} = {quote(value)}; expected values that are all different")
    return Axis(table, key, values)


def _range(where: str, table: str, key: str, value: Mapping[str, Any]) -> Axis:
    kind = KEYS[table][key]
    where_range = f"{where}: {key}"
    if kind.number is None:
        raise SweepError(f"{where_range} = {quote(value)}; expected a list, for a range is of numbers")
    _known(where_range, value, RANGE)
    for end in ("low", "high"):
        if end not in value:
            raise SweepError(f"{where_range}: {end} is missing; expected {{ low = ..., high = ... }}")
    ends = {end: _value(where_range, end, value[end], kind) for end in ("low", "high")}
    _check(where_range, "high", ends["high"], f"a number > low ({ends['low']})", ends["low"] < ends["high"])
    log, step = value.get("log", False), value.get("step")
    _check(where_range, "log", log, "true or false", isinstance(log, bool))
    if step is not None:
        step = _value(where_range, "step", step, kind)
        _check(where_range, "step", step, "a number > 0, and no log beside it", step > 0 and not log)
        steps = (ends["high"] - ends["low"]) / step
        _check(where_range, "step", step, "one that leads from low to high", math.isclose(steps, round(steps)))
    if log:
        _check(where_range, "low", ends["low"], "a number > 0 with log", ends["low"] > 0)
    return Axis(table, key, **ends, step=step, log=log)


def _sampling(path: Path, table: Mapping[str, Any]) -> Sampling:
    where = f"{path}: [sampled]"
    if "trials" not in table:
        raise SweepError(f"{where}: trials is missing; expected the number of points to sample")
    for key, least in (("trials", 1), ("in_flight", 1), ("seed", 0)):
        value = table.get(key, least)
        fits = type(value) is int and least <= value < 2**32
        _check(where, key, value, f"a whole number from {least}", fits)
    sampler = table.get("sampler", "tpe")
    _check(where, "sampler", sampler, f"one of {', '.join(SAMPLERS)}", sampler in SAMPLERS)
    return Sampling(**{key: table[key] for key in SAMPLED if key in table})


def _value(where: str, key: str, value: Any, kind: Kind) -> Any:
    _check(where, key, value, kind.expected, kind.accepts(value))
    return kind.read(value)


def _check(where: str, key: str, value: Any, expected: str, fits: bool) -> None:
    if not fits:
        raise SweepError(f"{where}: {key} = {quote(value)}; expected {expected}")


def _known(where: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    for key in table:
        if key not in names:
            raise SweepError(f"{where}: unknown key {printable(key, 80)}; expected one of {', '.join(names)}")
