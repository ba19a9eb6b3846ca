"""`sen-edge sweep`: results, interruptions, bad input."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import parquet

from tests.sweep.conftest import FREE, GRID, ROOT, SAMPLED, Run, finished, write


@pytest.mark.slow
def test_the_command(sen_edge: Run, tmp_path: Path) -> None:
    path, out = write(tmp_path, GRID), tmp_path / "out"
    outcome = sen_edge("sweep", path, "-o", out, "--workers", 2)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[:2] == [str(out / "results.csv"), str(out / "results.parquet")]
    assert "4/4" in outcome.err and "2 of 2" in outcome.err
    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["training.exponent"], row["seed"]) for row in table] == [
        ("1.0", "0"), ("1.0", "1"), ("2.0", "0"), ("2.0", "1")
    ]  # fmt: skip
    columns = parquet.read_table(out / "results.parquet").to_pylist()
    assert [row["test_accuracy"] for row in columns] == [float(row["test_accuracy"]) for row in table]
    again = sen_edge("sweep", path, "-o", out, "--json")
    found = json.loads(again.out)
    assert again.code == 0 and found["trials"] == 4 and found["failed"] == 0
    best = [each["validation_score"] for each in found["ranking"]]
    assert best == sorted(best, reverse=True)


def test_the_command_on_a_scheduler(sen_edge: Run, two_workers: Any, tmp_path: Path) -> None:
    outcome = sen_edge(
        "sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", two_workers.scheduler.address
    )
    assert outcome.code == 0, outcome.err
    assert len(finished(tmp_path / "out")) == 4


@pytest.mark.slow
def test_every_trial_failing_is_a_failure(sen_edge: Run, tmp_path: Path) -> None:
    text = 'data = "digits"\n[training]\nhidden = [4]\nepochs = 1\n[grid]\ncompression.rank = [1000]'
    outcome = sen_edge("sweep", write(tmp_path, text), "-o", tmp_path / "out", "--workers", 1)
    assert outcome.code == 1 and "trial" in outcome.err
    assert "rank is 1000; the layers have at most" in (tmp_path / "out/results.csv").read_text()


#: `sen-edge sweep` with a trial of `tests.support.sweeps`, the first argument.
COMMAND = """
import sys
import sen_edge.sweep.trial
from sen_edge.cli.main import main
from tests.support import sweeps
sen_edge.sweep.trial.run_trial = getattr(sweeps, sys.argv.pop(1))
sys.exit(main())
"""


def run_stand_in(trial: str, tmp_path: Path) -> "subprocess.Popen[str]":
    """Start a sweep in a process group of its own, as a shell does."""
    path = write(tmp_path, GRID)
    command = [sys.executable, "-c", COMMAND, trial, "sweep", str(path), "-o", str(tmp_path / "out"), "--workers", "2"]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT
    )


def start(tmp_path: Path) -> "subprocess.Popen[str]":
    """Start a sweep whose first trial ends, and wait until it is kept; the others wait until they are killed."""
    process = run_stand_in("first_alone", tmp_path)
    while process.poll() is None and not finished(tmp_path / "out"):
        time.sleep(0.02)
    return process


def wait_for_end(pids: set[int]) -> bool:
    """Whether these processes end."""
    for _ in range(600):
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_sweep_resumes(tmp_path: Path) -> None:
    process = start(tmp_path)
    children = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    process.kill()
    process.communicate()
    before = finished(tmp_path / "out")
    assert len(before) == 1
    assert len(children) >= 2 and wait_for_end(children)
    again = run_stand_in("quick", tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0 and err.splitlines()[0].startswith("1/4 trials"), err
    after = finished(tmp_path / "out")
    assert after[:1] == before and len(after) == 4


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert ": sen-edge" in err.splitlines()[-1]
    assert "Traceback" not in err, err
    assert len(finished(tmp_path / "out")) == 1


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0", "TOML"),
        (GRID + "\n[extra]\na = 1", "extra"),
        (GRID.replace("hidden", "hiden"), "training.hiden"),
        (GRID.replace("training.exponent", "training.exponnent"), "grid.training.exponnent"),
        (GRID.replace("training.exponent", "model.exponent"), "grid.model"),
        (GRID.replace("[8]", '"8"'), "training.hidden"),
        (GRID.replace("[8]", "[0]"), "training.hidden[0]"),
        (GRID.replace("dims = 3", "dims = 3.0"), "training.dims"),
        (GRID.replace("dims = 3", "dims = true"), "training.dims"),
        (GRID.replace("dims = 3", "dims = 1"), "dimensions"),
        (GRID.replace("dims = 3", "seed = 3"), "training.seed"),
        (GRID.replace("epochs", "beta"), "beta"),
        (GRID.replace("2.0", "-2.0"), "grid.training.exponent"),
        (GRID.replace("2.0", "1"), "[1.0, 1]"),
        (GRID.replace("[1.0, 2.0]", "1.0"), "grid.training.exponent"),
        (GRID.replace("dims = 3", "exponent = 1.0"), "training.exponent"),
        (GRID.replace("training.exponent = [1.0, 2.0]", ""), "grid"),
        (GRID.replace("exponent = [1.0, 2.0]", 'task = ["classification", "reconstruction"]'), "training.task"),
        (GRID.replace("[0, 1]", "[0, 0]"), "seeds"),
        (GRID.replace("[0, 1]", "[]"), "seeds"),
        (GRID.replace('data = "digits"', ""), ": data"),
        (GRID.replace('"digits"', "3"), ": data"),
        (GRID.replace('"digits"', '"ciphers"'), "ciphers'"),
        (GRID.replace('"digits"', '"none.npz"'), "none.npz"),
        (GRID.replace("dims = 3", 'dims = 3\nweights = "free"'), "dims"),
        (GRID.replace("dims = 3", 'weights = "frei"'), "'frei'"),
        (FREE.replace("epochs = 3\nas", "as"), "as_checkpoint"),
        (FREE.replace("[grid]\ncompression.sparsity = [0.8, 0.95]", "rank = 2\n[grid]\ntraining.batch_size = [32]"),
         "as_checkpoint"),
        (FREE.replace("as_checkpoint = true", "ramp = 0.5"), "compression.ramp"),
        (FREE.replace("as_checkpoint = true", "layers = [2]"), "layers"),
        (FREE.replace("epochs = 3", 'criterion = "distance"'), "criterion"),
        (GRID.replace("[grid]", "[compression]\nsparsity = 1.5\n[grid]"), "sparsity"),
        (GRID.replace("[grid]", "[compression]\npatience = 5\n[grid]"), "patience"),
        (GRID + "\n[sampled]\ntrials = 3", "[sampled]"),
        (GRID[: GRID.index("[grid]")], "[sampled]"),
        (SAMPLED.replace("trials = 14", ""), "sampled.trials"),
        (SAMPLED.replace("seed = 5", 'sampler = "best"'), "'best'"),
        (SAMPLED.replace("high = 3.0", "high = 3.0, step = 0.4"), "0.4"),
        (SAMPLED.replace("[2, 3]", "{ low = 3, high = 8, step = 100 }"), "100"),
        (SAMPLED.replace("[2, 3]", "{ low = 3, high = 8, step = 2.5 }"), "dims"),
        (GRID.replace("[1.0, 2.0]", f"[1{'0' * 400}]"), "integer"),
        (SAMPLED.replace("high", "hi"), "sampled.training.exponent: high"),
        (SAMPLED.replace("3.0", "0.5"), "exponent: high"),
        (SAMPLED.replace("high = 3.0", "high = 3.0, step = 0.5, log = true"), "exponent: log"),
        (SAMPLED.replace("0.5", "0"), "sampled.training.exponent"),
        (SAMPLED.replace("exponent", "gain"), "sampled.training.gain"),
    ],
)  # fmt: skip
def test_a_bad_sweep_file(text: str, message: str, sen_edge: Run, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    outcome = sen_edge("sweep", path, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert message in outcome.err and str(path) in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_sweep_file(sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("sweep", tmp_path / "none.toml")
    assert outcome.code == 1 and str(tmp_path / "none.toml") in outcome.err


@pytest.mark.slow
def test_an_unreachable_scheduler(sen_edge: Run, tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound, so that nobody else has the port, and not listening
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", address)
    assert outcome.code == 1 and address in outcome.err


def test_what_answers_is_no_scheduler(sen_edge: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", "--scheduler", address)
        thread.join()
    assert outcome.code == 1 and address in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "10.0.0.4"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "http://10.0.0.4:8786"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4:x"), "tcp://10.0.0.4:8786"),
        (("--scheduler", "tcp://10.0.0.4:1", "--workers", "2"), "--workers"),
        (("--scheduler", "tcp://10.0.0.4:1", "--memory", "2"), "--memory"),
        (("--workers", "0"), "--workers"),
        (("--memory", "0"), "--memory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option(options: tuple[str, ...], message: str, sen_edge: Run, tmp_path: Path) -> None:
    outcome = sen_edge("sweep", write(tmp_path, GRID), "-o", tmp_path / "out", *options)
    assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["distributed", "optuna", "pyarrow"])
def test_a_missing_package(module: str, sen_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sen_edge import sweep

    monkeypatch.setattr(sweep, "find_spec", lambda name: None if name == module else object())
    outcome = sen_edge("sweep", write(tmp_path, GRID))
    assert outcome.code == 4 and module in outcome.err and "pip install 'sen-edge[sweep]'" in outcome.err
