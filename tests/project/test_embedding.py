"""The programs of docs/how-to/embed-in-python.md run as they are."""

import json
import re
import runpy
import subprocess
import sys
import threading
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sen_runtime import format as image
from tests.conftest import MLP, SNN, make_network

PAGE = (Path(__file__).parents[2] / "docs/how-to/embed-in-python.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^#+ ([^\n]+)\n(?:(?!\n#).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
SERVICE = PROGRAMS["A service"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    image.write(make_network(MLP), tmp_path / "model.sen")
    image.write(make_network(SNN), tmp_path / "spikes.sen")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_programs_are_found() -> None:
    assert len(PROGRAMS) == PAGE.count("```python")


@pytest.mark.parametrize("title", [title for title in PROGRAMS if title != "A service"])
def test_a_program_runs(title: str, folder: Path) -> None:
    (folder / "program.py").write_text(PROGRAMS[title], encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", "program.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr


def test_the_service_answers(folder: Path) -> None:
    assert len(SERVICE.splitlines()) <= 45
    (folder / "service.py").write_text(SERVICE, encoding="utf-8")
    service = runpy.run_path("service.py")
    service["Predict"].log_message = lambda *_: None
    with service["session"], ThreadingHTTPServer(("127.0.0.1", 0), service["Predict"]) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            status, answer = _post(server.server_port, json.dumps([0.5] * 64))
            assert status == 200 and len(answer["outputs"]) == 10
            for body in ("[1, 2]", "[NaN]", "text", "\xe9", "[" * 5000):
                status, answer = _post(server.server_port, body)
                assert status == 400 and answer["error"]
            assert _post(server.server_port, "", size=1 << 30)[0] == 413
        finally:
            server.shutdown()


def _post(port: int, body: str, size: int | None = None) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(len(body) if size is None else size))
    connection.endheaders(body.encode("latin1"))
    with connection.getresponse() as answer:
        found = answer.status, json.load(answer)
    connection.close()
    return found
