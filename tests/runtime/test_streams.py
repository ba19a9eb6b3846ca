"""Errors of stdout and stderr do not change results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sen_runtime.signals import interrupt_on_signals

#: Runs a command line in a shell that redirects its streams.
SHELL = ["bash", "-c", '"$@" {redirection}', "bash"]
EXPORT = [sys.executable, "-m", "sen_edge", "export"]
PRINTS = """
import sys
from sen_runtime import streams
streams.protect()
sys.stderr.write("remark \\u2265 \\udcff\\n")
sys.stdout.write("result \\u2265 \\udcff\\n" * 20000)
sys.exit(streams.finish(int(sys.argv[1])))
"""


def run(command: list[object], redirection: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    shell = [part.format(redirection=redirection) for part in SHELL]
    return subprocess.run(
        [*shell, *map(str, command)], capture_output=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">/dev/full", 1),
        ("| true; exit ${PIPESTATUS[0]}", 0),
        (">&-", 0),
        ("2>/dev/full", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        (">/dev/full 2>/dev/full", 1),
    ],
)
def test_only_output_that_is_lost_changes_the_exit_code(redirection: str, code: int) -> None:
    assert run([sys.executable, "-c", PRINTS, 0], redirection).returncode == code
    assert run([sys.executable, "-c", PRINTS, 3], redirection).returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_the_encoding_lacks_are_escaped(encoding: str) -> None:
    done = run([sys.executable, "-c", PRINTS, 0], "", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stderr.startswith(b"remark ") and done.stderr.endswith(b" \\udcff\n")
    assert done.stdout.count(b"\\udcff\n") == 20000


def test_a_closed_descriptor_is_given_to_no_file(tmp_path: Path) -> None:
    script = "from sen_runtime import streams; streams.protect(); print(open('x', 'w').fileno(), file=open('y', 'w'))"
    run(["env", "-C", tmp_path, sys.executable, "-c", script], ">&- 2>&- <&-")
    assert int((tmp_path / "y").read_text()) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">/dev/full", 1),
        ("| true; exit ${PIPESTATUS[0]}", 0),
        (">&- 2>/dev/full", 0),
    ],
)
def test_export_writes_its_files_for_any_streams(redirection: str, code: int, mlp_path: Path, tmp_path: Path) -> None:
    named = mlp_path.rename(tmp_path / "\u0444\u2265.pt")
    done = run(
        [*EXPORT, named, "--to", "sen", "-o", tmp_path / "out", "--json"], redirection, PYTHONIOENCODING="cp1252"
    )
    assert done.returncode == code
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"\u0444\u2265.sen", "\u0444\u2265.manifest.json"}


HANGS = """
import pathlib, sys, time
import sen_edge.exporting.pipeline as module
def verify(model, artifact, *_, **__):
    pathlib.Path(sys.argv.pop()).touch()
    time.sleep(60)
module.verify = verify
from sen_edge.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("request_to_end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_export_leaves_nothing(request_to_end: signal.Signals, mlp_path: Path, tmp_path: Path) -> None:
    folder, out, started = tmp_path / "tmp", tmp_path / "out", tmp_path / "started"
    folder.mkdir()
    arguments = ["export", mlp_path, "--to", "sen", "-o", out, "--force"]
    script = HANGS.replace("sys.argv.pop()", repr(str(started)))
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)})
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    assert any(folder.iterdir())
    process.send_signal(request_to_end)
    _, err = process.communicate()
    assert process.returncode == 130 and b"interrupted" in err and b"Traceback" not in err
    assert not any(folder.iterdir()) and not out.exists()


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), interrupt_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            reached = True
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert reached and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
