"""Engines in a worker process: crashes, errors, cleanup."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sen_runtime import worker
from sen_runtime.errors import EngineCrashError, EngineError, ImageError, MissingExtraError
from tests.conftest import Outcome
from tests.support.fragile import fragile as fragile

X = np.array([[1, 2]], np.float32)


def test_sessions_of_one_worker(fragile: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.versions(["fragile"]) == ({"fragile": "1.2"}, {})
    with worker.load("fragile", b"a", "a") as first, worker.load("fragile", b"b", "b") as second:
        np.testing.assert_array_equal(first.run(X), X * 2)
        pids = {int(each.run_all(X)["pid"][0]) for each in (first, second)}
    assert len(pids) == 1 and os.getpid() not in pids
    captured = capfd.readouterr()
    assert captured.out == "" and "something of note" in captured.err and "INFO" not in captured.err


def test_a_closed_session_is_not_another_one(fragile: None) -> None:
    first = worker.load("fragile", b"a", "a")
    first.close()
    with worker.load("fragile", b"b", "b") as second:
        with pytest.raises(EngineError):
            first.run(X)
        first.close()
        np.testing.assert_array_equal(second.run(X), X * 2)


@pytest.mark.parametrize(("model", "ending"), [(b"crash", "SIGABRT"), (b"kill", "SIGKILL"), (b"exit", "exit code 7")])
def test_a_crash_at_load_is_an_error(model: bytes, ending: str, fragile: None) -> None:
    kept = worker.load("fragile", b"a", "a")
    with pytest.raises(EngineCrashError) as raised:
        worker.load("fragile", model, "net.fragile")
    for part in ("fragile", ending, "net.fragile", "native code prints"):
        assert part in raised.value.message
    with pytest.raises(EngineCrashError):
        kept.run(X)
    kept.close()
    with worker.load("fragile", b"a", "a") as session:
        np.testing.assert_array_equal(session.run(X), X * 2)


def test_a_crash_in_a_run_is_an_error(fragile: None) -> None:
    session = worker.load("fragile", b"crash in run", "net.fragile")
    with pytest.raises(EngineCrashError) as raised:
        session.run(X)
    assert "net.fragile" in raised.value.message


def test_errors_are_those_of_the_engine(fragile: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError) as raised:
        worker.load("fragile", b"refuse", "a")
    assert (raised.value.message, raised.value.hint) == ("no good", "take another")
    with worker.load("fragile", b"bug", "a") as session, pytest.raises(EngineError, match="ZeroDivisionError: a bug"):
        session.run(X)
    monkeypatch.setenv("NO_FRAGILE", "1")
    worker.load("fragile", b"a", "a").close()
    _, missing = worker.versions(["fragile"])
    assert isinstance(missing["fragile"], MissingExtraError) and missing["fragile"].hint == "pip install fragile"


PARENT = """
import sys, time
import numpy as np
from sen_runtime import worker
print(int(worker.load("fragile", b"a", "a").run_all(np.ones((1, 2), np.float32))["pid"][0]), flush=True)
time.sleep(60)
"""


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


FORK = """
import os, time
import numpy as np
from sen_runtime import worker
x = np.ones((1, 2), np.float32)
first = worker.load("fragile", b"a", "a")
child = os.fork()
other = worker.load("fragile", b"a", "a") if child == 0 else first
print(int(other.run_all(x)["pid"][0]), flush=True)
if child == 0:
    time.sleep(60)
"""


def test_a_fork_has_a_worker_of_its_own(fragile: None, tmp_path: Path) -> None:
    """And does not keep that of its parent alive."""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    process = subprocess.Popen(
        [sys.executable, "-c", FORK], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    pids = {int(process.stdout.readline()) for _ in range(2)}
    process.wait()
    try:
        while sum(map(_is_running, pids)) > 1:
            time.sleep(0.02)
        assert len(pids) == 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(ending: signal.Signals, fragile: None, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", PARENT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert _is_running(pid)
    process.send_signal(ending)
    process.communicate()
    while _is_running(pid):  # hangs if it is an orphan
        time.sleep(0.02)
    assert ending == signal.SIGKILL or not any((tmp_path / "tmp").iterdir())


def test_an_export_that_crashes_an_engine(
    sen_edge: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fragile: None
) -> None:
    """As litert 2.3 crashes on int8 steps of 1e-10."""
    from sen_edge.model import checkpoint as checkpoints
    from tests.conftest import MLP, make_checkpoint

    monkeypatch.setattr("sen_exporters.onnx.exporter.OnnxExporter.engines", lambda *_: ("fragile",))
    monkeypatch.setattr("sen_exporters.onnx.exporter.OnnxExporter.instrument", lambda *_: b"crash")
    checkpoints.save(make_checkpoint(MLP), tmp_path / "mlp.pt")
    outcome = sen_edge("export", tmp_path / "mlp.pt", "--to", "onnx", "-o", tmp_path / "out")
    assert outcome.code == 3 and not (tmp_path / "out").exists()
    for part in ("fragile", "SIGABRT", "mlp.onnx", "nothing was written"):
        assert part in outcome.err
