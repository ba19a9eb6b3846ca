"""Compression layer by layer: second-order problems from calibration inputs, and compensation of errors.

The statistics are moments of every layer's inputs, and sensitivities of the outputs to each layer. No labels are used.
Sums are in float64 over chunks, so memory does not grow with the inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sen_edge.compression.quadratic import MAX_NEURONS, FloatArray, Quadratic
from sen_edge.errors import DataError
from sen_edge.model.dynamics import Product
from sen_edge.model.free import FreeNetwork
from sen_edge.passes.materialize import materialize
from sen_runtime import reference
from sen_runtime.data.subsample import subsample
from sen_runtime.ir.network import Network, bias_factor
from sen_runtime.ir.operators import Dense, WeightOperator
from sen_runtime.task import CLASSIFICATION

Inputs = NDArray[np.float32]

#: Inputs that run through a network at once.
CHUNK = 1000
#: Max number of inputs for derivatives, and of outputs before random mixtures of them are used.
DERIVATIVE_INPUTS, MAX_PROBES = 2048, 32
#: Weight of the square of a change that all outputs share.
COMMON = 0.1
#: Min variance of a covered direction, as a share of the max variance.
COVERED = 1e-9
#: Damping of the refit, as a share of the mean variance.
REFIT_DAMPING = 1e-2


class CompressionWarning(UserWarning):
    """A doubtful condition of a compression that succeeds."""


class Moments:
    """Moments of a layer's inputs in the original network (x) and in the compressed one (z), from running sums.

    Sums are shifted by the mean of the first chunk for precision. Covariances are `[n_in, n_in]`; their diagonals,
    `[n_in]`, beyond `MAX_NEURONS`.
    """

    def __init__(self, n_in: int) -> None:
        self.rows = 0
        self._shift: FloatArray = np.zeros(n_in)
        self._x, self._z = np.zeros(n_in), np.zeros(n_in)
        self._zz: FloatArray = np.zeros((n_in, n_in) if n_in <= MAX_NEURONS else n_in)
        self._dz: FloatArray | None = None

    def add(self, x: Inputs, z: Inputs) -> None:
        """Add rows `[rows, n_in]` of both networks, of which the same array stands for one network."""
        if not self.rows:
            self._shift = z.mean(axis=0, dtype=np.float64)
        after: FloatArray = z - self._shift
        before: FloatArray = after if x is z else x - self._shift
        self.rows += len(z)
        self._x += before.sum(axis=0)
        self._z += after.sum(axis=0)
        self._zz += self._product(after, after)
        if x is not z:
            self._dz = self._product(before - after, after) + (0.0 if self._dz is None else self._dz)

    def _product(self, a: FloatArray, b: FloatArray) -> FloatArray:
        result: FloatArray = a.T @ b if self._zz.ndim == 2 else np.einsum("ri,ri->i", a, b)
        return result

    @property
    def mean(self) -> FloatArray:
        """Mean of x, `[n_in]`."""
        return self._x / self.rows + self._shift

    @property
    def compressed_mean(self) -> FloatArray:
        """Mean of z, `[n_in]`."""
        return self._z / self.rows + self._shift

    @property
    def covariance(self) -> FloatArray:
        """Covariance of z."""
        z = self._z / self.rows
        result = self._zz / self.rows - self._product(z[np.newaxis], z[np.newaxis])
        diagonal = result if result.ndim == 1 else np.einsum("ii->i", result)
        np.maximum(diagonal, 0.0, out=diagonal)  # rounding of constant inputs
        return result

    @property
    def lost(self) -> FloatArray:
        """Covariance of x - z with z; 0 where both networks are the same."""
        if self._dz is None:
            return np.zeros_like(self._zz)
        x, z = self._x[np.newaxis] / self.rows, self._z[np.newaxis] / self.rows
        return self._dz / self.rows - self._product(x - z, z)

    @property
    def variance(self) -> FloatArray:
        """Variances of z, `[n_in]`."""
        return self.covariance if self._zz.ndim == 1 else np.diag(self.covariance)

    @property
    def rank(self) -> int:
        """Number of directions that the inputs cover."""
        values = self.covariance if self._zz.ndim == 1 else np.linalg.eigvalsh(self.covariance)
        return int(np.sum(values > COVERED * max(float(values.max()), 0.0)))


def check_calibration(network: Network, calibration: Inputs | None) -> Inputs:
    """Return the inputs as float32; a `DataError` or `NetworkError` if they do not fit, or are not finite."""
    if calibration is None:
        raise DataError(
            "calibration inputs are missing",
            hint="name inputs like those of the application, without labels: --calibration, or calibration=x",
        )
    calibration = np.asarray(calibration)
    if calibration.dtype.kind not in "fiub" or calibration.ndim < 2 or not len(calibration):
        raise DataError(f"calibration is {calibration.dtype} {list(calibration.shape)}; expected inputs [n, n_in]")
    reference.check_input(network, calibration.shape)
    calibration = calibration.astype(np.float32, copy=False)
    if not np.isfinite(calibration).all():
        at = np.argwhere(~np.isfinite(calibration))[0]
        raise DataError(f"calibration input {at[0]} holds {calibration[tuple(at)]}; expected finite numbers")
    return calibration


def moments(original: Network, compressed: Network, calibration: Inputs) -> list[Moments]:
    """Moments of every layer's inputs in two networks, at first the same object."""
    found = [Moments(layer.weight.shape[1]) for layer in original.layers]
    for start in range(0, len(calibration), CHUNK):
        chunk = calibration[start : start + CHUNK]
        before, _ = reference.layer_inputs(original, chunk)
        after = before if compressed is original else reference.layer_inputs(compressed, chunk)[0]
        for each, x, z in zip(found, before, after, strict=True):
            each.add(x, z)
    return found


def warn_of_rank(index: int, found: Moments) -> None:
    """Warn if the inputs of a layer do not cover all directions; damping determines the others."""
    n_in = len(found.mean)
    if n_in <= MAX_NEURONS and (rank := found.rank) < n_in:
        warnings.warn(
            f"layer {index}: {found.rows} calibration inputs cover {rank} of {n_in} directions; the others are "
            "regularised (weights change little in these directions)",
            CompressionWarning,
            stacklevel=2,
        )


def sensitivities(network: Network, calibration: Inputs, seed: int = 0) -> list[FloatArray]:
    """Sensitivity A = mean of J^T M J, `[n_out, n_out]`, of each layer; see `sen_edge.compression.quadratic`.

    J is the derivative of the network's outputs, before they are restored, by the inputs of the layer's neurons, summed
    over the steps of a spiking network, with the surrogate derivative of the spike. M weights the outputs equally; for
    classes a change of all of them by `COMMON`, because it changes no class. Many outputs are replaced by random
    mixtures. `DERIVATIVE_INPUTS` of the inputs are used.
    """
    chosen = subsample(calibration, DERIVATIVE_INPUTS)
    totals = [np.zeros((layer.weight.shape[0],) * 2) for layer in network.layers]
    probes = _probes(network.n_out, COMMON if network.task == CLASSIFICATION else 1.0, seed)
    module = FreeNetwork(replace(network, output_scaling=None))
    for start in range(0, len(chosen), CHUNK):
        currents: list[tuple[int, Tensor]] = []
        products = [_record(index, product, currents) for index, product in enumerate(module.products())]
        outputs = module.trace(torch.from_numpy(chosen[start : start + CHUNK]), products)[-1]
        flat = [current for _, current in currents]
        for k, probe in enumerate(probes):
            found = torch.autograd.grad(outputs, flat, probe.expand_as(outputs), retain_graph=k + 1 < len(probes))
            for (index, _), derivative in zip(currents, found, strict=True):
                rows = derivative.flatten(0, -2).double()
                totals[index] += (rows.T @ rows).numpy()
    result = [total / len(chosen) for total in totals]
    if not network.is_spiking or network.has_summed_readout:
        # inputs of a leaky integrator are summed over the steps
        result[-1] = (probes.double().T @ probes.double()).numpy()
    return result


def _record(index: int, product: Product, into: list[tuple[int, Tensor]]) -> Product:
    def recording(x: Tensor) -> Tensor:
        into.append((index, product(x)))
        return into[-1][1]

    return recording


def _probes(n_out: int, common: float, seed: int) -> Tensor:
    """Rows `[probes, n_out]` with `probes^T probes` the metric of the outputs, on average."""
    keep = 1 - common**0.5  # the root of a metric that shrinks the direction (1 ... 1) to the share `common`
    signs = torch.eye(n_out)
    if n_out > MAX_PROBES:
        generator = torch.Generator().manual_seed(seed)
        signs = (torch.randint(0, 2, (MAX_PROBES, n_out), generator=generator) * 2.0 - 1) / MAX_PROBES**0.5
    result: Tensor = signs - keep * signs.mean(1, keepdim=True)
    return result


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """A network without coordinates, with checked inputs and the sensitivity A of each layer."""

    network: Network
    calibration: Inputs
    sensitivities: list[FloatArray]

    @classmethod
    def of(cls, network: Network, calibration: Inputs | None, seed: int = 0) -> SecondOrder:
        """Check the inputs and compute the statistics; `seed` is that of random mixtures of many outputs."""
        calibration, dense = check_calibration(network, calibration), materialize(network)
        return cls(dense, calibration, sensitivities(dense, calibration, seed))

    def problems(self, layers: Iterable[int]) -> dict[int, Quadratic]:
        """Return the problem of each of these layers; warn of too few inputs."""
        found, problems = moments(self.network, self.network, self.calibration), {}
        for index in layers:
            warn_of_rank(index, found[index])
            weight = self.network.layers[index].weight.to_dense().astype(np.float64)
            problems[index] = Quadratic.of(weight, found[index].covariance, self.sensitivities[index])
        return problems

    def compress(self, methods: Mapping[int, Callable[[Quadratic], WeightOperator]]) -> Network:
        """Replace the weights of layers that have a method, with biases that preserve the means of their outputs.

        A layer behind a compressed one approximates the outputs of the original network from its actual inputs:
        `W' = W + W cov(x - z, z) (cov(z) + damping)^-1`, with inputs x of the original and z of the compressed network.
        """
        original = result = self.network
        found = moments(original, original, self.calibration)
        for index, layer in enumerate(original.layers):
            weight = layer.weight.to_dense().astype(np.float64)
            if result is not original:
                found = moments(original, result, self.calibration)
                weight = _refit(weight, found[index])
            operator = Dense(weight.astype(np.float32)) if isinstance(layer.weight, Dense) else layer.weight
            if index in methods:
                operator = methods[index](Quadratic.of(weight, found[index].covariance, self.sensitivities[index]))
            elif result is original:
                continue
            result = _replace_layer(result, original, index, operator, found[index])
        return result


def compensate_means(network: Network, compressed: Network, calibration: Inputs) -> Network:
    """`compressed` with biases that preserve the means of every layer's outputs in `network`."""
    original, result = materialize(network), compressed
    for index, layer in enumerate(compressed.layers):
        found = moments(original, materialize(result), calibration)[index]
        result = _replace_layer(result, original, index, layer.weight, found)
    return result


def _replace_layer(
    network: Network, original: Network, index: int, operator: WeightOperator, found: Moments
) -> Network:
    """Replace weights, with the bias that preserves the mean of the layer's outputs in the original network."""
    layer = original.layers[index]
    before = layer.weight.to_dense().astype(np.float64) @ found.mean
    after = operator.to_dense().astype(np.float64) @ found.compressed_mean
    # inputs of a leaky integrator are summed over the steps, and its bias is added in each
    factor = bias_factor(original, layer)
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    layers = list(network.layers)
    layers[index] = replace(layers[index], weight=operator, bias=(bias + (before - after) / factor).astype(np.float32))
    return replace(network, layers=tuple(layers))


def _refit(weight: FloatArray, found: Moments) -> FloatArray:
    c = found.covariance
    if c.ndim == 1:
        return weight + weight * (found.lost / (c + (REFIT_DAMPING * float(c.mean()) or 1.0)))
    damped = c + np.eye(len(c)) * (REFIT_DAMPING * float(np.trace(c)) / len(c) or 1.0)
    result: FloatArray = weight + np.linalg.solve(damped, (weight @ found.lost).T).T
    return result
