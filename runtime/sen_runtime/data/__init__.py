"""Reader of examples for training, compression, calibration, verification and benchmarks.

Nothing is unpickled; sizes that headers declare are compared with those of the file before
content is decompressed. Every command splits a file of `x` and `y` in the same way, see `Examples.hold_out`.
"""

from sen_runtime.data.examples import (
    ALL,
    TEST,
    TEST_SHARE,
    TRAINING,
    Examples,
    FloatArray,
    Inputs,
    check_fit,
    hold_out,
    split_examples,
)
from sen_runtime.data.file import DataFile
from sen_runtime.data.idx import read_idx
from sen_runtime.data.npz import Npz
from sen_runtime.data.reader import read_parts
from sen_runtime.data.source import Form, Raw, form_of
from sen_runtime.data.targets import RawTargets, Targets

__all__ = [
    "ALL",
    "TEST",
    "TEST_SHARE",
    "TRAINING",
    "DataFile",
    "Examples",
    "FloatArray",
    "Form",
    "Inputs",
    "Npz",
    "Raw",
    "RawTargets",
    "Targets",
    "check_fit",
    "form_of",
    "hold_out",
    "read_idx",
    "read_parts",
    "split_examples",
]
