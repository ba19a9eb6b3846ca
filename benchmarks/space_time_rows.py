"""Rows of docs/results/space-time.md: networks with and without delays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A network.

    Attributes:
        name: in the table.
        training: fields of `DelayedTrainRequest`.
    """

    name: str
    training: Mapping[str, Any]


YIN_YANG = {"readout_beta": 0.97, "learning_rate": 0.02, "label_smoothing": 0.0, "validation": 1 / 6}
#: Slow membranes, and a memory of few steps.
SLOW = {**YIN_YANG, "hidden": (30,), "beta": 0.97, "batch_size": 32, "epochs": 70}
SHORT = {**YIN_YANG, "hidden": (15,), "beta": 0.5, "synapse": 0.3, "batch_size": 32, "epochs": 60}
DIGITS = {"hidden": (64,), "beta": 0.6, "learning_rate": 0.01, "validation": 0.1, "epochs": 30}
#: Weights from positions take more and shorter steps of training, slower membranes, and recurrent synapses.
COORDINATES = {
    "weights": "positions",
    "dims": 8,
    "recurrent": True,
    "exponent": 3.0,
    "position_scale": 3.0,
    "position_rate": 0.06,
    "scale_rate": 0.01,
    "delay_sigma": 0.5,
    "beta": 0.85,
    "synapse": 0.5,
    "learning_rate": 0.02,
    "batch_size": 32,
    "epochs": 125,
}


def forms(common: Mapping[str, Any], delayed: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return rows without delays, with free ones, and with positions in two, three and eight dimensions."""
    return (
        Row("no delays", {**common, "delays": "none"}),
        Row("free delays", {**common, **delayed, "delays": "free"}),
        *(Row(f"positions, {dims}-D", {**common, **delayed, "dims": dims}) for dims in (2, 3, 8)),
    )


#: In the order of the page.
SECTIONS: Mapping[str, tuple[Row, ...]] = {
    "yin-yang": forms(SLOW, {"max_delay": 16}),
    "short-memory": forms(SHORT, {"max_delay": 40}),
    "spoken-digits": (
        *forms(DIGITS, {}),
        Row("positions, 3-D, 90 % of the synapses pruned", {**DIGITS, "dims": 3, "sparsity": 0.9}),
        Row("weights and delays from positions, 8-D", {**DIGITS, **COORDINATES}),
    ),
}
