"""Exported networks, as a user's build system finds them in one folder."""

from pathlib import Path

import pytest

from tests.builds.project import networks
from tests.support.c_exports import export


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of `networks`: `snn/` has a binary file, `ints/` and `both/` share their kernels."""
    folder = tmp_path_factory.mktemp("exports")
    options = {"snn": {"weights": "incbin"}, "ints": {"kernels": "shared"}, "both": {"kernels": "shared"}}
    for name, network in networks().items():
        export(network, name, **options.get(name, {})).write(folder)
    return folder
