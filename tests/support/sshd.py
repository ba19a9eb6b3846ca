"""A real sshd on the loopback interface with temporary keys."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import find_command

SSHD = find_command("sshd")

#: Runs the interpreter with a stand-in for the runtime, whose behaviour a file of the "device" sets.
PYTHON = """#!/bin/sh
PYTHONPATH={stand_in}
export PYTHONPATH
exec {python} -S "$@"
"""


@dataclass(frozen=True)
class Server:
    """A running sshd.

    Attributes:
        folder: all files of it.
        home: what is the home folder there.
        port: on 127.0.0.1.
        process: of sshd itself; each connection has a process of its own.
        config: for the client.
    """

    folder: Path
    home: Path
    port: int
    process: "subprocess.Popen[bytes]"
    config: Path

    def session_ids(self) -> list[int]:
        """Processes of the connections that there are."""
        done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(line) for line in done.stdout.split()]


def keygen(path: Path) -> str:
    """Make a key; the public one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, *settings: str, environment: str = "") -> Server:
    """Start sshd with these settings and variables on top; the client's config knows it as `device` and `twin`."""
    assert SSHD is not None
    home = folder / "home"
    home.mkdir(parents=True)
    port = free_port()
    host_key = keygen(folder / "host_key")
    (folder / "authorized_keys").write_text(keygen(folder / "user_key") + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'sshd.pid'}",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        f"SetEnv HOME={home} {environment}",
        *settings,
    ]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks its helper process in
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log, start_new_session=True)
    log.close()
    try:
        _await_port(port, process, folder / "sshd.log")
    except BaseException:
        process.kill()
        raise
    return Server(folder, home, port, process, _client_config(folder, port))


def stop(server: Server) -> None:
    for pid in server.session_ids():
        os.kill(pid, 15)
    server.process.terminate()
    server.process.wait(10)


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(2000):
        if process.poll() is not None:
            raise AssertionError(f"sshd did not start: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


def _client_config(folder: Path, port: int) -> Path:
    config = folder / "ssh_config"
    config.write_text(
        f"""Host device twin
  HostName 127.0.0.1
  Port {port}
Host *
  User {subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()}
  IdentityFile {folder / "user_key"}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder / "known_hosts"}
  GlobalKnownHostsFile /dev/null
"""
    )
    return config


def stand_in(folder: Path, source: str) -> Path:
    """An interpreter in whose `sen_runtime` the measurement is this source."""
    package = folder / "stand-in" / "sen_runtime"
    (package / "engines").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.1.0"\n')
    (package / "engines" / "__init__.py").write_text("def usable(): return {}\ndef missing(names): return {}\n")
    (package / "__main__.py").write_text(source)
    python = folder / "python"
    python.write_text(PYTHON.format(stand_in=package.parent, python=sys.executable))
    python.chmod(0o755)
    return python
