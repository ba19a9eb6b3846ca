"""Calibration inputs and labelled data of a compression, by name or path."""

from __future__ import annotations

from pathlib import Path

from sen_edge.compression.pipeline import max_inputs
from sen_edge.data.calibration import Calibration, load_calibration
from sen_edge.data.datasets import Dataset, load
from sen_edge.model.model import Model


def load_inputs(
    model: Model, calibration: str | None, data: str | None, data_dir: Path | None
) -> tuple[Calibration | None, Dataset | None]:
    """Load the calibration inputs and the labelled data for `compress`.

    Args:
        model: that is compressed.
        calibration: name of a data set, or a path; None for none.
        data: the same of labelled data.
        data_dir: folder of the data sets.

    Raises:
        DataError: the data are missing or do not fit; see `sen_edge.data`.
    """
    network = model.network
    inputs = None if calibration is None else load_calibration(calibration, data_dir, network, max_inputs(network))
    dataset = None if data is None else load(data, data_dir, spikes=network.input_coding == "spikes")
    return inputs, dataset
