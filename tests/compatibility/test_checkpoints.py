"""Checkpoints of every version, written by the releases and development versions that had it, with their outputs."""

from pathlib import Path

import numpy as np
import pytest

from sen_edge.model import checkpoint as checkpoints
from sen_runtime import reference
from tests.compatibility.test_images import FILES

CHECKPOINTS = sorted(path for path in FILES.glob("checkpoint-*") if path.suffix in checkpoints.SUFFIXES)


def test_every_version_is_here() -> None:
    assert {path.name.split("-")[1] for path in CHECKPOINTS} == {f"v{checkpoints.VERSION}"}
    assert {path.suffix for path in CHECKPOINTS} == {".pt", ".safetensors"}


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.name)
def test_a_checkpoint_gives_the_outputs_it_gave(path: Path) -> None:
    stored, checkpoint = np.load(path.with_suffix(".npz")), checkpoints.load(path)
    assert checkpoint.metadata["note"] == "kept"
    outputs = reference.run(checkpoints.to_network(checkpoint), stored["x"])
    np.testing.assert_allclose(outputs, stored["y"], rtol=1e-5, atol=1e-6)
