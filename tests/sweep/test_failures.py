"""Failing trials, lost workers, damaged journals."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sen_edge as sen_edge_package
from sen_edge.sweep import SweepError
from sen_edge.sweep.cluster import ALLOWED_DEATHS, Records, check_workers, connect, start_workers
from sen_edge.sweep.journal import open_journal, read_journal
from sen_edge.sweep.results import draw, rank
from sen_runtime.task import ACCURACY
from tests.support import sweeps
from tests.sweep.conftest import SAMPLED, comparable, finished, sweep


def test_a_failing_trial_is_recorded_and_does_not_stop_the_rest(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.fails)
    assert [row["error"] for row in state.rows] == [None, None, "RuntimeError: no luck", None]
    ranking = rank(state.points, state.records, ACCURACY)
    assert [(each.seeds_done, each.seeds_failed) for each in ranking] == [(2, 0), (1, 1)]
    before = finished(tmp_path / "out")
    assert sweep(tmp_path, two_workers, sweeps.quick).records == state.records and finished(tmp_path / "out") == before
    again = sweep(tmp_path, two_workers, sweeps.quick, retry_failed=True)
    assert not any(row["error"] for row in again.rows)
    assert len(finished(tmp_path / "out")) == len(before) + 1


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    def kill() -> None:
        while not (found := list((tmp_path / "data").glob("*.pid"))):
            time.sleep(0.05)
        os.kill(int(found[0].read_text()), signal.SIGKILL)
        killed.append(int(found[0].read_text()))

    killed: list[int] = []
    (tmp_path / "data").mkdir()
    killer = threading.Thread(target=kill)
    killer.start()
    with start_workers(2) as client:
        state = sweep(tmp_path, client, sweeps.waits_to_be_killed)
    killer.join()
    marked = next(iter(next(each for each in state.points if each.values["training.exponent"] == 2.0).trials))
    assert not any(row["error"] for row in state.rows) and len(finished(tmp_path / "out")) == 4
    assert state.records[marked]["pid"] != killed[0]


def test_a_trial_that_kills_its_workers_fails_in_the_end(tmp_path: Path) -> None:
    with start_workers(2) as client:
        state = sweep(tmp_path, client, sweeps.kills_its_worker)
    errors = [row["error"] for row in state.rows]
    assert errors[:2] + errors[3:] == [None] * 3
    assert errors[2] is not None and errors[2].startswith(f"{ALLOWED_DEATHS + 1} workers died")
    assert len(list((tmp_path / "data").glob("*.died"))) == ALLOWED_DEATHS + 1


@pytest.mark.slow
def test_lost_scheduler(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:

        def close(_: Records, last: object) -> None:
            if last:
                cluster.close()

        with (
            pytest.raises(SweepError, match="scheduler"),
            connect(cluster.scheduler_address) as client,
        ):
            sweep(tmp_path, client, sweeps.quick, report=close)
    assert len(finished(tmp_path / "out")) == 1


def test_a_scheduler_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("sen_edge.sweep.cluster.WORKER_S", 0.2)
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as cluster:
        address = cluster.scheduler_address
        with (
            pytest.raises(SweepError, match=f"{address}.*worker"),
            connect(address),
        ):
            raise AssertionError("there is nobody to run anything")


def test_workers_without_the_toolkit(two_workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_workers(two_workers)
    monkeypatch.setattr(sen_edge_package, "__version__", "9.9")
    with pytest.raises(SweepError, match=r"tcp://.*\b0\.1\.0\b.*\b9\.9\b"):
        check_workers(two_workers)
    with pytest.raises(SweepError, match=r"tcp://.*ModuleNotFoundError: .*nowhere"):
        check_workers(two_workers, "nowhere")


def test_a_folder_takes_one_sweep_at_a_time(tmp_path: Path) -> None:
    from sen_edge.errors import OutputError

    with open_journal(tmp_path / "out"), pytest.raises(OutputError, match="out"), open_journal(tmp_path / "out"):
        pass
    with open_journal(tmp_path / "out"):
        pass
    for place, text in (("mine", "mine"), ("mine/letter.txt", "letter.txt")):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine/letter.txt").write_text("dear")
        with pytest.raises(OutputError, match=text), open_journal(tmp_path / place):
            pass
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def change_last_trial(text: str, change: Callable[[dict[str, Any]], Any]) -> str:
    *lines, last = text.splitlines()
    trial = json.loads(last)
    change(trial["user_attrs"])
    return "\n".join([*lines, json.dumps(trial), ""])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:200] + text[230:],
        lambda text: text[: text.index("\n")] + "\n[]\n",
        lambda text: text.replace('"op_code":4', '"op_code":99'),
        lambda text: change_last_trial(text, lambda attributes: attributes.update(figures={})),
        lambda text: change_last_trial(text, lambda attributes: attributes.update(figures=None)),
        lambda text: change_last_trial(text, lambda attributes: attributes["figures"].update(macs="many")),
        lambda text: change_last_trial(text, lambda attributes: attributes["settings"]["training"].update(epochs=2)),
        lambda text: change_last_trial(text, lambda attributes: attributes.pop("error")),
    ],
    ids=["line", "list", "operation", "no figures", "nothing", "text", "settings", "no error"],
)
def test_a_damaged_journal_is_named(change: Callable[[str], str], two_workers: Any, tmp_path: Path) -> None:
    sweep(tmp_path, two_workers, sweeps.quick)
    path = tmp_path / "out/journal.log"
    damaged = change(path.read_text())
    path.write_text(damaged)
    with pytest.raises(SweepError, match=r"journal\.log"):
        sweep(tmp_path, two_workers, sweeps.quick)
    assert path.read_text() == damaged


def test_truncated_line_is_run_again(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.quick)
    path = tmp_path / "out/journal.log"
    whole = path.read_text()
    path.write_text(whole[:-30])
    path.with_name("journal.log.lock").touch()  # the crash was within the write
    again = sweep(tmp_path, two_workers, sweeps.quick)
    assert comparable(again) == comparable(state)
    assert len(finished(tmp_path / "out")) == 4 and path.read_text().startswith(whole[: whole.rindex('{"op_code')])


def test_a_journal_is_read_without_pickle(two_workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    state = sweep(tmp_path, two_workers, sweeps.quick)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    assert read_journal(tmp_path / "out/journal.log").trials.keys() == state.records.keys()


def test_the_plot_is_a_function_of_the_trials(two_workers: Any, tmp_path: Path) -> None:
    state = sweep(tmp_path, two_workers, sweeps.fails, SAMPLED)
    trials = [read_journal(tmp_path / "out/journal.log").trials[name] for name in state.records]
    svg = draw(trials, ACCURACY)
    assert svg is not None and svg.startswith(b"<?xml") and svg == draw(trials, ACCURACY)
    assert draw([], ACCURACY) is None
