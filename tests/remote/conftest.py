"""An sshd, and a simulated benchmark that can fail."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sen_runtime.bench import history, record, text
from tests.support import sshd

#: The measurement on the "device": does what the file `orders` in its home says, then prints a record.
MEASUREMENT = """
import json, os, pathlib, subprocess, sys, time
home = pathlib.Path.home()
(home / "pid").write_text(str(os.getpid()))
orders = (home / "orders").read_text().split() if (home / "orders").exists() else []
print("measuring a row", file=sys.stderr, flush=True)
record = {"argv": sys.argv[1:], "files": {str(p): p.read_text() for p in pathlib.Path().glob("[0-9d]*/*")}}
if "leave" in orders:
    (home / "child").write_text(str(subprocess.Popen(["sleep", "600"], stdout=2).pid))
try:
    if "hang" in orders or ("twin-hangs" in orders and "--cpu=3" in sys.argv):
        (home / "hanging").write_text(str(os.getpid()))
        subprocess.run(["sleep", "600"])
except KeyboardInterrupt:
    print(json.dumps({**record, "status": "interrupted"}))
    sys.exit(130)
if "fail" in orders:
    print("error: \\x1b[31mno engine called 'x'", file=sys.stderr)
    sys.exit(4)
print("nonsense" if "garbage" in orders else json.dumps({**record, "status": "complete"}))
sys.exit(3 if "throttled" in orders else 0)
"""


def load_record(text: str) -> dict[str, Any]:
    from sen_runtime.errors import SenError

    try:
        return dict(json.loads(text))
    except ValueError:
        raise SenError("not JSON") from None


def append(path: Path, record: dict[str, Any]) -> SimpleNamespace:
    with path.open("a") as file:
        file.write(record["status"] + "\n")
    return SimpleNamespace(notes=())


def use_stand_ins(set_attribute: Callable[[object, str, object], None] = setattr) -> None:
    """What reads and shows records is tested elsewhere."""
    set_attribute(record, "loads", load_record)
    set_attribute(record, "dumps", json.dumps)
    set_attribute(text, "table", lambda record: f"table of {record['status']}\n")
    set_attribute(history, "append", append)
    set_attribute(history, "read", lambda path: None)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_ins(monkeypatch.setattr)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    folder = tmp_path_factory.mktemp("sshd")
    sshd.stand_in(folder, MEASUREMENT)
    server = sshd.start(folder)
    yield server
    sshd.stop(server)


@pytest.fixture
def device(server: sshd.Server) -> Iterator[sshd.Server]:
    """The server with an empty home, which is empty again, or nearly, at the end."""
    for path in server.home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield server
    assert {path.name for path in server.home.iterdir()} <= {".cache", "orders", "pid", "child", "hanging"}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_text("model")
    return path


def inventory(device: sshd.Server, tmp_path: Path, text: str = "", names: tuple[str, ...] = ("device",)) -> Path:
    path = tmp_path / "hosts.toml"
    tables = [f'[hosts.{name}]\naddress = "{name}"\npython = "{device.folder}/python"\n{text}' for name in names]
    path.write_text("\n".join(tables))
    return path


def options(device: sshd.Server, tmp_path: Path, **kinds: Any) -> list[object]:
    return ["--ssh-config", device.config, "--inventory", inventory(device, tmp_path, **kinds)]


def left(device: sshd.Server) -> list[str]:
    """Files in the working folders there."""
    folder = device.home / ".cache/sen-edge/bench"
    # unlike rglob, os.walk passes over folders that are removed meanwhile
    return sorted(str(Path(parent, name).relative_to(folder)) for parent, _, files in os.walk(folder) for name in files)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., sshd.Server]]:
    """Start a server with settings of its own."""
    servers = []

    def start(*settings: str, environment: str = "") -> sshd.Server:
        sshd.stand_in(tmp_path / "own", MEASUREMENT)
        servers.append(sshd.start(tmp_path / "own", *settings, environment=environment))
        return servers[-1]

    yield start
    for server in servers:
        sshd.stop(server)
