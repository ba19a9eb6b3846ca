"""Operations before and after the layers: standardization of the input, restoration and activation of the output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sen_exporters.c.memory import Arena, Constant
from sen_runtime.ir.network import Network


@dataclass(frozen=True, eq=False)
class LoweredScaling:
    """Constants in flash, and a vector in the arena.

    Attributes:
        constants: by symbol: "input_mean", "input_inverse", "output_mean", "output_std"; only those that are used.
        standardized: place of the standardized input in the arena; None without standardization.
        activation: of the outputs: "none", "softmax" or "sigmoid".
        counts_spikes: whether outputs are counts of spikes, which exist after all steps only.
    """

    constants: Mapping[str, Constant]
    standardized: int | None
    activation: str
    counts_spikes: bool

    @property
    def restores(self) -> bool:
        """Whether outputs are restored."""
        return "output_mean" in self.constants

    @property
    def restores_steps(self) -> bool:
        """Whether the membranes of a step are restored."""
        return self.restores and not self.counts_spikes

    @property
    def finishes(self) -> bool:
        """Whether the mean, the last or the sum of the values of steps is not the output."""
        return self.activation != "none" or (self.restores and self.counts_spikes)

    @property
    def functions(self) -> set[str]:
        """Regions of the library."""
        uses = {
            "sen_standardize": self.standardized is not None,
            "sen_restore": self.restores,
            f"sen_{self.activation}": self.activation != "none",
        }
        return {name for name, is_used in uses.items() if is_used}


def lower_scaling(network: Network, arena: Arena) -> LoweredScaling:
    """Lower the scalings and the output activation of a network."""
    constants, standardized = {}, None
    if scaling := network.input_scaling:
        standardized = arena.take("standardized input", math.prod(network.input_shape))
        constants["input_mean"] = Constant("input_mean", scaling.mean, f"input: mean [{network.n_in}]")
        constants["input_inverse"] = Constant("input_inverse", scaling.inverse, f"input: 1 / std [{network.n_in}]")
    if scaling := network.output_scaling:
        constants["output_mean"] = Constant("output_mean", scaling.mean, f"output: mean [{network.n_out}]")
        constants["output_std"] = Constant("output_std", scaling.std, f"output: std [{network.n_out}]")
    counts_spikes = network.is_spiking and network.readout == "spike_count"
    return LoweredScaling(constants, standardized, network.output_activation, counts_spikes)
