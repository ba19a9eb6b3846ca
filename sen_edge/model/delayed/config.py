"""The configuration of a spiking network with delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt, MinLen

from sen_edge.model.config import Size, SpikingConfig, at, check_items
from sen_edge.schema import NonNegative, Positive, Schema, SchemaError
from sen_runtime.ir.codings import Coding
from sen_runtime.ir.delays import MAX_DELAY
from sen_runtime.ir.neurons import LeakyIntegrator, Lif, Neuron

#: How weights and delays are learned.
WeightForm = Literal["free", "positions"]
DelayForm = Literal["none", "free", "positions"]
#: Longest delay in steps.
Steps = Annotated[int, Ge(1), Le(MAX_DELAY)]
#: Standard deviation of a Gaussian of delays, in steps; a narrower one is 0 at the nearest step.
Sigma = Annotated[float, Ge(0.2), Le(100)]
#: Decay of a synaptic current per step.
SynapseDecay = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class DelayedConfig(Schema):
    """Shape and constants of a spiking network with delays.

    The synapses of hidden layers have delays, those of the readout have none.

    Attributes:
        layer_sizes: neurons of each layer, input first.
        spiking: time, neurons and input coding.
        weights: one number per synapse ("free"), or mask, gain and distance ("positions").
        delays: "none", one number per synapse ("free"), or distance and a scale per connection ("positions").
        dimensions: coordinates of a position.
        max_delay: longest delay in steps.
        overflow: what happens to longer distances when the network is converted: "clamp" or "error".
        recurrent: whether hidden neurons have synapses from their own layer, which take at least one step.
        synapse: decay of the synaptic current of hidden layers per step; 0 for none.
        exponent: power of the distance in a weight.
        min_distance: floor of the distance in a weight, of neurons to themselves too.
        delay_sigma: standard deviation, in steps, of the Gaussian that smooths the loss in the gradient of a delay.
        input_range: min and max of the inputs.
    """

    layer_sizes: Annotated[tuple[Size, ...], MinLen(3)]
    spiking: SpikingConfig
    weights: WeightForm = "free"
    delays: DelayForm = "positions"
    dimensions: Size = 3
    max_delay: Steps = 24
    overflow: Literal["clamp", "error"] = "clamp"
    recurrent: bool = False
    synapse: SynapseDecay = 0.0
    exponent: Positive = 1.0
    min_distance: NonNegative = 1.0
    delay_sigma: Sigma = 2.0
    input_range: tuple[float, float] = (0.0, 1.0)

    def check(self) -> None:
        """Refuse inputs without steps, a spike count, and weights of neurons at a distance of 0."""
        spiking, n_layers = self.spiking, len(self.layer_sizes) - 1
        if not spiking.coding.has_steps:
            raise SchemaError(
                f"is {spiking.input_coding}; delays need spikes, current or delta", key="spiking.input_coding"
            )
        if spiking.readout == "spike_count":
            raise SchemaError("is spike_count; expected mean_membrane or last_membrane", key="spiking.readout")
        check_items("spiking.beta", spiking.beta, n_layers)
        check_items("spiking.threshold", spiking.threshold, n_layers - 1, " that spikes")
        check_items("spiking.reset", spiking.reset, n_layers - 1, " that spikes")
        if self.weights == "positions" and self.recurrent and not self.min_distance:
            raise SchemaError("is 0; a neuron has distance 0 from itself", key="min_distance")

    @property
    def coding(self) -> Coding:
        """Properties of the input coding."""
        return self.spiking.coding

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, `(T, n_features)`."""
        channels = 2 if self.spiking.input_coding == "delta" else 1
        return self.spiking.timesteps, self.layer_sizes[0] // channels

    @property
    def has_positions(self) -> bool:
        """Whether neurons have positions."""
        return "positions" in (self.weights, self.delays)

    def neurons(self) -> tuple[Neuron, ...]:
        """Return the neurons of each layer of weights."""
        spiking, n_hidden = self.spiking, len(self.layer_sizes) - 2
        hidden = (
            Lif(at(spiking.beta, index), at(spiking.threshold, index), at(spiking.reset, index), spiking.reset_delay)
            for index in range(n_hidden)
        )
        return (*hidden, LeakyIntegrator(at(spiking.beta, n_hidden)))
