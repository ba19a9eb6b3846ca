"""File size, load time and latency of ONNX and TFLite files of a network with delays, by form and batch.

    python benchmarks/delay_graphs.py

The network is that of `delays`. One thread, one input. Times are of the processor, so that other processes do not
count; a latency is the median over runs of all steps, divided by the steps.
"""

from __future__ import annotations

import time
from statistics import median

from delays import STEPS, delayed

from sen_exporters.base import exporter
from sen_runtime.engines import litert, onnxruntime

RUNS = 15
LOAD = {"onnx": onnxruntime.load, "tflite": litert.ENGINE.load}
FORMS = {"onnx": ("unrolled", "scan", "step"), "tflite": ("unrolled", "step")}


def main() -> None:
    """Print a row for each form."""
    network, x = delayed()
    print("| form | batch | file, kB | load, ms | us per step |\n| --- | --- | --- | --- | --- |")
    for target, form, rows in ((t, form, rows) for t, forms in FORMS.items() for form in forms for rows in (None, 1)):
        chosen = exporter(target)
        content = chosen.export(network, chosen.Options(snn=form, batch_size=rows)).main
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
