"""`sen-edge bench --host` with a real sshd and a simulated benchmark that can fail."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sen_edge.remote.ssh import Call
from sen_runtime.bench import history, record, text
from tests.conftest import Outcome
from tests.support import sshd

Run = Callable[..., Outcome]

pytestmark = pytest.mark.needs("ssh", "sshd")

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

#: `sen-edge` in a process of its own, with the same stand-ins as here.
DRIVER = """
from tests.remote import test_remote
test_remote.use_stand_ins()
from sen_edge.cli.main import main
main()
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


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- what works ----------------------------------------------------------------------------------


def test_two_hosts_at_once_side_by_side(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    data = tmp_path / "data set.npz"
    data.write_text("inputs")
    outputs = {name: tmp_path / f"out.{name}" for name in ("json", "history")}
    flags = [f"--{name}={path}" for name, path in outputs.items()]
    asked = options(device, tmp_path, names=("device", "twin"))
    outcome = sen_edge("bench", artifact, *asked, "--engine", "onnxruntime", "--threads", "1,2", "--data", data, *flags)
    assert outcome.code == 0, outcome.err
    assert outcome.out == "device\ntable of complete\n\ntwin\ntable of complete\n"
    assert {"device: measuring a row", "twin: measuring a row"} <= set(outcome.err.splitlines())
    one, two = json.loads(outputs["json"].read_text())
    assert one["command"][-1] == "--host=device" and two["command"][-1] == "--host=twin"
    assert one["argv"] == [
        "bench", "--threads=1,2", "--engine=onnxruntime", "--json=-", "--data=data/data set.npz", "0/net.onnx"
    ]  # fmt: skip
    assert one["files"] == {"0/net.onnx": "model", "data/data set.npz": "inputs"}
    assert outputs["history"].read_text() == "complete\n" * 2
    assert left(device) == []


def test_hosts_are_separated_by_commas_or_repeated(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    asked = options(device, tmp_path, names=("device", "other", "twin"))
    for hosts in (["--host=device,twin"], ["--host=device", "--host=twin"]):
        outcome = sen_edge("bench", artifact, *asked, *hosts)
        assert outcome.code == 0, outcome.err
        assert outcome.out == "device\ntable of complete\n\ntwin\ntable of complete\n"


def test_one_host_gives_one_record(sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path) -> None:
    outcome = sen_edge("bench", artifact, *options(device, tmp_path), "--json=-")
    assert json.loads(outcome.out)["status"] == "complete"


def test_names_that_a_shell_or_a_parser_would_misread(sen_edge: Run, device: sshd.Server, tmp_path: Path) -> None:
    names = ['my model\'s "best" $(touch pwned);`x`.onnx', "-rf.onnx", "--help.onnx", "a\\b*?.sen", "ünï.sen"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/--help.onnx").write_text("another of the same name")
    paths = [tmp_path / name for name in names] + [tmp_path / "other/--help.onnx", tmp_path / names[0]]
    outcome = sen_edge("bench", *options(device, tmp_path), "--json=-", "--", *paths)
    record = json.loads(outcome.out)
    assert record["files"] == {
        **{f"{index}/{name}": name for index, name in enumerate(names)},
        "5/--help.onnx": "another of the same name",
    }
    assert record["argv"][-7:] == [f"{i}/{name}" for i, name in enumerate([*names, "--help.onnx"])] + [f"0/{names[0]}"]


def test_a_file_named_like_an_option_is_taken_from_the_folder_we_are_in(
    sen_edge: Run, device: sshd.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-v.sen").write_text("model")
    monkeypatch.chdir(tmp_path)
    outcome = sen_edge("bench", *options(device, tmp_path), "--json=-", "--", "-v.sen")
    assert json.loads(outcome.out)["command"][:3] == ["sen-edge", "bench", "./-v.sen"]


@pytest.mark.parametrize("option", ["--keep", "--clean"])
def test_the_working_folder_stays_or_goes(
    option: str, sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("fail")  # also after a failure
    assert sen_edge("bench", artifact, *options(device, tmp_path), option).code == 1
    assert [name.split("/", 1)[1] for name in left(device)] == (["0/net.onnx"] if option == "--keep" else [])


def test_the_core_of_the_inventory_and_of_the_command_line(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    for stated, word in (("3", "3"), ("[2, 3]", "2,3"), ("'big'", "big")):
        asked = options(device, tmp_path, text=f"cpu = {stated}")
        assert f"--cpu={word}" in json.loads(sen_edge("bench", artifact, *asked, "--json=-").out)["argv"]
    argv = json.loads(sen_edge("bench", artifact, *asked, "--json=-", "--cpu", "1,2", "--batch=8").out)["argv"]
    assert {"--cpu=1,2", "--batch=8"} <= set(argv) and "--cpu=big" not in argv


def test_a_measurement_that_was_throttled_is_kept_and_exits_3(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path
) -> None:
    (device.home / "orders").write_text("throttled")
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    assert (outcome.code, outcome.out) == (3, "table of complete\n")


# --- hosts that cannot be reached ----------------------------------------------------------------


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


# --- hosts on which something goes wrong ---------------------------------------------------------


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


# --- installing ----------------------------------------------------------------------------------

#: `python3` of a device without network or runtime: makes environments whose pip notes what it is asked for.
DEVICE_PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >> "$HOME/log"
elif [ "$1 $2" = "-m pip" ]; then
  for last; do :; done
  echo "pip $last" >> "$HOME/log"
  if [ -e "$HOME/offline" ]; then echo "ERROR: No matching distribution found for numpy" >&2; exit 1; fi
  tar -tf "${last#*file://}" > "$HOME/archive"
else
  PYTHONPATH={stand_in}
  export PYTHONPATH
  exec {python} -S "$@"
fi
"""


@pytest.fixture
def bare_device(own_server: Callable[..., sshd.Server], tmp_path: Path) -> sshd.Server:
    """A device whose python3 has no runtime yet."""
    path = tmp_path / "bin"
    path.mkdir()
    server = own_server(environment=f"PATH={path}:/usr/bin:/bin")
    stand_in = server.folder / "stand-in"
    wrapper = path / "python3.sh"
    wrapper.write_text(DEVICE_PYTHON.replace("{stand_in}", str(stand_in)).replace("{python}", sys.executable))
    wrapper.chmod(0o755)
    # what the agent takes for its own interpreter is the wrapper too
    patch = f"import sys; sys.executable = {str(wrapper)!r}; exec(sys.argv.pop(1))"
    (path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$1" "$2" "{patch}" "$3"\n')
    (path / "python3").chmod(0o755)
    return server


def test_the_runtime_is_installed_once_and_said_so(sen_edge: Run, bare_device: sshd.Server, artifact: Path) -> None:
    home, asked = bare_device.home, ["--ssh-config", bare_device.config, "--host", "device"]
    outcome = sen_edge("bench", artifact, *asked, "--no-install")
    assert outcome.code == 1 and not (home / "log").exists()
    assert "sen-edge-runtime onnx" in outcome.err
    outcome = sen_edge("bench", artifact, *asked)
    assert outcome.code == 0, outcome.err
    assert "sen-edge-runtime[onnx]" in outcome.err
    made, pip = (home / "log").read_text().splitlines()
    assert made == "venv" and pip.startswith(f"pip sen-edge-runtime[onnx] @ file://{home}/.cache/sen-edge/bench/")
    archive = (home / "archive").read_text().split()
    assert "sen_edge_runtime-0.1.0/pyproject.toml" in archive
    assert "sen_edge_runtime-0.1.0/sen_runtime/c/src/dense.c" in archive
    (home / "log").unlink()
    assert sen_edge("bench", artifact, *asked, "--no-install").code == 0
    assert not (home / "log").exists()
    other = artifact.with_suffix(".tflite")
    other.write_text("model")
    assert sen_edge("bench", artifact, other, *asked, "--engine", "onnxruntime", "--engine", "litert").code == 0
    assert "[onnx,tflite] @" in (home / "log").read_text() and "venv" not in (home / "log").read_text().split()


def test_an_installation_that_fails_is_repeated(sen_edge: Run, bare_device: sshd.Server, artifact: Path) -> None:
    home, asked = bare_device.home, ["--ssh-config", bare_device.config, "--host", "device"]
    (home / "offline").touch()
    outcome = sen_edge("bench", artifact, *asked)
    assert outcome.code == 1 and "device, install: " in outcome.err
    assert "| ERROR: No matching distribution found for numpy" in outcome.err and "  -> " in outcome.err
    assert left(bare_device) == []
    (home / "offline").unlink()
    assert sen_edge("bench", artifact, *asked).code == 0
    assert [line.split()[0] for line in (home / "log").read_text().splitlines()] == ["venv", "pip"] * 2


# --- before anything is measured -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hosts", "TOML"),
        ("", "hosts"),
        ("[hosts]", "hosts"),
        ("[machines.a]", "hosts"),
        ("[hosts.a]\naddress = 'x'\n[machines.a]", "machines"),
        ("[hosts]\na = 1", "hosts.a"),
        ("[hosts.a]\npython = 'x'", "hosts.a.address"),
        ("[hosts.a]\naddress = 'x'\npassword = 'y'", "hosts.a.password"),
        ("[hosts.a]\naddress = 7", "hosts.a.address"),
        ("[hosts.a]\naddress = '-oX'", "'-oX'"),
        ("[hosts.a]\naddress = 'x'\ncpu = -1", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = true", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = []", "hosts.a.cpu"),
        ("[hosts.a]\naddress = 'x'\ncpu = 'small'", "hosts.a.cpu is 'small'"),
        ("[hosts.a]\naddress = 'x'\npython = 'a\x1b'", "TOML"),
        ("[hosts.a]\naddress = 'x'\npython = \"a\\u001b\"", "'a\\x1b'"),
        ("[hosts.'']\naddress = 'x'", "hosts"),
    ],
)
def test_inventories_that_are_wrong(text: str, message: str, sen_edge: Run, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    outcome = sen_edge("bench", artifact, "--inventory", path)
    assert outcome.code == 1 and message in outcome.err and str(path) in outcome.err


def test_hosts_are_chosen_from_the_inventory(tmp_path: Path) -> None:
    from sen_edge.errors import UsageError
    from sen_edge.remote.hosts import Host, choose

    path = tmp_path / "hosts.toml"
    path.write_text(
        "[hosts.a]\naddress = 'pi@10.0.0.4'\ncpu = 3\n[hosts.b]\naddress = 'ssh://pi@[fe80::1%eth0]:2222'\n"
    )
    a, b = Host("pi@10.0.0.4", cpu=3), Host("ssh://pi@[fe80::1%eth0]:2222")
    assert choose([], path) == {"a": a, "b": b}
    assert choose(["b", "pi@c"], path) == {"b": b, "pi@c": Host("pi@c")}
    for names in (["a", "pi@10.0.0.4"], ["b", "b"]):
        with pytest.raises(UsageError, match="host"):
            choose(names, path)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--host=a", "--energy=x.csv"], 2, "--energy"),
        (["--host=a", "--timeout=0"], 2, "--timeout"),
        (["--host=a", "--duration=soon"], 2, "--duration: 'soon'"),
        (["--host=a", "--threads=abc"], 2, "--threads: 'abc'"),
        (["--host=a", "--seconds=nan"], 2, "--seconds"),
        (["--host=a", "--engine=nope"], 2, "'nope'"),
        (["--host=a", "--json=net.onnx", "--force"], 2, "net.onnx"),
        (["--host=a", "--json=x", "--history=x"], 2, "--json"),
        (["--host=a", "--ssh-config=none"], 2, "--ssh-config none"),
        (["--host=a", "--json=nowhere/x.json"], 1, "--json: "),
        (["--host=a", "--json=old.json"], 1, "old.json"),
        (["--host=a", "--json=."], 1, "--json: . "),
        (["--timeout=5"], 2, "--timeout"),
        (["--keep"], 2, "--keep"),
    ],
    ids=str,
)
def test_options_that_cannot_be(
    flags: list[str],
    code: int,
    message: str,
    sen_edge: Run,
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.json").touch()
    outcome = sen_edge("bench", artifact, *flags)
    assert (outcome.code, outcome.out) == (code, "") and message in outcome.err


def test_missing_artifact(sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("bench", tmp_path / "none.onnx", "--host", "device")
    assert outcome.code == 1 and "none.onnx" in outcome.err


def test_an_artifact_that_is_a_pipe(sen_edge: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    outcome = sen_edge("bench", tmp_path / "net.onnx", "--host", "device")
    assert outcome.code == 1 and "net.onnx" in outcome.err


def test_file_damaged_during_transfer(
    sen_edge: Run, device: sshd.Server, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256
    monkeypatch.setattr("sen_edge.remote.bench.hashlib", SimpleNamespace(sha256=lambda data: sha256(data + b"x")))
    outcome = sen_edge("bench", artifact, *options(device, tmp_path))
    assert outcome.code == 1 and "device, upload: " in outcome.err and "SHA-256" in outcome.err
    assert left(device) == []


def test_without_hosts_the_command_of_the_runtime_does_it(
    sen_edge: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("sen_runtime.cli.run", lambda arguments: seen.append(arguments) or 3)
    outcome = sen_edge("bench", artifact, "--engine", "a", "--engine", "b", "--cold-cache", "--json", "-", "--force")
    assert outcome.code == 3
    assert seen == [["bench", str(artifact), "--engine=a", "--engine=b", "--cold-cache", "--json=-", "--force"]]
