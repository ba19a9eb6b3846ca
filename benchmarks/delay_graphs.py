"""File size, load time and latency of ONNX and TFLite files of a network with delays, by form and batch.

    python benchmarks/delay_graphs.py

700 inputs and 300 recurrent neurons, as SpSNN has, with delays of up to 41 steps from positions in two dimensions; 2 %
of the inputs spike in a step. One thread, one input. Times are of the processor, so that other processes do not count;
a latency is the median over runs of all steps, divided by the steps.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from sen_exporters.base import exporter
from sen_runtime.engines import litert, onnxruntime
from sen_runtime.ir.delays import SpatialDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, RefractoryLif
from sen_runtime.ir.operators import Dense

N_IN, HIDDEN, N_OUT, STEPS, RUNS, SPIKES = 700, 300, 20, 60, 15, 0.02
LOAD = {"onnx": onnxruntime.load, "tflite": litert.ENGINE.load}
FORMS = {"onnx": ("unrolled", "scan", "step"), "tflite": ("unrolled", "step")}


def network(rng: np.random.Generator) -> Network:
    """Build a network of the size of SpSNN."""

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    here, there = 12 * normal(N_IN, 2), 12 * normal(HIDDEN, 2)
    delays = [SpatialDelay(source, there, 2.0, 0.01, 41, "wrap", shift=at) for at, source in enumerate((here, there))]
    hidden = Layer(
        Dense(np.abs(normal(HIDDEN, N_IN)) * np.float32(3 / N_IN**0.5)),
        None,
        RefractoryLif(0.95),
        delay=delays[0],
        recurrent=Recurrence(Dense(normal(HIDDEN, HIDDEN) / np.float32(HIDDEN**0.5)), delays[1]),
        synapse=0.78,
    )
    readout = Layer(Dense(normal(N_OUT, HIDDEN)), None, LeakyIntegrator(1.0))
    return Network((hidden, readout), STEPS, "spikes", "last_membrane")


def main() -> None:
    """Print a row for each form."""
    rng = np.random.default_rng(0)
    built, x = network(rng), (rng.random((1, STEPS, N_IN)) < SPIKES).astype(np.float32)
    print("| form | batch | file, kB | load, ms | us per step |\n| --- | --- | --- | --- | --- |")
    for target, form, rows in ((t, form, rows) for t, forms in FORMS.items() for form in forms for rows in (None, 1)):
        chosen = exporter(target)
        content = chosen.export(built, chosen.Options(snn=form, batch_size=rows)).main
        start = time.process_time()
        with LOAD[target](content) as session:
            load_ms, times = 1000 * (time.process_time() - start), []
            for _ in range(RUNS):
                start = time.process_time()
                session.run(x)
                times.append(time.process_time() - start)
        batch = "any" if rows is None else rows
        us = 1e6 * median(times) / STEPS
        print(f"| {target}, {form} | {batch} | {len(content) / 1000:,.0f} | {load_ms:.0f} | {us:.0f} |")


if __name__ == "__main__":
    main()
