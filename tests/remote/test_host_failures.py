"""`sen-edge bench --host` with hosts that cannot be reached or fail during the run."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sen_edge.remote.ssh import Call
from tests.conftest import Outcome
from tests.remote.conftest import inventory, left, options
from tests.support import sshd

Run = Callable[..., Outcome]

pytestmark = [pytest.mark.needs("ssh", "sshd"), pytest.mark.usefixtures("stand_ins")]

#: `sen-edge` in a process of its own, with the same stand-ins as here.
DRIVER = """
from tests.remote import conftest
conftest.use_stand_ins()
from sen_edge.cli.main import main
main()
"""


def is_empty(device: sshd.Server) -> bool:
    """Whether nothing is left in the working folders soon, where the connection is gone."""
    for _ in range(2000):
        if not left(device):
            return True
        time.sleep(0.05)
    return False


def set_deadline(monkeypatch: pytest.MonkeyPatch, is_late: Callable[[Call], bool]) -> None:
    """Replace the clock by a condition, for the test machine may be busy."""
    monkeypatch.setattr(Call, "is_late", is_late)


def await_file(path: Path) -> str:
    for _ in range(4000):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def is_gone(pid: int) -> bool:
    for _ in range(2000):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def client_config(device: sshd.Server, tmp_path: Path, *, old: str, new: str) -> Path:
    text = device.config.read_text()
    assert old in text
    path = tmp_path / "ssh_config"
    path.write_text(text.replace(old, new))
    return path


def refused(sen_edge: Run, config: Path, device: sshd.Server, artifact: Path, tmp_path: Path) -> str:
    asked = ["--ssh-config", config, "--inventory", inventory(device, tmp_path)]
    outcome = sen_edge("bench", artifact, *asked)
    assert (outcome.code, outcome.out) == (1, "")
    assert "\n  - device, connect: " in outcome.err
    return outcome.err


def test_wrong_key(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    sshd.keygen(tmp_path / "other_key")
    config = client_config(device, tmp_path, old=str(device.folder / "user_key"), new=str(tmp_path / "other_key"))
    said = refused(sen_edge, config, device, artifact, tmp_path)
    assert "Permission denied (publickey)." in said and "ssh-copy-id" in said


def test_unknown_host_key(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    config = client_config(device, tmp_path, old=str(device.folder / "known_hosts"), new=str(tmp_path / "empty"))
    with config.open("a") as file:
        file.write("  StrictHostKeyChecking no\n")  # whatever the user's configuration says
    said = refused(sen_edge, config, device, artifact, tmp_path)
    assert "ssh-keyscan" in said
    assert not (tmp_path / "empty").exists()


def test_changed_host_key(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"[127.0.0.1]:{device.port} {sshd.keygen(tmp_path / 'old_key')}\n")
    config = client_config(device, tmp_path, old=str(device.folder / "known_hosts"), new=str(tmp_path / "known"))
    said = refused(sen_edge, config, device, artifact, tmp_path)
    assert "ssh-keygen -R" in said


def test_nothing_listens(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    config = client_config(device, tmp_path, old=f"Port {device.port}", new=f"Port {sshd.free_port()}")
    assert "connection refused" in refused(sen_edge, config, device, artifact, tmp_path)


def test_no_such_name(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    config = client_config(device, tmp_path, old="HostName 127.0.0.1", new="HostName no-such-host.invalid")
    assert "unknown host name" in refused(sen_edge, config, device, artifact, tmp_path)


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=touch pwned", "pi@-x", "a b", "x;touch pwned", "$(id)", "", "a\nb"]
)
def test_invalid_addresses(
    address: str, sen_edge: Run, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = sen_edge("bench", artifact, f"--host={address}")
    assert outcome.code == 2 and "--host" in outcome.err
    assert not (tmp_path / "pwned").exists()


def test_failure_is_reported_with_stage_and_last_lines(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("fail")
    outcome = sen_edge("bench", artifact, *options(device, tmp_path), "--json", tmp_path / "x.json")
    assert outcome.code == 1 and not (tmp_path / "x.json").exists()
    assert "  - device, measure: " in outcome.err
    assert "      | error: [31mno engine called 'x'\n" in outcome.err  # and no escape before the bracket


def test_what_is_no_record_is_refused(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    (device.home / "orders").write_text("garbage")
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    assert outcome.code == 1 and "device, fetch: " in outcome.err


def test_hanging_host_times_out_and_the_other_finishes(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_deadline(monkeypatch, lambda call: call.address == "twin" and (device.home / "hanging").exists())
    (device.home / "orders").write_text("twin-hangs")
    path = inventory(device, tmp_path, names=("device", "twin"))
    path.write_text(path.read_text() + "cpu = 3\n")
    asked = ["--ssh-config", device.config, "--inventory", path]
    outcome = sen_edge("bench", artifact, *asked, "--json", tmp_path / "x.json")
    assert outcome.code == 1
    assert "  - twin, measure: " in outcome.err
    assert outcome.out == "device\ntable of complete\n"
    assert len(json.loads((tmp_path / "x.json").read_text())) == 1
    assert left(device) == []


def test_a_connection_that_drops_stops_the_measurement_there(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("hang")
    pids: list[int] = []

    def drop() -> None:
        pids.append(int(await_file(device.home / "pid")))
        for pid in device.session_ids():
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=drop)
    thread.start()
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    thread.join()
    assert outcome.code == 1 and "  - device, measure: " in outcome.err
    assert is_gone(pids[0])
    assert is_empty(device)


def test_dead_connection_times_out(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen_edge.remote.ssh.GRACE_S", 0.5)
    (device.home / "orders").write_text("hang")
    stopped: list[int] = []

    def freeze() -> None:
        await_file(device.home / "pid")
        stopped.extend(device.session_ids())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    thread = threading.Thread(target=freeze)
    thread.start()
    set_deadline(monkeypatch, lambda call: bool(stopped))
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    thread.join()
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)
    assert outcome.code == 1 and "  - device, measure: time limit" in outcome.err
    assert is_gone(int((device.home / "pid").read_text())) and is_empty(device)


def test_nothing_is_left_running_there(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    (device.home / "orders").write_text("leave")
    assert sen_edge("bench", artifact, *options(device, tmp_path)).code == 0
    assert is_gone(int((device.home / "child").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "where"),
    [(signal.SIGINT, "terminal"), (signal.SIGTERM, "here"), (signal.SIGHUP, "here"), (signal.SIGTERM, "there")],
)
def test_a_signal_stops_the_measurement_there_and_keeps_what_it_has(
    device: sshd.Server, artifact: Path, tmp_path: Path, number: signal.Signals, where: str
) -> None:
    (device.home / "orders").write_text("hang")
    asked = [artifact, *options(device, tmp_path), "--json", tmp_path / "x.json"]
    command = [sys.executable, "-c", DRIVER, "bench", *map(str, asked)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root, start_new_session=True)
    pid = int(await_file(device.home / "hanging"))
    if where == "terminal":
        os.killpg(process.pid, number)
    else:  # there: to the program that started the measurement
        os.kill(process.pid if where == "here" else psutil.Process(pid).ppid(), number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert json.loads((tmp_path / "x.json").read_text())["status"] == "interrupted"
    assert is_gone(pid) and left(device) == []


def test_nothing_is_left_of_a_killed_program(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("hang")
    pids: list[int] = []

    def kill() -> None:
        pids.append(int(await_file(device.home / "hanging")))
        os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    thread.join()
    assert outcome.code == 1 and "  - device, measure: " in outcome.err
    assert is_gone(pids[0]) and left(device) == []


def test_no_python_there(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text('[hosts.device]\naddress = "device"\npython = "/nowhere/python3"\n')
    outcome = sen_edge("bench", artifact, "--ssh-config", device.config, "--inventory", path)
    assert outcome.code == 1
    assert "/nowhere/python3" in outcome.err
    assert "Python 3.9" in outcome.err


def test_an_interpreter_without_the_runtime(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    bare = device.folder / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    path = tmp_path / "hosts.toml"
    path.write_text(f'[hosts.device]\naddress = "device"\npython = "{bare}"\n')
    outcome = sen_edge("bench", artifact, "--ssh-config", device.config, "--inventory", path)
    assert outcome.code == 1 and f"device, install: {bare}" in outcome.err


def test_no_python_on_the_path(sen_edge: Run, own_server: Callable[..., sshd.Server], artifact: Path) -> None:
    server = own_server(environment="PATH=/nowhere")
    outcome = sen_edge("bench", artifact, "--ssh-config", server.config, "--host", "device")
    assert outcome.code == 1
    assert "device, python: " in outcome.err


def test_a_full_disk(sen_edge: Run, own_server: Callable[..., sshd.Server], artifact: Path, tmp_path: Path) -> None:
    server = own_server('ForceCommand ulimit -f 8; exec sh -c "$SSH_ORIGINAL_COMMAND"')  # no file above some kB
    artifact.write_bytes(bytes(1 << 20))
    outcome = sen_edge("bench", artifact, *options(server, tmp_path))
    assert outcome.code == 1 and "\n      | [Errno 27] File too large" in outcome.err
    assert left(server) == []
    artifact.write_bytes(bytes(100))
    assert sen_edge("bench", artifact, *options(server, tmp_path)).code == 0


def test_temporary_folder_with_an_unusual_name(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(prefix="a %h "))
    for folder in (short, tmp_path / ("long" * 20)):
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert sen_edge("bench", artifact, *options(device, tmp_path)).code == 0
    short.rmdir()


def test_what_a_login_shell_prints_is_not_taken_for_the_record(
    sen_edge: Run, own_server: Callable[..., sshd.Server], artifact: Path, tmp_path: Path
) -> None:
    server = own_server('ForceCommand echo welcome; exec sh -c "$SSH_ORIGINAL_COMMAND"')
    outcome = sen_edge("bench", artifact, *options(server, tmp_path), "--json=-")
    assert json.loads(outcome.out)["status"] == "complete"
