"""Statistics of calibration inputs: moments of every layer's inputs, and sensitivities of the outputs to each layer.

No labels are used. Sums are in float64 over chunks, so memory does not grow with the inputs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sen_edge.compression.quadratic import MAX_NEURONS
from sen_edge.data.subsample import subsample
from sen_edge.errors import DataError
from sen_edge.model.dynamics import Product
from sen_edge.model.free import FreeNetwork
from sen_runtime import reference
from sen_runtime.ir.network import Network

FloatArray = NDArray[np.float64]
Inputs = NDArray[np.float32]

#: Inputs that run through a network at once.
CHUNK = 1000
#: Max number of inputs for derivatives, and of outputs before random mixtures of them are used.
DERIVATIVE_INPUTS, MAX_PROBES = 2048, 32
#: Weight of the square of a change that all outputs share.
COMMON = 0.1
#: Min variance of a covered direction, as a share of the max variance.
COVERED = 1e-9


class CompressionWarning(UserWarning):
    """A doubtful condition of a compression that succeeds."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Inputs of a layer in the original network (x) and in the compressed one (z).

    Attributes:
        mean: of x, `[n_in]`.
        compressed_mean: of z, `[n_in]`.
        covariance: of z, `[n_in, n_in]`; its diagonal, `[n_in]`, beyond `MAX_NEURONS`.
        lost: covariance of x - z with z, likewise; 0 where both networks are the same.
        rows: number of examples, times steps where a row is a step.
    """

    mean: FloatArray
    compressed_mean: FloatArray
    covariance: FloatArray
    lost: FloatArray
    rows: int

    @property
    def variance(self) -> FloatArray:
        """Variances of z, `[n_in]`."""
        return self.covariance if self.covariance.ndim == 1 else np.diag(self.covariance)

    @property
    def rank(self) -> int:
        """Number of directions that the inputs cover."""
        values = self.covariance if self.covariance.ndim == 1 else np.linalg.eigvalsh(self.covariance)
        return int(np.sum(values > COVERED * max(float(values.max()), 0.0)))


def check_calibration(network: Network, calibration: Inputs | None) -> Inputs:
    """Return the inputs as float32.

    Raises:
        DataError: there are none, they have another shape than the network takes, or are not finite.
    """
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
    """Moments of every layer's inputs.

    Args:
        original: the network as it was.
        compressed: the network as compressed so far; the same object at first.
        calibration: `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes".
    """
    sums = [_Sums(layer.weight.shape[1]) for layer in original.layers]
    same = compressed is original
    for start in range(0, len(calibration), CHUNK):
        chunk = calibration[start : start + CHUNK]
        before, _ = reference.layer_inputs(original, chunk)
        after = before if same else reference.layer_inputs(compressed, chunk)[0]
        for total, x, z in zip(sums, before, after, strict=True):
            total.add(x, z)
    return [total.moments() for total in sums]


class _Sums:
    """Running sums of one layer, shifted by the mean of the first chunk for precision."""

    def __init__(self, n_in: int) -> None:
        self.rows = 0
        self.shift: FloatArray = np.zeros(n_in)
        self.x, self.z = np.zeros(n_in), np.zeros(n_in)
        shape = (n_in, n_in) if n_in <= MAX_NEURONS else (n_in,)
        self.zz: FloatArray = np.zeros(shape)
        self.dz: FloatArray | None = None

    def add(self, x: Inputs, z: Inputs) -> None:
        """Return rows `[rows, n_in]` of both networks."""
        same = x is z
        if not self.rows:
            self.shift = z.mean(axis=0, dtype=np.float64)
        after: FloatArray = z - self.shift
        before: FloatArray = after if same else x - self.shift
        self.rows += len(z)
        self.x += before.sum(axis=0)
        self.z += after.sum(axis=0)
        self.zz += _product(after, after, self.zz.ndim)
        if not same:
            self.dz = _product(before - after, after, self.zz.ndim) + (0.0 if self.dz is None else self.dz)

    def moments(self) -> Moments:
        """Means and central moments."""
        x, z = self.x / self.rows, self.z / self.rows
        outer = np.outer if self.zz.ndim == 2 else np.multiply
        lost = np.zeros_like(self.zz) if self.dz is None else self.dz / self.rows - outer(x - z, z)
        covariance = self.zz / self.rows - outer(z, z)
        diagonal = covariance if covariance.ndim == 1 else np.einsum("ii->i", covariance)
        np.maximum(diagonal, 0.0, out=diagonal)  # rounding of constant inputs
        return Moments(x + self.shift, z + self.shift, covariance, lost, self.rows)


def _product(a: FloatArray, b: FloatArray, ndim: int) -> FloatArray:
    result: FloatArray = a.T @ b if ndim == 2 else np.einsum("ri,ri->i", a, b)
    return result


def warn_of_rank(index: int, found: Moments) -> None:
    """Warn if the inputs of a layer do not cover all directions; damping determines the others."""
    n_in = len(found.mean)
    if found.covariance.ndim == 2 and (rank := found.rank) < n_in:
        warnings.warn(
            f"layer {index}: {found.rows} calibration inputs cover {rank} of {n_in} directions; the others are "
            "regularised (weights change little in these directions)",
            CompressionWarning,
            stacklevel=2,
        )


def sensitivities(network: Network, calibration: Inputs, seed: int = 0) -> list[FloatArray]:
    """Sensitivity A = mean of J^T M J, `[n_out, n_out]`, of each layer; see `sen_edge.compression.quadratic`.

    J is the derivative of the network's outputs by the inputs of the layer's neurons, summed over the steps of a
    spiking network, with the surrogate derivative of the spike. M weights the outputs equally, and by `COMMON` a change
    of all of them, which changes no class. Many outputs are replaced by random mixtures.

    Args:
        network: without coordinates.
        calibration: as for `moments`; `DERIVATIVE_INPUTS` of them are used.
        seed: of the mixtures.
    """
    chosen = subsample(calibration, DERIVATIVE_INPUTS)
    totals = [np.zeros((layer.weight.shape[0],) * 2) for layer in network.layers]
    probes = _probes(network.n_out, seed)
    metric = probes.double().T @ probes.double()
    module = FreeNetwork(network)
    for start in range(0, len(chosen), CHUNK):
        currents: list[list[Tensor]] = [[] for _ in network.layers]
        products = [_record(product, into) for product, into in zip(module.products(), currents, strict=True)]
        outputs = module.trace(torch.from_numpy(chosen[start : start + CHUNK]), products)[-1]
        flat = [current for layer in currents for current in layer]
        for k, probe in enumerate(probes):
            found = iter(torch.autograd.grad(outputs, flat, probe.expand_as(outputs), retain_graph=k + 1 < len(probes)))
            for index, layer in enumerate(currents):
                for _ in layer:
                    rows = next(found).flatten(0, -2).double()
                    totals[index] += (rows.T @ rows).numpy()
    neuron = network.layers[-1].neuron
    result = [total / len(chosen) for total in totals]
    if not network.is_spiking or neuron.role == "readout":
        # inputs of a leaky integrator are summed over the steps
        result[-1] = metric.numpy()
    return result


def _record(product: Product, into: list[Tensor]) -> Product:
    def recording(x: Tensor) -> Tensor:
        y = product(x)
        into.append(y)
        return y

    return recording


def _probes(n_out: int, seed: int) -> Tensor:
    """Rows `[probes, n_out]` with `probes^T probes` the metric of the outputs, on average."""
    keep = 1 - COMMON**0.5  # the root of a metric that shrinks the direction (1 ... 1) to the share COMMON
    signs = torch.eye(n_out)
    if n_out > MAX_PROBES:
        generator = torch.Generator().manual_seed(seed)
        signs = (torch.randint(0, 2, (MAX_PROBES, n_out), generator=generator) * 2.0 - 1) / MAX_PROBES**0.5
    result: Tensor = signs - keep * signs.mean(1, keepdim=True)
    return result
