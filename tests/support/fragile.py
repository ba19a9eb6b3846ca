"""An engine that crashes on demand, installed as a distribution."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sen_runtime import engines, worker

#: An engine of a third party, which does what its model says.
ENGINE = """
import os, sys, tempfile
from sen_runtime.errors import ImageError, MissingExtraError
from sen_runtime.engines import Engine
class Session:
    batch_size = None
    input_shape = (2,)
    def __init__(self, model): self.model = model
    def run(self, x):
        if self.model == b"crash in run": os.abort()
        if self.model == b"bug": raise ZeroDivisionError("a bug")
        return x * 2
    def close(self): pass
    def run_all(self, x): return {"output": self.run(x), "pid": __import__("numpy").array([os.getpid()])}
def load(model, threads=1):
    data = model if isinstance(model, bytes) else model.read_bytes()
    tempfile.mkdtemp()
    os.write(2, b"INFO: hello\\nsomething of note\\n")
    os.write(1, b"native code prints\\n")
    if data == b"crash": os.abort()
    if data == b"kill": os.kill(os.getpid(), 9)
    if data == b"exit": os._exit(7)
    if data == b"refuse": raise ImageError("no good", "take another")
    return Session(data)
def version():
    if "NO_FRAGILE" in os.environ: raise MissingExtraError("fragile", "pip install fragile")
    return "1.2"
ENGINE = Engine("fragile", (".fragile",), load, version)
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine `fragile`, installed as a distribution of its own."""
    site = tmp_path / "site"
    info = site / "fragile-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "fragile.py").write_text(ENGINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[sen_edge.engines]\nfragile = fragile:ENGINE\n")
    monkeypatch.syspath_prepend(str(site))
    engines._entry_points.cache_clear()
    yield
    engines._entry_points.cache_clear()
    worker._close()
