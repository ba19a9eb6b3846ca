"""Cost of factorizing a large layer from its positions, and latency of the result.

    python benchmarks/far_field.py low-rank [--neurons 65536 --radius 5 --tolerance 1e-3]
    python benchmarks/far_field.py hierarchical [--neurons 65536 --radius 50 --tolerance 1e-2 --leaf-size 16]

N source and N target neurons are distributed uniformly on two discs, one layer spacing apart; the radius is in
spacings. Memory is the peak of the process before the engine starts. Latency is that of the native engine, one thread.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from numpy.typing import NDArray

from sen_edge.compression.far_field import Estimate, factorize_coordinates
from sen_edge.compression.hierarchical import hierarchical
from sen_runtime import format as image
from sen_runtime.bench.memory import peak_bytes
from sen_runtime.engines import native
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Coordinates, LowRank

DEFAULTS = {"low-rank": (5.0, 1e-3), "hierarchical": (50.0, 1e-2)}
RUNS = 20


def disc(rng: np.random.Generator, neurons: int, radius: float, height: float) -> NDArray[np.float32]:
    """Draw positions `[neurons, 3]` uniformly on a disc."""
    r, angle = radius * np.sqrt(rng.random(neurons)), 2 * np.pi * rng.random(neurons)
    points: NDArray[np.float32] = np.stack([r * np.cos(angle), r * np.sin(angle), np.full(neurons, height)], axis=1)
    return points.astype(np.float32)


def factorize_layer(options: argparse.Namespace, operator: Coordinates) -> tuple[Network, Estimate]:
    """Factorize the layer in the selected form."""
    if options.form == "low-rank":
        factors, error = factorize_coordinates(operator, tolerance=options.tolerance)
        return Network((Layer(factors, None, Identity()),)), error
    layer = Layer(operator, None, Identity())
    layers, error = hierarchical(layer, tolerance=options.tolerance, leaf_size=options.leaf_size)
    return Network(layers), error


def main(options: argparse.Namespace) -> None:
    """Factorize, print, run."""
    rng = np.random.default_rng(0)
    source, target = (disc(rng, options.neurons, options.radius, height) for height in (0.0, 1.0))
    operator = Coordinates(source, target, rng.uniform(-1, 1, options.neurons).astype(np.float32))
    start = time.perf_counter()
    network, found = factorize_layer(options, operator)
    seconds = time.perf_counter() - start
    peak = (peak_bytes() or math.nan) / 2**30
    weight = network.layers[0].weight
    rank = f"rank {weight.rank}, " if isinstance(weight, LowRank) else ""
    print(
        f"{options.form}, {options.neurons} x {options.neurons}, radius {options.radius:g}: {seconds:.1f} s, peak "
        f"{peak:.2f} GiB, {rank}relative error {found.error:.3g} +- {found.standard_error:.1g} "
        f"({found.sampled_entries} entries sampled), {network.nbytes / 1e6:.1f} MB of {4 * operator.macs / 1e6:.0f}: "
        f"1/{4 * operator.macs / network.nbytes:.0f}"
    )
    session = native.load(image.dumps(network))
    x, latencies = rng.random((1, options.neurons), np.float32), []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(x)
        latencies.append(time.perf_counter() - start)
    print(f"native engine, {session.kernels}: {1000 * np.median(latencies):.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=DEFAULTS)
    parser.add_argument("--neurons", type=int, default=65536)
    parser.add_argument("--radius", type=float)
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--leaf-size", type=int, default=16)
    chosen = parser.parse_args()
    default_radius, default_tolerance = DEFAULTS[chosen.form]
    chosen.radius = default_radius if chosen.radius is None else chosen.radius
    chosen.tolerance = default_tolerance if chosen.tolerance is None else chosen.tolerance
    main(chosen)
