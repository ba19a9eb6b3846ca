"""Command `sen-runtime` as a process: signals, and streams that are closed or full."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sen_runtime.bench import record
from tests.support.bench import await_work, small_network, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("artifacts")
    write(made, "net.sen", small_network())
    return made


#: `sen-runtime` with a short warm-up.
QUICK = """
import sys
from sen_runtime import cli
from sen_runtime.bench import rounds
rounds.MAX_WARM_UP_S = 0.1
sys.exit(cli.main())
"""


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", QUICK, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_measured(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "a.json"
    process = started("bench", folder / "net.sen", "--seconds", "600", "--json", target)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("warming up"):
            break
    await_work(process.pid, 1.0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    found = record.read(target)
    assert found["status"] == "interrupted" and found["rows"][0]["n_samples"] > 0
    assert "interrupted" in out.lower()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_before_anything_was_measured(folder: Path, tmp_path: Path) -> None:
    process = started("bench", folder / "net.sen", "--json", tmp_path / "a.json")
    assert process.stderr is not None
    process.stderr.readline()  # loading
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and "interrupted" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">/dev/full", 1),
        ("| true", 0),
        (">&-", 0),
        (">&- 2>&- <&-", 0),
        ("2>/dev/full", 0),
        ("2>&1 | true", 0),
        (">/dev/full --json -", 1),
    ],
)
def test_no_stream_costs_the_record(folder: Path, tmp_path: Path, redirection: str, code: int) -> None:
    (tmp_path / "\u0444\u2265.sen").write_bytes((folder / "net.sen").read_bytes())
    files = "--history r.jsonl" if "--json" in redirection else "--json r.json --history r.jsonl"
    line = f"{sys.executable} -m sen_runtime bench *.sen --seconds 0.05 --allow-throttled {files} {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert done.returncode == code, done.stderr
    assert (
        "\u0444\u2265.sen native 1" in json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8"))["rows"][0]["name"]
    )
    if "--json" not in redirection:
        assert record.read(tmp_path / "r.json")["rows"][0]["file"] == "\u0444\u2265.sen"
