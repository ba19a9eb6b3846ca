"""The sweep file, TOML, and settings of its trials.

data = "digits"                     # mnist, digits, a file or a folder; a path is relative to this file
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

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MaxLen, MinLen
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sen_edge.compression.request import CompressRequest
from sen_edge.data.datasets import IMAGE_SHAPES, Dataset
from sen_edge.schema import Count, Positive, Schema, SchemaError, Text, fields_of, parse, read_toml, split, validate
from sen_edge.sweep import SweepError
from sen_edge.training.request import TrainRequest
from sen_runtime.ir.codings import CODINGS
from sen_runtime.untrusted import printable, quote

#: Points of a grid, and seeds, beyond which the file is taken for a mistake.
MAX_POINTS = 100_000
Seed = Annotated[int, Ge(0), Lt(2**32)]


@dataclass(frozen=True)
class Compression(CompressRequest):
    """Compression of a trial; `as_checkpoint`: the network stays a SEN, and is trained as it was before."""

    as_checkpoint: bool = False

    def check(self) -> None:
        """Refuse fields without effect."""
        super().check()
        self.require(self.task == "prune" or not self.epochs, "a sparsity, or without epochs", "as_checkpoint")


TABLES: Mapping[str, type[Schema]] = {"training": TrainRequest, "compression": Compression}
#: Fields that are no keys of the tables.
EXCLUDED = frozenset(
    (
        "seed",
        "scope",
        "near",
        "max_drop",
        "max_accuracy_drop",
        "max_flash",
        "objective",
        "engine",
        "methods",
        "dtypes",
        "seconds",
    )
)
#: Settings that the data and the metric depend on, which all trials share.
OF_DATA = ("training.task", "training.target")
#: Plain values that the figures of a trial depend on: tables `data` (arguments of `sen_edge.data.datasets.load`, and
#: `sha256`), `training` and `compression`.
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Range(Schema):
    """Numbers from `low` to `high`, both included, in equal steps or any; with `log` uniform in the logarithm."""

    low: float
    high: float
    step: Positive | None = None
    log: bool = False

    def check(self) -> None:
        """Refuse a range that the sampler would change."""
        if self.low >= self.high:
            raise SchemaError(f"is {self.high:g}; expected a number > low ({self.low:g})", key="high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise SchemaError("needs low > 0, and no step", key="log")
        n_steps = (self.high - self.low) / (self.step or (self.high - self.low))
        if round(n_steps) < 1 or not math.isclose(n_steps, round(n_steps), rel_tol=1e-9):
            raise SchemaError(f"is {self.step:g}; expected a step that leads from low to high", key="step")


@dataclass(frozen=True)
class Axis:
    """A searched setting TABLE.KEY, with the values to choose from (of a range both ends), and those in Optuna."""

    name: str
    values: tuple[Any, ...]
    distribution: BaseDistribution

    def value(self, drawn: Any) -> Any:
        """The value of a parameter."""
        return next((value for value in self.values if parameter(value) == drawn), drawn)


def parameter(value: Any) -> Any:
    """A value as parameters and tables have it: a list is text."""
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Grid(Schema):
    """The table [grid]: lists of values by key."""

    training: Mapping[str, Any] = field(default_factory=dict)
    compression: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sampled(Grid):
    """The table [sampled]: lists of values, or ranges, by key.

    Attributes:
        trials: points.
        seed: of the sampler.
        sampler: "tpe" (tree-structured Parzen estimator) or "random".
        in_flight: points that are drawn before the first result is known. The points depend on it, so that they do not
            depend on the number of workers.
    """

    trials: Annotated[Count, Lt(2**32)]
    seed: Seed = 0
    sampler: Literal["tpe", "random"] = "tpe"
    in_flight: Count = 4


@dataclass(frozen=True)
class Sweep(Schema):
    """A sweep file; combinations of values are checked with the data.

    Attributes:
        data, data_dir: of `sen_edge.data.datasets.load`.
        seeds: of training and compression.
        training, compression: fixed values by key.
        grid, sampled: search space; one of them.
    """

    data: Text
    data_dir: Path | None = None
    seeds: Annotated[tuple[Seed, ...], MinLen(1), MaxLen(MAX_POINTS)] = (0,)
    training: Mapping[str, Any] = field(default_factory=dict)
    compression: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid | None = None
    sampled: Sampled | None = None

    def check(self) -> None:
        """Refuse an unknown key, a wrong value, and a setting that is both fixed and searched, or must be fixed."""
        if len(set(self.seeds)) < len(self.seeds):
            raise SchemaError("has a number twice", key="seeds")
        if (self.grid is None) == (self.sampled is None):
            raise SchemaError("expected either a table [grid] or a table [sampled]")
        fixed = [f"{table}.{key}" for table in TABLES for key in self.fixed[table]]
        for axis in self.axes:
            if axis.name in fixed:
                raise SchemaError("is searched too", "leave it out in one of both tables", key=axis.name)
            if axis.name in OF_DATA:
                raise SchemaError("selects the data of all trials; expected one value in [training]", key=axis.name)
        if self.grid is not None and math.prod(len(axis.values) for axis in self.axes) > MAX_POINTS:
            raise SchemaError(f"has more than {MAX_POINTS:,} points", "use [sampled] instead", key="grid")

    @cached_property
    def fixed(self) -> Mapping[str, Mapping[str, Any]]:
        """Fixed values of both tables, converted to the types of their keys."""
        return {
            table: {key: _value(table, key, value, table) for key, value in getattr(self, table).items()}
            for table in TABLES
        }

    @cached_property
    def axes(self) -> list[Axis]:
        """Names of the searched settings."""
        name, search = ("grid", self.grid) if self.grid is not None else ("sampled", self.sampled)
        found = [
            _axis(table, key, value, f"{name}.{table}", may_range=self.grid is None)
            for table in TABLES
            for key, value in getattr(search, table).items()
        ]
        if not found:
            raise SchemaError("is empty; expected keys such as training.exponent = [1.0, 2.0]", key=name)
        return found

    @property
    def has_steps(self) -> bool:
        """Whether inputs are sequences."""
        coding = CODINGS.get(str(self.training.get("input_coding")))
        return coding is not None and coding.has_steps


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file; paths in it become absolute.

    Raises:
        SweepError: it cannot be read, or does not fit the schema.
    """
    sweep = read_toml(Sweep, path, error=SweepError)
    place = (path.parent / sweep.data).absolute()
    is_path = sweep.data not in IMAGE_SHAPES and (place.suffix or place.exists())
    data = str(place) if is_path else sweep.data
    data_dir = None if sweep.data_dir is None else (path.parent / sweep.data_dir).absolute()
    return replace(sweep, data=data, data_dir=data_dir)


def _axis(table: str, key: str, value: Any, where: str, *, may_range: bool) -> Axis:
    name = f"{where}.{printable(key, 60)}"
    if may_range and isinstance(value, dict):
        numbers = parse(Range, value, name, error=SchemaError)
        kind, _ = split(fields_of(TABLES[table]).get(key, Any))
        ends = [int(end) if kind is int and end.is_integer() else end for end in (numbers.low, numbers.high)]
        low, high = (_value(table, key, end, where) for end in ends)
        if kind not in (int, float) or (kind is int and not (numbers.step or 1.0).is_integer()):
            raise SchemaError(f"is {quote(value)}; expected {'integers' if kind is int else 'a list'}", key=name)
        distribution: BaseDistribution = FloatDistribution(low, high, log=numbers.log, step=numbers.step)
        if kind is int:
            distribution = IntDistribution(low, high, log=numbers.log, step=int(numbers.step or 1))
        return Axis(f"{table}.{key}", (low, high), distribution)
    if not isinstance(value, list) or not value:
        expected = "a list of values" + ", or a range { low = ..., high = ... }" * may_range
        raise SchemaError(f"is {quote(value)}; expected {expected}", key=name)
    values = tuple(_value(table, key, each, where) for each in value)
    if any(each in values[:index] for index, each in enumerate(values)):
        raise SchemaError(f"is {quote(value)}; expected values that are all different", key=name)
    return Axis(f"{table}.{key}", values, CategoricalDistribution(list(map(parameter, values))))


def _value(table: str, key: str, value: Any, where: str) -> Any:
    """A value, converted to the type of its key."""
    names = [name for name in fields_of(TABLES[table]) if name not in EXCLUDED]
    if key not in names:
        raise SchemaError(f"is unknown; expected one of {', '.join(names)}", key=f"{where}.{printable(key, 60)}")
    try:
        return validate(TABLES[table], key, value)
    except SchemaError as error:
        raise SchemaError(error.problem, error.hint, key=f"{where}.{error.key}") from None


# --- trials --------------------------------------------------------------------------------------


def settings_of(sweep: Sweep, values: Mapping[str, Any], seed: int, dataset: Dataset) -> Settings:
    """Settings of a trial; their values may contradict each other.

    Values that a sweep file does not name are filled in, so that two files with equal settings share the trial.
    """
    tables = {table: dict(fixed) for table, fixed in sweep.fixed.items()}
    for name, value in values.items():
        table, _, key = name.partition(".")
        tables[table][key] = value
    compression = tables["compression"]
    settings = {
        "data": {
            "name": sweep.data,
            "data_dir": None if sweep.data_dir is None else str(sweep.data_dir),
            "spikes": sweep.has_steps,
            "sha256": dataset.content_sha256,
        },
        "training": {**asdict(TrainRequest()), **tables["training"], "seed": seed},
        "compression": {**asdict(Compression()), **compression, "seed": seed} if compression else None,
    }
    plain: Settings = json.loads(json.dumps(settings))
    return plain


def trial_id(settings: Settings) -> str:
    """Name of a trial: a hash of its settings; of the data their content counts, not their place."""
    content = {**settings, "data": [settings["data"]["sha256"], settings["data"]["spikes"]]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def requests_of(settings: Settings) -> tuple[TrainRequest, Compression | None]:
    """Requests of a trial.

    Raises:
        SchemaError: values contradict each other, or have no effect.
    """
    training, is_free = TrainRequest(**settings["training"]), settings["training"]["weights"] == "free"
    if settings["compression"] is None:
        return training, None
    request = Compression(**settings["compression"])
    if request.as_checkpoint and request.epochs:
        request.check_trainable()
    n_hidden = 1 if training.hidden is None else len(training.hidden)
    if request.layers is not None and max(request.layers) > n_hidden:
        raise SchemaError(f"is {max(request.layers)}; expected 0 to {n_hidden}", key="layers")
    for key, is_spatial in (
        ("criterion", request.criterion == "distance"),
        ("hierarchical", request.hierarchical is not None),
        ("as_checkpoint", request.as_checkpoint and not request.epochs),
    ):
        if is_free and is_spatial:
            raise SchemaError(f"is {getattr(request, key)}, which needs weights positions, or epochs", key=key)
    return training, request if request.task else None
