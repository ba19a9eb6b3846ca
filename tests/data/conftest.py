"""Isolation from the data sets of this machine."""

from pathlib import Path

import pytest

from sen_edge.data import mnist


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the MNIST of this machine or leaves anything in its cache."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(mnist.DATA_VARIABLE, raising=False)
