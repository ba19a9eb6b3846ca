"""The program that runs on a device, `python3 -I -c SOURCE`: standard library only, Python >= 3.7.

Standard input is the job in one JSON line, and its files. When it closes, by Ctrl-C on the workstation or because the
network is gone, the measurement is interrupted. The working folder is removed in any case, unless the job keeps it.
Standard output is the record of the measurement, between lines of `MARK` and a JSON pair: "stage", "note" (for people),
"error" (message and hint), "end" (exit status).

Keys of the job: `run`, name of the working folder; `files`, name, size and SHA-256 of each; `python`, the interpreter
that has the runtime, or empty; `runtime`, what to install where it is empty; `arguments` of the interpreter; `limit_s`,
seconds for everything; `keep`, whether the working folder stays.
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
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Starts the lines that are not part of the record; a login shell may print anything before the first of them.
MARK = "--- sen-edge: "
#: Seconds in which an interrupted measurement may write its record.
GRACE_S = 5.0
ROOT = Path("~/.cache/sen-edge").expanduser()
#: In the home folder.
WORKING_FOLDERS = ".cache/sen-edge/bench"
#: In the working folder: the process group of a running command, for the shell that cleans if this program is killed.
GROUP = "group"
#: In a complete environment: the list of its extras.
INSTALLED = "sen-edge.json"
HAS_RUNTIME = "import sen_runtime"
HAS_NATIVE = "import sys; from sen_runtime.engines import missing; sys.exit(bool(missing(['native'])))"


class AgentError(Exception):
    """Arguments: a message for the user, and a hint."""


class TimeLimitError(Exception):
    """The time limit of the job; no OSError, which parts of a job ignore."""


def main() -> None:
    """Run the job."""
    job = json.loads(sys.stdin.buffer.readline())
    signal.signal(signal.SIGALRM, _time_out)
    signal.alarm(int(job["limit_s"]) + 1)
    _handle_signals(_interrupt)
    folder, code = Path.home() / WORKING_FOLDERS / job["run"], 1
    try:
        _say("stage", "python")
        code = run(job, folder)
    except AgentError as error:
        _say("error", error.args)
    except (OSError, TimeLimitError) as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.alarm(0)
        _handle_signals(signal.SIG_IGN)
        if folder.exists() and not job["keep"]:
            shutil.rmtree(str(folder), ignore_errors=True)
        if folder.exists():
            _say("note", f"{folder} stays")
        _say("end", code)


def run(job: dict[str, Any], folder: Path) -> int:
    """Check, upload, install, measure; exit status of the measurement."""
    version = platform.python_version()
    if [*sys.version_info] < [3, 9]:
        raise AgentError(
            f"Python {version} on the host; expected 3.9 or later", "name another interpreter: python = ..."
        )
    _say("note", f"Python {version} on {platform.machine()}; working folder {folder}")
    _say("stage", "install")
    runtime, extras = job["runtime"], None
    if runtime is None:
        python = os.path.expanduser(job["python"])  # noqa: PTH111 - may be a bare name
        if subprocess.call([python, "-c", HAS_RUNTIME], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            raise AgentError(f"{job['python']} on the host has no sen_runtime", "leave `python` out of the inventory")
    else:
        python = str(ROOT / runtime["environment"] / "bin" / "python")
        extras = missing_extras(runtime)
    _say("stage", "upload")
    folder.mkdir(mode=0o700, parents=True)
    for name, n_bytes, sha256 in job["files"]:
        receive(folder / name, n_bytes, sha256)
    threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
    os.chdir(str(folder))
    if extras is not None:
        _say("stage", "install")
        install(runtime, extras, python)
    _say("stage", "measure")
    return _call([python, *job["arguments"]], keeps_results=True)


def receive(path: Path, n_bytes: int, sha256: str) -> None:
    """Write the next bytes of standard input to a file, and read it back."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sys.stdin.buffer.read(n_bytes))
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise AgentError(f"{path} is damaged: wrong SHA-256", "")


def missing_extras(runtime: dict[str, Any]) -> list[str] | None:
    """Extras to install the runtime with; None where it is installed.

    Args:
        runtime: `environment`, its name; `archive`, a source distribution; `may_install`; `choices`, for each engine
            the extras that it may come with: name, machines with wheels (none for all), first Python with wheels.
    """
    machine = platform.machine()
    extras = {
        next(
            name
            for name, machines, oldest in each
            if machine in (machines or [machine]) and [*sys.version_info] >= oldest
        )
        for each in runtime["choices"]
    }
    present = _installed(ROOT / runtime["environment"])
    if present is not None and extras <= set(present):
        return None
    if not runtime["may_install"]:
        names = " ".join(["sen-edge-runtime", *sorted(extras)])
        raise AgentError(f"the host has no {names} in {ROOT}", "leave out --no-install")
    return sorted({*extras, *(present or [])})


def install(runtime: dict[str, Any], extras: list[str], python: str) -> None:
    """Install the runtime with extras into its environment, which is created if necessary; nothing outside of it."""
    folder = ROOT / runtime["environment"]
    what = f"sen-edge-runtime[{','.join(extras)}]" if extras else "sen-edge-runtime"
    _say("note", f"installing {what} and numpy into {folder}, which may take minutes")
    what += f" @ {Path(runtime['archive']).resolve().as_uri()}"
    commands = [[python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", what]]
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _installed(folder) is None:
            shutil.rmtree(str(folder), ignore_errors=True)
            commands.insert(0, [sys.executable, "-m", "venv", str(folder)])
        for command in commands:
            if _call(command, stdout=sys.stderr) != 0:
                raise OSError("the installation failed")
        (folder / INSTALLED).write_text(json.dumps(extras))
    if _call([python, "-c", HAS_NATIVE]) != 0:
        _say("note", "no engine native: its C library was not built, for lack of a C compiler")


def _installed(folder: Path) -> Any:
    """Extras of an environment; None where it is absent or incomplete."""
    try:
        return json.loads((folder / INSTALLED).read_text())
    except (OSError, ValueError):
        return None


def _call(command: list[str], stdout: Any = None, *, keeps_results: bool = False) -> int:
    """Exit status of a command, which leads a process group of its own, so that its children end with it.

    An interrupt ends the command, and goes on unless the command keeps its results.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True)
    try:
        Path(GROUP).write_text(str(process.pid))
        process.wait()  # without a timeout, which would wake up this process during the measurement
    except KeyboardInterrupt:
        _signal_group(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        if not keeps_results:
            raise
    finally:
        _signal_group(process.pid, signal.SIGKILL)  # also processes that the command left
        process.wait()
        Path(GROUP).unlink(missing_ok=True)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter of a zombie on macOS
        os.killpg(group, number)


def _handle_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _interrupt(*_: Any) -> None:
    _handle_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def _time_out(*_: Any) -> None:
    raise TimeLimitError("time limit exceeded")


def _interrupt_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _say(name: str, value: Any) -> None:
    with suppress(OSError):  # the connection is gone; the cleaning goes on
        sys.stdout.write(f"{MARK}{json.dumps([name, value])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
