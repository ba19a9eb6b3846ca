"""Torch network with stored weights as parameters: for derivatives, and to train networks without coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sen_edge.model.dynamics import LayeredNetwork, Product
from sen_edge.passes.materialize import Mask, to_sparse_layout
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator, leaves, map_leaves

#: Slope of the surrogate derivative in training.
SURROGATE_SLOPE = 5.0


class FreeLeaf(nn.Module):
    """One operator without operands; zeros of sparse weights stay zero.

    Attributes:
        factors: matrices in the order in which they multiply an input.
        mask: `[n_out, n_in]`, 1 for a stored weight and 0 elsewhere; None if all are stored.
    """

    mask: Tensor | None

    def __init__(self, operator: WeightOperator) -> None:
        super().__init__()
        is_trainable = isinstance(operator, (Dense, LowRank, Sparse))
        if not is_trainable or any(factor.scale is not None for factor in operator.factors):
            raise NetworkError(
                f"{type(operator).__name__} weights are not floating-point parameters",
                hint="train before quantization; train coordinates with finetune()",
            )
        self.operator = operator
        self.register_buffer("mask", None)
        if isinstance(operator, Sparse):
            self.set_pattern(operator.with_values_of(np.ones(operator.shape, np.float32)).to_dense() != 0)
        self.factors = nn.ParameterList(
            nn.Parameter(torch.from_numpy(factor.to_dense().copy())) for factor in operator.factors
        )

    def set_pattern(self, mask: Mask | None) -> None:
        """Set which weights are stored; None for all."""
        self.mask = None if mask is None else torch.from_numpy(mask.astype(np.float32))

    def product(self) -> Product:
        """Return the function `x [..., n_in] -> W x [..., n_out]`."""
        first, *others = self.factors
        weights = [first if self.mask is None else first * self.mask, *others]
        return lambda x: reduce(functional.linear, weights, x)

    def to_operator(self) -> WeightOperator:
        """Return the operator with the present weights."""
        factors = [factor.detach().numpy().copy() for factor in self.factors]
        if isinstance(self.operator, LowRank):
            right, left = factors
            return LowRank(left, right)
        if isinstance(self.operator, Sparse):
            return self.operator.with_values_of(factors[0])
        return Dense(factors[0]) if self.mask is None else to_sparse_layout(factors[0], self.mask.numpy() != 0)


class FreeLayer(nn.Module):
    """Weights and bias of a layer."""

    bias: nn.Parameter | None

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.parts = [FreeLeaf(leaf) for leaf in leaves(layer.weight)]
        self.leaves = nn.ModuleList(self.parts)
        self.bias = None if layer.bias is None else nn.Parameter(torch.from_numpy(np.array(layer.bias, np.float32)))

    def product(self) -> Product:
        """Return the function `x [..., n_in] -> W x + b [..., n_out]`."""
        products = [part.product() for part in self.parts]

        def product(x: Tensor) -> Tensor:
            y = reduce(torch.add, (each(x) for each in products))
            return y if self.bias is None else y + self.bias

        return product

    def to_layer(self) -> Layer:
        """Return the layer with the present weights."""
        parts = iter(self.parts)
        weight = map_leaves(self.layer.weight, lambda _: next(parts).to_operator())
        return replace(self.layer, weight=weight, bias=None if self.bias is None else self.bias.detach().numpy().copy())


class FreeNetwork(LayeredNetwork):
    """Weights and biases of a network as parameters; layers without a bias keep none."""

    def __init__(self, network: Network, surrogate_slope: float = SURROGATE_SLOPE) -> None:
        neurons = [layer.neuron for layer in network.layers]
        super().__init__(neurons, network if network.is_spiking else None, surrogate_slope)
        self.input_scaling, self.output_scaling = network.input_scaling, network.output_scaling
        self.network = network
        self.free_layers = [FreeLayer(layer) for layer in network.layers]
        self.layers = nn.ModuleList(self.free_layers)

    def products(self) -> list[Product]:
        """Return the product of every layer, for one pass."""
        return [layer.product() for layer in self.free_layers]

    def restrict(self, masks: Mapping[int, Mask]) -> None:
        """Set masks `[n_out, n_in]` by layer, all of them dense; layers without one are fully connected."""
        for index, layer in enumerate(self.free_layers):
            weight = layer.layer.weight
            if not isinstance(weight, Dense):
                raise NetworkError(f"layer {index} is {type(weight).__name__}; only dense weights take a mask")
            layer.parts[0].set_pattern(masks.get(index))

    def to_network(self) -> Network:
        """Return the network with the present weights."""
        return replace(self.network, layers=tuple(layer.to_layer() for layer in self.free_layers))
