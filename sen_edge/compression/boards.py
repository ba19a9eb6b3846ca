"""Costs of networks on a board, for the choice between finalists of a search.

Instructions of a product by its form, shape and zeros, fitted to counts on emulated boards: `board_costs.json`, which
`benchmarks/board_costs.py` writes. Or latencies of the finalists themselves, in the record of a benchmark on a board.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import OutputError, UsageError
from sen_edge.schema import Count, NonNegative, Schema, Text, Whole, parse
from sen_runtime.bench import record
from sen_runtime.files import write_all
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, WeightOperator, leaves
from sen_runtime.reference import layer_inputs

TABLE = Path(__file__).with_name("board_costs.json")
SCHEMA = "sen-edge/board-costs/1"
INPUTS = "inputs.npz"

Inputs = NDArray[np.float32]


@dataclass(frozen=True)
class ProductCost(Schema):
    """Instructions of products of one form; the first that fits a matrix is used.

    Attributes:
        form: dense, unstructured, or a block such as 16x1.
        dtype: of the weights, float32 or int8.
        meets_spikes: whether the inputs are spikes in one time step.
        max_weights: size `n_out * n_in` of the largest matrix that it holds for; 0 for all.
        min_density: share of stored weights in the sparsest matrix that it holds for.
        group: inputs that are skipped together where all of them are 0.
        factors: of `features`.
        max_error: relative, of the matrices that it was fitted to.
    """

    form: Text
    dtype: Literal["float32", "int8"]
    meets_spikes: bool
    max_weights: Whole
    min_density: NonNegative
    group: Count
    factors: tuple[NonNegative, ...]
    max_error: NonNegative

    def holds_for(self, weight: WeightOperator, meets_spikes: bool) -> bool:
        """Whether it is the cost of a matrix."""
        size = weight.shape[0] * weight.shape[1]
        is_form = (self.form, self.dtype, self.meets_spikes) == (*form_of(weight), meets_spikes)
        is_small = not self.max_weights or size <= self.max_weights
        return is_form and is_small and weight.macs >= self.min_density * size


@dataclass(frozen=True)
class Board(Schema):
    """Products of a board with this processor."""

    cpu: Text
    products: tuple[ProductCost, ...]


@dataclass(frozen=True)
class Table(Schema):
    """The file: schema, command that wrote it, compiler of the library, boards by name."""

    schema: Literal["sen-edge/board-costs/1"]
    command: Text
    compiler: Text
    boards: Mapping[str, Board]


@cache
def boards() -> Mapping[str, Board]:
    """Boards with a table, by name."""
    return parse(Table, json.loads(TABLE.read_text(encoding="utf-8")), TABLE.name).boards


# --- instructions --------------------------------------------------------------------------------


def features(weight: WeightOperator, active: NDArray[np.float64]) -> tuple[float, ...]:
    """Terms of the instructions of a product; `active [n_in]` are the shares of inputs that are not skipped."""
    rows, columns = weight.shape
    stored, active_columns = _stored(weight), float(active.sum())
    return (
        1.0,
        rows,
        columns,
        rows * columns,
        weight.macs,
        active_columns,
        rows * active_columns,
        float(stored @ active),
    )


def _stored(weight: WeightOperator) -> NDArray[np.int64]:
    """Stored weights of each column `[n_in]`; pruning keeps more of those that meet active inputs."""
    rows, columns = weight.shape
    if not isinstance(weight, Sparse):
        return np.full(columns, rows)
    blocks = np.bincount(weight.columns, minlength=weight.block_grid[1]) * weight.block[0]
    return np.repeat(blocks, weight.block[1])[:columns]


def active_shares(x: Inputs, group: int) -> NDArray[np.float64]:
    """For each input of `x [rows, n]`, the share of rows in which one of its group of adjacent inputs is not 0."""
    padded = np.pad(x != 0, ((0, 0), (0, -x.shape[1] % group)))
    shares = padded.reshape(len(x), -1, group).any(axis=2).mean(axis=0)
    return np.repeat(shares, group)[: x.shape[1]]


def form_of(weight: WeightOperator) -> tuple[str, str]:
    """Form and dtype of a matrix, as in the table."""
    dtype = "int8" if any(array.dtype == np.int8 for array in weight.weight_arrays()) else "float32"
    if not isinstance(weight, Sparse):
        return "dense", dtype
    rows, columns = weight.block
    return "unstructured" if weight.block == (1, 1) else f"{rows}x{columns}", dtype


def instructions(board: Board, network: Network, inputs: Inputs) -> float:
    """Instructions of the products of an inference on `inputs [n, ...]`, without neurons, which all forms have."""
    total, (arrived, _) = 0.0, layer_inputs(network, inputs)
    for number, (layer, x) in enumerate(zip(network.layers, arrived, strict=True)):
        meets_spikes = layer.neuron.role == "spiking" and (number > 0 or network.coding.gives_spikes)
        products = 0.0
        for leaf in leaves(layer.weight):
            for index, factor in enumerate(leaf.factors):
                cost = _cost_of(board, factor, meets_spikes and index == 0)
                active = active_shares(x, cost.group) if index == 0 else np.ones(factor.shape[1])
                products += float(np.dot(cost.factors, features(factor, active)))
        total += products * len(x) / len(inputs)  # steps of a spiking layer
    return total


def _cost_of(board: Board, weight: WeightOperator, meets_spikes: bool) -> ProductCost:
    for cost in board.products:
        if cost.holds_for(weight, meets_spikes):
            return cost
    form, dtype = form_of(weight)
    known = ", ".join(dict.fromkeys(f"{cost.form} {cost.dtype}" for cost in board.products))
    raise UsageError(f"{board.cpu} has no costs of {form} {dtype} weights; expected one of {known}")


# --- latencies in a record -----------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; one that is not valid or not complete is refused."""
    found = record.read(path)
    if not found["valid"] or found["status"] != "complete":
        reasons = "; ".join(found["invalid_because"]) or found["status"]
        raise UsageError(f"{path} is not a valid record: {reasons}", "measure again")
    return found


@dataclass(frozen=True)
class Finalists:
    """Finalists of a search, which are measured on a board.

    Attributes:
        folder: for their files.
        engine: that runs them.
        files: contents by name, the original network first.
        inputs: to measure them on `[n, ...]`.
    """

    folder: Path
    engine: str
    files: Mapping[str, bytes]
    inputs: Inputs

    def latencies_us(self, path: Path) -> list[float]:
        """Median latencies in the record of the board; rows are found by the checksums of the files.

        Raises:
            UsageError: the record does not have all of them, or does not exist. The files are written to the folder,
                and the message has the command that measures them.
        """
        rows = read_record(path)["rows"] if path.exists() else []
        fitting = [row for row in rows if (row["engine"], row["threads"]) == (self.engine, 1)]
        found = {row["sha256"]: float(row["latency_us"]["median"]) for row in fitting}
        digests = [sha256(data).hexdigest() for data in self.files.values()]
        missing = sum(digest not in found for digest in digests)
        if not missing:
            return [found[digest] for digest in digests]
        self._write()
        names = [str(self.folder / name) for name in self.files]
        words = [*names, "--engine", self.engine, "--data", str(self.folder / INPUTS), "--json", str(path), "--force"]
        raise UsageError(
            f"{path} has no row of {missing} of {len(digests)} finalists, which are in {self.folder}",
            "measure them on the board, and repeat this command:\n"
            f"sen-edge bench --host USER@BOARD {shlex.join(words)}",
        )

    def _write(self) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, x=self.inputs)
        contents = {**self.files, INPUTS: buffer.getvalue()}
        try:
            self.folder.mkdir(exist_ok=True)
            write_all({self.folder / name: data for name, data in contents.items()}, replace=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror}") from error


def remove_finalists(folder: Path) -> None:
    """Remove the files of `Finalists`, and the folder if it has no others."""
    for path in [*folder.glob("[0-9][0-9]-*"), folder / INPUTS]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def file_names(titles: Sequence[str], suffix: str) -> list[str]:
    """Names of the finalists' files, numbered in their order."""
    return [f"{index:02}-{re.sub('[^a-z0-9.]+', '-', title.lower())}{suffix}" for index, title in enumerate(titles)]
