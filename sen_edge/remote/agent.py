"""What is run on the device: `python3 -I -c THIS_FILE FUNCTION ARGUMENTS`, the arguments as one JSON list.

The standard library of Python >= 3.7 only: a device whose Python is too old for the runtime is to be told so. The
program's own output begins after a line of its own, for a login shell may print what it likes; the reply is JSON, or
what the measurement prints. Whatever lasts is watched: standard input is the connection, and when it ends, by Ctrl-C on
the workstation or because the network is gone, everything that was started here is stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

#: The line after which the reply begins.
MARK = "--- sen-edge: reply ---"
#: Exit status where the time is over, as of `timeout(1)`.
EXIT_TIMEOUT = 124
#: A measurement that is interrupted may say what it has until then, in so many seconds.
GRACE_S = 5.0
#: An interpreter tells what it has within so many seconds.
ASK_S = 120.0
CHUNK = 1 << 20
#: In an environment made here: what is installed in it, written last.
INSTALLED = "sen-edge.json"

ASK_RUNTIME = """
import json, sen_runtime
from sen_runtime.engines import missing, usable
print(json.dumps({"version": sen_runtime.__version__, "missing": sorted(missing(list(usable())))}))
"""


def main() -> int:
    """Call one of the functions below, by name."""
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    sys.stdout.write(MARK + "\n")
    sys.stdout.flush()
    functions: dict[str, Callable[..., int]] = {
        "probe": probe,
        "receive": receive,
        "install": install,
        "run": run,
        "remove": remove,
    }
    try:
        return functions[name](*arguments)
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        sys.stderr.write(f"{error.strerror or error}{where}\n")
        return 1


def probe(python: str, environment: str) -> int:
    """Reply with what this machine is, and what is installed.

    Args:
        python: interpreter that is to have the runtime already; empty: it will be in an environment made here.
        environment: name of that environment.
    """
    folder = _root() / environment
    reply = {
        "python": list(sys.version_info[:3]),
        "machine": platform.machine(),
        "root": str(_root()),
        "runtime": _runtime(os.path.expanduser(python)) if python else None,  # noqa: PTH111 - may be a bare name
        "extras": _installed(folder),
    }
    return _reply(reply)


def receive(folder: str) -> int:
    """Write the files that come in on standard input to the new folder `folder`, and read them back.

    The first line is a JSON list of `{name, bytes, sha256}`; then come the files, one after the other.
    """
    root = Path(folder)
    root.mkdir(mode=0o700, parents=True)
    stream = sys.stdin.buffer
    for entry in json.loads(stream.readline()):
        path = root / entry["name"]
        path.parent.mkdir(exist_ok=True)
        try:
            is_whole = _write(path, stream, entry["bytes"])
        except OSError as error:  # one of a write does not know of which file
            raise OSError(error.errno, error.strerror, str(path)) from error
        if not is_whole:
            sys.stderr.write(f"{path}: the transfer ended too early\n")
            return 1
        if _sha256(path) != entry["sha256"]:
            sys.stderr.write(f"{path}: arrived damaged: its sha256 is not that of the file that was sent\n")
            return 1
    return 0


def install(environment: str, archive: str, extras: list[str], limit_s: float) -> int:
    """Make the virtual environment, unless another process just did, and install the runtime into it; nothing else.

    Args:
        environment: its name.
        archive: source distribution of the runtime.
        extras: of the runtime, such as "onnx".
        limit_s: seconds until this is stopped.
    """
    folder = _root() / environment
    with (_root() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = _installed(folder)
        if there is None:
            shutil.rmtree(str(folder), ignore_errors=True)
        wanted = sorted({*extras, *(there or [])})
        python = str(folder / "bin" / "python")
        steps = [] if there is not None else [[sys.executable, "-m", "venv", str(folder)]]
        if there is None or wanted != there:
            brackets = f"[{','.join(wanted)}]" if wanted else ""
            what = f"sen-edge-runtime{brackets} @ {Path(archive).as_uri()}"
            steps.append([python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", what])
        for command in steps:
            code = _watched(command, limit_s, stdout=sys.stderr)
            if code != 0:
                return code
        (folder / INSTALLED).write_text(json.dumps(wanted))
    return _reply({"python": python, "runtime": _runtime(python)})


def run(folder: str, command: list[str], limit_s: float) -> int:
    """Run a command in `folder`; its output is the reply."""
    os.chdir(folder)
    command[0] = os.path.expanduser(command[0])  # noqa: PTH111 - may be a bare name
    return _watched(command, limit_s)


def remove(folder: str) -> int:
    """Remove a folder of files that `receive` wrote; a part that cannot be removed is an error."""
    if Path(folder).exists():
        shutil.rmtree(folder)
    return 0


def _root() -> Path:
    return Path.home() / ".cache" / "sen-edge"


def _reply(value: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(value) + "\n")
    return 0


def _installed(folder: Path) -> list[str] | None:
    """Extras in an environment; None where it is absent or half made."""
    try:
        return list(json.loads((folder / INSTALLED).read_text()))
    except (OSError, ValueError):
        return None


def _runtime(python: str) -> Any:
    """Version of the runtime that an interpreter has, and engines that it lacks; None where it has no runtime."""
    with tempfile.TemporaryFile() as answer:
        code = _watched([python, "-c", ASK_RUNTIME], ASK_S, stdout=answer, stderr=subprocess.DEVNULL)
        answer.seek(0)
        return json.loads(answer.read().decode().splitlines()[-1]) if code == 0 else None


def _write(path: Path, stream: Any, n_bytes: int) -> bool:
    """Copy so many bytes to a file and to the disk; False where there are fewer."""
    with path.open("xb") as file:
        left = n_bytes
        while left:
            block = stream.read(min(left, CHUNK))
            if not block:
                return False
            file.write(block)
            left -= len(block)
        file.flush()
        os.fsync(file.fileno())
    return True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def _watched(command: list[str], limit_s: float, stdout: Any = None, stderr: Any = None) -> int:
    """Exit status of a command, which is stopped when standard input ends, on SIGTERM or SIGHUP, or when time is over.

    It leads a process group of its own, so that what it started ends with it.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):  # to this process, which the command would outlive
        signal.signal(number, lambda *_: threading.Thread(target=_end, args=(process.pid, ended), daemon=True).start())
    threading.Thread(target=_end_with_input, args=(process.pid, ended), daemon=True).start()
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = EXIT_TIMEOUT
    ended.set()
    _signal_group(process.pid, signal.SIGKILL)  # also what it left behind
    process.wait()
    return code if code >= 0 else 128 - code


def _end_with_input(group: int, ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), CHUNK):
        pass
    _end(group, ended)


def _end(group: int, ended: threading.Event) -> None:
    """Interrupt a process group, which may say what it has, and kill it if it does not end."""
    if not ended.is_set():
        _signal_group(group, signal.SIGINT)
        if not ended.wait(GRACE_S):
            _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
